"""Stage "language": words about scenes, no pixels. The model reads slots that an ideal eye would give it."""

# B dialogues, S slots, C classes, D width, T tokens

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from huayu.data import world
from huayu.data.art_styles import STYLES
from huayu.data.dialogues import Turn, dialogue
from huayu.data.scenes import Scene, Sprites, draw_scene, oracle_slots
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import (
    GRID,
    NUM_BACKGROUNDS,
    NUM_CLASSES,
    NUM_QUERIES,
    NUM_SLOTS,
    NUM_STYLES,
    WORD_WIDTH,
    sprites_file,
)
from huayu.training.mini_chat.families import Family, open_family
from huayu.training.mini_chat.reading import LABELS, Nouns, ReadingHeads, reading_labels, strangers, words_about_things
from huayu.training.mini_chat.rows import disturb, like_lengths, style_ids
from huayu.training.mini_chat.scoring import right_answers

NAME_SCALE = 2.0  # makes the mean of a few embeddings about as long as one of them
BLIND_SHARE = 0.04  # of dialogues are held without a picture

Sample = tuple[Scene | None, Sequence[Turn], int]  # what is seen, what is said, which turn is asked


class SlotWords(nn.Module):
    """What the language model reads for a cell: the covering things by share, and the cell's place; and for the whole
    its background and art style.

    A thing, a colour, a style is the mean embedding of its names in both languages, and a learned rest: so that what is
    seen resembles what is said, and one rule (say what you see; is what was asked there?) serves all at once.
    """

    def __init__(self, width: int, family: Family) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.randn(NUM_CLASSES, width) * 0.06)
        self.backgrounds = nn.Parameter(torch.randn(NUM_BACKGROUNDS, width) * 0.06)
        self.styles = nn.Parameter(torch.randn(NUM_STYLES, width) * 0.06)
        self.places = nn.Parameter(torch.randn(NUM_QUERIES, width) * 0.06)
        for name, words in names_of(family).items():
            self.register_buffer(f"{name}_names", words)

    def forward(self, slots: Tensor, background: Tensor, style: Tensor, vectors: Tensor) -> Tensor:
        """Fractions (B, S, C), ids of backgrounds and styles (B,), words as the model reads them (V, D) →
        (B, S + 1, D)."""
        things = self.classes + NAME_SCALE * (self.class_names @ vectors)
        grounds = self.backgrounds + NAME_SCALE * (self.background_names @ vectors)
        styles = self.styles + NAME_SCALE * (self.style_names @ vectors)
        whole = grounds[background] + styles[style]
        return torch.cat([slots @ things, whole[:, None]], dim=1) + self.places


def names_of(family: Family) -> dict[str, Tensor]:
    """(…, V) float each: for each class, background and art style, the shares of the tokens of its names."""
    things: list[tuple[str, ...]] = [(), *((concept.en, concept.zh) for concept in world.CONCEPTS), ()]
    tables: dict[str, list[tuple[str, ...]]] = {
        "class": things,
        "background": [(en, zh) for en, zh, _ in world.BACKGROUNDS],
        "style": [(), *((style.en[0], style.zh[0]) for style in STYLES)],
    }
    return {kind: torch.stack([_shares(family, names) for names in table]) for kind, table in tables.items()}


def _shares(family: Family, names: Sequence[str]) -> Tensor:
    """(V,): half of it the tokens of the English name, half those of the Chinese one; zero without names."""
    shares = torch.zeros(len(family))
    for name, before in zip(names, (" ", ""), strict=False):
        ids = family.encode(before + name)
        shares.index_add_(0, torch.tensor(ids), torch.full((len(ids),), 0.5 / len(ids)))
    return shares


class Reader(nn.Module):
    """The language model with its slot words."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family
        self.language_model = family.language_model()
        self.words = SlotWords(WORD_WIDTH, family)
        self.reading = ReadingHeads(WORD_WIDTH)

    def forward(
        self, slots: Tensor, background: Tensor, style: Tensor, loss_only: bool = True, **rows: Tensor
    ) -> tuple[Any, dict[str, Tensor]]:
        """The language model's output for rows whose picture tokens are the slots' words, and losses of reading."""
        seen = self.words(slots, background, style, self.family.word_vectors(self.language_model))
        return tell(self.family, self.language_model, self.reading, seen, rows, loss_only)


def tell(
    family: Family, model: nn.Module, reading: ReadingHeads, seen: Tensor, rows: Batch, loss_only: bool
) -> tuple[Any, dict[str, Tensor]]:
    """The language model's output for rows that read ``seen`` (B, Q, D) in their picture, and losses of reading."""
    rows = dict(rows)
    labels = {name: rows.pop(name) for name in LABELS}
    embeds, index = family.embed(model, rows.pop("input_ids")), rows.pop("image_token_index")
    place = index.clamp(min=0)[..., None].expand(-1, -1, seen.shape[-1])
    embeds = torch.where((index >= 0)[..., None], seen.to(embeds.dtype).gather(1, place), embeds)
    out = family.read(model, embeds, rows, loss_only)
    return out, reading.losses(out.hidden_states, index, labels)


class LanguageStage:
    """Learn to talk in both languages about slots.

    ``data``: folder of the packed drawings (for their outlines); ``start``: an earlier export to go on from;
    ``reading``: weight of the losses of :class:`ReadingHeads` beside that of the answers; ``family``: of
    :data:`huayu.training.mini_chat.families.FAMILIES`; ``things``: how many of the world's, the first ones.
    """

    def __init__(
        self,
        family: str = "viscpm_chat",
        seed: int = 2,
        data: str = ".cache/pictograms",
        vocabulary: str = "runs/mini_chat/vocab.txt",
        start: str = "",
        reading: float = 0.5,
        things: int = len(world.CONCEPTS),
        weights: dict[str, float] | None = None,
    ) -> None:
        self.seed, self.start, self.reading = seed, start, reading
        self.things, self.weights = things, weights
        self.sprites = Sprites.load(sprites_file(data)).known(things)
        self.family = open_family(family, vocabulary)
        self.nouns, self.strangers = Nouns(self.family), strangers(self.family)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        reader = Reader(self.family)
        if self.start:
            reader.load_state_dict(torch.load(self.start, weights_only=True))
        return reader

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        samples = [self._draw(rng) for _ in range(size)]
        return self.tensors(samples, rng)

    def _draw(self, rng: np.random.Generator) -> Sample:
        scene = None if rng.random() < BLIND_SHARE else draw_scene(rng, self.sprites)
        turns = dialogue(rng, scene, weights=None if scene is None else self.weights, things=self.things)
        # A dialogue is met at any of its turns, at the first most often.
        return scene, turns, int(rng.integers(len(turns))) if rng.random() < 0.6 else 0

    def tensors(self, samples: Sequence[Sample], rng: np.random.Generator | None) -> Batch:
        """Rows of (scene or None, dialogue, turn asked); disturbed and sorted by length when ``rng`` is given."""
        made = [self.family.row(turns, last, scene is not None) for scene, turns, last in samples]
        if rng is not None:
            order = sorted(range(len(made)), key=lambda at: len(made[at].input_ids))
            samples, made = [samples[at] for at in order], [made[at] for at in order]
        unseen = np.zeros((NUM_SLOTS, NUM_CLASSES), np.float32)
        true = [unseen if scene is None else oracle_slots(scene, self.sprites, GRID)[0] for scene, _, _ in samples]
        slots = true if rng is None else [disturb(rng, s) for s in true]
        rows = self.family.collate(made)
        return {
            **rows,
            **reading_labels([scene for scene, _, _ in samples], true),
            **words_about_things(rows, self.nouns, self.strangers),
            "slots": torch.from_numpy(np.stack(slots)),
            "background": torch.tensor([scene.background if scene else 0 for scene, _, _ in samples]),
            "style": style_ids([scene for scene, _, _ in samples]),
        }

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        total = torch.zeros(())
        parts: dict[str, Tensor] = {}
        for part, share in like_lengths(batch):
            out, reading = module(**part)
            total = total + share * out.loss
            for name, value in reading.items():
                parts[name] = parts.get(name, 0) + share * value
        return total + self.reading * sum(parts.values()), {"answer": total, **parts}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Exact whole answers by skill and language, on held pairs and undisturbed slots."""
        rng = np.random.default_rng(77)
        samples = []
        for i in range(768):
            scene = draw_scene(rng, self.sprites, split="train-eval", pairs="held" if i % 2 else "train")
            turns = dialogue(rng, scene, weights=self.weights, things=self.things)
            samples.append((scene, turns, int(rng.integers(len(turns)))))
        right = []
        device = next(module.parameters()).device
        for start in range(0, len(samples), 64):
            batch = self.tensors(samples[start : start + 64], None)
            batch = {name: value.to(device) for name, value in batch.items()}
            logits = module(**batch, loss_only=False)[0].logits
            right += right_answers(logits, batch["labels"]).tolist()
        figures: dict[str, list[bool]] = {}
        for (_, turns, last), ok in zip(samples, right, strict=True):
            figures.setdefault(f"{turns[last].skill}/{turns[last].language}", []).append(ok)
        return {"all": sum(right) / len(right), **{k: sum(v) / len(v) for k, v in sorted(figures.items())}}

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "language.pt")
