"""The one place that asks which device and which number format there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huayu.errors import ModelError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")
_SHORT = {"fp32": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The named device, or the best there is: CUDA, then Apple's MPS, then the CPU. Raises ModelError."""
    import torch

    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as problem:
        raise ModelError(
            f"There is no device called {name!r}; try cpu or cuda.", f"没有名为 {name!r} 的设备；可用 cpu 或 cuda。"
        ) from problem
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise ModelError(f"This machine has no device {device}.", f"本机没有设备 {device}。")
    return device


def pick_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The named number format, or the device's usual one: float32 on the CPU, else float16. Raises ModelError."""
    import torch

    if isinstance(name, torch.dtype):
        return name
    if name is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    full = _SHORT.get(name, name)
    if full not in DTYPES:
        known = ", ".join(DTYPES)
        raise ModelError(
            f"There is no number format {name!r}; known: {known}.", f"没有数据格式 {name!r}；可用：{known}。"
        )
    dtype: torch.dtype = getattr(torch, full)
    return dtype
