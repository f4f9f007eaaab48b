"""The training loop: exact resumption, overrides, refusals, what it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from huayu.errors import ModelError
from huayu.training.checkpoint import base_of
from huayu.training.loop import Batch, LoopSettings, rate_at, train
from huayu.training.recipe import parse_override, read


class Line:
    """A stage that fits a line; it can be told to die or to go mad at a batch."""

    def __init__(self, dies_at: int | None = None, mad_at: int | None = None) -> None:
        self.dies_at, self.mad_at = dies_at, mad_at

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def batch(self, index: int, size: int) -> Batch:
        if index == self.dies_at:
            raise KeyboardInterrupt
        x = torch.randn(size, 3, generator=torch.Generator().manual_seed(index))
        return {"x": x if index != self.mad_at else x * float("nan"), "y": x.sum(1, keepdim=True)}

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = (module(batch["x"]) - batch["y"]).square().mean()
        return loss, {"error": loss.sqrt()}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        return {"error": self.loss(module, self.batch(10_000, 64))[0].item()}

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "line.pt")


def settings(folder: Path, **changes: object) -> LoopSettings:
    values = {"steps": 40, "batch_size": 8, "learning_rate": 0.05, "warmup": 5, "log_every": 1, "evaluate_every": 20}
    return LoopSettings(output=str(folder), device="cpu", **{**values, **changes})  # type: ignore[arg-type]


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_that_was_killed_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = torch.load(train(Line(), settings(tmp_path / "whole")) / "line.pt", weights_only=True)
    broken = settings(tmp_path / "broken", save_minutes=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(Line(dies_at=23), broken)
    resumed = torch.load(train(Line(), broken) / "line.pt", weights_only=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    steps = [row["step"] for row in rows(tmp_path / "broken") if "loss" in row]
    assert steps == list(range(1, 41)), "each step is logged once"


class Beside(Line):
    """Only the last layer learns; the first is as ``seed`` drew it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        module[0].requires_grad_(False)
        return module


def test_a_run_does_not_go_on_beside_other_weights(tmp_path: Path) -> None:
    train(Beside(1), settings(tmp_path, steps=3))
    with pytest.raises(ModelError, match="another model"):
        train(Beside(2), settings(tmp_path, steps=6))
    train(Beside(1), settings(tmp_path, steps=6))
    assert base_of(Beside(1).module()) == base_of(Beside(1).module().bfloat16()), "elsewhere in another dtype"


def test_it_learns_and_leaves_a_log_and_curves(tmp_path: Path) -> None:
    folder = train(Line(), settings(tmp_path, steps=120))
    errors = [row["evaluation"]["error"] for row in rows(folder) if "evaluation" in row]  # type: ignore[index]
    assert errors[-1] < 0.2 * errors[0]
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 7"):
        train(Line(mad_at=6), settings(tmp_path))
    saved = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert saved["step"] == 7
    assert saved["batch"]["x"].isnan().all()


def test_the_rate_rises_holds_and_falls(tmp_path: Path) -> None:
    plan = settings(tmp_path, steps=100, warmup=10, cooldown=0.5, floor=0.1)
    rates = [rate_at(step, plan) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:50] == [1.0] * 40
    assert rates[75] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.1)


def test_recipes_take_overrides_of_what_they_have(tmp_path: Path) -> None:
    recipe = tmp_path / "one.toml"
    recipe.write_text('stage = "x"\nsteps = 5\nname = "a"\n')
    assert read(recipe, ["steps=7", "name=b c", "workers=2"]) == {"stage": "x", "steps": 7, "name": "b c", "workers": 2}
    assert parse_override("rate=1e-3") == ("rate", 1e-3)
    with pytest.raises(ModelError, match="no 'stepps'"):
        read(recipe, ["stepps=7"])
    with pytest.raises(ModelError, match="key=value"):
        parse_override("steps")
    with pytest.raises(ModelError, match="Cannot read"):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize("model", ["mini_chat", "mini_glm"])
@pytest.mark.parametrize("name", ["vision", "language", "align", "instruct"])
def test_shipped_recipes_fit_their_stages(model: str, name: str) -> None:
    import importlib
    import inspect

    from huayu.training.recipe import STAGES

    found = read(Path(__file__).parents[2] / "recipes" / model / f"{name}.toml")
    module, _, attribute = STAGES[found.pop("stage")].partition(":")
    known = set(inspect.signature(getattr(importlib.import_module(module), attribute)).parameters)
    assert set(found) <= known | set(LoopSettings.names())


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    class Halves(Line):
        def batch(self, index: int, size: int) -> Batch:
            whole = super().batch(index * size // 8, 8)
            start = index * size % 8
            return {name: value[start : start + size] for name, value in whole.items()}

    large = torch.load(train(Halves(), settings(tmp_path / "large")) / "line.pt", weights_only=True)
    small = settings(tmp_path / "small", batch_size=4, accumulate=2)
    parts = torch.load(train(Halves(), small) / "line.pt", weights_only=True)
    assert all(torch.allclose(large[name], parts[name], atol=1e-4) for name in large)


def test_a_run_without_gain_ends_early_with_its_best_weights(tmp_path: Path) -> None:
    class Worse(Line):
        def evaluate(self, module: nn.Module) -> Mapping[str, float]:
            self.seen = [*getattr(self, "seen", []), {k: v.clone() for k, v in module.state_dict().items()}]
            return {"loss": [3.0, 1.0, 2.0, 2.0][len(self.seen) - 1]}

    stage = Worse()
    folder = train(stage, settings(tmp_path, evaluate_every=5, patience=2))
    assert len(stage.seen) == 4
    assert rows(folder)[-1]["step"] == 20
    kept = torch.load(folder / "line.pt", weights_only=True)
    assert all(torch.equal(kept[name], stage.seen[1][name]) for name in kept)
    train(stage, settings(tmp_path, evaluate_every=5, patience=2))  # nothing is left to do
    assert len(stage.seen) == 4


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huayu.training import checkpoint

    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, {"step": 1})

    def full(_: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(file, {"step": 2})
    assert torch.load(file, weights_only=True) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
