"""Inputs of every kind, cut into shards and read row by row; what is damaged is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from huayu.batch import Row, read_shard, split
from huayu.errors import ImageError, PromptError

PARQUET = "Parquet files need pyarrow, which is not installed"


def png(colour: str = "red") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(data, "PNG")
    return data.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def rows(*inputs: Path, size: int) -> list[Row]:
    shards, _ = split(inputs, size)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    found = [list(read_shard(shard)) for shard in shards]
    assert [len(some) for some in found] == [shard.count for shard in shards]
    return [row for some in found for row in some]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines(tmp_path: Path, size: int) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(
        '\ufeff{"id": "a", "question": "问"}\n\n  \n{"question": 2}\nnot json\n[1]\n{"text": "\\ud800"}'.encode()
    )
    first, second, *broken = rows(file, size=size)
    assert (first.id, first.number, first.fields) == ("a", 0, {"question": "问"})
    assert (second.id, second.number) == ("rows.jsonl#1", 1)
    assert [row.number for row in broken] == [2, 3, 4]
    assert all(isinstance(row.problem, PromptError) for row in broken)


def test_a_folder_of_pictures_and_one_of_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(png())
    assert [(row.id, row.picture()) for row in rows(tmp_path, size=1)] == [
        ("b.png", tmp_path / "b.png"),
        ("deep/a.JPG", tmp_path / "deep/a.JPG"),
    ]
    (tmp_path / "two.jsonl").write_text('{"id": 2}\n')
    (tmp_path / "one.jsonl").write_text('{"id": 1}\n')
    assert [row.id for row in rows(tmp_path, size=8)] == ["1", "2"]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_webdataset(tmp_path: Path, size: int) -> None:
    path = write_tar(
        tmp_path / "00000.tar",
        {
            "x/1.jpg": png("red"),
            "x/1.json": json.dumps({"question": "谁？"}).encode(),
            "2.txt": " 红苹果\n".encode(),
            "3.json": b"{",
            "3.png": png(),
            "4.seg.png": png("blue"),
        },
    )
    first, second, third, fourth = rows(path, size=size)
    assert (first.id, first.fields) == ("x/1", {"question": "谁？", "image": png("red")})
    assert (second.id, second.fields) == ("2", {"prompt": "红苹果"})
    assert "not JSON" in str(third.problem)
    assert fourth.picture() == png("blue")


def test_what_the_webdataset_library_writes(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="the webdataset library is not installed")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        for number in range(3):
            sink.write({"__key__": f"{number:03}", "png": png(), "json": {"question": f"第{number}个"}})
    found = rows(tmp_path / "a.tar", size=2)
    assert [(row.id, row.fields["question"]) for row in found] == [("000", "第0个"), ("001", "第1个"), ("002", "第2个")]
    assert all(row.pictures() == [png()] for row in found)


@pytest.mark.parametrize("size", [1, 2, 4, 10])
def test_parquet(tmp_path: Path, size: int) -> None:
    arrow = pytest.importorskip("pyarrow", reason=PARQUET)
    parquet = pytest.importorskip("pyarrow.parquet", reason=PARQUET)
    table = arrow.table(
        {
            "id": [str(n) for n in range(7)],
            "image": [{"bytes": png(), "path": f"{n}.png"} for n in range(6)] + [None],
            "questions": [["a", "b"]] * 7,
            "unread": list(range(7)),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    found = rows(tmp_path / "a.parquet", size=size)
    assert [row.id for row in found] == [str(n) for n in range(7)]
    assert found[0].fields == {"image": {"bytes": png(), "path": "0.png"}, "questions": ["a", "b"]}
    assert (found[5].pictures(), found[6].pictures()) == ([png()], [])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(PromptError, match=r"b\.parquet is damaged"):
        split([tmp_path / "b.parquet"], 2)


def test_pictures_are_beside_the_file_and_never_fetched() -> None:
    row = Row("1", "/data/rows.jsonl", 0, {"image": "a.png", "images": ["b/c.png", b"123"]})
    assert row.pictures() == [Path("/data/a.png"), Path("/data/b/c.png"), b"123"]
    for image in ("https://example.org/a.png", 7, ["a.png"]):
        with pytest.raises(ImageError, match="URL|path or bytes"):
            Row("1", "rows.jsonl", 0, {"image": image}).pictures()


def test_the_fingerprint_is_of_what_is_there_not_of_where(tmp_path: Path) -> None:
    def mark(folder: str, text: str, size: int = 2) -> str:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_text(text)
        return split([tmp_path / folder / "rows.jsonl"], size)[1]

    assert mark("a", "{}\n{}\n") == mark("b", "{}\n{}\n") != mark("c", "{}\n{}\n{}\n")


@pytest.mark.parametrize(("name", "words"), [("none.jsonl", "does not exist"), ("rows.csv", "not an input")])
def test_what_is_no_input_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "rows.csv").touch()
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(PromptError, match=words):
        split([tmp_path / name], 2)
    with pytest.raises(PromptError, match="nothing"):
        split([tmp_path / "empty.jsonl"], 2)
    whole = write_tar(tmp_path / "cut.tar", {"1.png": png() * 99, "2.png": png() * 99}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:2000])
    with pytest.raises(PromptError, match=r"cut\.tar is damaged"):
        split([tmp_path / "cut.tar"], 2)
