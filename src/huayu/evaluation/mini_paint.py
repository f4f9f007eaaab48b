"""Task "mini-paint": does a picture show what was asked for, in both languages, also in new combinations?

Every prompt goes through :class:`huayu.paint.Painter`, as a user's would; the safety checks are off.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from huayu.chat import ChatModel, load_chat
from huayu.checkpoints.atomic import write_text
from huayu.data import paintings, pictograms, world
from huayu.data.art_styles import STYLES
from huayu.data.paint_captions import LANGUAGES, Order, caption, plain
from huayu.evaluation.paint_judges import COLUMNS, judge
from huayu.evaluation.paint_pairs import judged_pairs
from huayu.evaluation.sheets import sheet, small_sheet
from huayu.paint import Painter, load_paint
from huayu.runtime.language import say

# name → (English, Chinese); "real" is what the judges say of the real pictures.
KINDS = {
    "name": ("name alone", "只说名称"),
    "style": ("style named", "指定画风"),
    "background": ("colour named", "指定背景"),
    "both": ("style and colour named", "画风与背景"),
    "typed": ("free wording", "自由说法"),
    "new style": ("style new for the thing", "未见过的画风组合"),
    "new background": ("colour new for the thing", "未见过的背景组合"),
}
PAIRS = ("two things side by side", "左右两样东西")
SEEDS = 6  # pictures of one prompt that tell how much a seed changes
APART = 8.0  # mean levels of 255 by which two pictures of one thing are different ones


@dataclass(frozen=True)
class Asked:
    """One prompt and what it should give."""

    kind: str
    language: str
    order: Order
    prompt: str
    seed: int


def prompts(limit: int | None = None, seed: int = 31) -> list[Asked]:
    """All prompts of the task, the same for every model; at most ``limit`` of a kind and language."""
    count, styles, grounds = len(world.CONCEPTS), len(STYLES), len(world.BACKGROUNDS)
    found = []
    for language in LANGUAGES:
        rng = np.random.default_rng([seed, *map(ord, language)])

        def some(kind: str, rng: np.random.Generator = rng) -> Iterable[Order]:
            for concept in range(count):
                style = 1 + int(rng.integers(styles - 1)) if kind in ("style", "both", "typed") else None
                ground = 1 + int(rng.integers(grounds - 1)) if kind in ("background", "both", "typed") else None
                if kind == "typed":
                    style, ground = (None if rng.random() < 0.4 else value for value in (style, ground))
                if not Order(concept, style, ground).held:
                    yield Order(concept, style, ground)

        held = {
            "new style": [Order(c, s, None) for c in range(count) for s in range(styles) if paintings.held_style(c, s)],
            "new background": [
                Order(c, None, g) for c in range(count) for g in range(grounds) if paintings.held_background(c, g)
            ],
        }
        for kind in KINDS:
            orders = list(held[kind] if kind in held else some(kind))
            if limit and len(orders) > limit:
                orders = [orders[i] for i in sorted(rng.choice(len(orders), limit, replace=False))]
            for number, order in enumerate(orders):
                text = caption(rng, order, language) if kind == "typed" else plain(order, language, number % 2)
                found.append(Asked(kind, language, order, text, 1000 + number))
    return found


def by_seeds(limit: int | None = None) -> list[Asked]:
    """A prompt in each language for every fifth thing, ``SEEDS`` times; of at most ``limit`` things."""
    orders = [Order(concept, None, None) for concept in range(0, len(world.CONCEPTS), 5)][:limit]
    return [
        Asked("seeds", language, order, plain(order, language), seed)
        for order in orders
        for language in LANGUAGES
        for seed in range(SEEDS)
    ]


def variety(pixels: np.ndarray) -> dict[str, float]:
    """Of pictures (N · SEEDS, P, P, 3) by seeds of N prompts: how many of a prompt's are ``different`` from all before,
    and how far two of them are ``apart`` (mean levels of 255)."""
    groups = pixels.astype(np.float32).reshape(-1, SEEDS, *pixels.shape[1:])
    apart = np.abs(groups[:, :, None] - groups[:, None]).mean((3, 4, 5))
    earlier = np.tril(apart < APART, -1).any(2)
    pairs = apart[:, *np.triu_indices(SEEDS, 1)]
    return {"different": float((~earlier).sum(1).mean()), "apart": float(pairs.mean())}


def painted(painter: Painter, asked: list[Asked]) -> tuple[np.ndarray, float]:
    """Pictures (N, 64, 64, 3), one for each prompt, and the seconds that one takes in a warm process."""
    pixels, seconds = [], []
    for one in track(asked, "painting", console=Console(stderr=True)):
        start = time.perf_counter()
        image = painter.paint(one.prompt, seed=one.seed).images[0]
        seconds.append(time.perf_counter() - start)
        pixels.append(np.asarray(image.convert("RGB").resize((paintings.SIDE, paintings.SIDE))))
    return np.stack(pixels), median(seconds)


def markdown(figures: dict[str, dict[str, float]]) -> str:
    """The table for a model card."""
    head = "| asked | n | " + " | ".join(COLUMNS) + " |\n|---|---:" + "|---:" * len(COLUMNS) + "|\n"
    rows = (
        f"| {name} | {row['n']:.0f} | " + " | ".join(f"{100 * row[c]:.0f} %" for c in COLUMNS) + " |\n"
        for name, row in figures.items()
    )
    return head + "".join(rows)


def _table(figures: dict[str, dict[str, float]], name: str, seconds: float) -> Table:
    each = say(f"{seconds:.2f} s a picture", f"每张 {seconds:.2f} 秒")
    table = Table(title=say(f"{name}: recognised pictures, {each}", f"{name}：被认出的图片比例，{each}"))
    heads = (say("asked", "提示"), "n", *COLUMNS)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for kind, row in figures.items():
        key, _, language = kind.rpartition(" ")
        label = f"{say(*KINDS.get(key, PAIRS))} {language}" if language in LANGUAGES else kind
        table.add_row(label, f"{row['n']:.0f}", *(f"{row[column]:.0%}" for column in COLUMNS))
    return table


def _real(pictures: np.ndarray, chat: ChatModel, limit: int | None) -> dict[str, float]:
    """What the judges say of the very pictures that were learned, at most ``limit`` of them."""
    rng = np.random.default_rng(4)
    orders = [
        Order(c, s, int(rng.integers(len(world.BACKGROUNDS)))) for c in range(len(pictures)) for s in range(len(STYLES))
    ][:limit]
    pixels = np.stack([pictures[order.shown][int(rng.integers(paintings.VARIANTS))] for order in orders])
    rights = judge(pixels, orders, pictures, chat)
    return {"n": len(orders), **{name: float(np.mean(right)) for name, right in rights.items()}}


def _sheets(pixels: np.ndarray, asked: list[Asked], pictures: np.ndarray, output: Path) -> None:
    """A sheet of each kind's pictures with captions, beside the real one for new pairs; and a small one for a card."""
    (output / "sheets").mkdir(exist_ok=True)
    for kind in KINDS:
        new, name = kind.startswith("new"), f"{kind.replace(' ', '-')}.png"
        rows = [i for i, a in enumerate(asked) if a.kind == kind]
        shown = []
        for i in rows[:: max(1, len(rows) // 60)][:60]:
            shown.append((pixels[i], asked[i].prompt))
            shown += [(pictures[asked[i].order.shown][0], say("real", "真实"))] if new else []
        sheet(shown).save(output / name)
        rows = [i for i in rows if asked[i].language == ("en" if new else "zh")]
        small_sheet(pixels[rows[: len(world.CONCEPTS)]], output / "sheets" / name)


def evaluate(model: str | None, limit: int | None, output: Path | None) -> dict[str, dict[str, float]]:
    """Run the task and print its table. ``output`` gets table.json, table.md, pictures.npz and sheets."""
    pictures = paintings.load(pictograms.DEFAULT_CACHE)
    painter = load_paint(model, safety=None, device="cpu")
    chat = load_chat("huayu-chat-mini", safety=None, device="cpu")
    asked = prompts(limit)
    pixels, seconds = painted(painter, asked)
    seeded = by_seeds(limit)
    varied, _ = painted(painter, seeded)
    rights = judge(pixels, [a.order for a in asked], pictures, chat)
    figures: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        for language in LANGUAGES:
            rows = [i for i, a in enumerate(asked) if (a.kind, a.language) == (kind, language)]
            means = {name: float(np.mean([right[i] for i in rows])) for name, right in rights.items()}
            figures[f"{kind} {language}"] = {"n": len(rows), **means}
    figures |= judged_pairs(painter, chat, pictures, limit or 100)
    figures["real pictures"] = _real(pictures, chat, limit)
    Console().print(_table(figures, painter.name, seconds))
    seeds = variety(varied)
    of, apart = f"{seeds['different']:.1f}", f"{seeds['apart']:.0f}"
    Console().print(
        say(
            f"{SEEDS} seeds of a prompt: {of} different pictures, two of them {apart} levels apart",
            f"同一提示的 {SEEDS} 个种子：{of} 张不同的图片，两两平均相差 {apart} 级",
        )
    )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        more = {"seconds": seconds, "seeds": seeds}
        write_text(output / "table.json", json.dumps({**figures, **more}, ensure_ascii=False, indent=1))
        write_text(output / "table.md", markdown(figures))
        wrong = [a.prompt for a, right in zip(asked, rights["nearest top-1"], strict=True) if not right]
        write_text(output / "wrong.json", json.dumps(wrong, ensure_ascii=False, indent=0))
        np.savez_compressed(output / "pictures.npz", pixels=pixels)
        _sheets(pixels, asked, pictures, output)
        small_sheet(varied[[a.language == "zh" for a in seeded]], output / "sheets" / "seeds.png", 2 * SEEDS)
    return figures
