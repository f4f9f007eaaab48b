"""The published VisCPM-Chat file: its names, its configuration. Source: spec viscpm §1.1, 3.1, 7.1."""

from __future__ import annotations

from typing import Any

from huayu.checkpoints.keymap import KeyMap
from huayu.models.beit3.checkpoint import KEYMAP as BEIT3_KEYMAP
from huayu.models.cpm_bee.checkpoint import KEYMAP as CPM_BEE_KEYMAP

KEYMAP = (
    KeyMap.of(
        [
            ("query", "query_tokens"),
            ("mapping.0.weight", "projector.linear_1.weight"),
            ("mapping.0.bias", "projector.linear_1.bias"),
            ("mapping.2.weight", "projector.linear_2.weight"),
            ("mapping.2.bias", "projector.linear_2.bias"),
        ]
    )
    + BEIT3_KEYMAP.prefixed("vpm.", "vision_encoder.")
    + CPM_BEE_KEYMAP.prefixed("llm.", "language_model.")
)

# The published 10B model is exactly the classes' defaults; a config.json beside the file overrides the text part.
PUBLISHED_CONFIG: dict[str, Any] = {"text_config": {}, "vision_config": {}, "num_query_tokens": 64}
# Presence of these published keys tells the family.
SIGNATURE = ("query", "vpm.beit3.vision_embed.cls_token", "llm.input_embedding.weight")
# Settings of the published chat(). Source: spec viscpm §3.4.
PUBLISHED_GENERATION: dict[str, Any] = {
    "num_beams": 3,
    "max_new_tokens": 512,
    "temperature": 0.7,
    "repetition_penalty": 1.1,
    "length_penalty": 3.0,
}
MAX_PROMPT_TOKENS = 3000
