"""What must be found in a scene before one can speak of it, as losses that exist only in training.

At each slot: which thing in order it shows, and whether that thing is the outermost to a side. At each noun of a
question: the slots where such a thing is. At each word of an answer: the slots of the thing that is named next; and
before its first word, which thing was asked about, whether it is there at all, and the whole's colour and art style.
Of two pictures: at each slot, of which it is; before the answer, whether the thing is there, the colour and the number
of things, of each. Yes and no, sides and lists are then a matter of words; from answers alone a small model finds these
late, by chance.
"""

# B rows, T tokens, S slots, C classes, D width

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data import world
from huayu.data.answers import SIDES
from huayu.data.layouts import MOST_THINGS, Scene, extreme
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import NUM_BACKGROUNDS, NUM_CLASSES, NUM_QUERIES, NUM_SLOTS, NUM_STYLES
from huayu.training.mini_chat.families import Family
from huayu.training.mini_chat.rows import style_ids

SHOWN = 0.12  # share of a slot from which on it shows a thing
LABELS = ("mention", "naming", "asked", "first", "pictures_shown", "order", "sides", "shares", "ground", "count", "art")
IGNORED = -100


class ReadingHeads(nn.Module):
    """Linear readings of the states after half of the blocks; for the answers, of those before the last block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.order = nn.Linear(width, MOST_THINGS)
        self.sides = nn.Linear(width, len(SIDES))
        self.cells = nn.Linear(width, NUM_SLOTS)
        self.next = nn.Linear(width, NUM_SLOTS)
        self.there = nn.Linear(width, 1)
        self.which = nn.Linear(width, NUM_CLASSES)
        self.ground = nn.Linear(width, NUM_BACKGROUNDS)
        self.art = nn.Linear(width, NUM_STYLES)
        self.nth = nn.Linear(width, 2)
        self.each = nn.Linear(width, 2 * (1 + NUM_BACKGROUNDS + MOST_THINGS))

    def losses(self, states: Sequence[Tensor], index: Tensor, labels: Batch) -> dict[str, Tensor]:
        """``states``: of the embeddings and each block (B, T, D); ``index`` (B, T): the slot of a token, else -1."""
        middle, late = (F.rms_norm(states[i].float(), states[i].shape[-1:]) for i in (len(states) // 2, -2))
        seen, shares = labels["pictures_shown"] == 1, labels["shares"][:, 0]
        is_slot = (index >= 0) & (index < NUM_SLOTS) & seen[:, None]
        slots = middle[is_slot].view(-1, NUM_SLOTS, middle.shape[-1])
        order, sides = labels["order"][seen], labels["sides"][seen]
        shown = order != IGNORED
        return {
            "order": _mean(F.cross_entropy(self.order(slots)[shown], order[shown], reduction="none")),
            "sides": _mean(_binary(self.sides(slots)[shown], sides[shown])),
            "cells": self._where(self.cells, middle, labels["mention"], shares, seen),
            "next": self._where(self.next, late, labels["naming"], shares, seen),
            "there": self._whether(late, labels["asked"], shares, seen),
            "which": self._which(late, labels["asked"]),
            "whole": self._whole(late, labels, seen),
            "two": self._two(middle, late, index, labels),
        }

    def _whole(self, states: Tensor, labels: Batch, seen: Tensor) -> Tensor:
        """Loss of the background and the art style, before an answer's first word."""
        begun = states[seen, labels["first"][seen]]
        pairs = ((self.ground, labels["ground"][:, 0]), (self.art, labels["art"]))
        return sum(_mean(F.cross_entropy(head(begun), true[seen], reduction="none")) for head, true in pairs)  # type: ignore[return-value]

    def _two(self, middle: Tensor, late: Tensor, index: Tensor, labels: Batch) -> Tensor:
        """Loss of what must be told apart where two pictures are shown."""
        two = labels["pictures_shown"] == 2
        slots = (index >= 0) & two[:, None]
        which = F.cross_entropy(self.nth(middle[slots]), index[slots] // NUM_QUERIES, reduction="none")
        row, first = two.nonzero()[:, 0], labels["first"][two]
        told = self.each(late[row, first]).unflatten(1, (2, -1))
        there, ground, count = told.split([1, NUM_BACKGROUNDS, MOST_THINGS], dim=2)
        asked = labels["asked"][row, first]
        present = (labels["shares"][row, :, :, asked] > SHOWN).any(2).float()
        losses = (
            which,
            _binary(there[..., 0], present)[asked > 0],
            F.cross_entropy(ground.flatten(0, 1), labels["ground"][two].flatten(), reduction="none"),
            F.cross_entropy(count.flatten(0, 1), labels["count"][two].flatten(), reduction="none"),
        )
        return sum(map(_mean, losses))  # type: ignore[return-value]

    def _whether(self, states: Tensor, asked: Tensor, shares: Tensor, seen: Tensor) -> Tensor:
        """Loss of whether any slot shows what was asked about: ``asked`` (B, T) classes, 0 for none."""
        row, column = ((asked > 0) & seen[:, None]).nonzero(as_tuple=True)
        there = (shares[row, :, asked[row, column]] > SHOWN).any(1)
        return _mean(_binary(self.there(states[row, column])[:, 0], there.float()))

    def _which(self, states: Tensor, asked: Tensor) -> Tensor:
        """Loss of what was asked about: ``asked`` (B, T) classes, 0 for none."""
        named = asked > 0
        return _mean(F.cross_entropy(self.which(states[named]), asked[named], reduction="none"))

    def _where(self, head: nn.Linear, states: Tensor, named: Tensor, shares: Tensor, seen: Tensor) -> Tensor:
        """Loss of the slots that show what each token names: ``named`` (B, T) classes, 0 for none."""
        row, column = ((named > 0) & seen[:, None]).nonzero(as_tuple=True)
        there = shares[row, :, named[row, column]] > SHOWN
        return _mean(_binary(head(states[row, column]), there.float()))


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _mean(losses: Tensor) -> Tensor:
    """The mean, zero where there is nothing."""
    return losses.sum() / max(losses.numel(), 1)


class Nouns:
    """Which thing a token names: its name is that token, or ends with the token before and it, as no other's does."""

    def __init__(self, family: Family) -> None:
        self.single = torch.zeros(len(family), dtype=torch.long)
        pairs: dict[int, int] = {}
        for number, concept in enumerate(world.CONCEPTS, 1):
            english = (" " + name for name in (concept.en, *concept.aliases_en))
            for name in (*english, concept.zh, *concept.aliases_zh):
                ids = family.encode(name)
                if len(ids) == 1:
                    self.single[ids[0]] = number
                else:
                    key = ids[-2] * len(family) + ids[-1]
                    pairs[key] = number if pairs.get(key, number) == number else 0
        self.keys, self.values = (torch.tensor(column) for column in zip(*sorted(pairs.items()), strict=True))

    def __call__(self, ids: Tensor) -> Tensor:
        """Ids (B, T) → classes (B, T), 0 for none; what is no id (negative, or a picture's) names nothing."""
        size = len(self.single)
        known = torch.where((ids >= 0) & (ids < size), ids, 0)
        before = F.pad(known[:, :-1], (1, 0))
        key = before * size + known
        at = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[at] == key, self.values[at], self.single[known])


def words_about_things(rows: Batch, named: Nouns, stranger: Tensor) -> Batch:
    """(B, T) each: ``mention``, the class that a token of the context names; ``naming``, the class that an answer names
    next at this token; ``asked``, at an answer's first token, the class that the context named last. 0 for none.

    And ``first`` (B,), where that token is. ``stranger`` (V,) tells the words that only things without a name have.
    """
    classes = named(rows["input_ids"]) * rows["is_context"].long()
    labels = rows["labels"].clamp(min=0, max=len(stranger) - 1)
    said = torch.where(stranger[labels], NUM_CLASSES - 1, named(rows["labels"])) * (rows["labels"] != IGNORED)
    naming, following = torch.zeros_like(said), torch.zeros_like(said[:, 0])
    for column in range(said.shape[1] - 1, -1, -1):
        following = torch.where(said[:, column] > 0, said[:, column], following)
        following = following * (rows["labels"][:, column] != IGNORED)
        naming[:, column] = following
    columns = torch.arange(1, classes.shape[1] + 1)
    last = (classes.sign() * columns).argmax(1, keepdim=True)
    first = (rows["labels"] != IGNORED).long().argmax(1, keepdim=True)
    asked = torch.zeros_like(classes).scatter(1, first, classes.gather(1, last))
    return {"mention": classes, "naming": naming, "asked": asked, "first": first[:, 0]}


def strangers(family: Family) -> Tensor:
    """(V,) bool: the tokens of an answer that speak of a thing without a name."""
    unnamed = torch.zeros(len(family), dtype=torch.bool)
    unnamed[[family.encode(" know")[-1], family.encode("认")[-1]]] = True
    return unnamed


def reading_labels(scenes: Sequence[Scene], shares: Sequence[np.ndarray], about: Sequence[Sequence[int]]) -> Batch:
    """For rows ``about`` none, one or two of the scenes, by number, with true slots (S, C) each.

    How many are shown (B,); shares (B, 2, S, C), ground and count less one (B, 2) of each; of the first order (B, S),
    sides (B, S, 4) and art (B,).
    """
    order = np.full((len(scenes), NUM_SLOTS), IGNORED)
    sides = np.zeros((len(scenes), NUM_SLOTS, len(SIDES)), np.float32)
    for i, (scene, slots) in enumerate(zip(scenes, shares, strict=True)):
        outermost = [extreme(scene, side) for side in SIDES]
        for number, thing in enumerate(scene.things):
            column = thing.concept + 1 if thing.concept >= 0 else slots.shape[1] - 1
            cells = (slots[:, column] > SHOWN) & (slots[:, 1:].argmax(1) == column - 1)
            order[i, cells] = number
            sides[i, cells] = [thing == other for other in outermost]
    two = numbers(about)
    first = two[:, 0]
    return {
        "pictures_shown": torch.tensor([len(row) for row in about]),
        "shares": torch.from_numpy(np.stack(shares))[two],
        "ground": torch.tensor([scene.background for scene in scenes])[two],
        "count": torch.tensor([len(scene.things) - 1 for scene in scenes])[two],
        "order": torch.from_numpy(order)[first],
        "sides": torch.from_numpy(sides)[first],
        "art": style_ids(scenes)[first],
    }


def numbers(about: Sequence[Sequence[int]]) -> Tensor:
    """(B, 2): the pictures of each row, of which it has none, one or two; the rest is never asked for."""
    return torch.tensor([[*row, 0, 0][:2] for row in about])
