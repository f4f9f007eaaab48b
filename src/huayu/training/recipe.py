"""Recipes: TOML files that name a stage and its settings. They hold no code."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huayu.errors import ModelError
from huayu.training.loop import LoopSettings, Stage, train

STAGES = {
    "align": "huayu.training.align.stage:AlignStage",
    "finetune": "huayu.training.finetune.stage:FinetuneStage",
    "pretrain": "huayu.training.language.stage:PretrainStage",
    "paint": "huayu.training.paint.stage:PaintStage",
    "mini_chat.language": "huayu.training.mini_chat.language:LanguageStage",
    "mini_chat.vision": "huayu.training.mini_chat.vision:VisionStage",
    "mini_chat.join": "huayu.training.mini_chat.join:JoinStage",
    "mini_paint.autoencoder": "huayu.training.mini_paint.autoencoder:AutoencoderStage",
    "mini_paint.canvas": "huayu.training.mini_paint.canvas:CanvasStage",
    "mini_paint.denoiser": "huayu.training.mini_paint.denoiser:DenoiserStage",
    "mini_paint.restyle": "huayu.training.mini_paint.restyle:RestyleStage",
    "mini_paint.polish": "huayu.training.mini_paint.polish:PolishStage",
}


def parse_override(text: str) -> tuple[str, Any]:
    """``key=value`` with a TOML value; a bare word is a string. Raises ModelError without ``=``."""
    key, sign, value = text.partition("=")
    if not sign:
        raise ModelError(f"Write key=value, not {text!r}.", f"应写成 key=value，而不是 {text!r}。")
    try:
        return key, tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return key, value


def read(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of a recipe file with overrides applied. Raises ModelError for unreadable files and unknown keys."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"Cannot read the recipe {path}: {error}", f"无法读取配方 {path}：{error}") from error
    for key, value in map(parse_override, overrides):
        if key not in settings and key not in LoopSettings.names():
            known = ", ".join(settings)
            raise ModelError(f"The recipe has no {key!r}; it has: {known}.", f"配方中没有 {key!r}；只有：{known}。")
        settings[key] = value
    return settings


def run(path: Path, overrides: Sequence[str] = ()) -> Path:
    """Train one stage; returns the folder of its results."""
    settings = read(path, overrides)
    name = settings.pop("stage")
    if name not in STAGES:
        raise ModelError(f"No training stage {name!r}.", f"没有名为 {name!r} 的训练阶段。")
    module, _, attribute = STAGES[name].partition(":")
    loop = LoopSettings(**{key: settings.pop(key) for key in LoopSettings.names() if key in settings})
    stage: Stage = getattr(importlib.import_module(module), attribute)(**settings)
    return train(stage, loop)
