"""What a caller may ask of a painting, and how that meets what the model declares. No torch here."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from huayu.data.pictures import open_picture
from huayu.errors import ImageError, OptionError, PromptError

PictureSource = str | Path | bytes | Image.Image
Size = tuple[int, int]

SCHEDULERS = ("ddpm", "ddim", "dpm++", "unipc", "euler", "pndm")
SEEDS = 2**63
# Source: spec viscpm §5.3.
EXACT_STEPS, EXACT_GUIDANCE = 50, 7.5
_STRENGTH = 0.75


@dataclass(frozen=True)
class PaintOptions:
    """Wishes for a painting; None leaves a field to the model.

    ``n`` pictures; ``seed`` in 0 … 2⁶³−1, picture i has seed + i and can be repainted alone with it (None draws one).
    ``size``: (width, height) or one side of a square, multiples of 8. ``steps`` ≥ 1. ``guidance`` ≥ 0; up to 1 halves
    the work. ``negative``: what should not be seen. ``scheduler``: one of :data:`SCHEDULERS`. ``exact``: the published
    procedure, all pictures drawn from the one seed. ``image``: start from this picture; ``strength`` in (0, 1] says
    how far to leave it (0.75); ``mask``, of the same size, repaints only where it is white. ``candidates``: paint so
    many for each picture and let the ranker choose. ``repaints``: at most so many more tries for a picture that a
    ``check`` refuses. ``batch_size``: pictures painted together. ``mark``: a word in the corner, ``"zh"`` or ``"en"``.
    ``previews``: progress brings small pictures of the work, for at most a fifth of the time.

    Raises OptionError for a value out of range or without effect, and TypeError for an unknown name.
    """

    n: int = 1
    seed: int | None = None
    size: int | Size | None = None
    steps: int | None = None
    guidance: float | None = None
    negative: str = ""
    scheduler: str | None = None
    exact: bool = False
    image: PictureSource | None = None
    mask: PictureSource | None = None
    strength: float | None = None
    candidates: int = 1
    repaints: int = 2
    batch_size: int | None = None
    mark: Literal["zh", "en"] | None = None
    previews: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.size, int):
            object.__setattr__(self, "size", (self.size, self.size))
        for name, least in (("n", 1), ("steps", 1), ("candidates", 1), ("repaints", 0), ("batch_size", 1)):
            value = getattr(self, name)
            _check(name, value, value is None or (_is_whole(value) and value >= least), f"≥ {least}")
        _check("steps", self.steps, self.steps is None or self.steps <= 1000, "≤ 1000")
        _check("seed", self.seed, self.seed is None or (_is_whole(self.seed) and 0 <= self.seed < SEEDS), "0 … 2⁶³−1")
        _check("guidance", self.guidance, self.guidance is None or _within(self.guidance, 0, 100), "0 … 100")
        _check(
            "strength", self.strength, self.strength is None or _within(self.strength, 0, 1, open_below=True), "0 … 1"
        )
        _check("negative", self.negative, isinstance(self.negative, str), "text")
        _check("mark", self.mark, self.mark in (None, "zh", "en"), "zh, en")
        _check("scheduler", self.scheduler, self.scheduler in (None, *SCHEDULERS), ", ".join(SCHEDULERS))
        if self.size is not None:
            _check_size(self.size)
        self._check_together()

    def _check_together(self) -> None:
        if self.exact and (self.scheduler or self.image is not None):
            raise OptionError(
                "exact is the published procedure: DDPM, and no picture to start from; leave out scheduler and image.",
                "exact 是已发布的过程：DDPM，且不从图片开始；请去掉 scheduler 与 image。",
            )
        for name in ("mask", "strength"):
            if getattr(self, name) is not None and self.image is None:
                raise OptionError(f"{name} needs image, a picture to start from.", f"{name} 需要 image（起始图片）。")


@dataclass(frozen=True)
class Facts:
    """What a model declares. ``sizes`` empty: any multiple of 8. ``exact``: it has the published procedure.

    ``batch_size``: how many pictures are usually painted together. ``one_thing``: it paints one thing at a time; two
    that a prompt asks for are painted apart and set together.
    """

    size: Size
    sizes: tuple[Size, ...] = ()
    steps: int = 25
    guidance: float = 7.5
    scheduler: str | None = None
    exact: bool = False
    batch_size: int = 1
    one_thing: bool = False


@dataclass(frozen=True)
class Settings:
    """Complete settings of one painting; ``image`` RGB and ``mask`` L have the painting's size."""

    n: int
    seed: int
    size: Size
    steps: int
    guidance: float
    negative: str
    scheduler: str | None
    exact: bool
    image: Image.Image | None
    mask: Image.Image | None
    strength: float
    candidates: int
    repaints: int
    batch_size: int | None
    mark: Literal["zh", "en"] | None
    previews: bool = False


def require_words(prompt: str) -> None:
    """Raises PromptError for an empty prompt."""
    if not prompt.strip():
        raise PromptError("The prompt is empty (0 characters; at least 1).", "提示词为空（0 个字；至少 1 个）。")


def with_pictures(options: PaintOptions) -> PaintOptions:
    """The same with ``image`` and ``mask`` read. Raises ImageError, also for a mask of another size."""
    if options.image is None:
        return options
    image = open_picture(options.image)
    if options.mask is None:
        return replace(options, image=image)
    mask = open_picture(options.mask)
    if mask.size != image.size:
        (w, h), (mask_w, mask_h) = image.size, mask.size
        raise ImageError(
            f"The mask is {mask_w}×{mask_h}, the picture {w}×{h}; they must be of one size.",
            f"蒙版为 {mask_w}×{mask_h}，图片为 {w}×{h}；两者须大小相同。",
        )
    return replace(options, image=image, mask=mask)


def settle(options: PaintOptions, facts: Facts) -> Settings:
    """``options`` where given, else ``facts``. Raises OptionError for what the model does not do, ImageError."""
    from PIL import ImageOps

    options = with_pictures(options)
    if options.exact and not facts.exact:
        raise OptionError("exact is only for VisCPM-Paint.", "exact 仅用于 VisCPM-Paint。")
    size = _settle_size(options, facts)
    image, mask = options.image, options.mask
    steps, guidance = (EXACT_STEPS, EXACT_GUIDANCE) if options.exact else (facts.steps, facts.guidance)
    return Settings(
        n=options.n,
        seed=random.SystemRandom().randrange(2**32) if options.seed is None else options.seed,
        size=size,
        steps=options.steps or steps,
        guidance=guidance if options.guidance is None else options.guidance,
        negative=options.negative,
        scheduler="ddpm" if options.exact else options.scheduler or facts.scheduler,
        exact=options.exact,
        image=ImageOps.fit(image, size) if isinstance(image, Image.Image) else None,
        mask=ImageOps.fit(mask, size).convert("L") if isinstance(mask, Image.Image) else None,
        strength=_STRENGTH if options.strength is None else options.strength,
        candidates=options.candidates,
        repaints=options.repaints,
        batch_size=options.batch_size,
        mark=options.mark,
        previews=options.previews,
    )


def _settle_size(options: PaintOptions, facts: Facts) -> Size:
    if isinstance(options.size, tuple):
        if facts.sizes and options.size not in facts.sizes:
            listed = ", ".join(f"{width}×{height}" for width, height in facts.sizes)
            asked = "{}×{}".format(*options.size)
            raise OptionError(
                f"This model does not paint {asked}; its sizes: {listed}.",
                f"此模型不能画 {asked}；可用大小：{listed}。",
            )
        return options.size
    if not isinstance(options.image, Image.Image) or facts.sizes:
        return facts.size
    width, height = options.image.size
    scale = min(1.0, math.sqrt(facts.size[0] * facts.size[1] / (width * height)))
    return _nearest(width * scale), _nearest(height * scale)


def _check_size(size: Any) -> None:
    pair = isinstance(size, tuple) and len(size) == 2 and all(_is_whole(side) and side > 0 for side in size)
    _check("size", size, pair, "(width, height)")
    near = tuple(map(_nearest, size))
    if size != near:
        asked, nearest = "{}×{}".format(*size), "{}×{}".format(*near)
        raise OptionError(
            f"The size {asked} is not a multiple of 8 pixels; the nearest is {nearest}.",
            f"大小 {asked} 不是 8 的倍数；最近的是 {nearest}。",
        )


def _nearest(side: float) -> int:
    return max(8, 8 * round(side / 8))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(value: object, least: float, most: float, *, open_below: bool = False) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return least <= value <= most and not (open_below and value == least)


def _check(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        raise OptionError(f"{name} must be {wanted}, not {value!r}.", f"{name} 应为 {wanted}，而不是 {value!r}。")
