"""From a file back to its picture; files of prompts, and what is left to do of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from huayu.errors import ImageError, LabelError, OptionError, PromptError
from huayu.labelling import read_record, save_png
from huayu.paint import Painter, PaintOptions, repaint
from huayu.paint.batch import read_requests
from huayu.paint.replay import options_of
from huayu.safety import default_guard

APPLE = "红苹果"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"negative": "果", "guidance": 2.5, "steps": 4, "scheduler": "ddim"},
        {"mark": "en"},
        {"exact": True, "steps": 3},
    ],
)
def test_a_saved_picture_is_painted_again(painter: Painter, tmp_path: Path, given: dict) -> None:
    result = painter.paint(APPLE, n=2, seed=3, **given)
    first, second = result.save(tmp_path / "new" / "apple.png")
    assert (first.name, second.name) == ("apple-1.png", "apple-2.png")
    record = read_record(second)
    assert record == result.records[1]
    assert (record.prompt, record.model) == (APPLE, "tiny")
    again = repaint(painter, record)
    with Image.open(second) as file:
        assert again.image.tobytes() == file.tobytes() == result.images[1].tobytes()
    assert replace(again.record, created="") == replace(record, created="")


def test_painted_from_a_picture_it_needs_that_picture(painter: Painter) -> None:
    photo, mask = Image.new("RGB", (16, 16), "red"), Image.new("L", (16, 16), 255)
    result = painter.paint(APPLE, seed=1, image=photo, mask=mask, strength=0.5)
    record = result.records[0]
    assert repaint(painter, record, photo, mask).image.tobytes() == result.images[0].tobytes()
    with pytest.raises(OptionError, match="give image"):
        repaint(painter, record)
    with pytest.raises(OptionError, match="give mask"):
        repaint(painter, record, photo)
    with pytest.raises(OptionError, match="image is not the one"):
        repaint(painter, record, Image.new("RGB", (16, 16), "blue"), mask)
    with pytest.raises(OptionError, match="without image"):
        repaint(painter, painter.paint(APPLE, seed=1).records[0], photo)


def test_records_that_do_not_paint(painter: Painter) -> None:
    record = painter.paint("a naked woman", seed=1).records[0]
    with pytest.raises(PromptError, match=r"\w"):
        repaint(Painter(painter.backend, "tiny", default_guard(picture=False)), record)
    with pytest.raises(OptionError, match="how one picture was painted"):
        options_of(replace(record, settings={"sheet": [1, 2]}))


def test_one_picture_keeps_its_name_and_edits_are_noticed(painter: Painter, tmp_path: Path) -> None:
    (path,) = painter.paint(APPLE, seed=1).save(tmp_path / "apple.png")
    assert path == tmp_path / "apple.png"
    with Image.open(path) as file:
        texts, image = dict(file.text), file.convert("RGB")  # type: ignore[attr-defined]
    image.putpixel((0, 0), (1, 2, 3))
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    image.save(path, pnginfo=info)
    with pytest.raises(LabelError, match="edited"):
        read_record(path)


def test_lines_and_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    row = {"prompt": "a dog", "n": 2, "seed": 4, "size": [16, 32], "negative": "cat"}
    file.write_text(f"\ufeff一个红苹果\n\n  {json.dumps(row)}\n", encoding="utf-8")
    first, second = read_requests(file, tmp_path / "out", PaintOptions(steps=9, seed=1))
    assert (first.prompt, first.options.steps, first.options.seed) == ("一个红苹果", 9, 1)
    assert first.paths == (tmp_path / "out" / "0001.png",)
    assert second.options == PaintOptions(n=2, seed=4, size=(16, 32), negative="cat", steps=9)
    assert [path.name for path in second.paths] == ["0003-1.png", "0003-2.png"]


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ('{"prompt": "a"', PromptError, "Line 2: it is not JSON"),
        ('{"seed": 1}', PromptError, "Line 2: prompt is missing"),
        ('{"prompt": " "}', PromptError, "prompt is missing"),
        ('{"prompt": "a", "stps": 3}', OptionError, "Line 2: unknown: stps"),
        ('{"prompt": "a", "steps": 0}', OptionError, "Line 2: steps"),
        ('{"prompt": "a", "image": "nowhere.png"}', ImageError, "Line 2: .*nowhere"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, error: type[Exception], words: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(f"a\n{line}\n", encoding="utf-8")
    with pytest.raises(error, match=words):
        read_requests(file, tmp_path, PaintOptions())


def test_files_without_prompts(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    with pytest.raises(PromptError, match="cannot be read"):
        read_requests(file, tmp_path, PaintOptions())
    file.write_text("\n \n")
    with pytest.raises(PromptError, match="no prompt"):
        read_requests(file, tmp_path, PaintOptions())


def test_what_is_finished(painter: Painter, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a\n", encoding="utf-8")
    options = PaintOptions(n=2, seed=5)
    (request,) = read_requests(file, tmp_path, options)
    assert request.missing()
    result = painter.paint("a", options=options)
    result.pictures[0].save(request.paths[0])
    assert request.missing()
    result.pictures[1].save(request.paths[1])
    assert not request.missing()
    assert read_requests(file, tmp_path, replace(options, seed=6))[0].missing()
    assert read_requests(file, tmp_path, replace(options, negative="b"))[0].missing()
    file.write_text("b\n", encoding="utf-8")
    assert read_requests(file, tmp_path, options)[0].missing()
    save_png(result.images[0], request.paths[1], result.records[0])
    assert request.missing()
    request.paths[1].write_bytes(b"half a file")
    assert request.missing()
