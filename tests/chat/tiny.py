"""A tiny VisCPM-Chat with random weights and a vocabulary of its own, saved as an ordinary folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from huayu.models.beit3 import Beit3Config
from huayu.models.cpm_bee import CpmBeeConfig
from huayu.models.viscpm_chat import VisCPMChatConfig, VisCPMChatForConditionalGeneration, published

SPECIAL = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
WORDS = ["question", "context", "image", "User", "AI", " a", " the", "1", "2"]
LETTERS = "abcdefghijklmnopqrstuvwxyzWIATPD.,:?!<>。，？：图里有什么这是一个红苹果蓝天空颜色的猫狗回答请用中文"
SPREAD, EMBEDDING_SPREAD = 2.0, 0.7
LINES = [*SPECIAL, *WORDS, *dict.fromkeys(LETTERS)]


def save_tiny_chat(folder: Path, seed: int = 1, generation: dict | None = None) -> Path:
    """Write it; ``generation`` goes into generation_config.json. Pictures are 32 × 32 and become 4 tokens."""
    torch.manual_seed(seed)
    config = VisCPMChatConfig(
        text_config=CpmBeeConfig(
            vocab_size=len(LINES),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            head_dim=16,
            intermediate_size=48,
        ),
        vision_config=Beit3Config(
            image_size=32,
            patch_size=16,
            hidden_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_query_positions=8,
        ),
        num_query_tokens=4,
    )
    model = VisCPMChatForConditionalGeneration(config).eval()
    with torch.no_grad():  # far from each other in what they say: a freshly made model repeats one token
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=SPREAD)
        model.language_model.model.embed_tokens.weight.normal_(std=EMBEDDING_SPREAD)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(LINES), encoding="utf-8", newline="\n")
    model.save_pretrained(folder)
    published.processor(config, folder / "vocab.txt").save_pretrained(folder)
    settings = {"eos_token_id": 7, "bos_token_id": 6, "pad_token_id": 0, "max_new_tokens": 12, **(generation or {})}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
