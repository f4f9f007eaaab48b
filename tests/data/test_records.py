"""Rows that people bring, good and bad."""

import json
from pathlib import Path

import pytest
from PIL import Image

from huayu.data.check import check
from huayu.data.records import CAPTION_PROMPTS, Fault, Record, read_records
from huayu.errors import ModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return tmp_path


def written(folder: Path, name: str, rows: object) -> Path:
    file = folder / name
    text = rows if isinstance(rows, str) else json.dumps(rows, ensure_ascii=False)
    file.write_text(text, "utf-8")
    return file


def test_few_shot_rows(folder: Path) -> None:
    file = written(folder, "dataset.json", [{"img": "a.png", "prompt": "这是什么？", "label": "红色。"}])
    assert list(read_records(folder)) == [Record(1, folder / "a.png", (("这是什么？", "红色。"),))]
    assert list(read_records(file)) == list(read_records(folder))


def test_pictures_are_found_one_folder_above_as_in_the_published_set(folder: Path) -> None:
    inner = folder / "set"
    inner.mkdir()
    (folder / "a.png").rename(inner / "a.png")
    file = written(inner, "dataset.json", [{"img": "set/a.png", "prompt": "q", "label": "a"}])
    assert isinstance(next(read_records(file)), Record)


def test_every_turn_of_a_llava_row_is_used(folder: Path) -> None:
    said = [("human", "<image>\nWhat is it?"), ("gpt", "Red."), ("human", "Sure?"), ("gpt", "Yes.")]
    row = {"image": "a.png", "conversations": [{"from": who, "value": words} for who, words in said]}
    (record,) = read_records(written(folder, "llava.json", [row]))
    assert isinstance(record, Record)
    assert record.turns == (("What is it?", "Red."), ("Sure?", "Yes."))


@pytest.mark.parametrize(
    ("caption", "prompt"), [("A red square.", CAPTION_PROMPTS[0]), ("红方块。", CAPTION_PROMPTS[1])]
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.tsv", "turned.tsv"])
def test_captions_answer_a_prompt_in_their_language(folder: Path, name: str, caption: str, prompt: str) -> None:
    text = {
        "rows.jsonl": json.dumps({"image": "a.png", "caption": caption}),
        "rows.tsv": f"a.png\t{caption}",
        "turned.tsv": f"{caption}\ta.png",
    }[name]
    (record,) = read_records(written(folder, name, text))
    assert record == Record(1, folder / "a.png", ((prompt, caption),))


GOOD = {"img": "a.png", "prompt": "q", "label": "a"}


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"img": "a.png", "prompt": "q"}, "label"),
        ({"img": "a.png", "label": "a"}, "prompt"),
        ({"prompt": "q", "label": "a"}, "img"),
        ({"img": "a.png", "prompt": " ", "label": "a"}, "prompt"),
        ({"img": "a.png", "prompt": 3, "label": "a"}, "prompt"),
        ({"img": "gone.png", "prompt": "q", "label": "a"}, "img"),
        ({"img": "broken.png", "prompt": "q", "label": "a"}, "img"),
        ({"img": "http://127.0.0.1/a.png", "prompt": "q", "label": "a"}, "img"),
        ({"image": "a.png", "conversations": [{"from": "human", "value": "q"}]}, "conversations"),
        ({"image": "a.png", "conversations": [{"value": "q"}, {"from": "gpt", "value": "a"}]}, "conversations[0].from"),
        ({"image": "a.png", "conversations": [{"from": "gpt", "value": "q"}] * 2}, "conversations[0].from"),
        ([1, 2], "row"),
    ],
)
def test_a_bad_row_is_named_and_the_others_stay(folder: Path, row: object, field: str) -> None:
    file = written(folder, "rows.json", [GOOD, row, GOOD])
    first, bad, last = read_records(file)
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert isinstance(bad, Fault)
    assert (bad.row, bad.field, bad.file) == (2, field, file)


def test_lines_count_as_rows_in_jsonl(folder: Path) -> None:
    file = written(folder, "rows.jsonl", json.dumps(GOOD) + "\n\n{broken\n" + json.dumps(GOOD))
    good, bad, last = read_records(file)
    assert (good.row, bad.row, last.row) == (1, 3, 4)
    assert isinstance(bad, Fault)


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.json", "{}"), ("a.csv", "x"), ("gone.json", None)])
def test_a_file_that_is_none_is_an_error(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=name):
        list(read_records(tmp_path / name))


def test_the_report_counts_and_its_page_is_escaped(folder: Path) -> None:
    rows = [GOOD, GOOD, {**GOOD, "prompt": "<script>"}, {"img": "a.png"}]
    report = check(written(folder, "rows.json", rows))
    figures = report.figures()
    assert (figures["rows"], figures["usable"], figures["faulty"], figures["repeated_rows"]) == (4, 3, 1, 1)
    assert figures["questions"][0] == ("q", 2)
    page = report.page()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "data:image/png;base64," in page
    assert "row 4: prompt" in page
