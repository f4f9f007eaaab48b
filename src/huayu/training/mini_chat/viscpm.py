"""VisCPM-Chat at the size of huayu-chat-mini: CPM-Bee of 3.6 M parameters, BEiT-3 of 128 pixels with a stem."""

# B rows, N pictures, Q queries, S side in pixels, T tokens, P patches, D width, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data import mini_vocabulary
from huayu.data.dialogues import Turn
from huayu.data.scenes import GRID as PATCH_GRID
from huayu.models.beit3 import Beit3Config, Beit3Model
from huayu.models.cpm_bee import (
    BeeVocabulary,
    CpmBeeConfig,
    CpmBeeForCausalLM,
    CpmBeeTokenizer,
    PackedItem,
    collate,
    pack,
)
from huayu.models.viscpm_chat import (
    VisCPMChatConfig,
    VisCPMChatForConditionalGeneration,
    VisCPMChatProcessor,
    VisCPMImageProcessor,
)
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import EYE_WIDTH, NUM_CLASSES, NUM_QUERIES, SIZE, WORD_WIDTH

# Scaled linears and embeddings have unit variance and are divided by sqrt(width) when used, so their steps are larger.
SCALED_RATE = 16.0
# Blocks must not drown the embeddings, which start small; but what a token attends to must be heard. Of the answers
# 34 % were exact after 750 steps; with attention as quiet as the rest 18 %.
QUIET, LOUD = 0.2, 0.5


class Eye(nn.Module):
    """What of the chat model makes queries of pictures."""

    def __init__(self) -> None:
        super().__init__()
        config = vision_config()
        self.vision_encoder = Beit3Model(config)
        self.query_tokens = nn.Parameter(torch.randn(NUM_QUERIES, config.hidden_size) * 0.02)


class VisCPM:
    """See :class:`huayu.training.mini_chat.families.Family`."""

    linear_projector = False
    most_pictures = 2

    def __init__(self, vocabulary: str, layers: int) -> None:
        self.file, self.layers = Path(vocabulary), layers

    @cached_property
    def vocabulary(self) -> BeeVocabulary:
        """Made where there is none."""
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            mini_vocabulary.build(self.file)
        return BeeVocabulary.from_file(self.file)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def words(self) -> list[str]:
        return self.vocabulary.tokens

    def encode(self, text: str) -> list[int]:
        return list(self.vocabulary.encode(text)[0])

    def row(self, turns: Sequence[Turn], last: int, pictures: int) -> PackedItem:
        """Source: spec viscpm §2.6, 3.4."""
        slots = "<unk>" * NUM_QUERIES
        image = slots if pictures == 1 else {str(number + 1): slots for number in range(pictures)}
        item = {
            **({"image": image} if pictures else {}),
            "context": "".join(f"User: {turn.question}\nAI: {turn.answer}\n" for turn in turns[:last]),
            "question": turns[last].question,
            "<ans>": turns[last].answer,
        }
        return pack(item, self.vocabulary)

    def collate(self, rows: Sequence[PackedItem]) -> Batch:
        return collate(rows, self.vocabulary, with_labels=True)

    def language_model(self) -> CpmBeeForCausalLM:
        model = CpmBeeForCausalLM(text_config(len(self), self.layers))
        nn.init.zeros_(model.model.position_bias.weight)
        for layer in model.model.layers:
            nn.init.normal_(layer.attention.o_proj.weight, std=LOUD)
            nn.init.normal_(layer.mlp.down_proj.weight, std=QUIET)
        for layer in model.model.layers[:2]:  # like attends to like: a noun to the slot of such a thing
            layer.attention.k_proj.weight.data.copy_(layer.attention.q_proj.weight)
        scale_rates(model)
        return model

    def word_vectors(self, model: CpmBeeForCausalLM) -> Tensor:
        words = model.model.embed_tokens.weight
        return words / words.shape[1] ** 0.5

    def embed(self, model: CpmBeeForCausalLM, ids: Tensor) -> Tensor:
        return model.model.embed(ids, None, None)

    def read(self, model: CpmBeeForCausalLM, embeds: Tensor, rows: Batch, loss_only: bool) -> Any:
        return model(inputs_embeds=embeds, loss_only=loss_only, output_hidden_states=True, **rows)

    def eye(self) -> Eye:
        return Eye()

    def see(self, eye: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        values = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        queries = eye.query_tokens.expand(len(values), -1, -1)
        out = eye.vision_encoder(values, queries, output_hidden_states=True)
        return out.hidden_states[-1][:, 1 : 1 + PATCH_GRID**2], out.last_hidden_state

    def chat(self) -> VisCPMChatForConditionalGeneration:
        config = VisCPMChatConfig(
            text_config=text_config(len(self), self.layers), vision_config=vision_config(), num_query_tokens=NUM_QUERIES
        )
        chat = VisCPMChatForConditionalGeneration(config)
        scale_rates(chat.language_model)
        return chat

    def fit_hidden(self, chat: VisCPMChatForConditionalGeneration, head: nn.Linear) -> nn.Module:
        """The first layer takes the classes, which the eye already tells apart, and random directions for the rest."""
        first = chat.projector.linear_1
        nn.init.normal_(first.weight, std=first.in_features**-0.5)
        nn.init.normal_(first.bias, std=0.5)
        first.weight[:NUM_CLASSES].copy_(head.weight)
        first.bias[:NUM_CLASSES].copy_(head.bias)
        return nn.Sequential(first, _Gelu())

    def last_linear(self, chat: VisCPMChatForConditionalGeneration) -> nn.Linear:
        return chat.projector.linear_2

    def save(self, chat: VisCPMChatForConditionalGeneration, folder: Path) -> None:
        chat.generation_config.update(
            do_sample=False, max_new_tokens=64, pad_token_id=0, bos_token_id=6, eos_token_id=7
        )
        chat.save_pretrained(folder)
        tokenizer = CpmBeeTokenizer(str(self.file))
        VisCPMChatProcessor(VisCPMImageProcessor(SIZE), tokenizer, num_query_tokens=NUM_QUERIES).save_pretrained(folder)


class _Gelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


def scale_rates(model: CpmBeeForCausalLM) -> None:
    """Give the unit-variance matrices their larger learning rate, and the biases, which alone tell word order."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.lr_scale = SCALED_RATE  # type: ignore[attr-defined]


def text_config(vocab_size: int, layers: int) -> CpmBeeConfig:
    """Scaled linears start at unit variance."""
    return CpmBeeConfig(
        vocab_size=vocab_size,
        hidden_size=WORD_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        head_dim=64,
        intermediate_size=640,
        initializer_range=1.0,
    )


def vision_config() -> Beit3Config:
    """An 8×8 grid of patches."""
    return Beit3Config(
        image_size=SIZE,
        patch_size=SIZE // PATCH_GRID,
        stem_channels=[32, 64, 128],
        stem_depth=2,
        hidden_size=EYE_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=512,
        max_query_positions=NUM_QUERIES + 2,
        text_vocab_size=1,
    )
