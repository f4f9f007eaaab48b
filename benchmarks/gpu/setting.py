"""What is measured on a GPU: the published shape and a tiny one, made of random weights on the device."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from huayu.models.viscpm_chat import VisCPMChatConfig, VisCPMChatForConditionalGeneration


@dataclass(frozen=True)
class Scale:
    """What is measured."""

    config: dict[str, Any]
    prompts: tuple[int, ...] = (128, 1024)
    prompt: int = 128
    batches: tuple[int, ...] = (1, 4, 16, 64)
    steps: int = 32
    rounds: int = 3
    copied_bytes: int = 4 << 30


FULL = Scale({})
TINY = Scale(
    {
        "text_config": {"vocab_size": 150, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                        "head_dim": 16, "intermediate_size": 48},
        "vision_config": {"image_size": 32, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
                          "intermediate_size": 32, "max_query_positions": 8, "text_vocab_size": 4},
        "num_query_tokens": 4,
    },
    prompts=(24, 40), prompt=24, batches=(1, 3), steps=4, rounds=2, copied_bytes=1 << 20,
)  # fmt: skip


@torch.no_grad()
def build(config: dict[str, Any], device: torch.device) -> Any:
    """A VisCPM-Chat of this configuration on the device, in bf16, with random weights."""
    with torch.device("meta"):
        model = VisCPMChatForConditionalGeneration(VisCPMChatConfig(**config))
    model = model.to(torch.bfloat16).to_empty(device=device).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(float(name.endswith("weight")))
        else:
            parameter.normal_(std=1.0 if name.startswith("language_model") else 0.02)
    return model


def environment(device: torch.device) -> dict[str, Any]:
    """What it runs on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
