"""Run the code in README and docs/ and follow their local links.

A block whose fence says ``python run`` or ``console run`` is run, page by page, in a fresh folder that has copies of
examples/ and tests/golden/cases/. The Python blocks of a page share their names; in a console block each line
``$ huayu …`` is a command that must exit with 0. Exit status 1 and a note for each thing that is wrong.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """(info string, line number of the first line of code, code) of each fenced block."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        yield match["info"].strip(), text.count("\n", 0, match.start("code")) + 1, match["code"]


def commands(code: str) -> Iterator[list[str]]:
    """The ``$ huayu …`` lines of a console block as argument lists, without the comment at their end."""
    for line in code.splitlines():
        if line.startswith("$ "):
            yield shlex.split(line[2:], comments=True)


def run_command(arguments: list[str]) -> None:
    """Run one ``huayu`` command in this process; RuntimeError unless it exits with 0."""
    from huayu.cli.main import main

    if arguments[0] != "huayu":
        raise RuntimeError(f"not a huayu command: {shlex.join(arguments)}")
    try:
        main(arguments[1:])
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise RuntimeError(f"{shlex.join(arguments)} exited with {stop.code}") from None


def run_page(page: Path) -> Iterator[str]:
    """Run the page's blocks in the current folder; yields what went wrong."""
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for info, line, code in blocks(page):
        if info not in ("python run", "console run"):
            continue
        started, output = time.perf_counter(), io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                if info == "python run":
                    exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)
                else:
                    for arguments in commands(code):
                        run_command(arguments)
        except Exception:
            yield f"{page.relative_to(ROOT)}:{line}: {traceback.format_exc()}{output.getvalue()}"
        else:
            print(f"{page.relative_to(ROOT)}:{line}: ok, {time.perf_counter() - started:.1f} s")


def broken_links(page: Path) -> Iterator[str]:
    """Relative links and pictures that lead to no file."""
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        target = match["target"].split("#")[0]
        if target and not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
            yield f"{page.relative_to(ROOT)}: no such file: {target}"


def check(page: Path) -> list[str]:
    """Everything that is wrong with one page."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("examples", "tests/golden/cases"):
            shutil.copytree(ROOT / name, Path(folder) / name)
        os.chdir(folder)
        try:
            return [*broken_links(page), *run_page(page)]
        finally:
            os.chdir(home)


def main() -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 (a command must not wait for somebody at the keyboard)
    wrong = [line for page in PAGES if page.exists() for line in check(page)]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
