"""A tiny CPM-Bee with random weights and a vocabulary of its own."""

from __future__ import annotations

import torch

from huayu.models.cpm_bee import BeeVocabulary, CpmBeeConfig, CpmBeeForCausalLM

SPECIAL = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
LINES = [*SPECIAL, "question", "context", "image", *"abcdef猫狗是？"]


def vocabulary():
    return BeeVocabulary(LINES)


def model(seed=0, **sizes):
    torch.manual_seed(seed)
    config = CpmBeeConfig(
        **{
            "vocab_size": len(LINES),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "head_dim": 16,
            "intermediate_size": 48,
            "initializer_range": 0.7,
            **sizes,
        }
    )
    return CpmBeeForCausalLM(config).eval()
