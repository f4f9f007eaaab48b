"""A model with nothing to learn: it names the pure colours that fill enough of what it is shown."""

from __future__ import annotations

import numpy as np

from huayu.chat.backend import Piece, Prompt
from huayu.chat.language import is_traditional
from huayu.chat.options import ChatOptions
from huayu.chat.things import things_in
from huayu.runtime.language import language_of, to_simplified

COLOURS = {"dog": (255, 0, 0), "car": (0, 255, 0), "tree": (0, 0, 255)}
NOUNS = {"dog": ("一只狗", "a dog"), "car": ("一辆汽车", "a car"), "tree": ("一棵树", "a tree")}
ENOUGH = 0.05


class Eye:
    """Says what covers :data:`ENOUGH` of a picture, and a cat besides wherever there is a dog.

    Asked whether there is a thing, it looks at every pixel, and never sees a cat.
    """

    name, defaults, reads_traditional = "eye", ChatOptions(search="greedy"), False

    def __init__(self, follows_requests: bool = True) -> None:
        self.follows_requests = follows_requests
        self.asked: list[str] = []

    def prepare(self, conversation, question):
        self.asked.append(question)
        question = to_simplified(question) if is_traditional(question) else question
        pictures = [np.asarray(picture.image) for picture in conversation.pictures]
        return Prompt((pictures, question), 1)

    def generate(self, prompts, settings, cancel):
        for row, prompt in enumerate(prompts):
            yield Piece(row, self.answer(*prompt.inputs), 1, "stop")

    def answer(self, pictures, question):
        chinese = language_of(question) == "zh"
        share = {key: max((p == c).all(-1).mean() for p in pictures) if pictures else 0 for key, c in COLOURS.items()}
        asked = things_in(question)
        if asked:
            there = share.get(asked[0].key, 0) > 0
            name = asked[0].concept.zh if chinese else asked[0].concept.en
            if chinese:
                return f"有，图里有一个{name}。" if there else f"没有，图里没有{name}。"
            return f"Yes, there is a {name}." if there else f"No, there is no {name}."
        nouns = [NOUNS[key][not chinese] for key in COLOURS if share[key] >= ENOUGH]
        if share["dog"] >= ENOUGH:
            nouns.append("一只猫" if chinese else "a cat")
        if not nouns:
            return "我不知道。" if chinese else "I do not know."
        if chinese:
            return f"图里有{'、'.join(nouns)}。"
        return f"There is {', '.join(nouns[:-1])}{' and ' if nouns[1:] else ''}{nouns[-1]}."
