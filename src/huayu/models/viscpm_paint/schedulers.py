"""Schedulers by name, and the published one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from huayu.errors import ModelError

# How a model was trained; the same for every way of sampling from it.
_NOISE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)
# What the published code reads besides; it ignores the file's steps_offset. Source: spec viscpm §5.1.
_READ = ("variance_type", "clip_sample", "thresholding", "dynamic_thresholding_ratio", "clip_sample_range")

# Name → class and its settings.
SCHEDULERS: dict[str, tuple[type, dict[str, Any]]] = {
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": (UniPCMultistepScheduler, {"solver_order": 2}),
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "ddpm": (DDPMScheduler, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, {}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1}),
}


def make_scheduler(name: str, trained: Mapping[str, Any]) -> Any:
    """The scheduler called ``name`` for a model trained as ``trained`` (any scheduler's settings) says.

    Raises ModelError for an unknown name, listing the known ones, and for one that cannot follow the model's
    ``prediction_type``.
    """
    if name not in SCHEDULERS:
        known = ", ".join(SCHEDULERS)
        raise ModelError(f"There is no scheduler {name!r}; known: {known}.", f"没有调度器 {name!r}；可用：{known}。")
    if name == "pndm" and trained.get("prediction_type") == "sample":
        raise ModelError("pndm cannot paint with a model that predicts pictures.", "pndm 不适用于直接预测图像的模型。")
    kind, settings = SCHEDULERS[name]
    if trained.get("rescale_betas_zero_snr"):  # such a model must begin at the very last timestep
        settings = {**settings, "timestep_spacing": "trailing"}
    taken = inspect.signature(kind).parameters
    return kind(**{key: trained[key] for key in _NOISE if key in trained and key in taken}, **settings)


def exact_scheduler(trained: Mapping[str, Any]) -> DDPMScheduler:
    """DDPM as published: timesteps ``(n-1)r, …, r, 0`` with r = 1000 // n. Source: spec viscpm §5.1, 5.3."""
    settings = {
        "clip_sample": False,
        **{key: trained[key] for key in (*_NOISE, *_READ) if trained.get(key) is not None},
    }
    return DDPMScheduler(**settings, steps_offset=0, timestep_spacing="leading")
