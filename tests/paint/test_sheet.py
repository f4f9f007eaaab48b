"""Contact sheets: where pictures and words go, and words that no font here can write."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from huayu.paint import contact_sheet, sheet

COLOURS = ["red", "green", "blue", "black", "cyan"]
PICTURES = [Image.new("RGB", (32, 16), colour) for colour in COLOURS]


def test_a_grid_in_reading_order() -> None:
    made = contact_sheet(PICTURES, columns=2)
    assert made.size == (8 + 2 * 40, 8 + 3 * 24)
    middles = [(8 + 40 * (i % 2) + 16, 8 + 24 * (i // 2) + 8) for i in range(5)]
    expected = [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in COLOURS]
    assert [made.getpixel(middle) for middle in middles] == expected
    assert made.getpixel((60, 70)) == (255, 255, 255)  # the sixth place stays empty
    assert contact_sheet(PICTURES[:4]).size == (8 + 2 * 40, 8 + 2 * 24)
    assert contact_sheet([Image.new("RGB", (1024, 512))]).size == (272, 144)


def words(made: Image.Image) -> bytes:
    """What is under a sheet's one picture of 32 × 16."""
    return made.crop((0, 8 + 16, made.width, made.height)).tobytes()


def test_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.new("RGB", (132, 16), "red")
    blank, seven, chinese = (contact_sheet([picture], [text]) for text in ("", "seed 7", "生成"))
    assert len({words(made) for made in (blank, seven, chinese)}) == 3
    long = contact_sheet([picture], ["seed 7 " * 20])
    assert words(long.crop((140, 0, *long.size))) == words(blank.crop((140, 0, *blank.size)))
    monkeypatch.setattr(sheet, "chinese_font", lambda: None)
    assert words(contact_sheet([picture], ["龘丂"])) == words(contact_sheet([picture], ["1"]))


def test_a_font_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cjk").mkdir()
    for name in ("Arial.ttf", "cjk/wqy-zenhei.ttc", "cjk/NotoSansCJK-Regular.ttc"):
        (tmp_path / name).touch()
    monkeypatch.setattr(sheet, "_FOLDERS", {})
    monkeypatch.setattr(sheet, "_UNIX_FOLDERS", (tmp_path, tmp_path / "none"))
    sheet.chinese_font.cache_clear()
    assert sheet.chinese_font() == tmp_path / "cjk" / "NotoSansCJK-Regular.ttc"
    monkeypatch.setattr(sheet, "_UNIX_FOLDERS", ())
    sheet.chinese_font.cache_clear()
    assert sheet.chinese_font() is None
    sheet.chinese_font.cache_clear()


def test_nothing_to_show() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ValueError, match="caption for each"):
        contact_sheet(PICTURES, ["one"])
