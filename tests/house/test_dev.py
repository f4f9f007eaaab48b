"""dev.py: what it hands on to uv, which PyTorch it takes, and when it has nothing to do."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """dev.py with its .venv in a temporary folder; nothing is installed."""
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path)
    monkeypatch.setattr(module, "STAMP", tmp_path / "huayu-setup.json")
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    monkeypatch.delenv("HUAYU_TORCH", raising=False)
    monkeypatch.setenv("HUAYU_LANG", "en")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    return module


class Registry:
    """Records what is asked for; grants what ``offers`` says."""

    uv = True

    def __init__(self, *offers: tuple[str, ...]) -> None:
        self.offers = offers
        self.asked: list[tuple[str, ...]] = []

    def install(self, *what: str, quiet: bool = False, **variables: str) -> bool:
        self.asked.append(what)
        return what in self.offers


CPU, INDEX, ANY = ("torch==2.13.0+cpu",), ("torch==2.13.0", "--torch-backend", "cpu"), ("torch==2.13.0",)


@pytest.mark.parametrize("offers", [(CPU,), (INDEX,), (ANY,)])
def test_cpu_build_first_then_any_with_one_line(
    dev: ModuleType, capsys: pytest.CaptureFixture[str], offers: tuple[tuple[str, ...], ...]
) -> None:
    registry = Registry(*offers)
    assert dev.install_torch(registry)
    assert registry.asked == [CPU, INDEX, ANY][: [CPU, INDEX, ANY].index(offers[0]) + 1]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (1 if offers == (ANY,) else 0)
    assert all("GPU build" in line for line in lines)


def test_gpu_takes_the_plain_build(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.shutil, "which", lambda name: f"/usr/bin/{name}")
    with_gpu, told_cpu = Registry(ANY), Registry(CPU)
    assert dev.install_torch(with_gpu)
    assert with_gpu.asked == [ANY]
    monkeypatch.setenv("HUAYU_TORCH", "cpu")
    assert dev.install_torch(told_cpu)
    assert told_cpu.asked == [CPU]


def test_override_takes_the_gpu_build_or_is_refused(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(ANY)
    monkeypatch.setenv("HUAYU_TORCH", "cuda")
    assert dev.install_torch(registry)
    assert registry.asked == [ANY]
    monkeypatch.setenv("HUAYU_TORCH", "tpu")
    assert not dev.install_torch(registry)
    assert "cpu or cuda" in capsys.readouterr().out


def test_other_systems_need_no_cpu_index(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    registry = Registry(ANY)
    assert dev.install_torch(registry)
    assert registry.asked == [CPU, ANY]


def test_pip_configuration_reaches_uv(dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.example/simple\nextra-index-url =\n    https://a.example/simple\n"
        "    https://b.example/simple\nfind-links = wheels\n[install]\nfind-links = other\n"
    )
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "UV_FIND_LINKS", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    env = dev.uv_environment(dev.pip_settings())
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert env["UV_INDEX"] == "https://a.example/simple https://b.example/simple"
    assert env["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert env["UV_FIND_LINKS"] == "other"
    monkeypatch.setenv("PIP_FIND_LINKS", "one two")
    assert dev.uv_environment(dev.pip_settings())["UV_FIND_LINKS"] == "one,two"
    monkeypatch.setenv("UV_FIND_LINKS", "mine")
    assert dev.uv_environment(dev.pip_settings())["UV_FIND_LINKS"] == "mine"


def test_second_start_costs_nothing(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def run(*command: object, **_: object) -> bool:
        asked.append(command)
        return True

    monkeypatch.setattr(dev, "run", run)
    monkeypatch.setattr(dev, "pip_settings", dict)
    assert dev.set_up(set())
    assert json.loads(dev.STAMP.read_text())["extras"] == []
    asked.clear()
    assert dev.set_up(set())
    assert asked == []
    assert dev.set_up({"test"})
    assert str(asked[-1][-1]).endswith("[test]")
    asked.clear()
    assert dev.set_up({"test"})
    assert dev.set_up(set())
    assert asked == []
    monkeypatch.setattr(dev, "fingerprint", lambda: "a change of pyproject.toml")
    assert dev.set_up(set())
    assert str(asked[-1][-1]).endswith("[test]"), "what had been installed is kept up to date"


def test_failed_setup_leaves_no_stamp(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "pip_settings", dict)
    monkeypatch.setattr(dev, "run", lambda *command, **_: "-e" not in command)
    assert not dev.set_up(set())
    assert not dev.STAMP.exists()


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["dance"], 2), (["--help"], 0), (["demo", "more"], 2)])
def test_anything_else_shows_the_commands(
    dev: ModuleType, arguments: list[str], status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dev.main(arguments) == status
    assert "dev.py demo" in capfd.readouterr().out


def test_old_python_is_told(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    assert dev.main(["demo"]) == 2
    assert "3.11" in capsys.readouterr().out
