"""What painting by a pipeline of diffusers is like, whichever it is: one call at a time, seeds, progress."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from huayu.errors import PromptError
from huayu.paint.backend import Job, OnStep
from huayu.paint.options import Facts, Settings
from huayu.paint.previews import Previews
from huayu.runtime.memory import guarded

_HINT_EN = "try a smaller picture, fewer at a time (--batch-size 1) or a smaller format (--dtype float16)"
_HINT_ZH = "可改画小一些、每次少画几张（--batch-size 1），或用更小的数据格式（--dtype float16）"
_GPU_BATCH = 4


class PipelineBackend(ABC):
    """Paints with the pipeline that it holds."""

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


def share_of(on_step: OnStep, call: int, calls: int) -> OnStep:
    """Steps of one of several calls as steps of all."""
    return lambda done, steps, preview: on_step(call * steps + done, calls * steps, preview)


def require_room(size: int, room: int) -> None:
    if size > room:
        raise PromptError(
            f"The prompt has {size} tokens; the model takes {room}.",
            f"提示词共 {size} 个词元，模型最多接受 {room} 个。",
        )
