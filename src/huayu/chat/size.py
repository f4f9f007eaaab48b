"""Larger pictures than a model was trained on: its position table is interpolated."""

from __future__ import annotations

from typing import Any

from huayu.errors import ModelError, OptionError

LARGEST = 1344


def set_image_size(backend: Any, side: int) -> None:
    """From now on ``backend`` (of a family of ours) reads pictures as ``side`` × ``side`` pixels.

    Raises OptionError when its patches do not fill that; ModelError for a model of another library, which has a way
    of its own.
    """
    config = backend.model.config.vision_config
    pictures: Any = getattr(backend.processor, "image_processor", None)
    if not isinstance(getattr(pictures, "size", None), int):
        raise ModelError(
            f"{backend.name} scales pictures in its own way: image_size has no effect on it.",
            f"{backend.name} 自行缩放图片：image_size 对它无效。",
        )
    patch = int(config.patch_size)
    if side % patch or not patch <= side <= LARGEST:
        raise OptionError(
            f"image_size must be a multiple of {patch}, at most {LARGEST}, not {side}.",
            f"image_size 应为 {patch} 的倍数且不超过 {LARGEST}，而不是 {side}。",
        )
    pictures.size = side
    if hasattr(config, "interpolate_positions"):  # BEiT-3 refuses another size without it
        config.interpolate_positions = True
        backend.model.vision_encoder.config.interpolate_positions = True
