"""Stage "language": words about scenes, no pixels. The model reads slots that an ideal eye would give it."""

# B dialogues, S slots, C classes, D width, T tokens

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from huayu.data import world
from huayu.data.art_styles import STYLES
from huayu.data.dialogues import Turn, dialogue
from huayu.data.pairs import pair_dialogue, partner
from huayu.data.scenes import Scene, Sprites, draw_scene, oracle_slots
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import (
    GRID,
    NUM_BACKGROUNDS,
    NUM_CLASSES,
    NUM_QUERIES,
    NUM_STYLES,
    WORD_WIDTH,
    sprites_file,
)
from huayu.training.mini_chat.families import LAYERS, Family, open_family
from huayu.training.mini_chat.reading import Nouns, ReadingHeads, numbers, reading_labels, strangers, words_about_things
from huayu.training.mini_chat.rows import disturb, some_turn, style_ids
from huayu.training.mini_chat.scoring import shares
from huayu.training.mini_chat.telling import tell

NAME_SCALE = 2.0  # makes the mean of a few embeddings about as long as one of them
BLIND_SHARE = 0.04  # of dialogues are held without a picture

POOL = 12  # scenes of which two are compared

Sample = tuple[Sequence[Scene], Sequence[Turn], int]  # what is seen, what is said, which turn is asked
_SEEN = ("slots", "background", "style")  # of scenes; all else is of rows


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

    def forward(self, batch: Batch, loss_only: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        """:func:`tell` about the words of the slots."""
        vectors = self.family.word_vectors(self.language_model)
        seen = self.words(batch["slots"], batch["background"], batch["style"], vectors)
        rows = {name: value for name, value in batch.items() if name not in _SEEN}
        return tell(self.family, self.language_model, self.reading, seen, rows, loss_only)


class LanguageStage:
    """Learn to talk in both languages about slots.

    ``data``: folder of the packed drawings (for their outlines); ``start``: an earlier export to go on from;
    ``reading``: weight of the losses of :class:`ReadingHeads` beside that of the answers; ``family``: of
    :data:`huayu.training.mini_chat.families.FAMILIES`; ``things``: how many of the world's, the first ones;
    ``compare``: share of dialogues about two pictures; ``layers``: of the language model.
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
        compare: float = 0.0,
        layers: int = LAYERS,
        weights: dict[str, float] | None = None,
    ) -> None:
        self.seed, self.start, self.reading = seed, start, reading
        self.things, self.compare, self.weights = things, compare, weights
        self.sprites = Sprites.load(sprites_file(data)).known(things)
        self.family = open_family(family, vocabulary, pictures=2 if compare else 1, layers=layers)
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
        if self.compare and rng.random() < self.compare:
            return self._pair(rng, [draw_scene(rng, self.sprites) for _ in range(POOL)])
        scene = None if rng.random() < BLIND_SHARE else draw_scene(rng, self.sprites)
        turns = dialogue(rng, scene, weights=None if scene is None else self.weights, things=self.things)
        return () if scene is None else (scene,), turns, some_turn(rng, turns)

    def _pair(self, rng: np.random.Generator, pool: list[Scene]) -> Sample:
        two = (pool[0], pool[partner(rng, pool, 0)])
        turns = pair_dialogue(rng, two, things=self.things)
        return two, turns, some_turn(rng, turns)

    def tensors(self, samples: Sequence[Sample], rng: np.random.Generator | None) -> Batch:
        """Rows of (scenes, dialogue, turn asked), and what is seen of all scenes; disturbed when ``rng`` is given."""
        every = [scene for scenes, _, _ in samples for scene in scenes]
        ends = list(accumulate(len(scenes) for scenes, _, _ in samples))
        about = [range(end - len(scenes), end) for end, (scenes, _, _) in zip(ends, samples, strict=True)]
        true = [oracle_slots(scene, self.sprites, GRID)[0] for scene in every]
        rows = self.family.collate([self.family.row(turns, last, len(scenes)) for scenes, turns, last in samples])
        return {
            **rows,
            **reading_labels(every, true, about),
            **words_about_things(rows, self.nouns, self.strangers),
            "pictures": numbers(about),
            "slots": torch.from_numpy(np.stack(true if rng is None else [disturb(rng, s) for s in true])),
            "background": torch.tensor([scene.background for scene in every]),
            "style": style_ids(every),
        }

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        answer, reading = module(batch)
        return answer + self.reading * sum(reading.values()), {"answer": answer, **reading}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Exact whole answers by skill and language, on held pairs and undisturbed slots."""
        rng = np.random.default_rng(77)
        device = next(module.parameters()).device
        figures: dict[str, list[bool]] = {}
        for _ in range(12):
            scenes = [
                draw_scene(rng, self.sprites, split="train-eval", pairs="held" if i % 2 else "train") for i in range(64)
            ]
            samples: list[Sample] = []
            for i, scene in enumerate(scenes):
                if self.compare and i % 8 == 0:
                    samples.append(self._pair(rng, scenes[i:] + scenes[:i]))
                    continue
                turns = dialogue(rng, scene, weights=self.weights, things=self.things)
                samples.append(((scene,), turns, int(rng.integers(len(turns)))))
            batch = {name: value.to(device) for name, value in self.tensors(samples, None).items()}
            right = module(batch, loss_only=False)[0].tolist()
            for (_, turns, last), ok in zip(samples, right, strict=True):
                figures.setdefault(f"{turns[last].skill}/{turns[last].language}", []).append(ok)
        return shares(figures)

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "language.pt")
