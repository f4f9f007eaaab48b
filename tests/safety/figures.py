"""What the built-in check finds and what it stops by mistake: ``python -m tests.safety.figures`` prints the table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from huayu.runtime.language import language_of
from huayu.safety import WordCheck

PROMPTS = Path(__file__).with_name("prompts.toml")


def sets() -> dict[str, dict[str, dict[str, list[str]]]]:
    """``seen`` and ``fresh``, each with ``unsafe`` (label → prompts) and ``innocent`` (``prompts``)."""
    return tomllib.loads(PROMPTS.read_text("utf-8"))


def stopped(prompts: list[str]) -> tuple[int, int]:
    """How many of how many the check does not allow."""
    check = WordCheck()
    return sum(not check(prompt).allowed for prompt in prompts), len(prompts)


def table() -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| set | language | unsafe prompts found | innocent prompts stopped |"
    yield "|---|---|---|---|"
    for name, parts in sets().items():
        unsafe = [prompt for prompts in parts["unsafe"].values() for prompt in prompts]
        for language in ("zh", "en"):
            cells = []
            for prompts in (unsafe, parts["innocent"]["prompts"]):
                hit, count = stopped([prompt for prompt in prompts if language_of(prompt) == language])
                cells.append(f"{hit} of {count} ({hit / count:.1%})")
            yield f"| {name} | {language} | {cells[0]} | {cells[1]} |"


if __name__ == "__main__":
    print("\n".join(table()))
