"""``huayu data check``."""

import json
from pathlib import Path

import pytest
from PIL import Image

from huayu.cli.main import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["data", "check", *arguments])
    return int(end.value.code or 0)


def rows(folder: Path, *changes: dict[str, object]) -> Path:
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    good = {"img": "a.png", "prompt": "q", "label": "a"}
    file = folder / "rows.json"
    file.write_text(json.dumps([{k: v for k, v in (good | change).items() if v is not None} for change in changes]))
    return file


def test_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_LANG", "zh")
    assert run(str(rows(tmp_path, {}, {"label": "b"})), "--page", str(tmp_path / "page.html")) == 0
    assert "2 行中有 2 行可用" in capsys.readouterr().out
    assert "<img" in (tmp_path / "page.html").read_text("utf-8")


def test_bad_rows_by_number_file_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUAYU_LANG", "en")
    file = rows(tmp_path, {}, {"label": None}, {"img": "gone.png"})
    assert run(str(file)) == 1
    out = capsys.readouterr().out
    assert f"{file}: row 2: label: missing" in out
    assert f"{file}: row 3: img: gone.png" in out
    assert run(str(file), "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert [(fault["row"], fault["field"]) for fault in report["faults"]] == [(2, "label"), (3, "img")]


def test_an_empty_file_is_no_data(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text("[]")
    assert run(str(file)) == 1
