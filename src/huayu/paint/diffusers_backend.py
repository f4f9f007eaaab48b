"""One thin adapter for any text-to-image pipeline of diffusers."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PIL import Image

from huayu.errors import OptionError
from huayu.models.viscpm_paint.schedulers import make_scheduler
from huayu.paint.backend import Job, OnStep
from huayu.paint.options import Facts, Settings
from huayu.paint.pipeline_backend import PipelineBackend, require_room, share_of


class DiffusersBackend(PipelineBackend):
    """Paints with any text-to-image pipeline of diffusers; its image-to-image and inpainting kin share its weights."""

    def _read_facts(self) -> Facts:
        pipe = self.pipeline
        core: Any = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
        side: Any = getattr(pipe, "default_sample_size", None) or getattr(core.config, "sample_size", 64)
        side = (side[0] if isinstance(side, list | tuple) else side) * getattr(pipe, "vae_scale_factor", 8)
        accepted = inspect.signature(pipe.__call__).parameters
        return Facts(
            size=(side, side),
            steps=_default(accepted, "num_inference_steps", 50),
            guidance=_default(accepted, "guidance_scale", 7.5),
            batch_size=self._batch_size(),
        )

    def check(self, prompt: str, settings: Settings) -> None:
        """See :class:`huayu.paint.backend.Backend`; the prompt must fit the roomiest of the pipeline's tokenizers."""
        accepted = inspect.signature(self._kin(settings).__call__).parameters
        for name, given in (
            ("negative_prompt", settings.negative),
            ("guidance_scale", settings.guidance != self.facts.guidance),
        ):
            if given and name not in accepted:
                raise OptionError(f"{self.name} does not use {name}.", f"{self.name} 用不到 {name}。")
        if settings.scheduler:
            self._scheduler(settings.scheduler)
        parts = [part for name, part in self.pipeline.components.items() if name.startswith("tokenizer") and part]
        if not parts:
            return
        roomiest = max(parts, key=lambda part: part.model_max_length)
        require_room(len(roomiest(prompt, verbose=False).input_ids), roomiest.model_max_length)

    def paint(self, job: Job, on_step: OnStep) -> list[Image.Image]:
        """See :class:`huayu.paint.backend.Backend`.

        From a picture one at a time: in a batch the library draws that picture's latents for all from the first seed.
        """
        if job.settings.image is None:
            return super().paint(job, on_step)
        images: list[Image.Image] = []
        for seed in job.seeds:
            told = share_of(on_step, len(images), len(job.seeds))
            images += super().paint(replace(job, seeds=[seed]), told)
        return images

    def _call(self, job: Job) -> tuple[Callable[..., Any], dict[str, Any]]:
        settings = job.settings
        pipe = self._kin(settings)
        pipe.scheduler = self._scheduler(settings.scheduler) if settings.scheduler else self.own_scheduler
        width, height = settings.size
        wanted = {
            "prompt": job.prompt,
            "negative_prompt": settings.negative or None,
            "num_images_per_prompt": len(job.seeds),
            "width": width,
            "height": height,
            "num_inference_steps": settings.steps,
            "guidance_scale": settings.guidance,
            "generator": self._generators(job),
        }
        if settings.image is not None:
            wanted |= {"image": settings.image, "strength": settings.strength}
        if settings.mask is not None:
            wanted |= {"mask_image": settings.mask}
        accepted = inspect.signature(pipe.__call__).parameters
        return pipe, {name: value for name, value in wanted.items() if name in accepted}

    def _kin(self, settings: Settings) -> Any:
        if settings.image is None:
            return self.pipeline
        kind = auto_pipeline("Image2Image" if settings.mask is None else "Inpainting")
        try:
            kin = kind.from_pipe(self.pipeline)
        except ValueError as problem:
            raise OptionError(f"{self.name} cannot start from a picture.", f"{self.name} 不能从图片开始。") from problem
        kin.set_progress_bar_config(disable=True)
        return kin

    def _scheduler(self, name: str) -> Any:
        other = make_scheduler(name, self.own_scheduler.config)
        if type(other) not in self.own_scheduler.compatibles:
            raise OptionError(f"{self.name} cannot use the scheduler {name}.", f"{self.name} 不能使用调度器 {name}。")
        return other


def auto_pipeline(task: str) -> Any:
    """``AutoPipelineForText2Image`` and its kin, by what follows ``For``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own imports have to say
        return getattr(importlib.import_module("diffusers"), f"AutoPipelineFor{task}")


def _default(parameters: Any, name: str, otherwise: Any) -> Any:
    value = parameters[name].default if name in parameters else inspect.Parameter.empty
    return otherwise if value in (inspect.Parameter.empty, None) else value
