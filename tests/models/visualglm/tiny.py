"""A tiny VisualGLM whose pictures matter, with the vocabulary of the recorded cases."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from huayu.models.chatglm import ChatGLMTokenizer
from huayu.models.visualglm import (
    VisualGLMConfig,
    VisualGLMForConditionalGeneration,
    VisualGLMImageProcessor,
    VisualGLMProcessor,
)
from tests.models.chatglm.tiny import spread

VOCABULARY = Path(__file__).parents[2] / "golden" / "visualglm" / "tiny_text.model"
ROWS, QUERIES, SIDE = 1044, 4, 28


def config(**changes):
    text = {
        "vocab_size": ROWS + 4,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "inner_hidden_size": 48,
        "max_sequence_length": 128,
        "bos_token_id": 704,
        "eos_token_id": 705,
        "mask_token_id": 700,
        "gmask_token_id": 701,
    }
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    qformer = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 2}
    return VisualGLMConfig(
        text_config={**text, **changes},
        vision_config={**vision, "image_size": SIDE, "patch_size": 7},
        qformer_config={**qformer, "encoder_hidden_size": 16},
        image_length=QUERIES,
    )


def model(**changes):
    return spread(VisualGLMForConditionalGeneration(config(**changes)))


def processor():
    return VisualGLMProcessor(VisualGLMImageProcessor(SIDE), ChatGLMTokenizer(str(VOCABULARY)), QUERIES)


def pictures():
    red = Image.new("RGB", (30, 40), "red")
    red.paste("white", (0, 0, 15, 40))
    return [red, Image.linear_gradient("L").convert("RGB")]
