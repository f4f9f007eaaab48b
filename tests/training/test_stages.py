"""Stages for a user's data: plain text, captions for the eye, captions for the painter. Small real models learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from huayu.chat import load_chat
from huayu.checkpoints.convert import convert
from huayu.errors import ModelError
from huayu.models.viscpm_paint import open_pipeline
from huayu.training.language.stage import PretrainStage
from huayu.training.language.texts import pieces, read_texts
from huayu.training.loop import LoopSettings, train
from huayu.training.paint.stage import PaintStage
from huayu.training.recipe import STAGES, read, run
from tests.models.viscpm_paint import tiny as tiny_paint
from tests.models.visualglm import tiny as tiny_glm
from tests.training.test_loop import rows

EXAMPLE = Path("examples/backgrounds")
RECIPES = Path("recipes")
QUICK = ["steps=12", "batch_size=4", "warmup=1", "evaluate_every=6", "device=cpu", "log_every=1"]


def evaluated(folder: Path) -> list[float]:
    return [row["evaluation"]["loss"] for row in rows(folder) if "evaluation" in row]  # type: ignore[index]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    lines = ["天空是蓝色的。", "a red apple is red.", "图里是一个红苹果。", "what is the image?"]
    (folder / "a.txt").write_text("\n\n".join(lines * 2), "utf-8")
    (folder / "b.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("captions") / "captions.jsonl"
    shown = sorted(EXAMPLE.glob("*.png"))[:10]
    found = [{"image": str(path.resolve()), "caption": ("红苹果", "a cat")[n % 2]} for n, path in enumerate(shown)]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in found), "utf-8")
    return file


def test_texts_are_read_and_cut(tmp_path: Path, texts: Path) -> None:
    assert len(list(read_texts(texts))) == 12
    assert list(pieces("一二三。四五六七", 6)) == ["一二三。", "四五六七"]
    assert list(pieces("abcdefgh", 3)) == ["abc", "def", "gh"]
    assert "".join(pieces("word " * 30, 16)).replace(" ", "") == "word" * 30
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"words": "b"}\n')
    with pytest.raises(ModelError, match="row 2"):
        list(read_texts(tmp_path / "bad.jsonl"))
    with pytest.raises(ModelError, match="There is no"):
        list(read_texts(tmp_path / "none.txt"))


def test_the_recipe_for_text_teaches_the_language_model_alone(texts: Path, tmp_path: Path) -> None:
    folder = run(
        RECIPES / "pretrain" / "language.toml", [f"data={texts}", f"output={tmp_path / 'run'}", "split=0.2", *QUICK]
    )
    assert evaluated(folder)[-1] < evaluated(folder)[0]
    learnt: Any = load_chat(folder / "model", dtype="float32").backend
    before: Any = load_chat("huayu-chat-mini", dtype="float32").backend
    theirs = before.model.state_dict()
    changed = {name for name, value in learnt.model.state_dict().items() if not torch.equal(value, theirs[name])}
    assert changed
    assert all(name.startswith("language_model.") for name in changed)


def test_chatglm_learns_text_as_it_is_laid_out(texts: Path, tmp_path: Path) -> None:
    tiny_glm.model().save_pretrained(tmp_path / "ours")
    base = convert(tmp_path / "ours", tmp_path / "hf", to="hf", vocab=tiny_glm.VOCABULARY).path
    stage = PretrainStage(str(base), data=str(texts), method="lora")
    batch = stage.batch(0, 3)
    words = stage.backend.processor.tokenizer
    assert batch["input_ids"][:, :2].tolist() == [[words.gmask_token_id, words.bos_token_id]] * 3
    learnt = batch["labels"] != -100
    assert torch.equal(learnt, batch["attention_mask"].bool() & (batch["input_ids"] != words.gmask_token_id))
    assert torch.equal(batch["labels"][learnt], batch["input_ids"][learnt])
    loop = {"steps": 12, "batch_size": 4, "learning_rate": 5e-3, "warmup": 1, "evaluate_every": 6}
    folder = train(stage, LoopSettings(output=str(tmp_path / "run"), device="cpu", **loop))  # type: ignore[arg-type]
    assert evaluated(folder)[-1] < evaluated(folder)[0]
    assert load_chat(folder / "model", dtype="float32").name == "run"
    with pytest.raises(ModelError, match="No method 'ptuning'"):
        PretrainStage(str(base), data=str(texts), method="ptuning")


def test_the_recipe_for_captions_leaves_the_language_model_alone(captions: Path, tmp_path: Path) -> None:
    given = [f"data={captions}", f"output={tmp_path / 'run'}", "split=0.2", "learning_rate=3e-4", *QUICK]
    folder = run(RECIPES / "pretrain" / "captions.toml", given)
    assert evaluated(folder)[-1] < evaluated(folder)[0]
    learnt: Any = load_chat(folder / "model", dtype="float32").backend
    before: Any = load_chat("huayu-chat-mini", dtype="float32").backend
    theirs = before.model.state_dict()
    changed = {name for name, value in learnt.model.state_dict().items() if not torch.equal(value, theirs[name])}
    assert {name.split(".")[0] for name in changed} == {"query_tokens", "projector", "vision_encoder"}


def test_the_recipe_for_paintings_teaches_the_painter(captions: Path, tmp_path: Path) -> None:
    given = [f"data={captions}", f"output={tmp_path / 'run'}", "split=0.2", "ema=0", *QUICK]
    folder = run(RECIPES / "paint_tune" / "paint.toml", given)
    assert evaluated(folder)[-1] < evaluated(folder)[0]
    painted = sorted(path.name for path in (folder / "samples").iterdir())
    assert painted == ["000006-1.png", "000006-2.png", "000006.md", "000012-1.png", "000012-2.png", "000012.md"]
    opened = open_pipeline(folder / "model", torch.float32)
    before = open_pipeline("huayu-paint-mini", torch.float32)
    assert not torch.equal(opened.unet.conv_out.weight, before.unet.conv_out.weight)
    assert not torch.equal(opened.conditioning_head.proj.weight, before.conditioning_head.proj.weight)
    ours, theirs = (tiny_paint.weights(each) for each in (opened, before))
    same = {name for name in ours if torch.equal(ours[name], theirs[name])}
    assert {name.split(".")[0] for name in same} >= {"text_encoder", "vae"}
    assert all(name in same for name in ours if name.startswith(("text_encoder.", "vae.")))


def tiny_painter(folder: Path, prediction: str) -> Path:
    """A painter like the published one: no canvas, noise or velocity predicted."""
    made = tiny_paint.pipeline(folder)
    made.scheduler = type(made.scheduler).from_config(made.scheduler.config, prediction_type=prediction)
    made.save_pretrained(folder / "model")
    return folder / "model"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_against_what_the_scheduler_predicts(captions: Path, tmp_path: Path, prediction: str) -> None:
    stage = PaintStage(str(tiny_painter(tmp_path, prediction)), data=str(captions), split=0.2, method="lora", rank=2)
    module = stage.module()
    batch = stage.batch(0, 4)
    latents, noise, time = (batch[name] for name in ("latents", "noise", "time"))
    share = stage.scheduler.alphas_cumprod[time].view(-1, 1, 1, 1)
    noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
    told = stage.pipeline.conditioning_head(batch["states"])
    unet = stage.pipeline.unet
    out = unet(noisy, time, encoder_hidden_states=told, encoder_attention_mask=batch["visible"]).sample
    target = noise if prediction == "epsilon" else share.sqrt() * noise - (1 - share).sqrt() * latents
    assert stage.loss(module, batch)[0].item() == pytest.approx((out - target).square().mean().item(), rel=1e-5)


def test_pairs_of_the_painter_open_again(captions: Path, tmp_path: Path) -> None:
    base = tiny_painter(tmp_path, "epsilon")
    stage = PaintStage(str(base), data=str(captions), split=0.2, method="lora", rank=2, merge=True)
    loop = {"steps": 10, "batch_size": 4, "learning_rate": 5e-2, "warmup": 1, "evaluate_every": 5, "samples": 1}
    folder = train(stage, LoopSettings(output=str(tmp_path / "run"), device="cpu", **loop))  # type: ignore[arg-type]
    assert evaluated(folder)[-1] < evaluated(folder)[0]

    def painted(pipeline: Any) -> torch.Tensor:
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(["红苹果"], generator=torch.Generator().manual_seed(1), output_type="pt").images

    merged, plain = (painted(open_pipeline(where, torch.float32)) for where in (folder / "merged", base))
    beside = open_pipeline(base, torch.float32)
    beside.load_lora_weights(folder / "model")
    assert tiny_paint.close(painted(beside), merged)
    assert not torch.allclose(plain, merged, atol=1e-3)


@pytest.mark.parametrize("name", ["pretrain/language", "pretrain/captions", "paint_tune/paint"])
def test_recipes_fit_their_stages(name: str) -> None:
    import importlib
    import inspect

    found = read(RECIPES / f"{name}.toml")
    module, _, attribute = STAGES[found.pop("stage")].partition(":")
    known = set(inspect.signature(getattr(importlib.import_module(module), attribute)).parameters)
    assert set(found) <= known | set(LoopSettings.names())
