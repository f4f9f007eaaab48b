"""Sizes of memory, placing from the environment, optional packages."""

from __future__ import annotations

import pytest

from huayu.errors import ModelError
from huayu.runtime import memory, packages
from huayu.runtime.device import pick_device, pick_dtype


@pytest.mark.parametrize(
    ("text", "size"),
    [("1g", 2**30), ("12G", 12 * 2**30), ("1.5 GiB", 3 * 2**29), ("512mb", 2**29), ("7", 7), (" 2k ", 2048)],
)
def test_sizes(text: str, size: int) -> None:
    assert memory.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "g", "ten", "-1g", "1x", "1g1"])
def test_not_sizes(text: str) -> None:
    with pytest.raises(ModelError):
        memory.parse_size(text)


def test_the_environment_of_the_published_code() -> None:
    read = memory.placement_from_environment
    assert read({}).is_plain
    assert read({"CUDA_MEMORY_CPMBEE_MAX": "1g"}) == memory.Placement(2**30)
    assert read({"CUDA_MEM_SAVE": "True"}) == memory.Placement(offload_all=True)
    assert read({"CUDA_MEM_SAVE": "false", "CUDA_MEMORY_CPMBEE_MAX": ""}).is_plain
    with pytest.raises(ModelError, match="lots"):
        read({"CUDA_MEMORY_CPMBEE_MAX": "lots"})


def _stack():
    """An eye and a mind of six layers of 4 MiB, which the mind calls indivisible."""
    import torch
    from torch import nn

    class Layer(nn.Linear):
        """Something that stays together."""

    class Whole(nn.Module):
        _no_split_modules = ("Layer",)

        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Parameter(torch.ones(1024))
            self.eye = Layer(1024, 1024, bias=False)
            self.mind = nn.Sequential(nn.LayerNorm(1024), *(Layer(1024, 1024, bias=False) for _ in range(6)))

        def forward(self) -> torch.Tensor:
            return self.mind(self.eye(self.query))

    torch.manual_seed(0)
    return Whole().eval()


def test_the_last_layers_wait_when_they_do_not_fit() -> None:
    layer = 4 * 2**20
    waiting = memory.waiting_layers(_stack(), memory.Placement(int(3.5 * layer)), "mind")
    assert waiting == ["mind.3", "mind.4", "mind.5", "mind.6"]  # two stay, and there is room for a visitor
    assert memory.waiting_layers(_stack(), memory.Placement(7 * layer), "mind") == []
    assert len(memory.waiting_layers(_stack(), memory.Placement(1), "mind")) == 6
    assert len(memory.waiting_layers(_stack(), memory.Placement(offload_all=True), "mind")) == 7


def test_layers_that_wait_compute_the_same() -> None:
    import torch

    model = _stack()
    with torch.inference_mode():
        whole = model()
        memory.offload(model, ["eye", "mind.2", "mind.6"], torch.device("cpu"))
        assert model.eye.weight.is_meta
        assert not model.mind[1].weight.is_meta
        assert torch.equal(model(), whole)
        assert torch.equal(model(), whole)


def test_on_the_cpu_a_placement_only_moves() -> None:
    import torch
    from torch import nn

    model = nn.Linear(2, 2)
    memory.place(model, torch.device("cpu"), memory.Placement(1), "")
    assert model.weight.device.type == "cpu"
    assert not hasattr(model, "_hf_hook")


def test_memory_of_this_machine() -> None:
    total, available = memory.total_memory(), memory.available_memory()
    assert total is None or total > 2**28
    assert available is None or total is None or 0 < available <= total


def test_devices_and_number_formats() -> None:
    import torch

    cpu = pick_device("cpu")
    assert cpu == torch.device("cpu")
    assert pick_dtype(None, cpu) == torch.float32
    assert pick_dtype(None, torch.device("cuda")) == torch.float16
    assert pick_dtype("bf16", cpu) == pick_dtype(torch.bfloat16, cpu) == torch.bfloat16
    with pytest.raises(ModelError, match="no device called"):
        pick_device("gpu")
    with pytest.raises(ModelError, match="no device cuda:97"):
        pick_device("cuda:97")
    with pytest.raises(ModelError, match="int7"):
        pick_dtype("int7", cpu)


def test_optional_packages() -> None:
    assert packages.is_installed("PIL")
    assert not packages.is_installed("no_such_package_at_all")
    assert packages.version_of("pillow")
    assert packages.version_of("no-such-package-at-all") is None
    with pytest.raises(ModelError, match=r'pip install "huayu\[web\]"'):
        packages.require("no_such_package_at_all", "web")
    assert packages.torchvision_state() in {"absent", "works", "broken"}
