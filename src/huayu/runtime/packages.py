"""Which optional packages there are, and whether a known trap is set."""

from __future__ import annotations

import importlib
import importlib.util
from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version

from huayu.errors import ModelError


def is_installed(module: str) -> bool:
    """True when the top-level module can be found; imports nothing."""
    return importlib.util.find_spec(module) is not None


def version_of(distribution: str) -> str | None:
    """Its installed version, or None."""
    try:
        return _version(distribution)
    except PackageNotFoundError:
        return None


def require(module: str, extra: str) -> None:
    """Raises ModelError with the command that installs it when the optional module is missing."""
    if not is_installed(module):
        command = f'pip install "huayu[{extra}]"'
        raise ModelError(f"This needs {module}: {command}", f"此功能需要 {module}：{command}")


@lru_cache(maxsize=1)
def torchvision_state() -> str:
    """``"absent"`` (fine), ``"works"``, or ``"broken"``.

    One built for another torch fails at import, and then takes image processors of other libraries down with it.
    """
    if not is_installed("torchvision"):
        return "absent"
    try:
        importlib.import_module("torchvision")
    except Exception:  # whatever it raises is the news
        return "broken"
    return "works"
