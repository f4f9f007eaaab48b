"""Stages "pairs" and "instruct": the eye is joined to the language model by what is said about pictures.

Pairs are pictures with captions; the language model stays as it is. Instructions are questions; all is tuned but the
embedding of patches, as published. Source: spec viscpm §6.
"""

# B rows, N pictures, P patches + 1, Q queries, D width

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from huayu.experiments.transfer.bilingual import SHARES, drawn_turn
from huayu.experiments.transfer.eye import Eye, look
from huayu.experiments.transfer.pool import Pool
from huayu.experiments.transfer.scenes import SmallWorld
from huayu.experiments.transfer.settings import NUM_QUERIES, Setting
from huayu.experiments.transfer.talk import CAPTIONS, Talker, Turn
from huayu.models.cpm_bee import BeeVocabulary, PackedItem, collate, pack
from huayu.models.viscpm_chat import VisCPMChatForConditionalGeneration
from huayu.training.loop import Batch
from huayu.training.mini_chat.rows import like_lengths
from huayu.training.mini_chat.viscpm import scale_rates

CAPTION_SHARES = dict.fromkeys(CAPTIONS, 1.0)
INSTRUCTION_SHARES = {skill: share for skill, share in SHARES.items() if skill not in CAPTIONS}
LANGUAGE_RATE = 0.25  # of the language model while it is tuned, as in the recipe of huayu-chat-mini


class Teller(nn.Module):
    """The chat model, which reads patches that were embedded before."""

    def __init__(self, setting: Setting, vocabulary: BeeVocabulary) -> None:
        super().__init__()
        self.chat = VisCPMChatForConditionalGeneration(setting.chat_config(len(vocabulary)))

    @classmethod
    def from_parts(
        cls, setting: Setting, vocabulary: BeeVocabulary, eye: Eye, language: Mapping[str, Tensor]
    ) -> Teller:
        """An eye that knows class numbers and a language model that knows texts, with nothing learned between them."""
        teller = cls(setting, vocabulary)
        teller.chat.vision_encoder.load_state_dict(eye.encoder.state_dict())
        teller.chat.query_tokens.data.copy_(eye.query_tokens.data)
        teller.chat.language_model.load_state_dict(language)
        projector = teller.chat.projector
        nn.init.normal_(projector.linear_1.weight, std=projector.linear_1.in_features**-0.5)
        nn.init.normal_(projector.linear_2.weight, std=projector.linear_2.in_features**-1)  # as long as words
        return teller

    def see(self, patches: Tensor) -> Tensor:
        """(N, P, D) → what the language model reads (N, Q, D)."""
        chat = self.chat
        return chat.projector(look(chat.vision_encoder, chat.query_tokens, patches.float())[1])

    def forward(self, patches: Tensor, rows: Batch) -> Tensor:
        """The loss of the answers of ``rows``, each about the picture of its number ``picture``."""
        seen = self.see(patches)
        losses = []
        for part, share in like_lengths(rows):
            picture = part.pop("picture")
            losses.append(share * self.chat(image_embeds=seen[picture][:, None], loss_only=True, **part).loss)
        return torch.stack(losses).sum()


def row_of(turn: Turn, vocabulary: BeeVocabulary, *, for_generation: bool = False) -> PackedItem:
    """A question about a picture as the language model reads it."""
    item = {"image": "<unk>" * NUM_QUERIES, "question": turn.question, "<ans>": turn.answer}
    return pack(item, vocabulary, for_generation=for_generation)


class TellStage:
    """Learn to tell of pictures. ``chinese``: share of the rows in Chinese; ``instruct``: questions, not captions."""

    def __init__(
        self, setting: Setting, vocabulary: BeeVocabulary, pool: Pool, start: Teller, seed: int, *, chinese: float,
        instruct: bool,
        language_rate: float = LANGUAGE_RATE,
    ) -> None:  # fmt: skip
        self.vocabulary, self.pool, self.start, self.seed = vocabulary, pool, start, seed
        self.chinese, self.instruct, self.language_rate = chinese, instruct, language_rate
        self.talker = Talker(SmallWorld(setting.things).concepts)
        self.watch: Callable[[Teller], dict[str, float]] = lambda _: {}

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        chat = self.start.chat
        chat.vision_encoder.patch_embedding.requires_grad_(False)
        chat.language_model.requires_grad_(self.instruct)
        scale_rates(chat.language_model)
        for parameter in chat.language_model.parameters():
            parameter.lr_scale = getattr(parameter, "lr_scale", 1.0) * self.language_rate  # type: ignore[attr-defined]
        return self.start

    def turns(self, index: int, size: int) -> tuple[list[int], list[Turn]]:
        """The pictures of batch ``index`` and what is said about them."""
        return self._turns(np.random.default_rng([self.seed, index, self.instruct]), size)

    def _turns(self, rng: np.random.Generator, size: int) -> tuple[list[int], list[Turn]]:
        shares = INSTRUCTION_SHARES if self.instruct else CAPTION_SHARES
        numbers = rng.integers(len(self.pool.scenes), size=size).tolist()
        languages = ["zh" if rng.random() < self.chinese else "en" for _ in numbers]
        turns = [
            drawn_turn(rng, self.talker, self.pool.scenes[number], language, shares)
            for number, language in zip(numbers, languages, strict=True)
        ]
        return numbers, turns

    def batch(self, index: int, size: int) -> Batch:
        return self._batch(np.random.default_rng([self.seed, index, self.instruct]), size)

    def _batch(self, rng: np.random.Generator, size: int) -> Batch:
        numbers, turns = self._turns(rng, size)
        rows = [row_of(turn, self.vocabulary) for turn in turns]
        order = sorted(range(size), key=lambda i: len(rows[i].input_ids))
        return {
            **collate([rows[i] for i in order], self.vocabulary, with_labels=True),
            "picture": torch.arange(size),
            "patches": self.pool.patches[[numbers[i] for i in order]],
        }

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        rows = {name: value for name, value in batch.items() if name != "patches"}
        loss = module(batch["patches"], rows)
        return loss, {"answer": loss}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """What :attr:`watch` finds."""
        return self.watch(module)

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "teller.pt")
