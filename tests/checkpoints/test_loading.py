"""Strict loading: every key on both sides, every tensor in place, nothing half-loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.loading import load_into
from huayu.checkpoints.reader import LazyTensors, open_tensors
from huayu.checkpoints.report import KeyReport, account
from huayu.errors import CheckpointError

KEYMAP = KeyMap.of(
    [("old.{n}.w", "layers.{n}.weight"), ("old.{n}.b", "layers.{n}.bias"), ("count", "count"), ("emb", "embed.weight")],
    dropped={"head.{n}": "of the pre-training; never read"},
)


class Toy(nn.Module):
    """Two layers, a tied output, a persistent and an integer buffer."""

    def __init__(self, tied: bool = True, computed: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.register_buffer("count", torch.zeros(2, dtype=torch.int64))
        if tied:
            self.out = nn.Linear(3, 5, bias=False)
            self.out.weight = self.embed.weight
        if computed:
            self.register_buffer("table", torch.zeros(2), persistent=False)


def _meta(**options: bool) -> Toy:
    with torch.device("meta"):
        return Toy(**options)


def _state(dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = {f"old.{n}.{k}": torch.randn(3, 3) if k == "w" else torch.randn(3) for n in range(2) for k in "wb"}
    state = {name: tensor.to(dtype) for name, tensor in state.items()}
    return {**state, "emb": torch.randn(5, 3).to(dtype), "count": torch.tensor([4, 2]), "head.0": torch.zeros(9)}


def _open(folder: Path, state: dict[str, torch.Tensor]) -> LazyTensors:
    torch.save(state, folder / "w.pt")
    return open_tensors(folder / "w.pt")


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16, torch.float32])
def test_every_tensor_is_in_place(tmp_path: Path, dtype: torch.dtype | None, mmap: bool) -> None:
    model, state, steps = _meta(), _state(), []
    report = load_into(
        model, _open(tmp_path, state), KEYMAP, dtype, mmap=mmap, progress=lambda *step: steps.append(step)
    )
    wanted = dtype or torch.float16
    for n in range(2):
        assert torch.equal(model.layers[n].weight, state[f"old.{n}.w"].to(wanted))
        assert torch.equal(model.layers[n].bias, state[f"old.{n}.b"].to(wanted))
    assert torch.equal(model.embed.weight, state["emb"].to(wanted))
    assert torch.equal(model.count, torch.tensor([4, 2]))
    assert model.count.dtype is torch.int64
    assert model.out.weight is model.embed.weight
    assert all(p.requires_grad for p in model.parameters())
    assert report.ok
    assert len(report.loaded) == 6
    assert report.dropped == {"head.0": "of the pre-training; never read"}
    size = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    assert steps[-1] == (size, size)
    assert steps == sorted(steps)
    for tensor in (*model.parameters(), model.count):
        with torch.no_grad():
            tensor.add_(1)  # a private copy or a private mapping: writing neither fails nor reaches the file
    assert torch.equal(open_tensors(tmp_path / "w.pt")["emb"], state["emb"])


def test_the_dtype_of_most_bytes_is_taken(tmp_path: Path) -> None:
    model, state = _meta(), _state(torch.bfloat16)
    state["old.0.b"] = state["old.0.b"].float()
    load_into(model, _open(tmp_path, state), KEYMAP)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def _without(key: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in _state().items() if name != key}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (_without("old.1.b"), r"1 missing \(layers.1.bias\)"),
        (_without("emb"), r"2 missing \(embed.weight, out.weight\)"),
        ({**_state(), "old.2.w": torch.ones(3, 3)}, r"1 unexpected \(old.2.w\)"),
        ({**_state(), "xold.1.w": torch.ones(3, 3)}, r"1 unexpected \(xold.1.w\)"),
        ({**_state(), "emb": torch.ones(5, 4)}, r"1 of another shape \(emb 5×4 ≠ 5×3\)"),
        ({**_state(), "count": torch.ones(2)}, r"count is torch.float32"),
        ({**_state(), "emb": torch.ones(5, 3, dtype=torch.int8)}, r"emb is torch.int8"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, state: dict[str, torch.Tensor], words: str) -> None:
    model = _meta()
    with pytest.raises(CheckpointError, match=words) as caught:
        load_into(model, _open(tmp_path, state), KEYMAP)
    assert caught.value.zh != caught.value.en
    assert any(p.is_meta for p in model.parameters())


def test_nothing_is_loaded_when_a_key_is_wrong(tmp_path: Path) -> None:
    model = _meta()
    with pytest.raises(CheckpointError):
        load_into(model, _open(tmp_path, _without("old.1.b")), KEYMAP)
    assert all(p.is_meta for p in model.parameters())


def test_two_keys_for_one_of_ours(tmp_path: Path) -> None:
    keymap = KeyMap.of([*KEYMAP.rules, ("emb2", "embed.weight")], KEYMAP.dropped)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(emb2\)"):
        load_into(_meta(), _open(tmp_path, {**_state(), "emb2": torch.ones(5, 3)}), keymap)


def test_both_names_of_a_tied_tensor_must_agree(tmp_path: Path) -> None:
    keymap = KeyMap.of([*KEYMAP.rules, ("out", "out.weight")], KEYMAP.dropped)
    model, state = _meta(), _state()
    load_into(model, _open(tmp_path, {**state, "out": state["emb"]}), keymap)
    assert model.out.weight is model.embed.weight
    with pytest.raises(CheckpointError, match=r"two different ones"):
        load_into(_meta(), _open(tmp_path, {**state, "out": state["emb"] + 1}), keymap)


def test_a_tensor_that_nothing_computes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="without values for table"):
        load_into(_meta(computed=True), _open(tmp_path, _state()), KEYMAP)


def test_the_report_is_a_table_in_two_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    report = KeyReport({"a": "A"}, {"h": "unused"}, ["m"], ["x"], {"s": ((2, 3), (3,))})
    monkeypatch.setenv("HUAYU_LANG", "en")
    lines = str(report).splitlines()
    assert lines[0] == "loaded 1 · dropped 1 · missing 1 · unexpected 1 · wrong shape 1"
    assert lines[1:] == ["  dropped h: unused", "  missing m", "  unexpected x", "  wrong shape s: 3, wanted 2×3"]
    monkeypatch.setenv("HUAYU_LANG", "zh")
    assert str(report).splitlines()[0] == "载入 1 · 舍去 1 · 缺少 1 · 多出 1 · 形状不符 1"


def test_a_long_list_is_cut_but_counted() -> None:
    report = account({f"k{n}": (1,) for n in range(9)}, {})
    with pytest.raises(CheckpointError, match=r"X does not fit: 9 missing \(k0, k1, k2, k3, …\)\."):
        report.require("X")
