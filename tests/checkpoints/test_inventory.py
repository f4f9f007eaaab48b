"""The 10B model on the meta device against the inventory of the published file: every key, every shape, both ways."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.synthetic import ChatSizes, chat_shapes
from huayu.checkpoints.opening import build
from huayu.checkpoints.report import account
from huayu.models import viscpm_chat
from huayu.models.viscpm_chat.published import configure

FIXTURE = Path(__file__).parents[1] / "fixtures" / "viscpm-chat.keys.json.gz"
DROPPED = {
    "vpm.beit3.text_embed.weight",
    "vpm.beit3.vision_embed.mask_token",
    "vpm.mim_head.weight",
    "vpm.mim_head.bias",
}


@pytest.fixture(scope="module")
def inventory() -> dict[str, tuple[int, ...]]:
    """Published name → shape. Source: spec viscpm §7.1."""
    with gzip.open(FIXTURE, "rt", encoding="utf-8") as file:
        return {name: tuple(shape) for name, shape in json.load(file).items()}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """The published 10B model, without memory for it."""
    settings = viscpm_chat.PUBLISHED_CONFIG
    return build(viscpm_chat, "VisCPMChatForConditionalGeneration", viscpm_chat.VisCPMChatConfig(**settings))


def test_the_inventory_is_the_published_one(inventory: dict[str, tuple[int, ...]]) -> None:
    assert len(inventory) == 1413
    assert sum(map(math.prod, inventory.values())) == 10_318_225_408
    assert chat_shapes(ChatSizes()) == inventory  # the maker of synthetic files tells the same story


def test_every_published_key_is_accounted_for(inventory: dict[str, tuple[int, ...]], model: nn.Module) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    report = account(expected, inventory, viscpm_chat.KEYMAP)
    assert report.ok, str(report)
    assert set(report.dropped) == DROPPED
    assert all(report.dropped.values())
    assert len(report.loaded) == len(expected) == len(inventory) - len(DROPPED)


def test_every_key_of_ours_has_its_published_name(inventory: dict[str, tuple[int, ...]], model: nn.Module) -> None:
    back = {viscpm_chat.KEYMAP.to_published(name): tuple(t.shape) for name, t in model.state_dict().items()}
    assert back == {name: shape for name, shape in inventory.items() if name not in DROPPED}


def test_the_sizes_are_read_off_the_shapes(inventory: dict[str, tuple[int, ...]]) -> None:
    read, known = configure(inventory), viscpm_chat.VisCPMChatConfig()
    assert read.text_config.to_dict() == known.text_config.to_dict()
    assert read.vision_config.to_dict() == known.vision_config.to_dict()
    assert read.num_query_tokens == known.num_query_tokens


def test_layers_without_attention_are_seen(inventory: dict[str, tuple[int, ...]]) -> None:
    compressed = {
        name: shape
        for name, shape in inventory.items()
        if not name.startswith(("llm.encoder.layers.0.self_att.", "llm.encoder.layers.47.ffn."))
    }
    config = configure(compressed)
    assert config.text_config.mask_modules[0] == [True, False]
    assert config.text_config.mask_modules[47] == [False, True]
    assert config.text_config.mask_modules[1:47] == [[False, False]] * 46
    model = build(viscpm_chat, "VisCPMChatForConditionalGeneration", config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert account(expected, compressed, viscpm_chat.KEYMAP).ok


def test_the_model_takes_no_memory(model: nn.Module) -> None:
    assert {tensor.device for tensor in model.state_dict().values()} == {torch.device("meta")}
