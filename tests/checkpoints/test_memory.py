"""Loading takes the memory of the model and no more. The ≥ 2 GB measurement is ``python -m benchmarks.load``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import load, synthetic

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_the_peak_is_the_model(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    assert synthetic.write_chat(path, synthetic.MIDDLE) > 150_000_000
    same, wider, mapped = load.measure((path, None, False), (path, "float32", False), (path, None, True))
    assert same["model_bytes"] > 150_000_000
    assert wider["model_bytes"] == 2 * same["model_bytes"]
    assert 0.9 < same["load_peak_ratio"] <= 1.15
    assert 0.9 < wider["load_peak_ratio"] <= 1.15
    assert mapped["load_peak_ratio"] < 0.15
