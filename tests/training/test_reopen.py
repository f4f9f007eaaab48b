"""The embedded models can be trained further though their runs are gone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from huayu import embedded
from huayu.data.sprites import Sprites
from huayu.models.viscpm_paint import VisCPMPaintPipeline
from huayu.training import recipe
from huayu.training.loop import LoopSettings
from huayu.training.mini_chat import join
from huayu.training.mini_chat import reopen as reopen_chat
from huayu.training.mini_paint import reopen as reopen_paint
from huayu.training.mini_paint.architecture import vocabulary_of
from huayu.training.mini_paint.canvas import Words, read, words_of
from tests.data.sprites_fixture import some_sprites


@pytest.mark.parametrize(("name", "folder"), [("huayu-chat-mini", "mini_chat"), ("huayu-glm-mini", "mini_glm")])
def test_a_chat_model_stays_as_it_is_and_its_heads_learn(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sprites, "load", lambda path: some_sprites())
    monkeypatch.setattr(join, "sprites_file", lambda folder: Path(folder))
    monkeypatch.setattr(reopen_chat, "FIT_BATCHES", 6)
    lines = Path(f"recipes/{folder}/instruct.toml").read_text("utf-8").replace("runs/", f"{tmp_path}/")
    file = tmp_path / "recipe.toml"
    file.write_text(lines, "utf-8")
    start = reopen_chat.reopen(file, embedded.folder(name), steps=6, size=8)
    settings = {key: value for key, value in recipe.read(file).items() if key not in {"stage", *LoopSettings.names()}}
    assert start == Path(settings["start"])
    stage = join.JoinStage(**settings)
    joined = stage.module().eval()
    shipped = type(joined.chat).from_pretrained(embedded.folder(name), dtype=torch.float32).state_dict()
    assert all(torch.equal(value, shipped[key]) for key, value in joined.chat.state_dict().items())
    batch = stage.batch(50, 8)
    fresh = join.Joined(stage.family).eval()
    fresh.chat.load_state_dict(joined.chat.state_dict())
    with torch.no_grad():
        parts, before = stage.loss(joined, batch)[1], stage.loss(fresh, batch)[1]
    assert parts["align"] < 0.7 * before["align"], "the ideal words are this model's"
    assert parts["order"] < before["order"]
    assert parts["slot"] < before["slot"]


def test_a_painter_is_handed_on_as_it_is(tmp_path: Path) -> None:
    reopen_paint.reopen(embedded.folder("huayu-paint-mini"), tmp_path)
    pipeline = VisCPMPaintPipeline.from_pretrained(embedded.folder("huayu-paint-mini"), dtype=torch.float32)
    vocabulary = vocabulary_of(str(tmp_path / "vocab.txt"))
    words = Words(len(vocabulary), pipeline.canvas.config.variants)
    words.load_state_dict(words_of(str(tmp_path / "denoiser" / "painter.pt")))
    inputs = read(["一只猫", "a red apple on a blue background"], vocabulary)
    with torch.no_grad():
        noise = torch.randn(2, 48, 8, 8)
        states = pipeline.conditioning_head(pipeline.text_encoder(**inputs, use_cache=False).last_hidden_state)
        canvas, _ = pipeline.canvas(states, inputs["attention_mask"], noise)
        assert torch.equal(words.eval()(noise, **inputs)[1], canvas)
    assert (tmp_path / "autoencoder" / "vae" / "config.json").is_file()
