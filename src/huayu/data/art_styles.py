"""Art styles that are asked for and spoken of, and the artists who draw so."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from huayu.data.layouts import Scene
from huayu.data.pictogram_packages import PACKAGES


@dataclass(frozen=True, slots=True)
class Style:
    """An art style: the packages that draw so, the first of them everything, and what it may be called; the first names
    are the usual ones."""

    packages: tuple[str, ...]
    en: tuple[str, ...]
    zh: tuple[str, ...]


STYLES = (  # the first is the one used when none is named
    Style(("noto", "noto-v1", "emojione", "fxemoji"), ("cartoon", "classic", "emoji"), ("卡通", "经典")),
    Style(("twemoji", "fluent-emoji-flat"), ("flat", "minimal"), ("扁平", "扁平化", "简约")),
    Style(("fluent-emoji",), ("3D", "glossy", "shiny"), ("立体", "3D", "三维")),
    Style(
        ("fluent-emoji-high-contrast", "emojione-monotone"),
        ("line", "line art", "black and white"),
        ("线条", "黑白", "简笔画"),
    ),
)
DEFAULT_STYLE = 0


@cache
def _of_packages() -> tuple[int | None, ...]:
    """For each of PACKAGES, the style that it draws in."""
    return tuple(
        next((number for number, style in enumerate(STYLES) if package.style in style.packages), None)
        for package in PACKAGES
    )


def common_style(scene: Scene) -> int | None:
    """The one style in which all that is there is drawn; None: not one, or none that has a name."""
    found = {None if thing.redrawn else _of_packages()[thing.style] for thing in scene.things}
    return found.pop() if len(found) == 1 else None
