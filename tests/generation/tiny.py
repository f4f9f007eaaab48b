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
            **sizes,
        }
    )
    model = CpmBeeForCausalLM(config).eval()
    with torch.no_grad():  # a freshly made model repeats one token
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=2.0)
        model.model.embed_tokens.weight.normal_(std=0.7)
    return model
