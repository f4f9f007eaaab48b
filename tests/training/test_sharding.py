"""Two real processes learn what one learns: each with the whole model, and with its parameters shared out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training import two_processes

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "examples" / "backgrounds"


def launch(arguments: list[str]) -> str:
    """Run a module by torchrun in two processes; what it printed."""
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", *arguments]
    done = subprocess.run(command, env={**os.environ, **quiet}, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rows about pictures and without, of different lengths."""
    shown = json.loads((PICTURES / "dataset.json").read_text("utf-8"))
    found = []
    for number in range(12):
        picture = {} if number % 3 else {"image": shown[number]["img"]}
        asked = {"from": "human", "value": f"question {'a' * (number + 1)}"}
        said = {"from": "gpt", "value": "图里是一个" + "红苹果" * (number % 4)}
        found.append({**picture, "conversations": [asked, said]})
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    file.write_text(json.dumps(found), "utf-8")
    return file


@pytest.fixture(scope="module")
def runs(tiny_chat_folder: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of what one process and two processes did."""
    found = {processes: tmp_path_factory.mktemp(f"runs-{processes}") for processes in (1, 2)}
    given = [str(tiny_chat_folder), str(rows), str(PICTURES)]
    two_processes.main(*given, str(found[1]))
    launch(["tests.training.two_processes", *given, str(found[2])])
    return found


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next((folder / "model").glob("*.safetensors")))


@pytest.mark.parametrize(("run", "sharding"), [(run, way) for run, ways in two_processes.WAYS.items() for way in ways])
def test_two_processes_learn_what_one_learns(runs: dict[int, Path], run: str, sharding: str) -> None:
    """The last of these runs was broken off after two steps and resumed."""
    one, two = runs[1] / f"{run}-none", runs[2] / f"{run}-{sharding}"
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name
    assert (two / "samples" / "000003.md").read_text("utf-8") == (one / "samples" / "000003.md").read_text("utf-8")


def test_each_process_holds_its_half(runs: dict[int, Path]) -> None:
    for rank in (0, 1):
        shared = json.loads((runs[2] / "full-full" / f"rows-{rank}.facts").read_text())
        assert shared["shared"] == shared["all"] > 20
        assert shared["mesh"] == [2]
        assert shared["held"] < 0.6 * shared["whole"]
        assert json.loads((runs[2] / "full-none" / f"rows-{rank}.facts").read_text())["shared"] == 0


def test_every_row_is_seen_once(runs: dict[int, Path], rows: Path) -> None:
    every = sorted(row["conversations"][0]["value"] for row in json.loads(rows.read_text("utf-8")))
    for name in ("full-none", "full-full"):
        seen = [
            json.loads(line)
            for rank in (0, 1)
            for line in (runs[2] / name / f"rows-{rank}.jsonl").read_text("utf-8").splitlines()
        ]
        assert sorted(seen) == every


def test_processes_with_folders_of_their_own_are_told(runs: dict[int, Path]) -> None:
    for rank in (0, 1):
        assert "must be one folder for all" in (runs[2] / f"apart-{rank}" / "refused.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("processes", "trained", "late"),
    [(1, "huayu.training.sharding", "late\n"), (2, "huayu.training.sharding", ""), (2, "huayu", "late\n")],
)
def test_one_of_several_that_trained_ends_at_once(processes: int, trained: str, late: str) -> None:
    """Threads of the group outlive it, and must not meet an interpreter that is going."""
    program = f"import atexit, {trained}; from huayu.cli.main import main"
    program += "; atexit.register(print, 'late'); main(['--version'])"
    given = {**os.environ, "WORLD_SIZE": str(processes)}
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split("\n", 1)[1]) == (0, late), done.stderr
