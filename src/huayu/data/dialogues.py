"""True dialogues about a scene, in Chinese, English or both, with follow-up questions."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np

from huayu.data import answers, world
from huayu.data.art_styles import common_style
from huayu.data.layouts import Scene, Thing, extreme, region
from huayu.data.questions import Asker, tongues
from huayu.data.uses import FESTIVALS
from huayu.data.world import CONCEPTS, OUTSIDE

Language = Literal["zh", "en"]
WEIGHTS: dict[str, float] = {
    "name": 20, "background": 8, "count": 9, "place": 24, "where": 8, "yesno": 16, "list": 7, "category": 7,
    "edible": 7, "use": 6, "festival": 5, "style": 6, "describe": 9, "unknown": 6,
    "greeting": 1, "thanks": 0.7, "goodbye": 0.7, "self": 1.2, "ability": 0.8,
}  # fmt: skip
ABOUT = ("category", "edible", "use", "festival")  # what is asked about a thing, in the picture or not
SOCIAL = ("greeting", "thanks", "goodbye", "self", "ability")
NO_PICTURE_WEIGHTS: dict[str, float] = {
    "greeting": 4, "thanks": 2, "goodbye": 2, "self": 4, "ability": 3, "unknown": 5, "no-picture": 6,
}  # fmt: skip
VISUAL = (
    *("name", "background", "count", "place", "where-it", "yesno", "list", "describe", "style"),
    *(f"{skill}-it" for skill in ABOUT),
)
FOLLOWING = ("where-it", *(f"{skill}-it" for skill in ABOUT))  # of what was just spoken of


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
    things: int = len(CONCEPTS),
) -> list[Turn]:
    """One to `max_turns` turns, all true of the scene, or about no picture at all when it is None.

    `language` "zh" or "en" holds for all turns, "mixed" is drawn anew for each, None is any of these. `weights` takes
    the place of WEIGHTS; skills that a scene does not allow are left out. With `wordings` "held" every question is
    put as never in training. Only the world's first `things` things are spoken of. Raises ValueError
    when no skill is left.
    """
    speak = tongues(rng, language)
    if weights is None:
        weights = WEIGHTS if scene is not None else NO_PICTURE_WEIGHTS
    maker = _Maker(rng, scene, Asker(rng, wordings, things))
    turns: list[Turn] = []
    names, sums = _shares(tuple(weights.items()))
    wanted = 1 if max_turns == 1 else 1 + int(rng.integers(max_turns))
    attempts = 0
    while len(turns) < wanted and attempts < 60:
        attempts += 1
        tongue = speak()
        skill = None
        if maker.focus is not None and turns and rng.random() < 0.6:
            skill = FOLLOWING[int(rng.integers(len(FOLLOWING)))]
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
            concept = int(self.rng.integers(self.asker.things))
            side = tuple(answers.SIDES)[int(self.rng.integers(4))]
            return Turn(skill, tongue, self.asker.ask(kind, tongue, concept, side), answers.fixed(skill, tongue))
        if self.scene is None:
            return None
        if skill in ("name", "count", "list", "describe"):
            self.drop()
        base, it = skill.removesuffix("-it"), skill.endswith("-it")
        made = self._about(base, tongue, it) if base in ABOUT else getattr(self, "_" + base)(tongue, it)
        return made and Turn(base, tongue, *made)

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
        concept = int(self.rng.integers(self.asker.things))
        if self.rng.random() < 0.55:  # a near miss
            kin = world.kin()[present[int(self.rng.integers(len(present)))]] if OUTSIDE not in present else ()
            near = [other for other in kin if other < self.asker.things]
            concept = near[int(self.rng.integers(len(near)))] if near else concept
        if concept in present or any(world.alike(concept, other) for other in present if other != OUTSIDE):
            return None
        self.drop()
        return self.asker.ask("yesno", tongue, concept, generic=False), answers.yesno(concept, False, tongue)

    def _style(self, tongue: str, _: bool) -> tuple[str, str] | None:
        style = common_style(self.there)
        return None if style is None else (self.asker.ask("style", tongue), answers.style(style, tongue))

    def _about(self, skill: str, tongue: str, it: bool) -> tuple[str, str] | None:
        """One of ABOUT, of "it" or of something named, which need not be there."""
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
                or self.rng.random() < (self.passed_over(skill, concept) or 0.25 * (thing is not None))
            ):
                concept, thing = int(self.rng.integers(self.asker.things)), None
            self.focus = thing
        elif self.rng.random() < self.passed_over(skill, concept):
            return None
        answer = getattr(answers, skill)(concept, tongue)
        return self.asker.ask(f"{skill}-it" if it else skill, tongue, concept), answer

    def passed_over(self, skill: str, concept: int) -> float:
        """How often it is not asked: most things cannot be eaten, have no use or no festival, which must stay open."""
        if concept == OUTSIDE:
            return 0.0
        entry = CONCEPTS[concept]
        if skill == "edible":
            return 0.0 if entry.edible else 0.45
        if skill == "use":
            return 0.0 if answers.useful(concept) else 0.5
        return 0.9 if skill == "festival" and entry.key not in FESTIVALS else 0.0

    def askable(self, skill: str, concept: int) -> bool:
        """Whether nobody would quarrel with the answer."""
        return concept == OUTSIDE or skill != "edible" or CONCEPTS[concept].edible is not None

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
