"""VisCPM's own painting class: the same arguments, procedure and results. Source: spec viscpm §5.3, 5.4."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from huayu.checkpoints.find import locate
from huayu.errors import HuayuError
from huayu.paint import Painted, PaintOptions, contact_sheet, load_paint
from huayu.paint.options import require_words, settle
from huayu.paint.run import Run
from huayu.runtime.device import pick_device
from huayu.runtime.language import say
from huayu.safety import default_guard

if TYPE_CHECKING:
    import torch

    from huayu.ranking import Ranker

_LOG = logging.getLogger("huayu")
RANKER = "OFA-Sys/chinese-clip-vit-base-patch16"
CANDIDATES = 4


class Pictures(list[Image.Image]):
    """The pictures of one call: a list, as the published code returns, that can be saved, as its README does."""

    def __init__(self, painted: tuple[Painted, ...]) -> None:
        super().__init__(picture.image for picture in painted)
        self._painted = painted

    def save(self, path: str | Path) -> None:
        """Write a PNG with its labels: the picture, or several as a grid."""
        from huayu.labelling import save_png

        image = self[0] if len(self) == 1 else contact_sheet(self)
        save_png(image, path, self._painted[0].record)


class VisCPMPaint:
    """Opens a VisCPM-Paint model on the GPU (its text encoder in half precision) or the CPU (float32).

    ``model_path``: the published file, its folder or name, or a converted folder. ``image_safety_checker`` takes Stable
    Diffusion's from ``safety_checker`` beside the model; ``prompt_safety_checker`` huayu's own check, and the published
    classifier from ``text-security-checker``; ``add_ranker`` a Chinese-CLIP from ``chinese-clip-vit-base-patch16``, or
    by its hub id. What is asked for and not there is said in a warning, and left out. Raises CheckpointError and
    ModelError.
    """

    def __init__(
        self,
        model_path: str | Path,
        image_safety_checker: bool = True,
        prompt_safety_checker: bool = True,
        add_ranker: bool = True,
    ) -> None:
        folder = locate(model_path, kind="paint").folder
        guard = default_guard(folder, prompt=prompt_safety_checker, picture=image_safety_checker)
        if image_safety_checker and not guard.picture_checks:
            _warn("Pictures are not checked: no safety_checker.", "不检查图片：没有 safety_checker。")
        ranker = _open_ranker(folder) if add_ranker else None
        self.painter = load_paint(model_path, dtype=_published_dtypes(), safety=guard, ranker=ranker)

    def generate(
        self,
        prompt: str,
        negative_prompt: str | None = None,
        num_images_per_prompt: int = 1,
        guidance_scale: float = 7.5,
        image_size: int = 512,
        generator: torch.Generator | None = None,
    ) -> Pictures | None:
        """A list of ``num_images_per_prompt`` pictures, each the best of 4 where there is a ranker.

        ``generator`` None draws from torch's own, as published. A blocked prompt: its reason is printed, and None
        returned. Raises PromptError, OptionError, OutOfMemory.
        """
        import torch

        require_words(prompt)
        painter = self.painter
        options = PaintOptions(
            n=num_images_per_prompt,
            seed=(generator or torch.default_generator).initial_seed() % 2**63,
            size=image_size,
            guidance=guidance_scale,
            negative=negative_prompt or "",
            exact=True,
            candidates=CANDIDATES if painter.ranker else 1,
        )
        settings = settle(options, painter.backend.facts)
        painter.backend.check(prompt, settings)
        run = Run(
            painter.backend,
            prompt,
            settings,
            painter.guard,
            painter.ranker,
            generator=generator or torch.default_generator,
        )
        for _ in run.events():
            """All pictures."""
        result = run.result()
        if result.finish == "blocked":
            reason = next(verdict for verdict in result.prompt_verdicts if not verdict.allowed)
            print(say(reason.reason_en, reason.reason_zh))  # noqa: T201 (as published)
            return None
        return Pictures(result.pictures)


def _published_dtypes() -> dict[str, torch.dtype]:
    """On a GPU half precision for the text encoder alone. Source: spec viscpm §5.1."""
    import torch

    reads = torch.float32 if pick_device().type == "cpu" else torch.float16
    return {"text_encoder": reads, "": torch.float32}


def _open_ranker(folder: Path) -> Ranker | None:
    from huayu.ranking import ChineseClipRanker

    beside = folder / RANKER.rpartition("/")[2]
    try:
        return ChineseClipRanker(beside if beside.is_dir() else RANKER)
    except HuayuError as problem:
        _warn(f"Pictures are not ranked. {problem.en}", f"不对图片排序。{problem.zh}")
        return None


def _warn(en: str, zh: str) -> None:
    _LOG.warning("%s", say(en, zh))
