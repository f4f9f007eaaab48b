"""Pictures in and out of a pipeline, and the sizes it paints."""

# N pictures, H W sides in pixels

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from huayu.errors import ImageError


def check_size(width: int, height: int, multiple: int) -> None:
    """ImageError, naming the nearest good size, unless both sides are positive multiples of ``multiple``."""
    if width > 0 and height > 0 and not width % multiple and not height % multiple:
        return
    near = "×".join(str(max(multiple, (side + multiple // 2) // multiple * multiple)) for side in (width, height))
    raise ImageError(
        f"A picture of {width}×{height} cannot be painted: sides are multiples of {multiple}; the nearest is {near}.",
        f"无法绘制 {width}×{height} 的图片：边长须为 {multiple} 的倍数，最接近的是 {near}。",
    )


def check_mask(image: Image.Image | None, mask: Image.Image | None) -> None:
    """ImageError for a mask without a picture, or of another size than its picture."""
    if mask is None or (image is not None and image.size == mask.size):
        return
    if image is None:
        raise ImageError("A mask needs the picture it belongs to.", "蒙版需要与原图一起给出。")
    sizes = [f"{size[0]}×{size[1]}" for size in (mask.size, image.size)]
    raise ImageError(
        f"The mask is {sizes[0]}, but the picture is {sizes[1]}.", f"蒙版是 {sizes[0]}，而图片是 {sizes[1]}。"
    )


def to_pixels(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """RGB picture, resized to ``size`` (W, H) if it has another → (1, 3, H, W) float32 in [-1, 1]."""
    image = image.convert("RGB")
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)


def to_mask(mask: Image.Image, size: tuple[int, int]) -> Tensor:
    """White: paint here → (1, 1, H, W) float32 of 0 and 1."""
    mask = mask.convert("L")
    if mask.size != size:
        mask = mask.resize(size, Image.Resampling.NEAREST)
    return torch.from_numpy((np.asarray(mask) > 127).astype(np.float32)[None, None])


def to_pictures(pixels: Tensor) -> list[Image.Image]:
    """(N, 3, H, W) in [0, 1] → PIL pictures, rounded to the nearest level."""
    levels = (pixels.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in levels]
