"""A tiny Stable Diffusion pipeline of diffusers with random weights and a vocabulary of its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.models.viscpm_paint import tiny

WORDS = [
    "<|startoftext|>",
    "<|endoftext|>",
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"),
]


def pipeline(folder: Path):
    """Pictures of 16 × 16; prompts of at most 12 tokens."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=tiny.WIDTH,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {"text_encoder": CLIPTextModel(config).eval(), "unet": tiny.unet().eval(), "vae": tiny.vae().eval()}
    return StableDiffusionPipeline(
        tokenizer=CLIPTokenizer.from_pretrained(folder, model_max_length=12),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )
