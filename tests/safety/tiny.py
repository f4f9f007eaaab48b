"""The published checks with tiny random weights of their real classes."""

from __future__ import annotations

from pathlib import Path

import torch


def save_tiny_checks(folder: Path) -> Path:
    """Both in a model folder: ``text-security-checker`` and ``safety_checker``."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertTokenizer,
        CLIPConfig,
        CLIPImageProcessorPil,
    )

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"一个红苹果坏"]
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = BertConfig(vocab_size=len(words), max_position_embeddings=12, **sizes)
    BertForSequenceClassification(bert).save_pretrained(folder / "text-security-checker")
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder / "text-security-checker")
    (folder / "text-security-checker" / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    clip = CLIPConfig(vision_config=vision, text_config={**sizes, "vocab_size": 9}, projection_dim=8)
    StableDiffusionSafetyChecker(clip).save_pretrained(folder / "safety_checker")
    square = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=square).save_pretrained(folder / "safety_checker")
    return folder
