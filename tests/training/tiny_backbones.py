"""Tiny vision encoders and language models with random weights, saved as their makers would save them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
_TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
_PLAIN_TEXT = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def _drawn(model: Any, seed: int = 0) -> Any:
    """Larger than libraries begin with, so that each input tells."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15, generator=draw)
    return model


def save_vision(folder: Path, kind: str) -> Path:
    """``siglip`` and ``clip``: dual encoders; ``vit``; ``dinov2``: with register tokens."""
    side = {"height": 32, "width": 32}
    t = transformers
    if kind == "siglip":
        text = t.SiglipTextConfig(**_PLAIN_TEXT, num_attention_heads=2)
        model = t.SiglipModel(t.SiglipConfig(text_config=text, vision_config=t.SiglipVisionConfig(**_VISION)))
        images = t.SiglipImageProcessorPil(size=side)
    elif kind == "clip":
        text = t.CLIPTextConfig(**_PLAIN_TEXT, num_attention_heads=2)
        model = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=t.CLIPVisionConfig(**_VISION)))
        images = t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)
    elif kind == "vit":
        model = t.ViTForImageClassification(t.ViTConfig(**_VISION))  # without the pooler that ViTModel has
        images = t.ViTImageProcessorPil(size=side)
    else:
        model = t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**_VISION, num_register_tokens=4))
        images = t.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)
    _drawn(model).save_pretrained(folder)
    images.save_pretrained(folder)
    return folder


def tokenizer(texts: Sequence[str], size: int = 400, template: str | None = None) -> Any:
    """Byte pairs learnt from ``texts``."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    ends = "<|im_end|>" if template else "<|endoftext|>"
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=ends)
    made.chat_template = template
    return made


def save_language(folder: Path, kind: str, texts: Sequence[str], template: str | None = None, **changes: Any) -> Path:
    """``qwen3`` and ``gpt2`` tie their tables, ``llama`` does not; ``qwen3`` has rows to spare."""
    t, words = transformers, tokenizer(texts, template=template)
    ids = {"eos_token_id": words.eos_token_id, "bos_token_id": None, "pad_token_id": None, **changes}
    if kind == "qwen3":
        config = t.Qwen3Config(
            **_TEXT, vocab_size=len(words) + 16, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
            max_position_embeddings=512, **ids,
        )  # fmt: skip
        model = t.Qwen3ForCausalLM(config)
    elif kind == "llama":
        config = t.LlamaConfig(
            **_TEXT, vocab_size=len(words), num_key_value_heads=4, max_position_embeddings=512, **ids
        )
        model = t.LlamaForCausalLM(config)
    else:
        config = t.GPT2Config(vocab_size=len(words), n_embd=64, n_layer=2, n_head=4, n_positions=512, **ids)
        model = t.GPT2LMHeadModel(config)
    _drawn(model, 1).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
