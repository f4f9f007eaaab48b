"""Sizes of huayu-chat-mini and the grid of slots through which its eye speaks to its language."""

from __future__ import annotations

from pathlib import Path

from huayu.data import world
from huayu.models.beit3 import Beit3Config
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeConfig
from huayu.models.viscpm_chat import VisCPMChatConfig

GRID = 4  # slots a side: query q stands for cell q, the last query for the background
NUM_SLOTS = GRID * GRID
NUM_QUERIES = NUM_SLOTS + 1
NUM_CLASSES = len(world.CONCEPTS) + 2  # nothing, the concepts, something from outside the world
NUM_BACKGROUNDS = len(world.BACKGROUNDS)


def text_config(vocab_size: int) -> CpmBeeConfig:
    """CPM-Bee of 3.6 M parameters; scaled linears start at unit variance."""
    return CpmBeeConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        head_dim=64,
        intermediate_size=640,
        initializer_range=1.0,
    )


def vision_config() -> Beit3Config:
    """BEiT-3 of 128 pixels on an 8×8 grid with a convolutional stem."""
    return Beit3Config(
        image_size=128,
        patch_size=16,
        stem_channels=[32, 64, 128],
        stem_depth=2,
        hidden_size=192,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=512,
        max_query_positions=NUM_QUERIES + 2,
        text_vocab_size=1,
    )


def chat_config(vocab_size: int) -> VisCPMChatConfig:
    """The whole model."""
    return VisCPMChatConfig(
        text_config=text_config(vocab_size), vision_config=vision_config(), num_query_tokens=NUM_QUERIES
    )


def sprites_file(folder: str) -> Path:
    """The packed drawings in ``folder``; packs them when they are not there."""
    from huayu.data import pictograms

    return pictograms.pack(Path(folder))


def vocabulary_of(path: str) -> BeeVocabulary:
    """The vocabulary at ``path``; made there first when there is none."""
    from huayu.data import mini_vocabulary

    file = Path(path)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        mini_vocabulary.build(file)
    return BeeVocabulary.from_file(file)
