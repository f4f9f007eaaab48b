"""The faces that users of the published systems know: change the import line of an old script, and it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huayu.compat.viscpm import VisCPMChat

__all__ = ["VisCPMChat"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from huayu.compat import viscpm

    return getattr(viscpm, name)
