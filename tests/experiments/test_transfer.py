"""The experiment on transfer between languages: arms differ as declared, figures are what they say, and it runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from huayu.data import pictograms
from huayu.data.sprites import Sprites
from huayu.errors import ModelError
from huayu.experiments.transfer import command, measure, report, statistics
from huayu.experiments.transfer.arms import ARMS, arm
from huayu.experiments.transfer.bilingual import TextStage
from huayu.experiments.transfer.eye import Eye
from huayu.experiments.transfer.jobs import Workshop
from huayu.experiments.transfer.painting import PaintStage
from huayu.experiments.transfer.plan import Job, plan
from huayu.experiments.transfer.pool import drawn
from huayu.experiments.transfer.scenes import SmallWorld
from huayu.experiments.transfer.settings import SETTINGS, setting_of, vocabulary_of
from huayu.experiments.transfer.talk import LANGUAGES, SKILLS, Talker
from huayu.experiments.transfer.teller import Teller, TellStage
from tests.data.sprites_fixture import some_sprites

TINY = SETTINGS["tiny"]
HAN = re.compile(r"[\u3400-\u9fff]")


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A place to work in with the fixture's drawings."""
    monkeypatch.setattr(Sprites, "load", lambda path, **_: some_sprites())
    monkeypatch.setattr(pictograms, "pack", lambda folder: Path(folder))
    return Workshop(TINY, tmp_path / "run", tmp_path)


@pytest.fixture
def stages(workshop: Workshop) -> dict[str, list[TellStage]]:
    """What each arm learns from pictures, stage by stage, with nothing trained."""
    torch.manual_seed(0)
    eye = Eye(TINY).eval()
    pool = drawn(TINY, some_sprites(), eye, 1, 24)
    found: dict[str, list[TellStage]] = {}
    for one in ARMS:
        shares = [(one.pairs, False)] + [(one.instructions, True)] * (one.instructions is not None)
        found[one.key] = [
            TellStage(TINY, workshop.vocabulary, pool, Teller(TINY, workshop.vocabulary), 1, chinese=c, instruct=i)  # type: ignore[arg-type]
            for c, i in shares
        ]
    return found


def said(stage: TellStage) -> list[str]:
    return [turn.question + turn.answer for index in range(40) for turn in stage.turns(index, 16)[1]]


def test_arms_see_the_languages_that_they_declare(stages: dict[str, list[TellStage]]) -> None:
    for key, mine in stages.items():
        declared = [share for share in (arm(key).pairs, arm(key).instructions) if share is not None]
        for stage, share in zip(mine, declared, strict=True):
            texts = said(stage)
            chinese = sum(bool(HAN.search(text)) for text in texts) / len(texts)
            assert chinese == pytest.approx(share, abs=0.06)
            assert (chinese > 0) == (share > 0), key


def test_no_chinese_token_reaches_english_pairs(stages: dict[str, list[TellStage]], workshop: Workshop) -> None:
    stage = stages["a"][0]
    letters = [bool(HAN.search(token)) for token in (workshop.folder / "vocab.txt").read_text("utf-8").split("\n")]
    han = torch.tensor(letters)
    for index in range(10):
        batch = stage.batch(index, 16)
        assert not han[batch["input_ids"]].any()
        assert not han[batch["labels"].clamp(min=0)].any()


def test_pairs_fix_the_language_model_and_instructions_fix_the_patches(stages: dict[str, list[TellStage]]) -> None:
    pairs, instruct = stages["b"]
    for stage, tuned in ((pairs, False), (instruct, True)):
        chat = stage.module().chat
        assert all(p.requires_grad is tuned for p in chat.language_model.parameters())
        assert all(p.requires_grad for p in [chat.query_tokens, *chat.projector.parameters()])
        assert not any(p.requires_grad for p in chat.vision_encoder.patch_embedding.parameters())


def test_the_language_model_reads_no_picture_and_the_control_no_bridge(workshop: Workshop) -> None:
    joined, apart = (TextStage(TINY, workshop.vocabulary, 1, across) for across in (True, False))
    rng = np.random.default_rng(0)
    items = [joined.item(rng) for _ in range(200)]
    assert all(item.packed(workshop.vocabulary).image_bounds == [] for item in items)
    assert not any(item.packed(workshop.vocabulary).words for item in items), "every word is in the vocabulary"
    mixed = [bool(HAN.search(i.passage)) != bool(HAN.search(i.question)) for i in items]
    assert 0.3 < np.mean(mixed) < 0.7
    for _ in range(200):
        item = apart.item(rng)
        assert len({bool(HAN.search(text)) for text in (item.passage, item.question, item.answer)}) == 1


def test_test_scenes_are_new_and_asked_in_both_languages() -> None:
    small = SmallWorld(32)
    rng = np.random.default_rng(0)
    from huayu.data.world import held_pair

    for held in (False, True):
        for _ in range(100):
            there = small.draw(rng, held=held).concepts
            assert any(held_pair(a, b) for a in there for b in there) == (held and len(there) > 1)


@pytest.mark.parametrize("skill", SKILLS)
def test_content_is_the_same_in_both_languages(skill: str) -> None:
    small = SmallWorld(64)
    talker, rng = Talker(small.concepts), np.random.default_rng(1)
    seen = set()
    for _ in range(300):
        turn = talker.turn(rng, small.draw(rng), skill, "zh")
        if turn is not None:
            facts = measure.content(skill, turn.answer)
            assert facts
            assert facts == measure.content(skill, turn.other)
            seen.add(tuple(facts))
    assert len(seen) >= (2 if skill == "yesno" else 3), "different scenes say different things"


def test_judges_tell_language_from_content() -> None:
    talker, rng = Talker(SmallWorld(8).concepts), np.random.default_rng(2)
    turn = next(t for t in (talker.turn(rng, SmallWorld(8).draw(rng, count=1), "name", "zh") for _ in range(9)) if t)
    right, english, wrong = (measure.Asked(0, turn, text) for text in (turn.answer, turn.other, "这是一。"))
    assert [judge(right) for judge in measure.JUDGES.values()] == [True, True, True]
    assert [judge(english) for judge in measure.JUDGES.values()] == [False, True, False]
    assert [judge(wrong) for judge in measure.JUDGES.values()] == [False, False, True]
    assert measure.tongue("这是 a dog") == "mixed"


def test_intervals_and_verdicts() -> None:
    figure = statistics.interval([0.4, 0.5, 0.6])
    assert figure["mean"] == pytest.approx(0.5)
    assert figure["high"] - figure["mean"] == pytest.approx(4.303 * 0.1 / 3**0.5, abs=1e-4)
    assert statistics.interval([1.0, 1.0, 1.0]) == {"mean": 1.0, "low": 1.0, "high": 1.0}

    def arms(a: float, b: float, c: float) -> dict[str, object]:
        def table(content: float, language: float) -> dict[str, object]:
            cell = {"content": statistics.interval([content] * 3), "language": statistics.interval([language] * 3)}
            return {"summary": {k: {"all": cell} for k in LANGUAGES}}

        return {"arms": {"a": table(a, 1), "b": table(a, b), "c": table(a, c), "blind": table(0.1, 1)}}

    assert statistics.verdicts(arms(0.9, 0.1, 1.0), 32) == {"understands": "confirmed", "speaks": "confirmed"}
    assert statistics.verdicts(arms(0.05, 0.97, 0.97), 32) == {"understands": "open", "speaks": "refuted"}
    assert statistics.verdicts(arms(0.9, 0.8, 0.97), 32)["speaks"] == "partly"


def test_painting_learns_english_captions_only(workshop: Workshop) -> None:
    torch.manual_seed(0)
    from huayu.experiments.transfer.bilingual import new_model

    stage = PaintStage(TINY, workshop.vocabulary, some_sprites(), new_model(TINY, workshop.vocabulary), 1)
    captions = [text for index in range(20) for text in stage.draw(index, 8)[1]]
    assert not any(HAN.search(text) for text in captions)
    assert not {order for index in range(20) for order in stage.draw(index, 8)[0]} & set(stage.held)


def test_the_whole_experiment_runs_and_goes_on(workshop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    report_folder = command.run("tiny", folder, 1, cache=tmp_path, processes=0)
    found = json.loads((report_folder / "transfer.json").read_text("utf-8"))
    assert set(found["arms"]) == {"words", "blind", "pairs-both", *(one.key for one in ARMS)}
    for one in found["arms"].values():
        assert set(one["seeds"]) == {"1"}
        cell = one["summary"]["zh"]["all"]["exact"]
        assert 0 <= cell["low"] <= cell["mean"] <= cell["high"] <= 1
    assert set(found["verdicts"]) == {"understands", "speaks", "speaks+", "paints"}
    for name in ("transfer.md", "transfer.zh.md"):
        page = (report_folder / name).read_text("utf-8")
        assert report.percent(found["arms"]["c"]["summary"]["zh"]["all"]["exact"]) in page
        assert "{" not in page
    assert (report_folder / "images" / "transfer.zh.png").stat().st_size > 1000
    before = {path: path.stat().st_mtime_ns for path in folder.glob("seed-*/*/result.json")}
    (folder / "seed-1" / "b" / "result.json").unlink()
    command.run("tiny", folder, 1, cache=tmp_path, processes=0)
    after = {path: path.stat().st_mtime_ns for path in folder.glob("seed-*/*/result.json")}
    assert {path for path in before if before[path] != after[path]} == {folder / "seed-1" / "b" / "result.json"}
    with pytest.raises(ModelError):
        command.run("small", folder, 1, cache=tmp_path, processes=0)


def test_jobs_come_after_what_they_need() -> None:
    jobs = plan(3)
    for number, job in enumerate(jobs):
        assert set(job.needs) <= {earlier.name for earlier in jobs[:number]}
    assert len({job.name for job in jobs}) == len(jobs)
    assert Job("eye").name == "eye"


def test_unknown_names_are_refused() -> None:
    from huayu import experiments

    with pytest.raises(ModelError):
        experiments.run("other")
    with pytest.raises(ModelError):
        setting_of("huge")
    assert "transfer" in experiments.listing()


def test_vocabulary_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "vocab.txt"
    first = vocabulary_of(path)
    assert len(vocabulary_of(path)) == len(first) > 2000
