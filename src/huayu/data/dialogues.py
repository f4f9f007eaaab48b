"""True dialogues about a scene, in Chinese, English or both, with follow-up questions."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np

from huayu.data import answers, world
from huayu.data.layouts import Scene, Thing, extreme, region
from huayu.data.questions import Asker
from huayu.data.world import CONCEPTS, OUTSIDE

Language = Literal["zh", "en"]
WEIGHTS: dict[str, float] = {
    "name": 20, "background": 8, "count": 9, "place": 24, "where": 8, "yesno": 16, "list": 7, "category": 7,
    "edible": 7, "describe": 9, "unknown": 6, "greeting": 1, "thanks": 0.7, "goodbye": 0.7, "self": 1.2, "ability": 0.8,
}  # fmt: skip
SOCIAL = ("greeting", "thanks", "goodbye", "self", "ability")
NO_PICTURE_WEIGHTS: dict[str, float] = {
    "greeting": 4, "thanks": 2, "goodbye": 2, "self": 4, "ability": 3, "unknown": 5, "no-picture": 6,
}  # fmt: skip
VISUAL = ("name", "background", "count", "place", "where-it", "yesno", "list", "describe", "category-it", "edible-it")


class Turn(NamedTuple):
    """One question and its answer. `language` is "zh" or "en"; `skill` a key of WEIGHTS or "no-picture"."""

    skill: str
    language: str
    question: str
    answer: str


def dialogue(
    rng: np.random.Generator,
    scene: Scene | None,
    *,
    language: str | None = None,
    max_turns: int = 3,
    weights: dict[str, float] | None = None,
    wordings: Literal["train", "held"] = "train",
) -> list[Turn]:
    """One to `max_turns` turns, all true of the scene, or about no picture at all when it is None.

    `language` "zh" or "en" holds for all turns, "mixed" is drawn anew for each, None is any of these. `weights` takes
    the place of WEIGHTS; skills that a scene does not allow are left out. With `wordings` "held" every question is
    put as never in training. Raises ValueError when no skill is left.
    """
    if language is None:
        draw = rng.random()
        language = "zh" if draw < 0.46 else "en" if draw < 0.92 else "mixed"
    if weights is None:
        weights = WEIGHTS if scene is not None else NO_PICTURE_WEIGHTS
    maker = _Maker(rng, scene, Asker(rng, wordings))
    turns: list[Turn] = []
    spoken = {"zh": "zh", "en": "en"}.get(language)
    names, sums = _shares(tuple(weights.items()))
    wanted = 1 if max_turns == 1 else 1 + int(rng.integers(max_turns))
    attempts = 0
    while len(turns) < wanted and attempts < 60:
        attempts += 1
        tongue = spoken or ("zh" if rng.random() < 0.5 else "en")
        skill = None
        if maker.focus is not None and turns and rng.random() < 0.6:
            skill = ("edible-it", "category-it", "where-it")[int(rng.integers(3))]
            if skill[:-3] not in weights:
                skill = None
        if skill is None:
            skill = names[min(bisect(sums, rng.random() * sums[-1]), len(names) - 1)]
        if any(turn.skill == skill.removesuffix("-it") and skill != "yesno" for turn in turns):
            continue
        made = maker.turn(skill, tongue)
        if made is not None:
            turns.append(made)
    if not turns:
        raise ValueError(f"no skill of {sorted(weights)} fits the scene")
    return turns


@cache
def _shares(items: tuple[tuple[str, float], ...]) -> tuple[list[str], list[float]]:
    return [name for name, _ in items], list(accumulate(share for _, share in items))


@cache
def _alike(a: int, b: int) -> bool:
    """Whether a drawing of one could fairly be called the other, so that "no" would be unfair."""
    return a != b and any({CONCEPTS[a].key, CONCEPTS[b].key} <= group for group in world.ALIKE)


@cache
def _kin() -> tuple[tuple[int, ...], ...]:
    """For each concept, the others of its category."""
    return tuple(
        tuple(i for i, other in enumerate(CONCEPTS) if other.category == concept.category and other != concept)
        for concept in CONCEPTS
    )


@dataclass
class _Maker:
    """Makes turns about one scene and remembers which thing "it" means."""

    rng: np.random.Generator
    scene: Scene | None
    asker: Asker
    focus: Thing | None = None

    def __post_init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        """From here "it" can only mean the one thing there is, if there is one."""
        alone = self.scene is not None and len(self.scene.things) == 1
        self.focus = self.there.things[0] if alone else None

    def turn(self, skill: str, tongue: str) -> Turn | None:
        """A turn of this skill, or None when the scene does not allow it."""
        if skill in SOCIAL:
            return Turn(skill, tongue, self.asker.ask(skill, tongue), answers.fixed(skill, tongue))
        if skill == "unknown":
            self.drop()
            return Turn(skill, tongue, self.asker.unknown(tongue, self.concepts), answers.fixed(skill, tongue))
        if skill == "no-picture":
            kind = VISUAL[int(self.rng.integers(len(VISUAL)))]
            concept = int(self.rng.integers(len(CONCEPTS)))
            side = tuple(answers.SIDES)[int(self.rng.integers(4))]
            return Turn(skill, tongue, self.asker.ask(kind, tongue, concept, side), answers.fixed(skill, tongue))
        if self.scene is None:
            return None
        if skill in ("name", "count", "list", "describe"):
            self.drop()
        made = getattr(self, "_" + skill.removesuffix("-it"))(tongue, skill.endswith("-it"))
        return made and Turn(skill.removesuffix("-it"), tongue, *made)

    # Each of the following returns (question, answer), or None.

    def _name(self, tongue: str, _: bool) -> tuple[str, str]:
        return self.asker.ask("name", tongue), answers.name(self.concepts, tongue)

    def _background(self, tongue: str, _: bool) -> tuple[str, str]:
        return self.asker.ask("background", tongue), answers.background(self.there.background, tongue)

    def _count(self, tongue: str, _: bool) -> tuple[str, str]:
        return self.asker.ask("count", tongue), answers.count(len(self.concepts), tongue)

    def _list(self, tongue: str, _: bool) -> tuple[str, str]:
        return self.asker.ask("list", tongue), answers.everything(self.concepts, tongue)

    def _describe(self, tongue: str, _: bool) -> tuple[str, str]:
        return self.asker.ask("describe", tongue), answers.describe(self.there.background, self.concepts, tongue)

    def _place(self, tongue: str, _: bool) -> tuple[str, str] | None:
        side = tuple(answers.SIDES)[int(self.rng.integers(4))]
        thing = extreme(self.there, side)
        if thing is None:
            return None
        self.focus = thing
        return self.asker.ask("place", tongue, side=side), answers.place(side, thing.concept, tongue)

    def _where(self, tongue: str, it: bool) -> tuple[str, str] | None:
        thing = self.focus if it else self.any_thing()
        at = None if thing is None else region(thing)
        if thing is None or at is None or (not it and thing.concept == OUTSIDE):
            return None
        self.focus = thing
        question = self.asker.ask("where-it" if it else "where", tongue, thing.concept)
        return question, answers.where(at, thing.concept, tongue)

    def _yesno(self, tongue: str, _: bool) -> tuple[str, str] | None:
        present = self.concepts
        if self.rng.random() < 0.5:
            thing = self.any_thing()
            if thing.concept == OUTSIDE:
                return None
            self.focus = thing
            return self.asker.ask("yesno", tongue, thing.concept), answers.yesno(thing.concept, True, tongue)
        concept = int(self.rng.integers(len(CONCEPTS)))
        if self.rng.random() < 0.55:  # a near miss
            near = _kin()[present[int(self.rng.integers(len(present)))]] if OUTSIDE not in present else ()
            concept = near[int(self.rng.integers(len(near)))] if near else concept
        if concept in present or any(_alike(concept, other) for other in present if other != OUTSIDE):
            return None
        self.drop()
        return self.asker.ask("yesno", tongue, concept, generic=False), answers.yesno(concept, False, tongue)

    def _category(self, tongue: str, it: bool) -> tuple[str, str] | None:
        return self._about("category", tongue, it)

    def _edible(self, tongue: str, it: bool) -> tuple[str, str] | None:
        return self._about("edible", tongue, it)

    def _about(self, skill: str, tongue: str, it: bool) -> tuple[str, str] | None:
        """The kind or the edibility of "it", or of something named, which need not be there."""
        if self.focus is not None and not self.askable(skill, self.focus.concept):
            if it:
                return None
        else:
            it = it or (self.focus is not None and self.rng.random() < 0.7)
        if it and self.focus is None:
            return None
        thing = self.focus if it else self.any_thing()
        concept = thing.concept  # type: ignore[union-attr]
        if not it:
            while (
                concept == OUTSIDE
                or not self.askable(skill, concept)
                or self.rng.random() < (0.5 if self.mostly_no(skill, concept) else 0.25 if thing is not None else 0)
            ):
                concept, thing = int(self.rng.integers(len(CONCEPTS))), None
            self.focus = thing
        elif self.mostly_no(skill, concept) and self.rng.random() < 0.4:
            return None
        say = answers.edible if skill == "edible" else answers.category
        return self.asker.ask(f"{skill}-it" if it else skill, tongue, concept), say(concept, tongue)

    def mostly_no(self, skill: str, concept: int) -> bool:
        """Most things cannot be eaten: those are asked about less, to keep the answer open."""
        return skill == "edible" and concept != OUTSIDE and not CONCEPTS[concept].edible

    def askable(self, skill: str, concept: int) -> bool:
        """Whether nobody would quarrel with the answer."""
        return skill != "edible" or concept == OUTSIDE or CONCEPTS[concept].edible is not None

    @property
    def there(self) -> Scene:
        """The scene; only asked for where there is one."""
        assert self.scene is not None
        return self.scene

    @property
    def concepts(self) -> list[int]:
        return [thing.concept for thing in self.scene.things] if self.scene is not None else []

    def any_thing(self) -> Thing:
        things = self.there.things
        return things[int(self.rng.integers(len(things)))]
