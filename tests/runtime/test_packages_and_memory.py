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


def test_layers_go_to_the_gpu_while_they_fit() -> None:
    import torch
    from torch import nn

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Parameter(torch.zeros(4))
            self.eye = nn.Linear(4, 4)
            self.mind = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(6)))

    layer = 1024 * 1024 * 4
    place = memory.device_map(Whole(), torch.device("cuda:0"), memory.Placement(int(3.5 * layer)), "mind")
    assert place["query"] == place["eye"] == torch.device("cuda:0")
    inner = [place[f"mind.{i}"] for i in range(6)]
    assert 1 <= inner.count(0) <= 3
    assert inner == [0] * inner.count(0) + ["cpu"] * inner.count("cpu")
    everything = memory.device_map(Whole(), torch.device("cuda:0"), memory.Placement(offload_all=True), "mind")
    assert set(everything) == {"query", "eye", "mind"}
    assert set(everything.values()) == {"cpu"}


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
