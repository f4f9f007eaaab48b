"""How a figure with its interval is written."""

from __future__ import annotations

from collections.abc import Mapping

Figure = Mapping[str, float]


def percent(figure: Figure | None) -> str:
    """ "93 (88–97)", in per cent; of one seed the figure alone."""
    if figure is None:
        return "–"
    if figure.get("n") == 1:
        return mean(figure)
    return f"{mean(figure)} ({100 * figure['low']:.0f}–{100 * figure['high']:.0f})"


def mean(figure: Figure) -> str:
    """ "93", in per cent."""
    return f"{100 * figure['mean']:.0f}"
