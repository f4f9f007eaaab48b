"""Tasks "mini-chat" and "mini-glm": exact answers about scenes never trained on, by skill, language and drawing style.

Every question goes through :class:`huayu.chat.ChatModel`, as a user's would, on a painted 256-pixel picture.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from huayu.chat import load_chat
from huayu.chat.conversation import Conversation
from huayu.chat.model import ChatModel
from huayu.checkpoints.atomic import write_text
from huayu.data import pictograms
from huayu.data.scenes import Sprites
from huayu.evaluation.plans import ALL, LANGUAGES, SPLITS, Plan, Taught, draw, plans
from huayu.runtime.language import language_of, say

BATCH = 16


@dataclass(frozen=True)
class Asked:
    """One question with its true answer and what the model said. ``turn`` counts from 0."""

    kind: str
    split: str
    language: str
    turn: int
    question: str
    truth: str
    answer: str

    @property
    def exact(self) -> bool:
        return self.answer.strip() == self.truth


def ask(chat: ChatModel, group: list[Plan]) -> list[Asked]:
    """Hold the dialogues of a group side by side; each goes on from the model's own answers."""
    asked: list[Asked] = []
    conversations: list[Conversation | None] = [None] * len(group)
    for number in range(max(len(plan.turns) for plan in group)):
        rows = [i for i, plan in enumerate(group) if number < len(plan.turns)]
        requests = [
            (
                group[i].images if number == 0 else None,
                group[i].turns[number].question,
                conversations[i],
            )
            for i in rows
        ]
        for i, reply in zip(rows, chat.ask_batch(requests, batch_size=BATCH), strict=True):
            conversations[i] = reply.conversation
            plan, turn = group[i], group[i].turns[number]
            asked.append(Asked(plan.kind, plan.split, plan.language, number, turn.question, turn.answer, reply.text))
    return asked


def scores(asked: list[Asked]) -> dict[str, dict[str, dict[str, float]]]:
    """kind → split → language → share of exact answers; of follow-ups only the later turns count."""
    table: dict[str, dict[str, dict[str, list[bool]]]] = {}
    for a in asked:
        if a.kind == "follow-up" and a.turn == 0:
            continue
        table.setdefault(a.kind, {}).setdefault(a.split, {}).setdefault(a.language, []).append(a.exact)
        right = language_of(a.answer) == a.language
        table.setdefault("answer language", {}).setdefault(a.split, {}).setdefault(a.language, []).append(right)
        if a.kind == "name":
            unsure = "不知道" in a.answer or "do not know" in a.answer
            table.setdefault("false do-not-know", {}).setdefault(a.split, {}).setdefault(a.language, []).append(unsure)
    return {
        kind: {s: {k: sum(v) / len(v) for k, v in by.items()} for s, by in splits.items()}
        for kind, splits in table.items()
    }


def _table(figures: dict[str, dict[str, dict[str, float]]], name: str, limit: int) -> Table:
    title = say(f"{name}: exact answers, {limit} questions a cell", f"{name}：完全正确的比例，每格 {limit} 题")
    table = Table(title=title)
    table.add_column(say("skill", "能力"))
    heads = {
        "train": say("training styles", "训练画风"),
        "choose": say("choosing style", "选择画风"),
        "test": say("test style", "测试画风"),
    }
    for split in SPLITS:
        for language in LANGUAGES:
            table.add_column(f"{heads[split]} {language}", justify="right")
    for kind, by in figures.items():
        table.add_row(kind, *(_cell(by, s, k) for s in SPLITS for k in LANGUAGES))
    return table


def _cell(by: dict[str, dict[str, float]], split: str, language: str) -> str:
    return f"{100 * by[split][language]:.0f} %" if split in by else "–"


def markdown(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """The same table for a model card."""
    head = "| skill | " + " | ".join(f"{s} {k}" for s in SPLITS for k in LANGUAGES) + " |\n|---" + "|---" * 6 + "|\n"
    rows = (
        f"| {kind} | " + " | ".join(_cell(by, s, k) for s in SPLITS for k in LANGUAGES) + " |\n"
        for kind, by in figures.items()
    )
    return head + "".join(rows)


def dialogues(chat: ChatModel, sprites: Sprites, count: int = 20, taught: Taught = ALL) -> str:
    """``count`` dialogues with fixed seeds, none left out, as Markdown."""
    rng = np.random.default_rng(2026)
    text = ""
    for number in range(1, count + 1):
        split = ("train", "test")[number % 2]
        plan = draw(
            rng, sprites, "outside" if number % 7 == 0 else "follow-up", split, LANGUAGES[number // 2 % 2], taught
        )
        text += f"**{number}.** ({split})\n"
        for a in ask(chat, [plan]):
            mark = "" if a.exact else f" *(truth: {a.truth})*"
            text += f"- {a.question} → {a.answer}{mark}\n"
        text += "\n"
    return text


def evaluate(
    model: str | None, limit: int, output: Path | None, taught: Taught = ALL
) -> dict[str, dict[str, dict[str, float]]]:
    """Run the task and print its table. ``output`` gets figures.json, table.md, answers.jsonl and dialogues.md."""
    sprites = Sprites.load(pictograms.pack())
    chat = load_chat(model)
    console = Console()
    group: list[Plan] = []
    asked: list[Asked] = []
    for plan in track(list(plans(sprites, limit, taught=taught)), console=Console(stderr=True)):
        group.append(plan)
        if len(group) == BATCH:
            asked += ask(chat, group)
            group = []
    if group:
        asked += ask(chat, group)
    figures = scores(asked)
    console.print(_table(figures, chat.name, limit))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "figures.json", json.dumps(figures, indent=1))
        write_text(output / "table.md", markdown(figures))
        rows = (json.dumps({**asdict(a), "exact": a.exact}, ensure_ascii=False) + "\n" for a in asked)
        write_text(output / "answers.jsonl", "".join(rows))
        write_text(output / "dialogues.md", dialogues(chat, sprites.known(taught.things), taught=taught))
    return figures
