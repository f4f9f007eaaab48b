"""What a user waits for: ``python -m benchmarks.chat [--model FOLDER]``. Prints one JSON object.

``chat_first_token_seconds``: from the start of a process to the first words of an answer about a picture (imports,
weights, picture, prompt); ``chat_answer_seconds``: one whole answer about a new picture in a warm process;
``chat_peak_rss_mb``: the most memory of that process, libraries included. ``import_seconds`` and ``help_seconds``:
whole processes of ``import huayu`` and ``huayu --help``, beside ``python_seconds`` of one that does nothing. All files
have been read before, so they come from the system's memory, not from the disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.process import ROOT, figures_of, seconds_of

PICTURES = ("table.png", "dog.png", "fruit_and_dog.png", "car_and_tree.png")
QUESTION = "图里有什么？"
MIB = 1 << 20


def figures(quick: bool = False, model: str | Path | None = None) -> dict[str, Any]:
    """All figures; ``model`` None is the embedded one."""
    runs = [_asking(model)] if quick else [_asking(model) for _ in range(6)][1:]
    found = {name: median(run[name] for run in runs) for name in runs[0]}
    firsts = sorted(run["chat_first_token_seconds"] for run in runs)
    return {
        **{name: round(value, 3) for name, value in found.items()},
        "chat_first_token_seconds_min": round(firsts[0], 3),
        "chat_first_token_seconds_max": round(firsts[-1], 3),
    }


def starting(rounds: int = 5) -> dict[str, float]:
    """Medians of whole processes: Python alone, ``import huayu``, ``huayu --help``."""
    commands = {
        "python_seconds": ("-c", "pass"),
        "import_seconds": ("-c", "import huayu"),
        "help_seconds": ("-m", "huayu", "--help"),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds = seconds_of(*command)
            if number:
                taken[name].append(seconds)
    return {name: round(median(seconds), 3) for name, seconds in taken.items()}


def _asking(model: str | Path | None) -> dict[str, float]:
    """Ask in a fresh process; its clock starts here."""
    chosen = [] if model is None else ["--model", Path(model).resolve()]
    return figures_of("benchmarks.chat", "--here", time.time(), *chosen)


def ask_here(started: float, model: str | None) -> dict[str, float]:
    """Answers in this process, which ``started`` at that time.time()."""
    import huayu

    first, *others = (ROOT / "examples" / name for name in PICTURES)
    chat = huayu.load_chat(model, device="cpu")
    loaded = time.time()
    stream = chat.stream(first, QUESTION)
    next(stream, None)
    first_token = time.time()
    for _ in stream:
        """To the end."""
    seconds, tokens = [], 0
    for picture in others:
        start = time.perf_counter()
        usage = chat.ask(picture, QUESTION).usage
        seconds.append(time.perf_counter() - start)
        tokens += usage.completion_tokens
    return {
        "chat_first_token_seconds": first_token - started,
        "chat_load_seconds": loaded - started,
        "chat_answer_seconds": median(seconds),
        "chat_tokens_per_second": tokens / sum(seconds),
        "chat_peak_rss_mb": peak_rss() / MIB,
    }


def peak_rss() -> int:
    """Bytes of memory that this process has had at most."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder, a file or a name; else the embedded model")
    parser.add_argument("--here", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here is None:
        print(json.dumps({**starting(), **figures(model=options.model)}))
    else:
        print(json.dumps(ask_here(options.here, options.model)))


if __name__ == "__main__":
    main()
