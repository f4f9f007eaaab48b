"""A second look: is each thing that an answer names really there? What the model itself denies leaves the answer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from huayu.chat.looking import names_another, read_answer
from huayu.chat.things import Thing, question_whether, things_in
from huayu.runtime.language import language_of

MOST_THINGS = 16
_SENTENCE_END = re.compile(r"(?<=[。！？!?;；\n])|(?<=\D\.)(?=\s)")
_NUMBER = re.compile(r"(\s*)\d+(?=[.)]\s|、)")
# Between two things of a list: what belongs to the one before, the mark, what belongs to the one after.
_SEPARATOR = re.compile(r"\s*(?:,\s+(?:and|while|but)\b|、|，|,|；|以及|和|与|及|\band\b|\bwhile\b|\bor\b)\s*")
_NOTHING = {
    "zh": "再看一遍，没能确认图里有答案所说的东西。",
    "en": "On a second look, nothing that the answer named could be confirmed.",
}


@dataclass(frozen=True)
class SecondLook:
    """One thing of an answer, asked about: ``there`` is None where the model said neither yes nor no."""

    thing: str
    question: str
    answer: str
    there: bool | None


def to_confirm(text: str) -> list[Thing]:
    """The things that ``text`` names, each once; at most :data:`MOST_THINGS`."""
    first: dict[str, Thing] = {}
    for thing in things_in(text):
        first.setdefault(thing.key, thing)
    return list(first.values())[:MOST_THINGS]


def judged(thing: Thing, answer: str, language: str, *, small: bool) -> SecondLook:
    """What ``answer`` to the question about ``thing`` means."""
    there = read_answer(answer, language)
    name = thing.name if thing.concept is None else thing.concept.zh if language == "zh" else thing.concept.en
    if small and there and names_another(answer, name, language):
        there = False
    return SecondLook(thing.words, question_whether(thing, language, small=small), answer, there)


def agreed(looks: Sequence[SecondLook]) -> SecondLook:
    """Several answers about one thing as one: only what all deny is not there."""
    there = True if any(look.there for look in looks) else False if all(look.there is False for look in looks) else None
    question, answer = (
        " / ".join(texts) for texts in zip(*((look.question, look.answer) for look in looks), strict=True)
    )
    return SecondLook(looks[0].thing, question, answer, there)


def without(text: str, denied: Collection[str]) -> str:
    """``text`` without the things whose keys are ``denied``: items leave their list, a sentence left empty goes."""
    if not denied:
        return text
    kept, language = [], language_of(text)
    for sentence in _SENTENCE_END.split(text):
        things = things_in(sentence, strangers=True)
        if any(thing.key in denied for thing in things):
            sentence = _rewritten(sentence, things, denied, language)
        kept.append(sentence)
    return "".join(_numbered_again(kept)).strip() or _NOTHING[language]


def _rewritten(sentence: str, things: Sequence[Thing], denied: Collection[str], language: str) -> str:
    """The sentence with what is not denied, or nothing.

    It is a row of units, each a thing (or several that no mark divides) with the words that lead to it and those that
    follow it. Leads and tails that only the ends of the row have belong to the whole sentence and stay.
    """
    units, leads, tails, marks = [[things[0]]], [sentence[: things[0].start]], [], []
    for before, after in itertools.pairwise(things):
        gap = sentence[before.end : after.start]
        found = list(_SEPARATOR.finditer(gap))
        if not found:
            units[-1].append(after)
            continue
        mark = found[-1]
        tails.append(gap[: mark.start()])
        marks.append(mark[0])
        leads.append(gap[mark.end() :])
        units.append([after])
    ending = re.search(r"[。！？!?;；.\s]*$", sentence)
    assert ending is not None
    tails.append(sentence[things[-1].end : ending.start()])
    stays = [at for at, unit in enumerate(units) if any(thing.key not in denied for thing in unit)]
    if not stays:
        return ""
    head, end = "", ""
    if not any(leads[1:]):
        head, leads[0] = leads[0], ""
    if not any(tails[:-1]):
        end, tails[-1] = tails[-1], ""
    parts = [leads[at] + _unit(sentence, units[at], denied, language) + tails[at] for at in stays]
    between = [*marks[: len(parts) - 2], marks[-1]][: len(parts) - 1] if len(parts) > 1 else []
    body = "".join(part + mark for part, mark in zip(parts, [*between, ""], strict=True))
    return _agreeing(head + body + end) + ending[0]


def _unit(sentence: str, unit: Sequence[Thing], denied: Collection[str], language: str) -> str:
    text = sentence[unit[0].start : unit[-1].end]
    for thing in reversed(unit):
        if thing.key in denied:
            at = thing.start - unit[0].start
            other = "某样东西" if language == "zh" else "something"
            text = text[:at] + other + text[at + len(thing.words) :]
    return text


def _agreeing(sentence: str) -> str:
    """English verbs after what now comes first, and a capital letter."""
    sentence = re.sub(r"\b([Tt])here are (?=an? )", r"\1here is ", sentence)
    sentence = re.sub(r"\b([Tt])here is (?=(?:some|two|three|four|several) \w+s\b)", r"\1here are ", sentence)
    space = len(sentence) - len(sentence.lstrip())
    return sentence[:space] + sentence[space : space + 1].upper() + sentence[space + 1 :]


def _numbered_again(sentences: Sequence[str]) -> list[str]:
    """The lines of a numbered list, counted anew; those that went are empty."""
    if "" not in sentences:
        return list(sentences)
    count = itertools.count(1)
    return [
        _NUMBER.sub(lambda match: f"{match[1]}{next(count)}", text, count=1) if _NUMBER.match(text) else text
        for text in sentences
    ]
