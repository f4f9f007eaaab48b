"""The pipelines that paint: our own, and one thin adapter for any text-to-image pipeline of diffusers."""

from __future__ import annotations

import importlib
import inspect
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from huayu.errors import ModelError, OptionError, PromptError
from huayu.models.cpm_bee.vocabulary import escape
from huayu.models.viscpm_paint.pipeline import VisCPMPaintPipeline
from huayu.models.viscpm_paint.prompts import pack_prompt
from huayu.models.viscpm_paint.schedulers import make_scheduler
from huayu.paint.backend import Backend, Job, OnStep
from huayu.paint.options import Facts, Settings, Size
from huayu.paint.previews import Previews
from huayu.runtime.memory import guarded

_HINT_EN = "try a smaller picture, fewer at a time (--batch-size 1) or a smaller format (--dtype float16)"
_HINT_ZH = "可改画小一些、每次少画几张（--batch-size 1），或用更小的数据格式（--dtype float16）"
_GPU_BATCH = 4
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


class _PipelineBackend(ABC):
    """What both have in common: one call at a time, generators, progress."""

    def __init__(self, pipeline: Any, name: str) -> None:
        self.pipeline, self.name = pipeline, name
        self.facts = self._read_facts()
        self.own_scheduler = pipeline.scheduler
        self._lock = threading.Lock()
        pipeline.set_progress_bar_config(disable=True)

    @abstractmethod
    def _read_facts(self) -> Facts:
        """What the pipeline can do, read once."""

    @abstractmethod
    def check(self, prompt: str, settings: Settings) -> None:
        """See :class:`huayu.paint.backend.Backend`."""

    @abstractmethod
    def _call(self, job: Job) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The pipeline's method for this job, and its arguments."""

    def paint(self, job: Job, on_step: OnStep) -> list[Image.Image]:
        """See :class:`huayu.paint.backend.Backend`. Raises OutOfMemory."""
        with self._lock, guarded(_HINT_EN, _HINT_ZH):
            call, arguments = self._call(job)
            steps = max(1, round(job.settings.steps * (1.0 if job.settings.image is None else job.settings.strength)))
            preview = Previews(self.pipeline) if job.settings.previews else lambda _: None

            def step_ended(_: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
                on_step(step + 1, max(step + 1, steps), preview(tensors.get("latents")))
                return tensors

            return list(call(**arguments, callback_on_step_end=step_ended, output_type="pil").images)

    def _batch_size(self) -> int:
        return 1 if self.pipeline._execution_device.type == "cpu" else _GPU_BATCH

    def _generators(self, job: Job) -> Any:
        """One for each picture, on the CPU: the same seed paints alike on every device."""
        if job.generator is not None:
            return job.generator
        seeds = job.seeds[:1] if job.settings.exact else job.seeds
        made = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return made[0] if job.settings.exact else made


class VisCPMPaintBackend(_PipelineBackend):
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
            _require_room(len(item.input_ids), min(MAX_TOKENS, tokenizer.model_max_length))

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


class DiffusersBackend(_PipelineBackend):
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
        _require_room(len(roomiest(prompt, verbose=False).input_ids), roomiest.model_max_length)

    def paint(self, job: Job, on_step: OnStep) -> list[Image.Image]:
        """See :class:`huayu.paint.backend.Backend`.

        From a picture one at a time: in a batch the library draws that picture's latents for all from the first seed.
        """
        if job.settings.image is None:
            return super().paint(job, on_step)
        images: list[Image.Image] = []
        for seed in job.seeds:
            told = _share_of(on_step, len(images), len(job.seeds))
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


def _share_of(on_step: OnStep, call: int, calls: int) -> OnStep:
    """Steps of one of several calls as steps of all."""
    return lambda done, steps, preview: on_step(call * steps + done, calls * steps, preview)


def auto_pipeline(task: str) -> Any:
    """``AutoPipelineForText2Image`` and its kin, by what follows ``For``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own imports have to say
        return getattr(importlib.import_module("diffusers"), f"AutoPipelineFor{task}")


def _require_room(size: int, room: int) -> None:
    if size > room:
        raise PromptError(
            f"The prompt has {size} tokens; the model takes {room}.",
            f"提示词共 {size} 个词元，模型最多接受 {room} 个。",
        )


def _default(parameters: Any, name: str, otherwise: Any) -> Any:
    value = parameters[name].default if name in parameters else inspect.Parameter.empty
    return otherwise if value in (inspect.Parameter.empty, None) else value
