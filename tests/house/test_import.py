"""What `import huayu` costs, and that every public name is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import huayu

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "numpy", "PIL", "typer", "rich")


def fresh(code: str, *arguments: str) -> str:
    """What a new interpreter prints for ``code``."""
    env = {"PYTHONPATH": str(ROOT / "src"), "HUAYU_LANG": "en", "PATH": "", "SYSTEMROOT": "C:\\Windows"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, encoding="utf-8").stdout


def test_import_is_quick_and_light() -> None:
    code = "import time; t = time.perf_counter(); import huayu, sys; print(time.perf_counter() - t, *sys.modules)"
    runs = [fresh(code).split() for _ in range(3)]
    assert not set(HEAVY) & set(runs[0][1:])
    assert min(float(run[0]) for run in runs) < 0.3


def test_help_leaves_torch_alone() -> None:
    code = (
        "import sys\nfrom huayu.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "print(code, [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    assert fresh(code, "--help").splitlines()[-1] == "0 []"


@pytest.mark.parametrize("name", huayu.__all__)
def test_public_names_exist(name: str) -> None:
    assert getattr(huayu, name) is not None
    assert name in dir(huayu)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_everything'"):
        huayu.load_everything  # noqa: B018


def functions(text: str) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]


def test_files_and_functions_are_small_enough_to_read() -> None:
    large = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        limit = 400 if "models" in path.parts else 250
        if (lines := text.count("\n")) > limit:
            large.append(f"{path.relative_to(ROOT)}: {lines} lines, {limit} allowed")
        options = "cli" in path.parts  # a command's arguments are its table of options; there the body alone counts
        spans = [(f.name, (f.end_lineno or 0) - (f.body[0] if options else f).lineno + 1) for f in functions(text)]
        large += [f"{path.relative_to(ROOT)}: {name} has {span} lines" for name, span in spans if span > 50]
    assert large == []
