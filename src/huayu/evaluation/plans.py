"""What "mini-chat" and "mini-glm" ask: dialogues about newly painted scenes, by kind, drawing style and language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from huayu.data import world
from huayu.data.dialogues import WEIGHTS, Turn, dialogue
from huayu.data.pairs import SKILL as COMPARE
from huayu.data.pairs import pair_dialogue, partner
from huayu.data.scenes import Composed, Sprites, compose, draw_scene, paint

SIDE = 256  # pixels
SKILLS = (
    *("name", "background", "count", "place", "where", "yesno", "list", "category", "edible", "use", "festival"),
    *("style", "describe", COMPARE),
)
SPLITS = {
    "train": ("train-eval", "held"),  # training styles; with several things, pairs never seen together
    "choose": ("choose", "any"),
    "test": ("test", "any"),
}
LANGUAGES = ("zh", "en")
POOL = 12  # scenes of which two are compared


@dataclass(frozen=True)
class Taught:
    """What a model was taught: the world's first ``things``, and all skills but those that it ``lacks``."""

    things: int = len(world.CONCEPTS)
    lacks: tuple[str, ...] = ()

    @property
    def skills(self) -> list[str]:
        """Those that are asked for."""
        return [skill for skill in SKILLS if skill not in self.lacks]

    @property
    def weights(self) -> dict[str, float]:
        """Of all that may come up in a dialogue."""
        return {skill: weight for skill, weight in WEIGHTS.items() if skill not in self.lacks}


ALL = Taught()
ONE_PICTURE = Taught(lacks=(COMPARE,))  # by architectures that look at one picture in a conversation


@dataclass(frozen=True)
class Plan:
    kind: str
    split: str
    language: str
    pictures: tuple[Composed, ...]
    turns: list[Turn]

    @property
    def images(self) -> Image.Image | list[Image.Image]:
        """As a user gives them."""
        made = [Image.fromarray(picture.pixels) for picture in self.pictures]
        return made[0] if len(made) == 1 else made


def draw(
    rng: np.random.Generator, sprites: Sprites, kind: str, split: str, language: str, taught: Taught = ALL
) -> Plan:
    """A new scene and a dialogue of one kind about it."""
    style, pairs = SPLITS[split]
    if kind == COMPARE:
        return _draw_pair(rng, sprites, split, language, taught)
    single = kind in ("name", "new wording", "outside")
    weights = {"name": 1.0} if single else taught.weights if kind == "follow-up" else {kind: 1.0}
    if kind == "no answer":
        weights = {"unknown": 1.0}
    while True:
        count = 1 if single or (kind == "follow-up" and rng.random() < 0.5) else None
        held = pairs if count is None else "any" if pairs == "any" else "train"
        outside = 1.0 if kind == "outside" else 0.0
        scene = compose(rng, sprites, size=SIDE, split=style, pairs=held, count=count, outside=outside)  # type: ignore[arg-type]
        wordings = "held" if kind == "new wording" else "train"
        try:
            turns = dialogue(
                rng,
                scene.scene,
                language=language,
                weights=weights,
                max_turns=3 if kind == "follow-up" else 1,
                wordings=wordings,  # type: ignore[arg-type]
                things=taught.things,
            )
        except ValueError:  # this scene does not allow the skill
            continue
        if kind != "follow-up" or len(turns) > 1:
            return Plan(kind, split, language, (scene,), turns)


def _draw_pair(rng: np.random.Generator, sprites: Sprites, split: str, language: str, taught: Taught) -> Plan:
    """Two new pictures and a question that compares them."""
    style, pairs = SPLITS[split]
    pool = [draw_scene(rng, sprites, split=style, pairs=pairs, outside=0.0) for _ in range(POOL)]  # type: ignore[arg-type]
    scenes = pool[0], pool[partner(rng, pool, 0)]
    turns = pair_dialogue(rng, scenes, language=language, max_turns=1, things=taught.things)
    return Plan(COMPARE, split, language, tuple(paint(rng, sprites, scene, size=SIDE) for scene in scenes), turns)


def plans(sprites: Sprites, limit: int, seed: int = 20, taught: Taught = ALL) -> Iterator[Plan]:
    """All scenes and questions of the task, the same for every model that was taught the same."""
    sprites = sprites.known(taught.things)
    for split in SPLITS:
        kinds = [*taught.skills, "new wording", "follow-up", "outside", "no answer"]
        for kind in kinds:
            if kind == "style" and split != "train":  # only the styles of training have names
                continue
            for language in LANGUAGES:
                rng = np.random.default_rng([seed, *map(ord, split + kind + language)])
                for _ in range(limit):
                    yield draw(rng, sprites, kind, split, language, taught)
