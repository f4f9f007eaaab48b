"""A tiny random Chinese-CLIP, as transformers saves it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertTokenizer, ChineseCLIPConfig, ChineseCLIPImageProcessorPil, ChineseCLIPModel

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**SIZES, "image_size": 16, "patch_size": 8}
SQUARE = {"height": 16, "width": 16}


def save_tiny_chinese_clip(folder: Path) -> Path:
    """The folder, with model, vocabulary and picture settings in it."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"一个红苹果蓝天空"]
    text = {**SIZES, "vocab_size": len(words), "max_position_embeddings": 12}
    config = ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
    model = ChineseCLIPModel(config)
    for weights in model.parameters():  # so that pictures and words matter
        torch.nn.init.normal_(weights, std=0.3)
    model.logit_scale.data.fill_(2.0)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    ChineseCLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE).save_pretrained(folder)
    return folder
