"""Jobs with the models inside: outcomes, bad rows, going on after kill −9 at any point, several workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from huayu.batch import Job, run
from huayu.cli.main import main
from huayu.errors import ImageError, OptionError, PromptError
from huayu.labelling import read_record

PICTURES = Path(__file__).resolve().parents[2] / "examples"
DOG = str(PICTURES / "dog.png")


@pytest.fixture(scope="session")
def chat() -> Any:
    from huayu.chat import load_chat

    return load_chat(device="cpu")


@pytest.fixture
def opened(chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model inside is opened once for all tests."""
    monkeypatch.setattr("huayu.chat.load_chat", lambda *_, **__: chat)


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return str(path)


def read(output: Path, name: str) -> list[dict[str, Any]]:
    files = sorted(output.glob(f"shard-*/{name}.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def once_each(output: Path, count: int) -> bool:
    found = Counter(row["row"] for name in ("results", "errors") for row in read(output, name))
    return found == Counter(range(count))


def test_answers_are_those_of_the_model_asked_alone(chat: Any, opened: None, tmp_path: Path) -> None:
    rows = [
        {"id": "dog", "image": DOG, "questions": ["图里是什么？", "What is the background colour?"]},
        {"id": "mine", "image": str(PICTURES / "table.png")},
        {"id": "none", "image": "nowhere.png"},
        "not json",
        {"id": "blank", "image": DOG, "question": "  "},
        {"id": "type", "image": DOG, "questions": [1]},
        {"id": "both", "images": [DOG, str(PICTURES / "table.png")], "question": "What is in the first picture?"},
    ]
    job = Job(
        "ask", (write(tmp_path / "rows.jsonl", *rows),), tmp_path / "out", questions=("有几个苹果？",), shard_size=4
    )
    told: list[tuple[int, int]] = []
    report = run(job, tell=lambda done, total: told.append((done, total)))
    results = read(job.output, "results")
    assert [row["id"] for row in results] == ["dog", "mine", "both"]
    for row, asked in zip(results, [rows[0], {**rows[1], "questions": job.questions}, rows[6]], strict=True):
        pictures = asked.get("images") or asked["image"]
        for said, question in zip(row["answers"], asked.get("questions") or [asked["question"]], strict=True):
            assert (said["question"], said["text"]) == (question, chat.ask(pictures, question).text)
    errors = read(job.output, "errors")
    assert [(row["id"], row["error"]) for row in errors] == [
        ("none", "ImageError"), ("rows.jsonl#3", "PromptError"), ("blank", "PromptError"), ("type", "PromptError"),
    ]  # fmt: skip
    assert all(row["message"] and row["message_zh"] for row in errors)
    assert once_each(job.output, 7)
    assert (report.rows, report.errors, report.done_rows) == (7, 4, 7)
    tokens = sum(said["tokens"] for row in results for said in row["answers"])
    assert report.tokens == tokens > 0
    assert told[0] == (0, 7)
    assert told[-1] == (7, 7)


def test_a_bad_row_ends_the_batch_by_choice(opened: None, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", {"image": DOG}, {"image": DOG}, {"image": "nowhere.png"})
    settings = {"inputs": (file,), "output": tmp_path / "out", "questions": ("What is it?",), "shard_size": 2}
    with pytest.raises(ImageError, match=r"rows\.jsonl#2: .*nowhere"):
        run(Job("caption", stop_on_error=True, **settings))
    assert [path.name for path in sorted(settings["output"].iterdir())] == ["plan.json", "shard-00000"]
    report = run(Job("caption", **settings))
    assert (report.rows, report.errors, report.done_rows) == (3, 1, 1)
    assert once_each(settings["output"], 3)


def test_another_batch_is_not_mixed_in(opened: None, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", {"image": DOG})
    job = Job("caption", (file,), tmp_path / "out", questions=("What is it?",))
    run(job)
    assert run(job).done_rows == 0
    with pytest.raises(OptionError, match="different: questions"):
        run(Job("caption", (file,), tmp_path / "out", questions=("Anything else?",)))
    write(tmp_path / "rows.jsonl", {"image": DOG}, {"image": DOG})
    with pytest.raises(OptionError, match="different: inputs"):
        run(job)
    with pytest.raises(OptionError, match="not empty"):
        run(Job("caption", (file,), tmp_path, questions=("What is it?",)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "sing"}, "caption, ask, paint"),
        ({"options": {"top_q": 1}}, "top_q"),
        ({"options": {"max_new_tokens": 0}}, "max_new_tokens"),
        ({"shard_size": 0}, "shard_size"),
        ({"questions": ()}, "one question"),
        ({"task": "paint"}, "not for paint"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Job(**{"task": "caption", "inputs": (), "output": Path("x"), "questions": ("?",), **given})


def test_paintings_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], diffusers_folder: Path
) -> None:
    monkeypatch.setenv("HUAYU_LANG", "en")
    monkeypatch.setattr("huayu.safety.guard.is_installed", lambda module: False)  # an optional check takes seconds
    rows = [
        {"prompt": "a dog", "n": 2, "seed": 4},
        {"prompt": " "},
        {"prompt": "a cat", "stps": 1},
        {"prompt": "naked"},
        {"prompt": "cat", "image": DOG, "strength": 0.5, "seed": 1},
    ]
    file, output = write(tmp_path / "prompts.jsonl", *rows), tmp_path / "out"
    command = ["batch", "paint", file, "-o", str(output), "--set", "steps=2", "--set", "scheduler=ddim",
               "--shard-size", "3", "--model", str(diffusers_folder)]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert not stop.value.code
    assert "2 could not be done" in capsys.readouterr().err
    dog, woman, cat = read(output, "results")
    first, second = (output / "shard-00000" / name for name in dog["pictures"])
    assert (dog["seeds"], read_record(first).prompt, read_record(second).seed) == ([4, 5], "a dog", 5)
    assert read_record(first).settings["scheduler"] == "ddim"
    assert (woman["finish"], woman["pictures"]) == ("blocked", [])
    assert any(verdict["reason_en"] for verdict in woman["verdicts"])
    assert "image" in read_record(output / "shard-00001" / cat["pictures"][0]).settings
    assert [row["message"] for row in read(output, "errors")] == ["prompt is missing.", "unknown: stps."]
    report = json.loads((output / "report.json").read_text())
    assert (report["rows"], report["pictures"], report["errors"]) == (5, 3, 2)
    with pytest.raises(SystemExit):
        main([*command, "--json"])
    assert json.loads(capsys.readouterr().out)["done_rows"] == 0
    with pytest.raises(SystemExit) as stop:
        main([*command[:5], "--set", "steps"])
    assert stop.value.code == 1


# Works through a job without a model, and kills itself at the file operation whose number it is given.
_CRASHING = """
import os, signal, sys
from pathlib import Path
from huayu.batch import Job, run

def worker(rows, folder):
    for row in rows:
        (folder / f"{row.number}.png").write_bytes(b"picture")
        yield row, {"pictures": [f"{row.number}.png"]}

Job.open_worker = lambda job: worker
file, output, events = sys.argv[1], Path(sys.argv[2]), {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}
for last in range(1, 200):
    count = 0
    def hook(event, arguments):
        global count
        if event in events:
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
    job = Job("ask", (file,), output / str(last), shard_size=2)
    child = os.fork()
    if not child:
        try:
            sys.addaudithook(hook)
            run(job)
        finally:
            os._exit(0)
    killed = os.waitpid(child, 0)[1] == signal.SIGKILL
    run(job)
    if not killed:
        break
print(last)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_point_it_goes_on(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", *({"id": n} for n in range(3)))
    command = [sys.executable, "-c", _CRASHING, file, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    points = int(done.stdout)
    assert points > 30
    for number in range(1, points + 1):
        output = tmp_path / "out" / str(number)
        assert once_each(output, 3), number
        assert sorted(path.name for path in output.iterdir()) == [
            "plan.json", "report.json", "shard-00000", "shard-00001",
        ]  # fmt: skip
        assert len(list(output.glob("shard-*/*.png"))) == 3


def test_two_workers_one_killed(tmp_path: Path, chat: Any) -> None:
    file = write(tmp_path / "rows.jsonl", *({"image": DOG, "question": f"{n} + 1?"} for n in range(24)))
    job = Job("ask", (file,), tmp_path / "out", loading={"device": "cpu"}, shard_size=2, options={"max_new_tokens": 4})
    killed = threading.Event()

    def kill() -> None:
        while not list(job.output.glob("shard-*/summary.json")):
            time.sleep(0.01)
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    report = run(job, workers=2)
    assert killed.is_set()
    assert (report.rows, report.errors) == (24, 0)
    assert once_each(job.output, 24)
    assert not list(job.output.glob(".*"))
    alone = chat.ask(DOG, "7 + 1?", max_new_tokens=4).text
    assert read(job.output, "results")[7]["answers"][0]["text"] == alone


def test_errors_travel_between_processes() -> None:
    import pickle

    from huayu.errors import Cancelled, OutOfMemory

    for error in (PromptError("en", "zh"), Cancelled(), OutOfMemory()):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.en, again.zh, str(again)) == (type(error), error.en, error.zh, str(error))
