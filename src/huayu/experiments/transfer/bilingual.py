"""Stage "language": a bilingual language model from text alone. It never sees a picture, nor a place for one.

Passages tell scenes in words; questions about them are in the same language or in the other; sentences are translated.
``across = False`` is the same text without a bridge: each item is wholly in one language.
"""

# B rows, T tokens

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from huayu.data import answers
from huayu.experiments.transfer.scenes import Facts, SmallWorld
from huayu.experiments.transfer.settings import Setting
from huayu.experiments.transfer.talk import CAPTIONS, LANGUAGES, SAY_IN, SKILLS, Talker, Turn, layout, passage
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeForCausalLM, PackedItem, collate, pack
from huayu.models.cpm_bee.position_bias import SegmentPositionBias
from huayu.training.loop import Batch
from huayu.training.mini_chat.rows import like_lengths
from huayu.training.mini_chat.scoring import right_answers
from huayu.training.mini_chat.viscpm import QUIET, scale_rates

FIELDS = ("input", "prompt", "User")  # where a passage may stand
FAR = 5.0  # of the exponent of attention: too far to be looked at
TRANSLATIONS, BARE = 0.15, 0.05  # shares of the items
SHARES = {"name": 0.8, "background": 1, "count": 0.8, "place": 2.5, "yesno": 3, "category": 1.2, "list": 1.5,
          "describe": 1, "layout": 1}  # fmt: skip


class Item(NamedTuple):
    """A passage in one language (or none) and what is asked about it."""

    field: str
    passage: str
    question: str
    answer: str

    def packed(self, vocabulary: BeeVocabulary) -> PackedItem:
        """The row that the language model reads."""
        return pack({self.field: self.passage, "question": self.question, "<ans>": self.answer}, vocabulary)


def new_model(setting: Setting, vocabulary: BeeVocabulary) -> CpmBeeForCausalLM:
    """A language model at its start: quiet blocks, half of the heads look near them, and like attends to like."""
    model = CpmBeeForCausalLM(setting.text_config(len(vocabulary)))
    _look_near(model.model.position_bias)
    for layer in model.model.layers:  # blocks must not drown the embeddings, which start small
        nn.init.normal_(layer.attention.o_proj.weight, std=QUIET)
        nn.init.normal_(layer.mlp.down_proj.weight, std=QUIET)
    for layer in model.model.layers[:2]:
        layer.attention.k_proj.weight.data.copy_(layer.attention.q_proj.weight)
    scale_rates(model)
    return model


@torch.no_grad()
def _look_near(bias: SegmentPositionBias) -> None:
    """Half of the heads attend to the tokens beside them in their segment, so that what stands together is joined."""
    half = bias.num_buckets // 2
    near = torch.arange(half // 2)
    nn.init.zeros_(bias.weight)
    for head in range(bias.weight.shape[1] // 2):
        bias.weight[:, head] = -FAR
        for side in (0, half):  # keys to the left, and to the right
            bias.weight[side : side + len(near), head] = -(near * 0.5**head).clamp(max=FAR)


class TextStage:
    """Learn to read and to answer in both languages. ``across``: whether the text ever joins the two."""

    def __init__(self, setting: Setting, vocabulary: BeeVocabulary, seed: int, across: bool = True) -> None:
        self.setting, self.vocabulary, self.seed, self.across = setting, vocabulary, seed, across
        self.small = SmallWorld(setting.things)
        self.talker = Talker(self.small.concepts)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return new_model(self.setting, self.vocabulary)

    def item(self, rng: np.random.Generator) -> Item:
        """One text, by chance."""
        facts = self.small.draw(rng)
        told, asked = (LANGUAGES[int(rng.integers(2))] for _ in range(2))
        draw = rng.random()
        field = FIELDS[int(rng.integers(len(FIELDS)))]
        if draw < TRANSLATIONS:
            other = ("zh" if told == "en" else "en") if self.across else told
            say = [answers.everything, lambda c, k: answers.describe(facts.ground, c, k), lambda _, k: layout(facts, k)]
            put = say[int(rng.integers(3))]
            return Item(field, put(facts.concepts, told), SAY_IN[asked if self.across else told, other],
                        put(facts.concepts, other))  # fmt: skip
        if draw < TRANSLATIONS + BARE:
            turn = self.turn(rng, facts._replace(things=facts.things[:1]), asked, {"category": 1})
            return Item(field, answers.name(facts.concepts[:1], asked), turn.question, turn.answer)
        asked = asked if self.across else told
        turn = self.turn(rng, facts, asked, SHARES)
        return Item(field, passage(rng, facts, told), turn.question, turn.answer)

    def turn(self, rng: np.random.Generator, facts: Facts, language: str, shares: Mapping[str, float]) -> Turn:
        """A question that this scene allows."""
        return drawn_turn(rng, self.talker, facts, language, shares)

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        rows = [self.item(rng).packed(self.vocabulary) for _ in range(size)]
        return collate(sorted(rows, key=lambda row: len(row.input_ids)), self.vocabulary, with_labels=True)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        losses = [share * module(**part, loss_only=True).loss for part, share in like_lengths(batch)]
        total = torch.stack(losses).sum()
        return total, {"answer": total}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Exact answers on scenes with new pairs, by skill, and by the languages of passage and question."""
        figures: dict[str, float] = {}
        for told in LANGUAGES:
            for asked in LANGUAGES if self.across else (told,):
                rng = np.random.default_rng(77)
                right: dict[str, float] = {}
                for skill in (*SKILLS, *CAPTIONS):
                    items = [self._probe(rng, skill, told, asked) for _ in range(min(32, 4 * self.setting.questions))]
                    batch = collate([i.packed(self.vocabulary) for i in items], self.vocabulary, with_labels=True)
                    right[skill] = float(right_answers(module(**batch).logits, batch["labels"]).float().mean())
                figures[f"{told}→{asked}"] = sum(right.values()) / len(right)
                figures |= {f"{told}→{asked}/{skill}": value for skill, value in right.items()}
        return figures

    def _probe(self, rng: np.random.Generator, skill: str, told: str, asked: str) -> Item:
        while True:
            facts = self.small.draw(rng, held=True)
            turn = self.talker.turn(rng, facts, skill, asked)
            if turn is not None:
                return Item(FIELDS[0], passage(rng, facts, told), turn.question, turn.answer)

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "language.pt")


def drawn_turn(
    rng: np.random.Generator, talker: Talker, facts: Facts, language: str, shares: Mapping[str, float]
) -> Turn:
    """A question about the scene with a skill drawn by its share among those that it allows."""
    names: Sequence[str] = list(shares)
    weights = np.array(list(shares.values()))
    while True:
        turn = talker.turn(rng, facts, names[int(rng.choice(len(names), p=weights / weights.sum()))], language)
        if turn is not None:
            return turn
