"""Pictures and captions in every layout that people have, small but real, all read as the same rows."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from huayu.data.check import check
from huayu.data.pictures import open_picture
from huayu.data.records import CAPTION_PROMPTS, Fault, Record, open_tables, read_records
from huayu.data.shards import SLICE, parquet_row

CAPTIONS = ("A red square.", "绿色的方块。", "A blue square.")
COLOURS = ((255, 0, 0), (0, 128, 0), (0, 0, 255))


def png(number: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 6), COLOURS[number]).save(data, "PNG")
    return data.getvalue()


def files(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
    return [f"{number}.png" for number in range(3)]


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return path


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as opened:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return path


def parquet(path: Path, columns: dict[str, list[Any]], rows: int = 2) -> Path:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(arrow.table(columns), path, row_group_size=rows)
    return path


def coco(root: Path) -> Path:
    names = files(root / "val2017")
    images = [{"id": 10 + n, "file_name": name} for n, name in enumerate(names)]
    said = [{"image_id": 10 + n, "id": n, "caption": caption} for n, caption in enumerate(CAPTIONS)]
    return write_json(root / "annotations" / "captions_val2017.json", {"images": images, "annotations": said})


def regions(root: Path) -> Path:
    """Three parts of one picture."""
    sheet = Image.new("RGB", (30, 10))
    for number, colour in enumerate(COLOURS):
        sheet.paste(colour, (10 * number, 0, 10 * number + 10, 10))
    (root / "VG_100K").mkdir()
    sheet.save(root / "VG_100K" / "7.jpg", quality=100, subsampling=0)
    found = [
        {"region_id": n, "image_id": 7, "phrase": caption, "x": 10 * n + 2, "y": 2, "width": 6, "height": 6}
        for n, caption in enumerate(CAPTIONS)
    ]
    return write_json(root / "region_descriptions.json", [{"id": 7, "regions": found}])


def webdataset(root: Path) -> Path:
    members = []
    for number, caption in enumerate(CAPTIONS):
        key = f"00000000{number}"
        fields = {"caption": "not this", "url": f"https://example.org/{number}.png", "key": key, "status": "success"}
        members += [(f"{key}.json", json.dumps(fields).encode()), (f"{key}.png", png(number))]
        members += [(f"{key}.txt", caption.encode())]
    return tar(root / "00000.tar", members)


def img2dataset_folder(root: Path) -> Path:
    webdataset(root)
    parquet(root / "00000.parquet", {"url": ["https://example.org"] * 3, "caption": list(CAPTIONS)})
    write_json(root / "00000_stats.json", {"count": 3})
    return root


def loose_files(root: Path) -> Path:
    for number, name in enumerate(files(root / "00000")):
        (root / "00000" / name).with_suffix(".txt").write_text(CAPTIONS[number], "utf-8")
        write_json((root / "00000" / name).with_suffix(".json"), {"caption": CAPTIONS[number], "key": str(number)})
    write_json(root / "00000_stats.json", {"count": 3})
    return root


def dataset(root: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    columns = {"image": [{"bytes": png(n), "path": None} for n in range(3)], "text": list(CAPTIONS)}
    kinds = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    datasets.Dataset.from_dict(columns, features=kinds).save_to_disk(str(root / "saved"))
    return root / "saved"


def splits(root: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    found = datasets.load_from_disk(str(dataset(root)))
    datasets.DatasetDict(test=found.select([0]), train=found).save_to_disk(str(root / "both"))
    return root / "both"


def opened_dataset(root: Path) -> Path:
    """A folder that the library knows how to open."""
    pytest.importorskip("datasets")
    files(root / "set" / "train")
    texts = [f"{n}.png,{caption}" for n, caption in enumerate(CAPTIONS)]
    lines(root / "set" / "train" / "metadata.csv", ["file_name,text", *texts])
    (root / "set" / "README.md").write_text("A data set.\n")
    return root / "set"


def with_paths(root: Path, form: Callable[[str, str], object]) -> list[object]:
    return [form(name, caption) for name, caption in zip(files(root), CAPTIONS, strict=True)]


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "cc3m.tsv": lambda root: lines(root / "a.tsv", with_paths(root, lambda name, said: f"{said}\t{name}")),  # type: ignore[arg-type]
    "cc12m.tsv": lambda root: lines(root / "a.tsv", with_paths(root, lambda name, said: f"{name}\t{said}")),  # type: ignore[arg-type]
    "named columns": lambda root: lines(
        root / "a.txt",
        ["id\turl\tcaption", *with_paths(root, lambda name, said: f"x\t{name}\t{said}")],  # type: ignore[list-item]
    ),
    "jsonl": lambda root: lines(
        root / "a.data",
        with_paths(root, lambda name, said: json.dumps({"image_path": name, "text": said})),  # type: ignore[arg-type]
    ),
    "metadata.jsonl": lambda root: (
        lines(
            root / "metadata.jsonl",
            with_paths(root, lambda name, said: json.dumps({"file_name": name, "text": said})),  # type: ignore[arg-type]
        ).parent
    ),
    "coco": coco,
    "visual genome": regions,
    "webdataset": webdataset,
    "img2dataset, webdataset": img2dataset_folder,
    "img2dataset, files": loose_files,
    "img2dataset, parquet": lambda root: parquet(
        root / "0.parquet", {"key": list("012"), "jpg": [png(n) for n in range(3)], "caption": list(CAPTIONS)}
    ),
    "parquet of a hub": lambda root: (
        (
            parquet(root / "data" / "test-00000-of-00001.parquet", {"text": ["not read"]}),
            parquet(
                root / "data" / "train-00000-of-00001.parquet",
                {"image": [{"bytes": png(n), "path": f"{n}.png"} for n in range(3)], "text": list(CAPTIONS)},
            ),
        )[1].parent.parent
    ),
    "parquet of paths": lambda root: parquet(root / "a.parquet", {"image": files(root), "caption": list(CAPTIONS)}),
    "datasets, saved": dataset,
    "datasets, splits": splits,
    "datasets, opened": opened_dataset,
}


@pytest.mark.filterwarnings("ignore:Exception ignored in.*metadata.csv:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache", raising=False)
    (tmp_path / "data").mkdir()
    file = LAYOUTS[layout](tmp_path / "data")
    records = list(read_records(file))
    assert all(isinstance(record, Record) for record in records), records
    for number, record in enumerate(records):
        assert isinstance(record, Record)
        assert record.turns == ((CAPTION_PROMPTS[number == 1], CAPTIONS[number]),)
        assert record.picture is not None
        middle = open_picture(record.picture).getpixel((2, 2))
        assert all(abs(a - b) < 4 for a, b in zip(middle, COLOURS[number], strict=True))  # type: ignore[arg-type]
    assert len(records) == 3
    report = check(file)
    assert report.figures()["usable"] == report.figures()["pictures"] == 3
    assert report.page().count("data:image/png") == 3


def bad_tar(root: Path) -> Path:
    return tar(root / "a.tar", [("0.png", png(0)[:40]), ("0.txt", b"x"), ("1.png", png(1)), ("2.txt", b"x"),
                                ("3.png", png(0)), ("3.json", b"{")])  # fmt: skip


BAD: dict[str, tuple[Callable[[Path], Path], list[tuple[int, str, str]]]] = {
    "remote": (
        lambda root: lines(root / "a.tsv", ["A cat.\thttps://example.org/a.jpg", "one column"]),
        [(1, "image", "fetch it first"), (2, "row", "1 columns")],
    ),
    "coco": (
        lambda root: write_json(
            root / "a.json",
            {
                "images": [{"id": 1, "file_name": "gone.png"}, {"id": 2, "file_name": files(root)[0]}],
                "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": 3, "caption": "x"}, {"image_id": 2}],
            },
        ),
        [(1, "file_name", "no such file"), (2, "image_id", "no such image"), (3, "caption", "empty")],
    ),
    "regions": (
        lambda root: write_json(
            root / "a.json",
            [
                {"id": 1, "regions": [{"phrase": "x", "x": 0, "y": 0, "width": 4}]},
                {"id": 9, "regions": [{"phrase": "x", "x": 9, "y": 0, "width": 4, "height": 4}]},
            ],
        ),
        [(1, "height", "missing"), (2, "image", "no such file")],
    ),
    "webdataset": (
        bad_tar,
        [(1, "image", "damaged"), (2, "caption", "empty"), (3, "image", "missing"), (4, "json", "not JSON")],
    ),
    "parquet": (
        lambda root: parquet(root / "a.parquet", {"jpg": [png(0), b"", None], "caption": [None, "x", "x"]}),
        [(1, "caption", "empty"), (2, "jpg", "empty"), (3, "jpg", "no picture")],
    ),
    "laion": (
        lambda root: parquet(root / "a.parquet", {"URL": ["https://example.org/a.jpg"], "TEXT": ["x"]}),
        [(1, "URL", "fetch it first")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", BAD)
def test_bad_rows_of_every_layout_are_named(layout: str, tmp_path: Path) -> None:
    make, expected = BAD[layout]
    file = make(tmp_path)
    faults = list(read_records(file))
    assert all(isinstance(fault, Fault) and fault.file == file for fault in faults), faults
    assert [(fault.row, fault.field) for fault in faults] == [(row, field) for row, field, _ in expected]
    for fault, (_, _, words) in zip(faults, expected, strict=True):
        assert words in fault.en  # type: ignore[union-attr]


def test_a_part_outside_its_picture_is_a_fault(tmp_path: Path) -> None:
    file = regions(tmp_path)
    rows = json.loads(file.read_text("utf-8"))
    rows[0]["regions"][1]["x"] = 30
    write_json(file, rows)
    first, bad, last = read_records(file)
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert isinstance(bad, Fault)
    assert (bad.row, bad.field) == (2, "image")


def test_parquet_is_read_in_any_order(tmp_path: Path) -> None:
    count = 3 * SLICE + 10
    file = parquet(tmp_path / "a.parquet", {"caption": [str(n) for n in range(count)]}, rows=2 * SLICE + 5)
    (table,) = open_tables(file)
    assert table.blocks == [SLICE, SLICE, 5, SLICE, 5]
    for row in (0, SLICE, count - 1, SLICE + 1, 2 * SLICE + 4, 2 * SLICE + 5, 1, 3 * SLICE):
        assert parquet_row(file, row, ("caption",)) == {"caption": str(row)}


def test_pictures_of_a_shard_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    file = webdataset(tmp_path)
    first, *_ = read_records(file, open_pictures=False)
    assert isinstance(first, Record)
    assert open_picture(first.picture).size == (8, 6)  # type: ignore[arg-type]
    file.unlink()
    with pytest.raises(Exception, match="cannot be read"):
        open_picture(first.picture)  # type: ignore[arg-type]
