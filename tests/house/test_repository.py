"""The files around the package: licences, versions, the script that guards a change, what a wheel holds."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import huayu

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
IN_GIT = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked archive has no list of its files")


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert citation["version"] == huayu.__version__
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == huayu.__version__


def test_citation_is_complete() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    cited = " ".join(f"{paper['title']} {paper['notes']}" for paper in citation["references"])
    for number in ("2308.12038", "2208.10442", "2103.10360"):
        assert number in cited
    assert all(paper["authors"] and paper["year"] and paper["url"] for paper in citation["references"])


@pytest.mark.skipif(os.name == "nt", reason="a bash script with a mode bit")
def test_ci_script_can_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    assert [line.split()[:3] for line in script.read_text().splitlines() if "dev.py" in line] == [
        ["python3", "dev.py", "test"]
    ]


def test_constraints_fit_the_ranges() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    exact = dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))
    for text in [*PROJECT["project"]["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        requirement = Requirement(text)
        if requirement.name != "huayu":
            assert requirement.specifier.contains(exact[requirement.name.lower()]), text


def imported(folder: str) -> set[str]:
    """Top-level names of what the Python files of a folder import from elsewhere."""
    names: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"huayu", "tests", "benchmarks"}


@pytest.mark.parametrize(
    ("folder", "besides"), [("src", {"test"}), ("examples", set(EXTRAS) - {"test"}), ("tests", set())]
)
def test_what_is_imported_is_declared(folder: str, besides: set[str]) -> None:
    distributions = {"PIL": "pillow", "yaml": "pyyaml", "opentelemetry": "opentelemetry_sdk"}
    distributions |= dict.fromkeys(("anyio", "pydantic", "starlette"), "fastapi")  # what it is made of
    lines = [*PROJECT["project"]["dependencies"]]
    for extra in EXTRAS.keys() - besides:
        lines += EXTRAS[extra]
    declared = {Requirement(line).name.lower().replace("-", "_") for line in lines}
    assert {distributions.get(name, name).lower() for name in imported(folder)} <= declared


@IN_GIT
def test_no_traces_of_a_machine() -> None:
    # Joined here so that this file does not find itself.
    traces = ["/wo" + "rk/", "/ro" + "ot/", "cl" + "aude", "anth" + "ropic", "co-authored" + "-by", "pythonhos" + "ted"]
    pattern = re.compile("|".join(map(re.escape, traces)), re.IGNORECASE)
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content[:4096]:
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []


@IN_GIT
def test_no_unlicensed_file_is_committed() -> None:
    ours = ROOT / "src" / "huayu" / "embedded" / "huayu-glm-mini" / "ice_text.model"  # of huayu.data.mini_sentencepiece
    assert ours.stat().st_size < 100_000
    assert not {"bee.txt", "ice_text.model"} & {path.name for path in tracked() if path != ours}
    assert max(path.stat().st_size for path in tracked()) < 40_000_000


def test_notice_names_every_collection() -> None:
    from huayu.data.pictograms import PACKAGES

    notice = (ROOT / "NOTICE").read_text(encoding="utf-8").splitlines()
    for package in PACKAGES:
        assert any(package.author in line and package.licence in line for line in notice), package.style


def test_wheel_holds_the_model_and_the_licences(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob(f"huayu-{huayu.__version__}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = next(name for name in names if name.endswith("entry_points.txt"))
        assert "huayu = huayu.cli.main:main" in archive.read(scripts).decode()
    assert "huayu/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    shipped = {f"huayu/{path.relative_to(ROOT / 'src/huayu').as_posix()}" for path in weights()}
    assert shipped
    assert shipped <= set(names)


def weights() -> list[Path]:
    return sorted((ROOT / "src" / "huayu" / "embedded").rglob("*.safetensors"))
