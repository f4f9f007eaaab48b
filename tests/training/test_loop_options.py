"""Options of the training loop: running averages, recomputed states, half precision, TensorBoard, samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from huayu.errors import ModelError
from huayu.training.finetune.stage import FinetuneStage
from huayu.training.loop import LoopSettings, train
from huayu.training.recompute import recompute
from tests.models.visualglm import tiny as tiny_glm
from tests.training.test_loop import Line, rows, settings

EXAMPLE = Path("examples/backgrounds")


def few(model: Path | str, tmp_path: Path, **changes: Any) -> FinetuneStage:
    """A fine-tune of two rows."""
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(json.loads((EXAMPLE / "dataset.json").read_text("utf-8"))[::11]), "utf-8")
    where = {"data": str(file), "evaluation": str(file), "pictures": str(EXAMPLE), "asks": 0}
    return FinetuneStage(model=str(model), **{**where, **changes})


def test_the_average_is_what_is_evaluated_and_exported(tmp_path: Path) -> None:
    class Seen(Line):
        def __init__(self) -> None:
            super().__init__()
            self.after: list[torch.Tensor] = []
            self.judged: list[torch.Tensor] = []

        def loss(self, module: nn.Module, batch: Any) -> Any:
            if module.training:
                self.after.append(module[0].weight.detach().clone())  # type: ignore[index]
            return super().loss(module, batch)

        def evaluate(self, module: nn.Module) -> Any:
            self.judged.append(module[0].weight.detach().clone())  # type: ignore[index]
            return super().evaluate(module)

    stage = Seen()
    folder = train(stage, settings(tmp_path, steps=12, ema=0.5, evaluate_every=1))
    average = stage.after[0]
    for step, weight in enumerate(stage.after[1:], 1):  # the weights before a step are those after the one before
        average = average.lerp(weight, 1 - min(0.5, (1 + step) / (10 + step)))
        assert torch.allclose(stage.judged[step - 1], average, atol=1e-6)
    exported = torch.load(folder / "line.pt", weights_only=True)["0.weight"]
    assert torch.equal(exported, stage.judged[-1])
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert torch.equal(saved["average"]["0.weight"], exported)
    assert not torch.allclose(saved["module"]["0.weight"], exported, atol=1e-3)


def test_a_run_with_an_average_resumes_to_the_bit(tmp_path: Path) -> None:
    whole = torch.load(train(Line(), settings(tmp_path / "whole", ema=0.9)) / "line.pt", weights_only=True)
    broken = settings(tmp_path / "broken", ema=0.9, save_minutes=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(Line(dies_at=23), broken)
    resumed = torch.load(train(Line(), broken) / "line.pt", weights_only=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def gradients(model: nn.Module, loss: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(0)  # the Q-Former drops out
    loss().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def layer_calls(model: nn.Module, names: tuple[str, ...]) -> list[str]:
    """Filled with the name of each block as its first linear runs."""
    calls: list[str] = []
    for part in model.modules():
        if (kind := type(part).__name__) in names:
            inner = next(child for child in part.modules() if isinstance(child, nn.Linear | nn.Conv2d))
            inner.register_forward_hook(lambda *_, kind=kind: calls.append(kind))
    return calls


@pytest.mark.parametrize("family", ["viscpm", "visualglm"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_recomputed_states_give_the_same_gradients(
    tiny_chat_folder: Path, tmp_path: Path, family: str, method: str
) -> None:
    base = tiny_chat_folder
    if family == "visualglm":
        from huayu.checkpoints.convert import convert

        tiny_glm.model().save_pretrained(tmp_path / "ours")
        base = convert(tmp_path / "ours", tmp_path / "hf", to="hf", vocab=tiny_glm.VOCABULARY).path
    made = few(base, tmp_path, method=method, tune_vision=True)
    module = made.module().train()
    batch = made.batch(0, 2)
    plain = gradients(module, lambda: made.loss(module, batch)[0])
    recompute(module)
    blocks = ("CpmBeeLayer", "Beit3Layer", "ChatGLMLayer", "Blip2EncoderLayer", "Blip2QFormerLayer")
    calls = layer_calls(module, blocks)
    again = gradients(module, lambda: made.loss(module, batch)[0])
    present = [type(part).__name__ for part in module.modules() if type(part).__name__ in blocks]
    assert len(set(present)) == (2 if family == "viscpm" else 3)
    assert sorted(calls) == sorted(present * 2), "every block runs twice"
    assert plain.keys() == again.keys()
    assert all(torch.allclose(plain[name], again[name], rtol=1e-5, atol=1e-7) for name in plain)


def test_the_denoiser_recomputes_too() -> None:
    from tests.models.viscpm_paint import tiny

    unet = tiny.unet().train()
    inputs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    states = torch.randn(2, 3, tiny.WIDTH, generator=torch.Generator().manual_seed(2))

    def loss() -> torch.Tensor:
        return unet(inputs, 5, encoder_hidden_states=states, return_dict=False)[0].square().mean()

    plain = gradients(unet, loss)
    recompute(unet)
    calls = layer_calls(unet, ("ResnetBlock2D",))
    again = gradients(unet, loss)
    blocks = sum(type(part).__name__ == "ResnetBlock2D" for part in unet.modules())
    assert len(calls) == 2 * blocks - 1, "the first block in the middle is the library's exception"
    assert all(torch.allclose(plain[name], again[name], rtol=1e-5, atol=1e-7) for name in plain)


def test_what_cannot_recompute_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gradient checkpointing"):
        train(Line(), settings(tmp_path, gradient_checkpointing=True))
    with pytest.raises(ModelError, match="known: auto, fp32, bf16"):
        settings(tmp_path, precision="fp8")
    with pytest.raises(ModelError, match="below 1"):
        settings(tmp_path, ema=1.0)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_half_precision_computes_in_bf16_and_learns_in_fp32(
    tiny_chat_folder: Path, tmp_path: Path, method: str
) -> None:
    seen = set()

    class Watched(FinetuneStage):
        def loss(self, module: nn.Module, batch: Any) -> Any:
            linear = self.backend.model.language_model.model.layers[0].attention.q_proj
            hook = linear.register_forward_hook(lambda _, __, out: seen.add(out.dtype))
            found = super().loss(module, batch)
            hook.remove()
            return found

    made = few(tiny_chat_folder, tmp_path, method=method, dtype="bfloat16" if method == "lora" else "")
    made.__class__ = Watched
    loop = {"steps": 12, "batch_size": 2, "learning_rate": 2e-3, "warmup": 1, "evaluate_every": 2, "log_every": 1}
    folder = train(made, LoopSettings(output=str(tmp_path / "run"), device="cpu", precision="bf16", **loop))  # type: ignore[arg-type]
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in made.backend.model.parameters() if p.requires_grad} == {torch.float32}
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    moments = {value.dtype for state in saved["optimizer"]["state"].values() for value in state.values()}
    assert moments == {torch.float32}
    losses = [row["evaluation"]["loss"] for row in rows(folder) if "evaluation" in row]  # type: ignore[index]
    assert losses[-1] < losses[0]


def test_samples_and_tensorboard(tiny_chat_folder: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = few(tiny_chat_folder, tmp_path)
    loop = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "evaluate_every": 2, "log_every": 1, "samples": 1}
    where = str(tmp_path / "run")
    folder = train(made, LoopSettings(output=where, device="cpu", tensorboard=True, **loop))  # type: ignore[arg-type]
    assert [path.name for path in sorted((folder / "samples").iterdir())] == ["000002.md", "000004.md"]
    text = (folder / "samples" / "000004.md").read_text("utf-8")
    first = made.held[0]
    assert text.startswith(f"- {first.picture.name} {first.question} → ")  # type: ignore[union-attr]
    assert text.endswith(f"({first.answer})\n")
    events = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    logged = [row["loss"] for row in rows(folder) if "loss" in row]
    assert [event.value for event in events.Scalars("training/loss")] == pytest.approx(logged)
    assert [event.step for event in events.Scalars("evaluation/loss")] == [2, 4]
    assert "samples/text_summary" in events.Tags()["tensors"]
    assert (folder / "curves.png").is_file()
