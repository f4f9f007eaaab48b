"""True dialogues about two pictures, compared, in Chinese and English."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from huayu.data import answers, world
from huayu.data.dialogues import Turn
from huayu.data.layouts import Scene
from huayu.data.questions import Asker, tongues
from huayu.data.world import CONCEPTS, OUTSIDE

SKILL = "compare"
KINDS = {"which": 6, "things": 3, "ground": 2, "more": 2, "one": 3, "one-ground": 2}  # and how often
MOST_TOLD = 4  # things in both together, for all of them to be told


def pair_dialogue(
    rng: np.random.Generator,
    scenes: tuple[Scene, Scene],
    *,
    language: str | None = None,
    max_turns: int = 2,
    wordings: Literal["train", "held"] = "train",
    things: int = len(CONCEPTS),
) -> list[Turn]:
    """One to ``max_turns`` turns of skill "compare", true of the two scenes in their order.

    The other arguments as of :func:`huayu.data.dialogues.dialogue`.
    """
    maker = _Maker(rng, scenes, Asker(rng, wordings, things))
    speak = tongues(rng, language)
    shares = np.array(list(KINDS.values())) / sum(KINDS.values())
    turns: list[Turn] = []
    for _ in range(1 if max_turns == 1 else 1 + int(rng.integers(max_turns))):
        made, tongue = None, speak()
        while made is None:
            made = getattr(maker, str(rng.choice(list(KINDS), p=shares)).replace("-", "_"))(tongue)
        turns.append(Turn(SKILL, tongue, *made))
    return turns


def partner(rng: np.random.Generator, scenes: Sequence[Scene], first: int) -> int:
    """Number of a scene to compare scene ``first`` with: often one that has something in common with it."""
    others = [number for number in range(len(scenes)) if number != first]
    draw = rng.random()
    known = {thing.concept for thing in scenes[first].things} - {OUTSIDE}
    if draw < 0.3:
        common = [n for n in others if scenes[n].background == scenes[first].background]
    else:
        common = [n for n in others if draw < 0.65 and known & {thing.concept for thing in scenes[n].things}]
    choice = common or others
    return choice[int(rng.integers(len(choice)))]


class _Maker:
    """Makes (question, answer) of each kind, or None when the scenes do not allow it."""

    def __init__(self, rng: np.random.Generator, scenes: tuple[Scene, Scene], asker: Asker) -> None:
        self.rng, self.scenes, self.asker = rng, scenes, asker
        self.concepts = [[thing.concept for thing in scene.things] for scene in scenes]

    def which(self, tongue: str) -> tuple[str, str] | None:
        """Which picture has something, or both, or neither."""
        there = [concept for concepts in self.concepts for concept in concepts if concept != OUTSIDE]
        both = sorted(set(self.concepts[0]) & set(self.concepts[1]) - {OUTSIDE})
        draw = self.rng.random()
        if both and draw < 0.5:
            there = both
        if draw > 0.8 or not there:
            there = list(range(self.asker.things))
        concept = there[int(self.rng.integers(len(there)))]
        if any(other != OUTSIDE and world.alike(concept, other) for group in self.concepts for other in group):
            return None
        present = [concept in concepts for concepts in self.concepts]
        question = self.asker.ask("pair-which", tongue, concept, generic=False)
        return question, answers.which_picture(concept, present[0], present[1], tongue)

    def things(self, tongue: str) -> tuple[str, str] | None:
        """What both show."""
        if sum(map(len, self.concepts)) > MOST_TOLD:
            return None
        return self.asker.ask("pair-things", tongue), answers.both_things(self.concepts[0], self.concepts[1], tongue)

    def ground(self, tongue: str) -> tuple[str, str]:
        """Whether the backgrounds have one colour."""
        first, second = (scene.background for scene in self.scenes)
        return self.asker.ask("pair-ground", tongue), answers.same_ground(first, second, tongue)

    def more(self, tongue: str) -> tuple[str, str]:
        """Which has more things."""
        first, second = map(len, self.concepts)
        return self.asker.ask("pair-more", tongue), answers.more_things(first, second, tongue)

    def one(self, tongue: str) -> tuple[str, str]:
        """What is in one of them."""
        nth = int(self.rng.integers(2))
        return self.asker.ask("pair-one", tongue, nth=nth), answers.everything(self.concepts[nth], tongue)

    def one_ground(self, tongue: str) -> tuple[str, str]:
        """The background of one of them."""
        nth = int(self.rng.integers(2))
        answer = answers.background(self.scenes[nth].background, tongue)
        return self.asker.ask("pair-one-ground", tongue, nth=nth), answer
