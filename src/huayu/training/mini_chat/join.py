"""Stage "join": the eye learns to give the language model the slots it understands; then all of it answers together.

With ``train_language = false`` the language model stays as it is (alignment); with true everything moves (instruction).
"""

# B dialogues, N pictures (B = N · asks), S slots, C classes, D width

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data import world
from huayu.data.dialogues import Turn, dialogue
from huayu.data.layouts import OUTSIDE_SHARE
from huayu.data.pairs import pair_dialogue, partner
from huayu.data.scenes import Composed, Sprites, compose
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import SIZE, sprites_file
from huayu.training.mini_chat.families import LAYERS, open_family
from huayu.training.mini_chat.joined import Joined, export_chat, fit_projector
from huayu.training.mini_chat.language import BLIND_SHARE
from huayu.training.mini_chat.reading import Nouns, numbers, reading_labels, strangers, words_about_things
from huayu.training.mini_chat.rows import some_turn
from huayu.training.mini_chat.scoring import shares
from huayu.training.mini_chat.vision import sight_loss, tensors_of

_SIGHT = ("pixels", "things", "where", "slots", "background", "style")  # of pictures; all else is of rows
FIT_BATCHES = 40  # of 64 pictures, from which the projector is fitted

Asked = tuple[tuple[int, ...], list[Turn], int]  # numbers of the pictures, dialogue, turn that is asked


class JoinStage:
    """``start`` is the export of an earlier join, or empty to start from ``vision`` and ``language``. ``family``,
    ``vocabulary``, ``things``, ``compare``, ``layers``: as of those.

    ``asks``: questions about each picture; ``single``: share of pictures that are made to hold one thing, beside those
    that happen to; ``outside``: share of things that the world has no word for; ``align``, ``sight`` and ``reading``:
    weights of the losses beside that of the answers; ``language_rate``: of the language model's learning rate.
    """

    def __init__(
        self,
        family: str = "viscpm_chat",
        seed: int = 3,
        data: str = ".cache/pictograms",
        vocabulary: str = "runs/mini_chat/vocab.txt",
        vision: str = "",
        language: str = "",
        start: str = "",
        train_language: bool = False,
        languages: str = "",
        asks: int = 2,
        align: float = 1.0,
        sight: float = 0.3,
        language_rate: float = 0.25,
        reading: float = 0.3,
        single: float = 0.0,
        outside: float = OUTSIDE_SHARE,
        things: int = len(world.CONCEPTS),
        compare: float = 0.0,
        layers: int = LAYERS,
        weights: dict[str, float] | None = None,
    ) -> None:
        self.seed, self.asks, self.align, self.sight = seed, asks, align, sight
        self.paths = (vision, language, start)
        self.reading, self.train_language = reading, train_language
        self.language_rate, self.single = language_rate, single
        self.outside, self.languages, self.weights = outside, languages, weights
        self.things, self.compare = things, compare
        self.sprites = Sprites.load(sprites_file(data)).known(things)
        self.family = open_family(family, vocabulary, pictures=2 if compare else 1, layers=layers)
        self.nouns, self.strangers = Nouns(self.family), strangers(self.family)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        vision, language, start = self.paths
        if start:
            joined = Joined(self.family)
            joined.load_state_dict(torch.load(start, weights_only=True))
        else:
            joined = Joined.from_parts(Path(vision), Path(language), self.family)
            fit_projector(joined.eval(), (self.batch(-1 - i, 64) for i in range(FIT_BATCHES)))
            joined.train()
        joined.words.requires_grad_(False)
        joined.chat.language_model.requires_grad_(self.train_language)
        joined.reading.requires_grad_(self.train_language)
        for parameter in joined.chat.language_model.parameters():
            parameter.lr_scale = getattr(parameter, "lr_scale", 1.0) * self.language_rate  # type: ignore[attr-defined]
        return joined

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index % 2**32])
        counts = [1 if rng.random() < self.single else None for _ in range(size)]
        scenes = [compose(rng, self.sprites, size=SIZE, count=count, outside=self.outside) for count in counts]
        return self.tensors(scenes, [self._ask(rng, scenes, i) for i in range(size) for _ in range(self.asks)])

    def _ask(self, rng: np.random.Generator, pictures: list[Composed], number: int) -> Asked:
        """A dialogue about the picture of this number, or about it and another, or about none."""
        if self.compare and rng.random() < self.compare:
            return self._compare(rng, pictures, number)
        blind = rng.random() < BLIND_SHARE
        scene, weights = (None, None) if blind else (pictures[number].scene, self.weights)
        turns = dialogue(rng, scene, language=self.languages or None, weights=weights, things=self.things)
        return () if blind else (number,), turns, some_turn(rng, turns)

    def _compare(self, rng: np.random.Generator, pictures: list[Composed], number: int) -> Asked:
        scenes = [picture.scene for picture in pictures]
        other = partner(rng, scenes, number)
        turns = pair_dialogue(rng, (scenes[number], scenes[other]), language=self.languages or None, things=self.things)
        return (number, other), turns, some_turn(rng, turns)

    def tensors(self, scenes: list[Composed], asked: list[Asked]) -> Batch:
        """Pictures with their labels, and the packed questions."""
        about = [shown for shown, _, _ in asked]
        pictures = tensors_of(scenes, self.sprites)
        rows = self.family.collate([self.family.row(turns, last, len(shown)) for shown, turns, last in asked])
        return {
            **pictures,
            **rows,
            **reading_labels([picture.scene for picture in scenes], list(pictures["slots"].numpy()), about),
            **words_about_things(rows, self.nouns, self.strangers),
            "pictures": numbers(about),
        }

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        rows = {name: value for name, value in batch.items() if name not in _SIGHT}
        told = module(batch["pixels"], rows)
        joined = module.module if hasattr(module, "module") else module
        ideal = joined.ideal(batch).detach().float()
        sight = joined.heads.losses(told.patches, told.queries, batch)
        align = F.mse_loss(told.seen.float(), ideal) / ideal.var()
        parts = {"answer": told.answer, "align": align, **sight, **told.reading}
        loss = told.answer + self.align * align + self.sight * sight_loss(sight)
        return loss + self.reading * sum(told.reading.values()), parts

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Exact answers by skill and language on new scenes in the training styles, and all in the choosing style."""
        seen = self._exact(module, "train-eval", 512)
        chosen = self._exact(module, "choose", 256)
        return {**seen, **{f"choose/{k}": chosen[k] for k in chosen if k == "all" or k.startswith("name/")}}

    def _exact(self, module: nn.Module, split: str, count: int) -> dict[str, float]:
        rng = np.random.default_rng(78)
        figures: dict[str, list[bool]] = {}
        device = next(module.parameters()).device
        for start in range(0, count, 64):
            pairs = "held" if split == "train-eval" and start % 128 else "any" if split == "choose" else "train"
            scenes = [compose(rng, self.sprites, size=SIZE, split=split, pairs=pairs) for _ in range(64)]  # type: ignore[arg-type]
            asked: list[Asked] = []
            for i, composed in enumerate(scenes):
                if self.compare and i % 8 == 0:
                    asked.append(self._compare(rng, scenes, i))
                    continue
                turns = dialogue(rng, composed.scene, weights=self.weights, things=self.things)
                asked.append(((i,), turns, int(rng.integers(len(turns)))))
            batch = {name: value.to(device) for name, value in self.tensors(scenes, asked).items()}
            rows = {name: value for name, value in batch.items() if name not in _SIGHT}
            right = module(batch["pixels"], rows, loss_only=False).answer
            for (_, turns, last), ok in zip(asked, right.tolist(), strict=True):
                figures.setdefault(f"{turns[last].skill}/{turns[last].language}", []).append(ok)
        return shares(figures)

    def export(self, module: nn.Module, folder: Path) -> None:
        """``joined.pt`` for a later stage, and ``model/``: the chat model in fp16 with its processor."""
        torch.save(module.state_dict(), folder / "joined.pt")
        export_chat(module, folder / "model")  # type: ignore[arg-type]
