"""The record and the labels of a painted file: read back, kept, and found out when edited."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from huayu.errors import HuayuError, LabelError, OptionError
from huayu.labelling import PaintRecord, corner_mark, label, read_record, resave, save_png

NOISE = Image.effect_noise((80, 60), 90).convert("RGB")
RECORD = PaintRecord(
    prompt='一个红苹果 <tag> & "quotes"',
    negative_prompt="模糊",
    seed=7,
    settings={"width": 64, "guidance": 2.5, "exact": False, "scheduler": "dpm++"},
    model="huayu-paint-mini",
    created="2026-11-22T10:00:00+08:00",
    version="0.1.0",
)
TC260, IPTC = "{http://www.tc260.org.cn/ns/AIGC/1.0/}", "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "apple.png"
    save_png(NOISE, path, RECORD)
    return path


def chunks(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        image.load()
        return dict(image.text)


def properties(packet: str) -> dict[str, str]:
    body = packet.partition("?>")[2].rpartition("<?xpacket")[0]
    return {element.tag: element.text or "" for element in ElementTree.fromstring(body).iter()}


def rewrite(path: Path, image: Image.Image, texts: dict[str, str]) -> None:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    image.save(path, pnginfo=info)


def test_what_was_written_is_read(file: Path) -> None:
    assert read_record(file) == RECORD
    with Image.open(file) as image:
        assert image.convert("RGB").tobytes() == NOISE.tobytes()


def test_any_settings_survive(tmp_path: Path) -> None:
    record = replace(RECORD, settings={"size": (64, 48), "nested": {"a": [1, 2.5, None]}}, seed=None)
    save_png(NOISE, tmp_path / "a.png", record)
    assert read_record(tmp_path / "a.png").to_json() == record.to_json()


def test_machines_are_told(file: Path) -> None:
    found = properties(chunks(file)["XML:com.adobe.xmp"])
    assert found[f"{IPTC}DigitalSourceType"] == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    said = json.loads(found[f"{TC260}AIGC"])
    assert list(said) == [
        "Label",
        "ContentProducer",
        "ProduceID",
        "ReservedCode1",
        "ContentPropagator",
        "PropagateID",
        "ReservedCode2",
    ]
    assert (said["Label"], said["ContentProducer"]) == ("1", "huayu")
    assert all(isinstance(value, str) for value in said.values())
    other = label(NOISE.rotate(180), replace(RECORD, producer="A&B"))
    assert said["ProduceID"] not in str(other.chunks)


def test_an_edited_pixel_is_noticed(file: Path) -> None:
    texts, edited = chunks(file), NOISE.copy()
    edited.putpixel((3, 5), tuple(255 - value for value in edited.getpixel((3, 5))))
    rewrite(file, edited, texts)
    with pytest.raises(LabelError, match="edited.*pixels") as caught:
        read_record(file)
    assert "改动" in caught.value.zh
    assert isinstance(caught.value, HuayuError)


def test_an_edited_record_is_noticed(file: Path) -> None:
    texts = chunks(file)
    rewrite(file, NOISE, texts | {"huayu": texts["huayu"].replace("红苹果", "青苹果")})
    with pytest.raises(LabelError, match="edited.*record"):
        read_record(file)


@pytest.mark.parametrize("change", [("trainedAlgorithmicMedia", "digitalCapture"), ('"Label":"1"', '"Label":"3"')])
def test_an_edited_label_is_noticed(file: Path, change: tuple[str, str]) -> None:
    texts = chunks(file)
    edited = texts["XML:com.adobe.xmp"].replace(*change)
    assert edited != texts["XML:com.adobe.xmp"]
    rewrite(file, NOISE, texts | {"XML:com.adobe.xmp": edited})
    with pytest.raises(LabelError, match="edited.*label"):
        read_record(file)


def test_a_removed_label_is_noticed(file: Path) -> None:
    rewrite(file, NOISE, {"huayu": chunks(file)["huayu"]})
    with pytest.raises(LabelError, match="label"):
        read_record(file)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"record": "{}", "sha256": ""}', '{"record": "{\\"x\\": 1}", "sha256": ""}']
)
def test_damaged_records(file: Path, text: str) -> None:
    rewrite(file, NOISE, {"huayu": text})
    with pytest.raises(LabelError, match="damaged"):
        read_record(file)


def test_files_of_others(tmp_path: Path) -> None:
    NOISE.save(tmp_path / "plain.png")
    with pytest.raises(LabelError, match="no record"):
        read_record(tmp_path / "plain.png")
    NOISE.save(tmp_path / "photo.jpg")
    for name in ("photo.jpg", "nowhere.png"):
        with pytest.raises(LabelError, match="not a PNG"):
            read_record(tmp_path / name)


def test_resaving_keeps_labels(file: Path, tmp_path: Path) -> None:
    small = NOISE.resize((40, 30))
    resave(file, tmp_path / "small.png", small)
    assert read_record(tmp_path / "small.png") == RECORD
    resave(file, file)
    assert read_record(file) == RECORD
    for name in ("copy.jpg", "copy.webp"):
        resave(file, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert f"{IPTC}DigitalSourceType" in properties(image.info["xmp"].decode())
            assert image.size == NOISE.size
    with pytest.raises(LabelError, match=r"\.webp"):
        resave(file, tmp_path / "copy.gif")


def test_a_full_disk_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(HuayuError, match="disk is full"):
        save_png(NOISE, file, replace(RECORD, seed=8))
    monkeypatch.undo()
    assert read_record(file) == RECORD


@pytest.mark.parametrize("size", [(512, 512), (64, 64), (200, 100), (16, 16)])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_corner_mark(size: tuple[int, int], language: str) -> None:
    plain = Image.new("RGB", size, (0, 120, 120))
    marked = corner_mark(plain, language)
    width, height = size
    assert marked.size == size
    assert marked.getpixel((0, 0)) == (0, 120, 120)
    corner = marked.crop((width // 2, height - max(9, height // 18), width, height))
    assert max(corner.convert("L").getextrema()) > 200  # white letters
    assert plain.getpixel((width - 1, height - 1)) == (0, 120, 120)  # the given picture stays


def test_the_two_marks_differ() -> None:
    assert corner_mark(NOISE, "zh").tobytes() != corner_mark(NOISE, "en").tobytes()


def test_the_letters_are_large_enough() -> None:
    marked = corner_mark(Image.new("RGB", (1000, 1000), "black"), "zh")
    top, bottom = marked.convert("L").point(lambda v: 255 * (v > 128)).getbbox()[1::2]
    assert bottom - top >= 50


def test_marks_in_other_languages() -> None:
    with pytest.raises(OptionError, match="zh or en"):
        corner_mark(NOISE, "fr")
