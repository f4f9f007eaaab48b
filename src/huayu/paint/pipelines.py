"""The pipelines that paint: our own, and whatever diffusers has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PIL import Image

from huayu.data import paint_pairs
from huayu.errors import ModelError
from huayu.models.cpm_bee.vocabulary import escape
from huayu.models.viscpm_paint.pipeline import VisCPMPaintPipeline
from huayu.models.viscpm_paint.prompts import pack_prompt
from huayu.models.viscpm_paint.schedulers import make_scheduler
from huayu.paint.backend import Backend, Job, OnStep
from huayu.paint.beside import together
from huayu.paint.diffusers_backend import DiffusersBackend
from huayu.paint.options import Facts, Settings, Size
from huayu.paint.pipeline_backend import PipelineBackend, require_room, share_of

# As far as CPM-Bee tells distances apart. Source: spec viscpm §1.1.
MAX_TOKENS = 2048


def as_backend(pipeline: Any, name: str) -> Backend:
    """A backend as it is; a pipeline in its adapter. Raises ModelError for anything else."""
    if isinstance(pipeline, VisCPMPaintPipeline):
        return VisCPMPaintBackend(pipeline, name)
    if callable(pipeline) and hasattr(pipeline, "components"):
        return DiffusersBackend(pipeline, name)
    if hasattr(pipeline, "facts"):
        return pipeline
    raise ModelError(f"{name} is not a pipeline that paints.", f"{name} 不是能作画的管线。")


class VisCPMPaintBackend(PipelineBackend):
    """Paints with a :class:`VisCPMPaintPipeline`."""

    def _read_facts(self) -> Facts:
        said = dict(self.pipeline.config.get("paint_defaults") or {})
        sizes: tuple[Size, ...] = tuple((width, height) for width, height in said.get("sizes") or ())
        return Facts(
            size=self.pipeline.default_size,
            sizes=sizes,
            steps=said.get("num_inference_steps", 25),
            guidance=said.get("guidance_scale", 7.5),
            scheduler=said.get("scheduler"),
            exact=self.pipeline.canvas is None,
            batch_size=self._batch_size(),
            one_thing=bool(said.get("one_thing")),
        )

    def check(self, prompt: str, settings: Settings) -> None:
        """See :class:`huayu.paint.backend.Backend`; also for a malformed ``<`` in exact mode."""
        if settings.scheduler:
            make_scheduler(settings.scheduler, self.own_scheduler.config)
        tokenizer = self.pipeline.tokenizer
        if tokenizer is None:  # only texts that are encoded already can be painted then
            return
        for text in (prompt, settings.negative):
            item = pack_prompt(text if settings.exact else escape(text), tokenizer.vocabulary)
            require_room(len(item.input_ids), min(MAX_TOKENS, tokenizer.model_max_length))

    def paint(self, job: Job, on_step: OnStep) -> list[Image.Image]:
        """See :class:`huayu.paint.backend.Backend`. A model of one thing paints two apart, and sets them together."""
        pair = paint_pairs.parse(job.prompt) if self.facts.one_thing and job.settings.image is None else None
        if pair is None:
            return super().paint(job, on_step)
        first, second = (
            super(VisCPMPaintBackend, self).paint(replace(job, prompt=prompt), share_of(on_step, half, 2))
            for half, prompt in enumerate((pair.first, pair.second))
        )
        return [together(*both, upright=pair.upright) for both in zip(first, second, strict=True)]

    def _call(self, job: Job) -> tuple[Callable[..., Any], dict[str, Any]]:
        settings = job.settings
        if settings.scheduler and not settings.exact:
            self.pipeline.set_scheduler(settings.scheduler)
        else:
            self.pipeline.scheduler = self.own_scheduler
        width, height = settings.size
        return self.pipeline, {
            "prompt": job.prompt,
            "negative_prompt": settings.negative,
            "num_images_per_prompt": len(job.seeds),
            "width": width,
            "height": height,
            "num_inference_steps": settings.steps,
            "guidance_scale": settings.guidance,
            "generator": self._generators(job),
            "image": settings.image,
            "mask_image": settings.mask,
            "strength": settings.strength,
            "exact": settings.exact,
        }
