"""From a state dict under the published names to a configuration: the sizes are read off the shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huayu.models.beit3.configuration import Beit3Config
from huayu.models.cpm_bee.checkpoint import numbered, text_config
from huayu.models.cpm_bee.configuration import CpmBeeConfig
from huayu.models.viscpm_chat.configuration import VisCPMChatConfig

_VISION_HEAD_DIM = 64  # of BEiT-3 in every size; the number of heads leaves no trace in the shapes

MODEL = "VisCPMChatForConditionalGeneration"

Shapes = Mapping[str, tuple[int, ...]]


def configure(shapes: Shapes, settings: Mapping[str, Any] | None = None) -> VisCPMChatConfig:
    """The configuration of a checkpoint with these published names and shapes.

    ``settings``: what a json file beside it says, if anything: CPM-Bee's own names (``dim_model``, …), or those under
    ``llm`` and torchscale's under ``beit3``. It decides what shapes cannot tell. Raises KeyError for an absent key.
    Source: spec viscpm §1.1, 3.1, 7.1.
    """
    settings = settings or {}
    text = settings.get("llm") or (settings if "dim_model" in settings else None)
    vision = settings.get("beit3")
    patch = shapes["vpm.beit3.vision_embed.proj.weight"][-1]
    return VisCPMChatConfig(
        text_config=CpmBeeConfig.from_published(dict(text)) if text else text_config(shapes, "llm."),
        vision_config=Beit3Config.from_published({"patch_size": patch, **vision}) if vision else _vision(shapes),
        num_query_tokens=shapes["query"][0],
    )


def processor(config: VisCPMChatConfig, vocabulary: Path) -> Any:
    """The processor of a model with this configuration and vocabulary file."""
    from huayu.models.cpm_bee.tokenization import CpmBeeTokenizer
    from huayu.models.viscpm_chat.processing import VisCPMChatProcessor, VisCPMImageProcessor

    vision: Any = config.vision_config
    pictures = VisCPMImageProcessor(size=vision.image_size)
    return VisCPMChatProcessor(pictures, CpmBeeTokenizer(str(vocabulary)), config.num_query_tokens)


def _vision(shapes: Shapes) -> Beit3Config:
    hidden, _, _, patch = shapes["vpm.beit3.vision_embed.proj.weight"]
    # 2 unused rows, 1 for the class token, the rest is the square of patches.
    side = math.isqrt(shapes["vpm.beit3.encoder.embed_positions.A.weight"][0] - 3)
    layers = numbered(shapes, r"vpm\.beit3\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.A\.weight")
    return Beit3Config(
        image_size=side * patch,
        patch_size=patch,
        hidden_size=hidden,
        num_hidden_layers=len(layers),
        num_attention_heads=max(hidden // _VISION_HEAD_DIM, 1),
        intermediate_size=shapes["vpm.beit3.encoder.layers.0.ffn.A.fc1.weight"][0],
        max_query_positions=shapes["vpm.beit3.encoder.embed_positions.B.weight"][0],
        text_vocab_size=shapes.get("vpm.beit3.text_embed.weight", (0,))[0],
    )
