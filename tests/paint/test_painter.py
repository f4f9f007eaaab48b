"""Painting with a tiny real pipeline: one path, seeds, streaming, cancelling, checks, ranking, repainting."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from huayu.errors import ImageError, ModelError, OptionError, OutOfMemory, PromptError
from huayu.paint import Painted, Painter, PaintOptions, Progress
from huayu.safety import Guard, default_guard
from huayu.types import Verdict
from tests.paint.conftest import Brightest, Refusing

APPLE = "红苹果"


def pixels(images: list[Image.Image]) -> list[bytes]:
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_each_picture_has_its_seed_and_can_be_repainted_alone(painter: Painter, batch_size: int) -> None:
    result = painter.paint(APPLE, n=3, seed=7, batch_size=batch_size)
    alone = [painter.paint(APPLE, seed=seed).images[0] for seed in result.seeds]
    assert result.seeds == [7, 8, 9]
    assert result.finish == "done"
    assert len(set(pixels(result.images))) == 3
    for one, other in zip(result.images, alone, strict=True):
        assert max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True)) <= 1
    assert painter.paint("a", seed=7).images[0].tobytes() != alone[0].tobytes()
    assert painter.paint(APPLE, seed=7, negative="果", guidance=5).images[0].tobytes() != alone[0].tobytes()


def test_no_seed_draws_one_and_says_it(painter: Painter) -> None:
    before = torch.random.get_rng_state()
    first, second = painter.paint(APPLE), painter.paint(APPLE)
    assert first.seeds != second.seeds
    assert pixels(painter.paint(APPLE, seed=first.seeds[0]).images) == pixels(first.images)
    assert torch.equal(before, torch.random.get_rng_state())


def test_streamed_is_whole_and_progress_counts_to_the_end(painter: Painter) -> None:
    stream = painter.stream(APPLE, n=2, seed=1)
    with pytest.raises(RuntimeError, match="not complete"):
        _ = stream.result
    events = list(stream)
    steps = [event for event in events if isinstance(event, Progress)]
    assert steps == [Progress(done, 6) for done in range(1, 7)]
    assert [type(event) for event in events].index(Painted) == 3  # the first is shown before the second begins
    pictures = [event.image for event in events if isinstance(event, Painted)]
    assert pixels(pictures) == pixels(stream.result.images) == pixels(painter.paint(APPLE, n=2, seed=1).images)


def test_previews_come_when_asked_for_and_change_nothing(painter: Painter) -> None:
    stream = painter.stream(APPLE, seed=7, previews=True)
    previews = [event.preview for event in stream if isinstance(event, Progress) and event.preview is not None]
    assert previews
    assert previews[0].mode == "RGB"
    assert pixels(stream.result.images) == pixels(painter.paint(APPLE, seed=7).images)
    assert all(event.preview is None for event in painter.stream(APPLE) if isinstance(event, Progress))


def test_cancelled_after_the_first_keeps_it(painter: Painter) -> None:
    stream = painter.stream(APPLE, n=3, seed=1)
    for event in stream:
        if isinstance(event, Painted):
            stream.cancel()
    assert (stream.result.finish, stream.result.seeds) == ("cancelled", [1])
    stopped = painter.stream(APPLE, n=2, seed=1, steps=900)
    assert next(iter(stopped)) == Progress(1, 1800)
    stopped.close()
    assert (stopped.result.finish, stopped.result.images) == ("cancelled", [])
    unbegun = painter.stream(APPLE)
    unbegun.close()
    assert unbegun.result.finish == "cancelled"
    assert painter.paint(APPLE, seed=1).seeds == [1]


def test_exact_draws_all_from_one_seed_as_the_pipeline_does(painter: Painter) -> None:
    pipeline = painter.backend.pipeline  # type: ignore[attr-defined]
    result = painter.paint("<<a", n=2, seed=3, steps=4, exact=True)
    generator = torch.Generator().manual_seed(3)
    again = pipeline("<<a", num_images_per_prompt=2, num_inference_steps=4, exact=True, generator=generator).images
    assert pixels(result.images) == pixels(again)
    assert result.seeds == [3, 3]
    assert painter.backend.facts.exact
    with pytest.raises(PromptError, match="malformed"):
        painter.paint("1 < 2", exact=True)
    assert painter.paint("1 < 2", seed=1).images


def test_schedulers_and_the_models_own_afterwards(painter: Painter) -> None:
    own = painter.paint(APPLE, seed=1).images[0].tobytes()
    others = {name: painter.paint(APPLE, seed=1, scheduler=name).images[0].tobytes() for name in ("ddpm", "ddim")}
    assert len({own, *others.values()}) == 3
    assert painter.paint(APPLE, seed=1).images[0].tobytes() == own


def test_a_model_with_a_canvas(tmp_path: Path) -> None:
    from tests.models.viscpm_paint.tiny import pipeline

    small = Painter(pipeline(tmp_path, canvas=True), "small")
    assert len(set(pixels(small.paint(APPLE, n=2, seed=1).images))) == 2
    with pytest.raises(ModelError, match="pndm"):
        small.stream(APPLE, scheduler="pndm")
    with pytest.raises(OptionError, match="only for VisCPM-Paint"):
        small.stream(APPLE, exact=True)


def test_from_a_picture_and_inside_a_mask(painter: Painter) -> None:
    photo, mask = Image.new("RGB", (32, 16), "red"), Image.new("L", (32, 16), 0)
    mask.paste(255, (0, 0, 16, 16))
    near, far = (painter.paint(APPLE, seed=1, image=photo, strength=s, steps=8).images[0] for s in (0.1, 1.0))
    assert near.size == (16, 16)
    assert near.tobytes() != far.tobytes()
    inside = painter.paint(APPLE, seed=1, image=photo, mask=mask, steps=8).images[0]
    kept = inside.crop((8, 0, 16, 16))
    assert kept.tobytes() == Image.new("RGB", (8, 16), "red").tobytes()
    assert inside.tobytes() != near.tobytes()
    steps = [
        event for event in painter.stream(APPLE, image=photo, strength=0.5, steps=8) if isinstance(event, Progress)
    ]
    assert len(steps) == 4
    assert steps[-1] == Progress(8, 8)


@pytest.mark.parametrize(
    ("prompt", "given", "error", "words"),
    [
        (" \u3000", {}, PromptError, "empty"),
        ("红" * 2100, {}, PromptError, r"21\d\d tokens.*2048"),
        ("a", {"negative": "红" * 2100}, PromptError, "2048"),
        ("a", {"size": 24}, OptionError, "16×16"),
        ("a", {"candidates": 2}, OptionError, "ranker"),
        ("a", {"image": "nowhere.png"}, ImageError, "nowhere"),
        ("a", {"stps": 2}, TypeError, "stps"),
    ],
)
def test_refused_before_anything_runs(
    painter: Painter, prompt: str, given: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        painter.stream(prompt, **given)


def test_options_and_changes(painter: Painter) -> None:
    options = PaintOptions(n=2, seed=4)
    assert painter.paint(APPLE, options=options, n=1).seeds == [4]


def test_a_blocked_prompt_is_a_verdict_not_a_picture(painter: Painter) -> None:
    guarded = Painter(painter.backend, "tiny", default_guard(picture=False))
    fine = guarded.paint(APPLE, seed=1)
    assert fine.verdicts
    assert all(verdict.allowed for verdict in fine.verdicts)
    result = guarded.paint("a naked woman")
    assert (result.finish, result.images) == ("blocked", [])
    reason = next(verdict for verdict in result.verdicts if not verdict.allowed)
    assert reason.reason_en
    assert reason.reason_zh
    allowing = Painter(painter.backend, "tiny", default_guard(picture=False, policy="allow")).paint("a naked woman")
    assert allowing.images
    assert not all(verdict.allowed for verdict in allowing.verdicts)


def test_a_refused_picture_is_replaced_by_words(painter: Painter) -> None:
    plain = painter.paint(APPLE, n=2, seed=1)
    guard = Guard(picture_checks=[Refusing(plain.images[0])])
    result = Painter(painter.backend, "tiny", guard).paint(APPLE, n=2, seed=1)
    assert result.images[0].tobytes() != plain.images[0].tobytes()
    assert result.images[1].tobytes() == plain.images[1].tobytes()
    assert [verdict.allowed for verdict in result.verdicts] == [False, True]


def test_the_best_of_candidates_with_all_scores(painter: Painter) -> None:
    ranked = Painter(painter.backend, "tiny", ranker=Brightest())
    result = ranked.paint(APPLE, n=2, seed=10, candidates=3)
    each = [Brightest()(APPLE, [painter.paint(APPLE, seed=seed).images[0]])[0] for seed in range(10, 16)]
    for place, (seed, scores) in enumerate(zip(result.seeds, result.scores, strict=True)):
        mine = each[3 * place : 3 * place + 3]
        assert scores == pytest.approx(mine, abs=0.5)
        assert seed == 10 + 3 * place + mine.index(max(mine))
    few = ranked.paint(APPLE, n=2, seed=10, candidates=3, batch_size=2)
    assert few.seeds == result.seeds
    assert ranked.paint(APPLE, seed=10).scores == [()]
    exact = ranked.paint(APPLE, n=2, seed=10, candidates=2, exact=True, steps=3)
    assert [record.settings["place"] // 2 for record in exact.records] == [0, 1]
    best = painter.paint(APPLE, seed=result.seeds[0]).images[0]
    second = Painter(painter.backend, "tiny", Guard(picture_checks=[Refusing(best, *result.images[:1])]), Brightest())
    assert second.paint(APPLE, seed=10, candidates=3).seeds != result.seeds[:1]


def test_a_ranker_for_the_other_language_is_not_asked(painter: Painter, caplog: pytest.LogCaptureFixture) -> None:
    ranker = Brightest()
    ranker.model_type = "chinese_clip"  # type: ignore[attr-defined]
    ranked = Painter(painter.backend, "tiny", ranker=ranker)
    assert ranked.paint("a dog", seed=1, candidates=4).seeds == [1]
    assert "Not ranked" in caplog.text or "未排序" in caplog.text
    assert len(ranked.paint("狗", seed=1, candidates=4).scores[0]) == 4


def test_painted_looked_at_and_painted_again(painter: Painter) -> None:
    asked: list[str] = []

    def third(image: Image.Image, prompt: str) -> bool:
        asked.append(prompt)
        return len(asked) >= 3

    result = painter.paint(APPLE, seed=5, n=2, check=third)
    assert asked == [APPLE] * 4
    assert result.seeds == [7, 8]  # both refused at first
    assert all(picture.look is not None and picture.look.allowed for picture in result.pictures)
    scores = iter([0.2, 0.4, 0.3])
    judged = painter.paint(APPLE, seed=5, check=lambda *_: Verdict(False, "look", next(scores), "否", "no"))
    assert judged.seeds == [6]
    assert judged.pictures[0].look.score == 0.4  # type: ignore[union-attr]
    once = painter.paint(APPLE, seed=5, repaints=0, check=lambda *_: False)
    assert once.seeds == [5]


def test_what_goes_wrong_in_a_check_is_not_hidden(painter: Painter) -> None:
    with pytest.raises(ZeroDivisionError):
        painter.paint(APPLE, check=lambda *_: 1 / 0)


def test_a_mark_in_the_corner(painter: Painter) -> None:
    plain, marked = painter.paint(APPLE, seed=1), painter.paint(APPLE, seed=1, mark="zh")
    assert plain.images[0].tobytes() != marked.images[0].tobytes()
    assert marked.records[0].settings["mark"] == "zh"


def test_a_full_device_is_one_sentence(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(painter.backend.pipeline.unet, "forward", full)  # type: ignore[attr-defined]
    with pytest.raises(OutOfMemory, match="batch-size 1"):
        painter.paint(APPLE)


def test_log_is_quiet(painter: Painter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        painter.paint(APPLE, seed=1)
    assert caplog.text == ""
