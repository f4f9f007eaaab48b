"""What the tests of checkpoints share: small published files and a vocabulary that fits them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import synthetic


@pytest.fixture(scope="session")
def chat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small VisCPM-Chat state dict with the published names, its vocabulary and a licence beside it."""
    folder = tmp_path_factory.mktemp("published")
    synthetic.write_chat(folder / "pytorch_model.bin", synthetic.SMALL)
    synthetic.write_vocabulary(folder / "vocab.txt", synthetic.SMALL.vocab)
    (folder / "LICENSE").write_text("the licence of the source", "utf-8")
    return folder / "pytorch_model.bin"


@pytest.fixture
def shapes_of() -> Callable[[torch.nn.Module], dict[str, tuple[int, ...]]]:
    """Name → shape of all that a model's state dict holds."""
    return lambda model: {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
