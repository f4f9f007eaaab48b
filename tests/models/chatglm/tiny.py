"""A tiny ChatGLM with random weights that all matter, and prompts that are hard on batching."""

from __future__ import annotations

import torch

from huayu.models.chatglm import ChatGLMConfig, ChatGLMForCausalLM

PAD, MASK, GMASK, BOS, EOS, VOCABULARY = 3, 50, 51, 54, 55, 60
PROMPTS = [[7, 8, 9, GMASK, BOS], [10, MASK, 12, 13, 14, 15, BOS, 20], [21, 22, 23, 24, 25, 26, 27, 28, GMASK, BOS]]


def config(**changes):
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    ids = {"bos_token_id": BOS, "eos_token_id": EOS, "mask_token_id": MASK, "gmask_token_id": GMASK}
    return ChatGLMConfig(**{"inner_hidden_size": 48, **sizes, **ids, **changes})


def spread(model, seed=0):
    """Every parameter random, attention far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                noise = 1 + 0.2 * noise
            elif name.endswith("bias"):
                noise *= 0.2
            elif parameter.dim() > 1:
                noise *= 1.0 if name.endswith(".prefix") else 1.5 * parameter[0].numel() ** -0.5
            parameter.copy_(noise)
    return model.eval()


def language(**changes):
    return spread(ChatGLMForCausalLM(config(**changes)))


def padded(rows, side="left"):
    """Rows of ids → ``input_ids`` and ``attention_mask``."""
    tokens = max(map(len, rows))
    ids, mask = torch.full((len(rows), tokens), PAD), torch.zeros(len(rows), tokens, dtype=torch.long)
    for n, row in enumerate(rows):
        part = slice(tokens - len(row), None) if side == "left" else slice(len(row))
        ids[n, part], mask[n, part] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}
