"""From a picture's record back to the options that painted it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from PIL import Image

from huayu.errors import OptionError, PromptError
from huayu.paint.options import PaintOptions, PictureSource, Settings, with_pictures
from huayu.paint.result import Painted

if TYPE_CHECKING:
    from huayu.labelling import PaintRecord
    from huayu.paint.painter import Painter


def record_settings(settings: Settings) -> dict[str, Any]:
    """What a record says beside prompt, seed and model; pictures by the SHA-256 of their pixels."""
    width, height = settings.size
    said: dict[str, Any] = {
        "width": width,
        "height": height,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "scheduler": settings.scheduler,
        "exact": settings.exact,
    }
    if settings.image is not None:
        said |= {"image": _digest(settings.image), "strength": settings.strength}
    if settings.mask is not None:
        said |= {"mask": _digest(settings.mask)}
    if settings.mark:
        said |= {"mark": settings.mark}
    return said


def options_of(
    record: PaintRecord, image: PictureSource | None = None, mask: PictureSource | None = None
) -> PaintOptions:
    """The options that paint the recorded picture again; ``image`` and ``mask`` are those it began from.

    Raises OptionError when they are missing or when the record is not one of a painting.
    """
    said = record.settings
    try:
        for name, given in (("image", image), ("mask", mask)):
            if (name in said) != (given is not None):
                raise _unlike(name, name in said)
        return with_pictures(
            PaintOptions(
                n=said.get("drawn", 1),
                seed=record.seed,
                size=(said["width"], said["height"]),
                steps=said["steps"],
                guidance=said["guidance"],
                negative=record.negative_prompt,
                scheduler=None if said["exact"] else said["scheduler"],
                exact=said["exact"],
                image=image,
                mask=mask,
                strength=said.get("strength"),
                mark=said.get("mark"),
            )
        )
    except (KeyError, TypeError) as problem:
        raise OptionError(
            f"The record does not say how one picture was painted ({problem}).",
            f"记录没有说明单张图片的画法（{problem}）。",
        ) from problem


def repaint(
    painter: Painter, record: PaintRecord, image: PictureSource | None = None, mask: PictureSource | None = None
) -> Painted:
    """Paint the recorded picture again.

    Raises as :func:`options_of`, OptionError when ``image`` is another one, PromptError when the prompt is blocked.
    """
    result = painter.paint(record.prompt, options=options_of(record, image, mask))
    if not result.pictures:
        raise PromptError(*next((v.reason_en, v.reason_zh) for v in result.prompt_verdicts if not v.allowed))
    painted = result.pictures[place_of(record)]
    require_same_sources(painted.record, record)
    return painted


def place_of(record: PaintRecord) -> int:
    """Which of the pictures that :func:`options_of` asks for is the recorded one."""
    return int(record.settings.get("place", 0))


def require_same_sources(new: PaintRecord, old: PaintRecord) -> None:
    """Raises OptionError when the two began from different pictures."""
    for name in ("image", "mask"):
        if new.settings.get(name) != old.settings.get(name):
            raise OptionError(f"This {name} is not the one it was painted from.", f"此 {name} 不是当初作画所用的。")


def _digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def _unlike(name: str, wanted: bool) -> OptionError:
    if wanted:
        return OptionError(f"It was painted from another picture: give {name}.", f"它由另一张图片画成：请给出 {name}。")
    return OptionError(f"It was painted without {name}; leave it out.", f"它不是由 {name} 画成；请去掉。")
