"""Pairs cleaned: every reason, near-duplicates, shards done once, the layout kept."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from huayu.batch import cleaning, work
from huayu.batch.cleaning import CleanJob, clean
from huayu.cli.main import main
from huayu.data.cleaning import CleanOptions, Seen, language, picture_hash
from huayu.data.pictures import open_picture
from huayu.data.records import Record, read_records
from huayu.errors import OptionError
from tests.ranking.tiny import save_tiny_chinese_clip


def scene(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def as_bytes(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


PAIRS: list[tuple[str, str, Image.Image, str]] = [
    ("a.png", "A red ball on the grass.", scene(1), ""),
    ("b.png", "一只狗坐在草地上。", scene(2), ""),
    ("c.png", "Ein Hund sitzt auf der Wiese und schläft.", scene(3), "language"),
    ("d.png", "東京タワーの写真です。", scene(4), "language"),
    ("e.png", "狗。", scene(5), "short"),
    ("f.png", "very " * 200, scene(6), "long"),
    ("g.png", "A tiny little picture.", scene(7, (32, 32)), "small"),
    ("h.png", "A long banner of colours.", scene(8, (400, 70)), "aspect"),
    ("i.jpg", "The same ball, once more.", scene(1).resize((120, 90)), "duplicate"),
    ("a.png", "Something red and round here.", scene(1), ""),
    ("a.png", "A red ball on the grass.", scene(1), "duplicate"),
    ("gone.png", "Not there at all.", scene(1), "fault"),
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    lines = []
    for name, caption, image, _ in PAIRS:
        if name != "gone.png":
            image.save(tmp_path / name)
        lines.append(json.dumps({"image": name, "caption": caption}, ensure_ascii=False))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path / "rows.jsonl"


def expected() -> list[tuple[str, str]]:
    return [(name, caption) for name, caption, _, reason in PAIRS if not reason]


def read(target: Path) -> list[tuple[str, str]]:
    found = list(read_records(target / "kept.jsonl"))
    assert all(isinstance(record, Record) for record in found), found
    return [(record.picture.name, record.caption) for record in found]  # type: ignore[union-attr, misc]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_is_kept_or_has_its_reason(rows: Path, tmp_path: Path, workers: int) -> None:
    target = tmp_path / "clean"
    report = clean(CleanJob((str(rows),), target, shard_size=5), workers=workers)
    counted: dict[str, int] = {}
    for *_, reason in PAIRS:
        counted[reason] = counted.get(reason, 0) + 1
    assert report["left_out"] == {reason: count for reason, count in counted.items() if reason}
    assert (report["rows"], report["kept"], report["languages"]) == (12, 3, {"en": 2, "zh": 1})
    assert read(target) == expected()
    page = (target / "report.html").read_text("utf-8")
    assert page.count("data:image/png") == 11
    assert "near-duplicate · 近似重复: 2" in page


def test_it_goes_on_and_does_no_shard_twice(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, job = tmp_path / "clean", CleanJob((str(rows),), tmp_path / "clean", shard_size=4)
    done: list[int] = []
    real = work.do_shard

    def some(job: Any, shard: Any, worker: Any, tell: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(shard.number)
        real(job, shard, worker, tell)

    monkeypatch.setattr(work, "do_shard", some)
    with pytest.raises(KeyboardInterrupt):
        clean(job)
    assert not (target / "kept.jsonl").exists()
    done.clear()
    clean(job)
    assert done == [2]
    assert read(target) == expected()
    done.clear()
    clean(job)
    assert done == []
    with pytest.raises(OptionError, match="another batch"):
        clean(CleanJob((str(rows),), target, shard_size=4, options=CleanOptions(near=0)))


def test_pictures_inside_shards_are_written_into_shards(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pictures = [as_bytes(image, "JPEG", quality=95) for _, _, image, _ in PAIRS[:10]]
    table = arrow.table({"jpg": pictures, "caption": [caption for _, caption, _, _ in PAIRS[:10]]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    clean(CleanJob((str(tmp_path / "a.parquet"),), tmp_path / "clean", shard_size=1))
    kept = list(read_records(tmp_path / "clean" / "kept"))
    assert not (tmp_path / "clean" / "kept.jsonl").exists()
    assert [record.caption for record in kept] == [PAIRS[0][1], PAIRS[1][1]]  # type: ignore[union-attr]
    assert [open_picture(record.picture).size for record in kept] == [(96, 72)] * 2  # type: ignore[union-attr, arg-type]
    assert [record.picture.name for record in kept] == ["a-000000.jpg", "a-000001.jpg"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a red clock", "en"), ("Two dogs.", "en"), ("tree trunk", "en"), ("iPhone 12 Pro", "en"), ("一只狗", "zh"),
        ("Apple 苹果手机", "zh"), ("le chien mange dans la cuisine", "other"), ("Кот на столе", "other"),
        ("고양이", "other"), ("123", "other"), ("Plage de sable blanc avec palmiers", "other"),
    ],
)  # fmt: skip
def test_languages_of_short_captions(text: str, found: str) -> None:
    assert language(text) == found


def test_hashes_of_like_pictures_are_found_near() -> None:
    first = scene(11, (200, 150))
    again = open_picture(as_bytes(first.resize((120, 90)), "JPEG", quality=60))
    apart = int(picture_hash(first), 16) ^ int(picture_hash(again), 16)
    assert apart.bit_count() <= 3
    seen = Seen(3)
    assert seen.add(picture_hash(first), "first") is None
    assert seen.add(picture_hash(again), "again") == "first"
    assert seen.add(picture_hash(scene(12)), "other") is None


@pytest.mark.parametrize("near", [0, 1, 3, 7])
def test_bands_find_what_comparing_with_all_finds(near: int) -> None:
    rng, seen, kept = np.random.default_rng(near), Seen(near), list[int]()
    for _ in range(150):
        value = int(rng.choice(kept)) if kept and rng.random() < 0.7 else int(rng.integers(2**63))
        for bit in rng.choice(63, rng.integers(0, near + 3), replace=False):
            value ^= 1 << int(bit)
        twin = any((value ^ other).bit_count() <= near for other in kept)
        assert (seen.add(f"{value:016x}", "x") is not None) == twin
        kept += [] if twin else [value]


def test_a_ranker_leaves_out_what_does_not_fit(rows: Path, tmp_path: Path) -> None:
    folder = str(save_tiny_chinese_clip(tmp_path / "clip"))
    scored = CleanJob((str(rows),), tmp_path / "all", rankers={"zh": folder}, loading={"device": "cpu"})
    clean(scored)
    shards, _ = scored.split()
    scores = [told["score"] for told in scored.told(shards[0]) if "score" in told]
    assert len(scores) == 1
    job = CleanJob(
        (str(rows),), tmp_path / "some", rankers={"zh": folder}, options=CleanOptions(min_score=max(scores) + 1)
    )
    report = clean(job)
    assert (report["left_out"]["score"], report["languages"]) == (1, {"en": 2})


@pytest.mark.parametrize("change", [{"languages": ("de",)}, {"near": 16}, {"max_aspect": 0.5}, {"min_length": 200}])
def test_options_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        CleanOptions(**change)


def test_the_command(rows: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_LANG", "zh")
    with pytest.raises(SystemExit) as end:
        main(["data", "clean", str(rows), str(tmp_path / "clean"), "--near", "-1", "--languages", "zh"])
    assert not end.value.code
    out = capsys.readouterr().out
    assert "12 行中保留 1 行（zh 1）" in out
    assert "9 行：其他语言" in out
    assert cleaning.REASONS.keys() >= json.loads((tmp_path / "clean" / "report.json").read_text())["left_out"].keys()
