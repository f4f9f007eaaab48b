"""README and docs promise only commands and options that exist, and both READMEs show the same."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]
READMES = PAGES[:2]
INLINE = re.compile(r"`(huayu [a-z][^`\n]*)`")


def check_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts" / "check_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command_lines(page: Path) -> list[list[str]]:
    lines = [line for _, _, code in check_docs().blocks(page) for line in code.replace("\\\n", " ").splitlines()]
    lines += INLINE.findall(page.read_text(encoding="utf-8"))
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if re.match(r"(\$ )?huayu ", line)]
    return [rest for _, *rest in words]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    import typer

    from huayu.cli.main import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *arguments in command_lines(page):
        assert name in commands, f"huayu {name}"
        command = commands[name]
        if arguments and arguments[0] in getattr(command, "commands", ()):
            command = command.commands[arguments[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        for argument in arguments:
            if argument.startswith("--") and argument != "--help":
                assert argument.split("=")[0].replace("_", "-") in options, f"huayu {name} {argument}"


def test_some_command_was_found() -> None:
    assert ["chat", "examples/dog.png", "图里有什么？"] in command_lines(READMES[0])


@pytest.mark.parametrize("readme", READMES, ids=lambda page: page.name)
def test_the_two_commands(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    assert "python3 dev.py demo" in text
    assert "python3 dev.py test" in text


def test_both_readmes_run_the_same() -> None:
    blocks = check_docs().blocks
    english, chinese = ([(info, code) for info, _, code in blocks(page) if info.endswith(" run")] for page in READMES)
    assert english == chinese
    assert len(english) >= 2
