"""VisCPM's own painting class: the published script, the published draws, checks and ranking."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from huayu.compat import VisCPMPaint
from huayu.errors import ModelError, OptionError, PromptError
from huayu.labelling import read_record
from huayu.ranking import ChineseClipRanker
from tests.paint.conftest import Brightest, Refusing
from tests.ranking.test_ranking import chinese  # noqa: F401 (a fixture)

# The script of the published README, but for the import line, the path and a smaller picture.
SCRIPT = """
from huayu.compat import VisCPMPaint
painter = VisCPMPaint(model_path, image_safety_checker=True, prompt_safety_checker=True, add_ranker=True)
image = painter.generate('红苹果', image_size=16)
image.save('figures/vlg_case1.png')
image[0].save('figures/first.png')
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted folder of a tiny model."""
    from tests.models.viscpm_paint import tiny

    made = tmp_path_factory.mktemp("tiny-paint")
    tiny.pipeline(made).save_pretrained(made / "model")
    return made / "model"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and no check of pictures whatever is installed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huayu.safety.guard.is_installed", lambda module: False)


@pytest.fixture
def viscpm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> VisCPMPaint:
    """With a ranker that takes the brightest, and few steps."""
    from huayu.paint import options

    monkeypatch.setattr(options, "EXACT_STEPS", 3)
    made = VisCPMPaint(folder, add_ranker=False)
    made.painter.ranker = Brightest()
    return made


def test_the_published_script_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    with caplog.at_level(logging.WARNING, "huayu"):
        image = runpy.run_path("script.py", {"model_path": str(folder)})["image"]
    assert isinstance(image, list)
    with Image.open("figures/vlg_case1.png") as file:
        assert file.tobytes() == image[0].tobytes()
    assert read_record("figures/vlg_case1.png").settings["steps"] == 50
    for words in ("not checked", "not ranked"):
        assert words in caplog.text


def test_the_published_draws_and_the_best_of_four(viscpm: VisCPMPaint) -> None:
    pipeline = viscpm.painter.backend.pipeline  # type: ignore[attr-defined]
    images = viscpm.generate("<<a", "果", 2, 4.0, 16, torch.Generator().manual_seed(3))
    eight = pipeline(
        "<<a", negative_prompt="果", num_images_per_prompt=8, guidance_scale=4.0, width=16, height=16,
        num_inference_steps=3, exact=True, generator=torch.Generator().manual_seed(3),
    ).images  # fmt: skip
    scores = Brightest()("", eight)
    best = [max(range(first, first + 4), key=lambda i: scores[i]) for first in (0, 4)]
    assert images is not None
    assert [image.tobytes() for image in images] == [eight[i].tobytes() for i in best]


def test_without_a_generator_torchs_own_is_drawn_from(viscpm: VisCPMPaint) -> None:
    with torch.random.fork_rng():
        first, second = ((torch.manual_seed(5), viscpm.generate("红", image_size=16))[1] for _ in range(2))
        third = viscpm.generate("红", image_size=16)
    assert first[0].tobytes() == second[0].tobytes() != third[0].tobytes()  # type: ignore[index]


def test_several_pictures_are_saved_as_a_grid(viscpm: VisCPMPaint, tmp_path: Path) -> None:
    viscpm.painter.ranker = None
    images = viscpm.generate("红", num_images_per_prompt=2, image_size=16)
    assert images is not None
    images.save(tmp_path / "two.png")
    with Image.open(tmp_path / "two.png") as file:
        assert file.size == (2 * 16 + 3 * 8, 16 + 2 * 8)


def test_a_blocked_prompt_is_printed_and_gives_none(
    viscpm: VisCPMPaint, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUAYU_LANG", "en")
    assert viscpm.generate("a naked woman", image_size=16) is None
    assert capsys.readouterr().out.strip()
    unchecked = VisCPMPaint(folder, False, prompt_safety_checker=False, add_ranker=False)
    assert unchecked.generate("naked", image_size=16)
    assert capsys.readouterr().out == ""


def test_a_flagged_picture_is_replaced_and_still_returned(viscpm: VisCPMPaint) -> None:
    viscpm.painter.ranker = None
    seeded = lambda: viscpm.generate("红", image_size=16, generator=torch.Generator().manual_seed(1))  # noqa: E731
    plain = seeded()[0]
    viscpm.painter.guard.picture_checks = (Refusing(plain),)  # type: ignore[union-attr]
    shown = seeded()
    assert len(shown) == 1
    assert shown[0].tobytes() != plain.tobytes()


def test_a_ranker_beside_the_model(folder: Path, chinese: Path) -> None:  # noqa: F811
    beside = folder / "chinese-clip-vit-base-patch16"
    beside.symlink_to(chinese)
    try:
        made = VisCPMPaint(folder)
    finally:
        beside.unlink()
    assert isinstance(made.painter.ranker, ChineseClipRanker)
    assert len(made.painter.ranker("红", [Image.new("RGB", (16, 16))])) == 1


def test_refusals(viscpm: VisCPMPaint, tiny_chat_folder: Path) -> None:
    with pytest.raises(PromptError, match="empty"):
        viscpm.generate("")
    with pytest.raises(PromptError, match="malformed"):
        viscpm.generate("1 < 2", image_size=16)
    with pytest.raises(OptionError, match="nearest is 16×16"):
        viscpm.generate("红", image_size=18)
    with pytest.raises(ModelError, match="cannot paint"):
        VisCPMPaint(tiny_chat_folder)
