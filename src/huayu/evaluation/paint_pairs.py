"""Two things that a prompt asks for side by side: is each there, where it should be, and can the whole be told?"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.progress import track

from huayu.chat import ChatModel
from huayu.data import answers, world
from huayu.data.paint_captions import LANGUAGES, Order
from huayu.data.paintings import SIDE, held_background
from huayu.evaluation.paint_judges import BATCH, COLUMNS, judge
from huayu.paint import Painter

WORDINGS = {
    "zh": (
        "左边{one}，右边{two}，{ground}背景",
        "{ground}背景，{two}在右边，{one}在左边",
        "{one}和{two}，{ground}背景",
    ),
    "en": (
        "{one} on the left and {two} on the right, {ground} background",
        "on the left {one}, on the right {two}, {ground} background",
        "{one} and {two} on a {ground} background",
    ),
}
FIRST_SEED = 2000
QUESTION = {"zh": "图里都有什么？", "en": "What are all the things in the picture?"}


def pair_prompts(language: str, count: int, seed: int = 37) -> list[tuple[str, Order, Order]]:
    """Prompts with the orders of what stands left and right, drawn from all things and grounds of training."""
    rng = np.random.default_rng([seed, *map(ord, language)])
    made: list[tuple[str, Order, Order]] = []
    while len(made) < count:
        one, two = (int(number) for number in rng.choice(len(world.CONCEPTS), 2, replace=False))
        ground = int(rng.integers(len(world.BACKGROUNDS)))
        if world.alike(one, two) or held_background(one, ground) or held_background(two, ground):
            continue
        wording = WORDINGS[language][len(made) % len(WORDINGS[language])]
        names = {"one": answers.noun(one, language), "two": answers.noun(two, language)}
        text = wording.format(**names, ground=world.BACKGROUNDS[ground][language == "zh"])
        made.append((text, Order(one, None, ground), Order(two, None, ground)))
    return made


def judged_pairs(painter: Painter, chat: ChatModel, pictures: np.ndarray, count: int) -> dict[str, dict[str, float]]:
    """For each language the shares of pictures whose both halves are right, by column of the evaluation.

    ``named``: asked for everything in the picture, ``chat`` lists just these two things, the left one first.
    ``pictures`` as of :func:`huayu.data.paintings.load`.
    """
    figures = {}
    for language in LANGUAGES:
        asked = pair_prompts(language, count)
        images = [
            painter.paint(text, seed=FIRST_SEED + number).images[0]
            for number, (text, _, _) in enumerate(track(asked, "painting", console=Console(stderr=True)))
        ]
        wholes = [image.convert("RGB").resize((2 * SIDE, 2 * SIDE)) for image in images]
        rights = []
        for side in (0, 1):
            box = (side * SIDE, SIDE // 2, (side + 1) * SIDE, SIDE // 2 + SIDE)
            halves = np.stack([np.asarray(whole.crop(box)) for whole in wholes])
            rights.append(judge(halves, [orders[side] for _, *orders in asked], pictures, chat))
        said = chat.ask_batch([(whole, QUESTION[language], None) for whole in wholes], batch_size=BATCH)
        listed = [
            reply.text == answers.everything([one.concept, two.concept], language)
            for reply, (_, one, two) in zip(said, asked, strict=True)
        ]
        both = {name: [a and b for a, b in zip(*(right[name] for right in rights), strict=True)] for name in COLUMNS}
        means = {name: float(np.mean(right)) for name, right in (both | {"named": listed}).items()}
        figures[f"side by side {language}"] = {"n": len(asked), **means}
    return figures
