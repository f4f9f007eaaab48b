"""Tiny models with random weights that all matter, a vocabulary of their own, and prompts that are hard on batching."""

from __future__ import annotations

import torch

from huayu.models.beit3 import Beit3Config
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeConfig, CpmBeeForCausalLM
from huayu.models.viscpm_chat import VisCPMChatConfig, VisCPMChatForConditionalGeneration

SPECIAL = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
LINES = [*SPECIAL, "question", "context", "image", "1", "2", *"abcdef猫狗是？", "<", ">", "ab", "abc", "猫狗"]
EOS, SIDE, QUERIES = 7, 32, 4
# No picture, one, two; each with another length and other words of its own (龘, 齉, 齾 are no tokens).
ROWS = [(0, "", "a是b？"), (1, "龘a齉", "b龘c齾是猫齉"), (2, "ab" * 9, "齉猫狗龘")]


def vocabulary():
    return BeeVocabulary(LINES)


def text_config(**changes):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 12}
    return CpmBeeConfig(**{"vocab_size": len(LINES), "intermediate_size": 48, **sizes, **changes})


def vision_config(**changes):
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return Beit3Config(**{"image_size": SIDE, "patch_size": 8, "max_query_positions": 8, **sizes, **changes})


def spread(model, seed=0):
    """Every parameter, norms and biases too, random and large enough to matter, attention far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                noise = 1 + 0.2 * noise
            elif "q_proj" in name or "k_proj" in name:
                noise *= 2.0
            elif name.endswith("bias"):
                noise *= 0.2
            published_scale = "language_model" in name or isinstance(model, CpmBeeForCausalLM)
            if not published_scale and parameter.dim() > 1:  # else the model itself divides by sqrt(fan-in)
                noise *= parameter[0].numel() ** -0.5
            parameter.copy_(noise)
    return model.eval()


def language(seed=0, **changes):
    return spread(CpmBeeForCausalLM(text_config(**changes)), seed)


def chat(seed=0, vision=None, **changes):
    text, eye = text_config(**changes), vision_config(**(vision or {}))
    config = VisCPMChatConfig(text_config=text, vision_config=eye, num_query_tokens=QUERIES)
    return spread(VisCPMChatForConditionalGeneration(config), seed)


def pictures(*shape, seed=0):
    """(…, 3, S, S) in [-1, 1]."""
    return torch.rand(*shape, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def grown(inputs, tokens):
    """Inputs of the model with the answer's next ``tokens`` (B, n) appended, and all that is known of each token."""
    rows, count = tokens.shape
    inputs = {**inputs, "input_ids": torch.cat([inputs["input_ids"], tokens], 1)}
    for name, new in {"token_subscripts": 0, "image_token_index": -1, "attention_mask": 1, "is_context": 0}.items():
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.full((rows, count), new)], 1)
    for name in ("segment_ids", "num_segments"):
        inputs[name] = torch.cat([inputs[name], inputs[name][:, -1:].repeat(1, count)], 1)
    positions = inputs["position_ids"]
    inputs["position_ids"] = torch.cat([positions, positions[:, -1:] + torch.arange(1, count + 1)], 1)
    return inputs


def later(inputs, start, end):
    """What a model that has cached tokens up to ``start`` is given for those up to ``end``."""
    new = {name: inputs[name][:, start:end] for name in ("input_ids", "token_subscripts") if name in inputs}
    names = ("attention_mask", "is_context", "segment_ids", "num_segments", "position_ids")
    tables = {name: inputs[name] for name in ("segment_rel", "request_vocab") if name in inputs}
    return {**new, **{name: inputs[name][:, :end] for name in names if name in inputs}, **tables}
