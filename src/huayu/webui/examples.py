"""Pictures to begin with: beside the code of an installed package, in examples/ of a checkout."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
_PLACES = (_HERE / "examples", _HERE.parents[2] / "examples")


def example_picture(name: str) -> Path | None:
    """The file of the example ``name``, None where it is missing."""
    return next((place / f"{name}.png" for place in _PLACES if (place / f"{name}.png").is_file()), None)
