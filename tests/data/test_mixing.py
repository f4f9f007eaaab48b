"""Orders that depend on the seed and the position alone; shares; rows of shards that no worker sees twice."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from huayu.chat import load_chat
from huayu.data import mixing
from huayu.data.mixing import Mix, Order, parse_mix
from huayu.data.records import Fault
from huayu.errors import ImageError, ModelError, OptionError
from huayu.training.finetune.examples import Batcher, Example
from huayu.training.finetune.reading import Examples, gather
from huayu.training.finetune.stage import FinetuneStage


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    return data.getvalue()


def shard(path: Path, names: range) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            for ending, data in (("png", picture()), ("txt", str(name).encode())):
                info = tarfile.TarInfo(f"{name:05}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def captions(path: Path, words: list[str], folder: Path) -> Path:
    (folder / "a.png").write_bytes(picture())
    path.write_text("".join(json.dumps({"image": "a.png", "caption": word}) + "\n" for word in words), "utf-8")
    return path


def bad(_: Fault) -> None:
    raise AssertionError(_)


def answers(examples: Examples, count: int, seed: int = 0) -> list[str]:
    return [examples.drawn(position, (seed,)).answer for position in range(count)]


@pytest.mark.parametrize("blocks", [[10], [3, 4, 0, 5], [1] * 7])
def test_every_round_has_every_row_once_in_another_order(blocks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "WINDOW", 5)
    order, rows = Order(blocks, (7,)), sum(blocks)
    rounds = [[order[turn * rows + at] for at in range(rows)] for turn in range(3)]
    assert all(sorted(found) == list(range(rows)) for found in rounds)
    assert rounds[0] != rounds[1] != rounds[2]
    assert [Order(blocks, (7,))[at] for at in (2 * rows + 1, 1, rows)] == [rounds[2][1], rounds[0][1], rounds[1][0]]
    assert [Order(blocks, (8,))[at] for at in range(rows)] != rounds[0]


def test_of_shards_only_a_window_is_open_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "WINDOW", 20)
    order = Order([10] * 30, (1,))
    blocks = [order[at] // 10 for at in range(300)]
    assert all(len(set(blocks[start : start + 20])) == 2 for start in range(0, 300, 20))
    for start in range(0, 300, 20):  # the two are shuffled into each other
        assert sum(a != b for a, b in pairwise(blocks[start : start + 20])) > 2
    assert blocks[::20] != sorted(blocks[::20])


def test_shares_are_kept_in_every_cycle() -> None:
    mix = Mix([3, 1, 0.004], (5,))
    assert mix.size > 1000
    drawn = [mix[at] for at in range(2 * mix.size)]
    for cycle in (drawn[: mix.size], drawn[mix.size :]):
        shares = {part: count / mix.size for part, count in Counter(part for part, _ in cycle).items()}
        assert shares == pytest.approx({0: 3 / 4.004, 1: 1 / 4.004, 2: 0.004 / 4.004}, abs=2 / mix.size)
    for part in range(3):  # none skipped, none twice
        assert sorted(within for which, within in drawn if which == part) == list(range(2 * int(mix.counts[part])))
    for weight in (0, -1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="above 0"):
            Mix([1, weight], (0,))


def test_a_mix_is_written_in_words_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "all.mix").write_text("# ours\na.json:3\nsub/b.tar\n", "utf-8")
    expected = [(tmp_path / "a.json", 3.0), (tmp_path / "sub/b.tar", None)]
    assert parse_mix(tmp_path / "all.mix") == expected
    assert parse_mix(["x:y.json", "c.json:0.5", str(tmp_path / "all.mix")]) == [
        (Path("x:y.json"), None),
        (Path("c.json"), 0.5),
        *expected,
    ]
    for text in ("a.json:0", "a.json:-2", "a.json:nan"):
        with pytest.raises(OptionError, match="above 0"):
            parse_mix(text)
    with pytest.raises(OptionError, match=r"none\.mix"):
        parse_mix("none.mix")


def test_files_without_weights_are_one_and_with_weights_in_shares(tmp_path: Path) -> None:
    few = captions(tmp_path / "few.jsonl", ["x", "y"], tmp_path)
    many = captions(tmp_path / "many.jsonl", [str(n) for n in range(30)], tmp_path)
    plain = gather([few, many], None, bad)
    assert Counter(answers(plain, 64)) == dict.fromkeys(["x", "y", *map(str, range(30))], 2)
    shared = gather([f"{few}:1", f"{many}:3"], None, bad)
    drawn = answers(shared, 1000)
    assert sum(answer in "xy" for answer in drawn) == 250
    assert Counter(answer for answer in drawn if answer in "xy") == {"x": 125, "y": 125}
    assert max(Counter(drawn[:1000]).values()) == 125
    assert answers(gather([f"{few}:1", f"{many}:3"], None, bad), 50) == drawn[:50]
    assert answers(shared, 50, seed=1) != drawn[:50]
    assert answers(pickle.loads(pickle.dumps(shared)), 50) == drawn[:50], "as a worker that is started anew gets it"
    order, mix = Order([3, 4], (1,)), Mix([1, 2], (1,))
    assert [pickle.loads(pickle.dumps(order))[at] for at in range(9)] == [order[at] for at in range(9)]
    assert [pickle.loads(pickle.dumps(mix))[at] for at in range(9)] == [mix[at] for at in range(9)]


def test_turns_stay_with_their_row_when_rows_are_held_back(tmp_path: Path) -> None:
    said = [{"from": who, "value": words} for who, words in [("human", "q"), ("gpt", "a")] * 2]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"conversations": [{**said[0], "value": f"q{n}"}, *said[1:]]} for n in range(10)]))
    rest, held = gather(str(file), None, bad).split(0.2, 3)
    assert (len(rest), len(held)) == (16, 4)
    assert {example.question for example in held} - {"q"} == {
        example.before[0][0] for example in held if example.before
    }
    assert not {example.question for example in held} & {example.question for example in rest} - {"q"}
    assert held[1:3] == [held[1], held[2]]
    with pytest.raises(IndexError):
        held[4]


class Drawn(Dataset):
    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitem__(self, batch: int) -> list[str]:
        return [self.examples.drawn(at, (0,)).answer for at in range(8 * batch, 8 * batch + 8)]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_share_shards_without_seeing_a_row_twice(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixing, "WINDOW", 16)
    for number in range(4):
        shard(tmp_path / f"{number}.tar", range(8 * number, 8 * number + 8))
    examples = gather(tmp_path, None, bad)
    loader = DataLoader(Drawn(examples), sampler=range(8), batch_size=None, num_workers=workers)
    batches = list(loader)
    seen = [answer for batch in batches for answer in batch]
    assert Counter(seen) == dict.fromkeys(map(str, range(32)), 2)
    later = DataLoader(Drawn(examples), sampler=range(5, 8), batch_size=None, num_workers=workers)
    assert list(later) == batches[5:]


def test_a_file_that_changed_is_told(tmp_path: Path) -> None:
    examples = gather(str(captions(tmp_path / "a.jsonl", ["x"], tmp_path)), None, bad)
    (tmp_path / "a.jsonl").write_text("no longer\n")
    with pytest.raises(ModelError, match=r"a\.jsonl: row 1.*it has changed"):
        examples[0]


def test_a_picture_that_cannot_be_opened_gives_its_place(tmp_path: Path, tiny_chat_folder: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    good, broken = (Example(tmp_path / name, (), "q", name) for name in ("a.png", "bad.png"))
    batcher = Batcher(load_chat(tiny_chat_folder, dtype="float32").backend)
    mended, whole = batcher([broken, good, broken]), batcher([good] * 3)
    assert all(torch.equal(mended[name], value) for name, value in whole.items())
    with pytest.raises(ImageError):
        batcher([broken])


def test_a_stage_learns_from_files_and_shards_and_asks_about_their_pictures(
    tmp_path: Path, tiny_chat_folder: Path
) -> None:
    few = captions(tmp_path / "few.jsonl", ["x", "y"], tmp_path)
    many = shard(tmp_path / "many.tar", range(6))
    stages = [FinetuneStage(str(tiny_chat_folder), [f"{few}:1", f"{many}:3"], asks=1) for _ in range(2)]
    assert (len(stages[0].learnt), len(stages[0].held)) == (6, 2)
    assert len(stages[0].asked()["learnt"]["answers"]) == 1
    first, again = (stage.batch(3, 4) for stage in stages)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["pixel_values"].shape[:2] == (4, 1)
