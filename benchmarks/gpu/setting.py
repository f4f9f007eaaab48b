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

# Sizes of the vision tower that are not the library's defaults.
GLM_FULL = Scale(
    {"vision_config": {"num_hidden_layers": 39, "hidden_size": 1408, "num_attention_heads": 16,
                       "intermediate_size": 6144, "image_size": 224, "patch_size": 14},
     "qformer_config": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                        "intermediate_size": 3072, "encoder_hidden_size": 1408}},
    batches=(1, 4, 16),
)  # fmt: skip
GLM_TINY = Scale(
    {"text_config": {"vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "inner_hidden_size": 128, "mask_token_id": 120, "gmask_token_id": 121, "bos_token_id": 124,
                     "eos_token_id": 125},
     "vision_config": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 28, "patch_size": 7},
     "qformer_config": {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
                        "encoder_hidden_size": 16},
     "image_length": 4},
    prompts=(24, 40), prompt=24, batches=(1, 3), steps=4, rounds=2, copied_bytes=1 << 20,
)  # fmt: skip


def build(config: dict[str, Any], device: torch.device) -> Any:
    """A VisCPM-Chat of this configuration on the device, in bf16, with random weights."""
    with torch.device("meta"):
        model = VisCPMChatForConditionalGeneration(VisCPMChatConfig(**config))
    return fill(model, device)


@torch.no_grad()
def fill(model: Any, device: torch.device) -> Any:
    """A model that is on the meta device, on this one, in bf16, with random weights."""
    model = model.to(torch.bfloat16).to_empty(device=device).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(float(name.endswith("weight")))
        else:
            parameter.normal_(std=0.02)
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
