"""Asking at once and in turn, at a tiny size; and what the load test counts and refuses."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from benchmarks import concurrency

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "load_test.py"


def test_both_ways_are_measured() -> None:
    found = concurrency.measure(1, None, count=3)
    assert found["concurrency16_speedup_min"] == found["concurrency16_speedup"] > 0
    ratio = found["concurrency16_tokens_per_second"] / found["concurrency1_tokens_per_second"]
    assert ratio == pytest.approx(found["concurrency16_speedup"], rel=0.1)


def test_load_test_counts_and_stays_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("load_test", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "load_test", script)
    spec.loader.exec_module(script)
    values = [float(value) for value in range(100, 0, -1)]
    assert [script.percentile(values, share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    assert script.percentile([7.0], 0.99) == 7
    found = script.Found([0.1, 0.3], [0.2, 0.4], {"429": 1}, 2.0)
    row = script.row(8, found)
    assert (row["requests_per_second"], row["first_token_p50"], row["answer_p99"]) == (1.0, 0.1, 0.4)
    assert "| 8 | 2 | 429: 1 | 1.0 | 0.1 s | 0.3 s | 0.2 s | 0.4 s |" in script.markdown([row])
    for given, words in (
        (["--url", "http://192.0.2.9:8080"], "only this machine"),
        (["--clients", "1000"], "at most"),
        (["--requests", "1000000"], "at most"),
    ):
        monkeypatch.setattr(sys, "argv", ["load_test.py", *given])
        with pytest.raises(SystemExit):
            script.main()
        assert words in capsys.readouterr().err
