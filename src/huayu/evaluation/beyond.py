"""Task "beyond": what tiles, larger inputs, a second look and reading are worth, on painted scenes and drawn words.

Named things are counted over all scenes: precision is the share of them that are there, recall the share of what is
there that is named.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.markdown import Markdown

from huayu.chat import ChatModel, ChatReply, load_chat
from huayu.chat.ocr import TextLine, read_text, with_text
from huayu.chat.things import things_in
from huayu.checkpoints.atomic import write_text
from huayu.data import pictograms, world
from huayu.data.layouts import Scene, Thing, in_order
from huayu.data.scenes import Composed, Sprites, paint
from huayu.data.world import CONCEPTS, OUTSIDE
from huayu.errors import HuayuError
from huayu.evaluation.plans import LANGUAGES, SPLITS, Plan, draw
from huayu.runtime.language import say
from huayu.runtime.packages import is_installed

SIDE = 384  # pixels of a large scene; its things have 50 to 75
STYLES = ("train", "test")
KINDS = ("name", "list", "describe")
EVERYTHING = {"zh": "图里都有什么？", "en": "What are all the things in the picture?"}
LOOKS: dict[str, dict] = {
    "one look": {},
    "tiles=2": {"tiles": 2},
    "tiles=3": {"tiles": 3},
    "tiles=3, second look": {"tiles": 3, "second_look": True},
}
WORDS = {
    "en": ("Open daily 9:00-18:00", "No parking", "Fresh coffee and tea", "Gate 12 to Beijing", "Sale: 50% off today"),
    "zh": ("欢迎光临", "今日特价苹果五元一斤", "请勿停车", "北京站第三候车室", "小心地滑注意安全"),
}
_CJK = ("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc", "msyh.ttc", "PingFang.ttc")


@dataclass(frozen=True)
class Figure:
    """One cell of the table: a share, and of how many."""

    part: str
    case: str
    style: str
    language: str
    measure: str
    value: float
    count: int


def large_scene(rng: np.random.Generator, sprites: Sprites, split: str) -> Composed:
    """Four to six small things far from each other on :data:`SIDE` pixels."""
    count = int(rng.integers(4, 7))
    boxes: list[tuple[float, float, float]] = []
    while len(boxes) < count:
        size = rng.uniform(0.14, 0.2)
        x, y = rng.uniform(size / 2, 1 - size / 2, 2)
        if all(max(abs(x - a), abs(y - b)) > 0.22 for a, b, _ in boxes):
            boxes.append((float(x), float(y), float(size)))
    things = []
    for concept, (x, y, size) in zip(rng.choice(sprites.drawn[split], count, replace=False), boxes, strict=True):  # type: ignore[index]
        pool = sprites.pools[split, int(concept)]  # type: ignore[index]
        rows = pool[rng.integers(len(pool))]
        sprite = int(rows[rng.integers(len(rows))])
        things.append(Thing(int(concept), int(sprites.style[sprite]), sprite, x, y, size, False))
    return paint(rng, sprites, Scene(int(rng.integers(len(world.BACKGROUNDS))), in_order(things)), size=SIDE)


def named(replies: Iterable[ChatReply]) -> list[set[str]]:
    """The things that each answer names, by key."""
    return [{thing.key for thing in things_in(reply.text)} for reply in replies]


def precision_recall(found: Sequence[set[str]], truth: Sequence[set[str]]) -> tuple[float, float, int, int]:
    """Over all scenes; and how many things were named and are there."""
    right = sum(len(a & b) for a, b in zip(found, truth, strict=True))
    said, there = sum(map(len, found)), sum(map(len, truth))
    return right / max(said, 1), right / max(there, 1), said, there


def keys_of(scene: Scene) -> set[str]:
    """What is in the scene, strangers apart."""
    return {CONCEPTS[thing.concept].key for thing in scene.things if thing.concept != OUTSIDE}


def _both(
    part: str, case: str, style: str, language: str, found: list[set[str]], truth: list[set[str]]
) -> list[Figure]:
    precision, recall, said, there = precision_recall(found, truth)
    return [
        Figure(part, case, style, language, "precision", precision, said),
        Figure(part, case, style, language, "recall", recall, there),
    ]


def second_look(chat: ChatModel, sprites: Sprites, limit: int) -> list[Figure]:
    """Questions that name, list and describe, on scenes of one to four things, some of them strangers."""
    figures = []
    for style in STYLES:
        for language in LANGUAGES:
            rng = np.random.default_rng([31, *map(ord, style + language)])
            plans = [draw(rng, sprites, KINDS[i % len(KINDS)], style, language) for i in range(limit)]
            truth = [keys_of(plan.pictures[0].scene) for plan in plans]
            asked = [(plan.images, plan.turns[0].question) for plan in plans]
            for case, options in (("one look", {}), ("second look", {"second_look": True})):
                replies = chat.ask_batch(asked, **options)  # type: ignore[arg-type]
                figures += _both("second look", case, style, language, named(replies), truth)
    return figures


def tiles(chat: ChatModel, sprites: Sprites, limit: int, larger: ChatModel | None) -> list[Figure]:
    """Large scenes of small things, half as many: one look, tiles, tiles with a second look, and a larger input."""
    figures = []
    runs = [(chat, *look) for look in LOOKS.items()]
    if larger is not None:
        runs.append((larger, "image_size doubled", {}))
    for style in STYLES:
        rng = np.random.default_rng([32, *map(ord, style)])
        scenes = [large_scene(rng, sprites, SPLITS[style][0]) for _ in range(-(-limit // 2))]
        truth, pictures = [keys_of(scene.scene) for scene in scenes], [Image.fromarray(s.pixels) for s in scenes]
        for language in LANGUAGES:
            asked = [(picture, EVERYTHING[language]) for picture in pictures]
            for model, case, options in runs:
                figures += _both("tiles", case, style, language, named(model.ask_batch(asked, **options)), truth)
    return figures


def cjk_font(size: int) -> ImageFont.FreeTypeFont | None:
    """A font with Chinese characters, where the system has one."""
    for name in _CJK:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return None


def drawn(text: str, rng: np.random.Generator, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    """The words somewhere on a coloured ground, dark on light or light on dark."""
    ground = np.array(world.BACKGROUNDS[int(rng.integers(len(world.BACKGROUNDS)))][2])
    picture = Image.new("RGB", (480, 160), tuple(int(c) for c in ground))
    ink = "black" if ground.mean() > 120 else "white"
    ImageDraw.Draw(picture).text((int(rng.integers(8, 60)), int(rng.integers(8, 100))), text, font=font, fill=ink)
    return picture


def _distance(a: str, b: str) -> int:
    """How many characters to put in, take out or change."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def reading(limit: int) -> list[Figure]:
    """Share of characters read right, spaces apart."""
    figures = []
    for language, words in WORDS.items():
        rng = np.random.default_rng([33, *map(ord, language)])
        wrong = total = 0
        for number in range(limit):
            size = int(rng.integers(18, 33))
            font = ImageFont.load_default(size) if language == "en" else cjk_font(size)
            if font is None:
                break
            text = words[number % len(words)]
            lines = read_text(drawn(text, rng, font))
            wanted, found = text.replace(" ", ""), "".join(line.text for line in lines).replace(" ", "")
            wrong, total = wrong + min(_distance(wanted, found), len(wanted)), total + len(wanted)
        if total:
            figures.append(Figure("reading", "drawn words", "", language, "characters right", 1 - wrong / total, total))
    return figures


def quoting(chat: ChatModel, sprites: Sprites, limit: int) -> list[Figure]:
    """What a quotation before the question does to a model's exact answers about things."""
    figures = []
    for language in LANGUAGES:
        rng = np.random.default_rng([34, *map(ord, language)])
        plans = [draw(rng, sprites, KINDS[i % len(KINDS)], "train", language) for i in range(limit)]
        for case in ("question alone", "question after a quotation"):
            alone = case == "question alone"
            asked = [
                (plan.images, plan.turns[0].question if alone else _quoting(plan, number))
                for number, plan in enumerate(plans)
            ]
            replies = chat.ask_batch(asked)  # type: ignore[arg-type]
            exact = sum(r.text.strip() == p.turns[0].answer for r, p in zip(replies, plans, strict=True))
            figures.append(Figure("reading", case, "train", language, "exact answers", exact / limit, limit))
    return figures


def _quoting(plan: Plan, number: int) -> str:
    words = WORDS[plan.language]
    return with_text(plan.turns[0].question, [TextLine(words[number % len(words)], 1.0, (0.0, 0.0, 1.0, 1.0))])


def _larger(model: str | None, chat: ChatModel) -> ChatModel | None:
    """The same model with twice its input, where it is one of ours."""
    config: Any = getattr(getattr(chat.backend, "model", None), "config", None)
    with contextlib.suppress(HuayuError, AttributeError):
        return load_chat(model, image_size=2 * config.vision_config.image_size)
    return None


def markdown(figures: Sequence[Figure]) -> str:
    """part, case and measure by style and language."""
    heads = list(dict.fromkeys((f.style, f.language) for f in figures))
    cells = {(f.part, f.case, f.measure, f.style, f.language): f"{100 * f.value:.0f} % ({f.count})" for f in figures}
    text = "| part | case | measure | " + " | ".join(" ".join(h).strip() for h in heads) + " |\n"
    text += "|---" * (3 + len(heads)) + "|\n"
    for labels in dict.fromkeys((f.part, f.case, f.measure) for f in figures):
        text += f"| {' | '.join((*labels, *(cells.get((*labels, *head), '') for head in heads)))} |\n"
    return text


def evaluate(model: str | None, limit: int, output: Path | None) -> list[Figure]:
    """Run the task and print its table; ``limit`` scenes a cell. ``output`` gets figures.json and table.md."""
    sprites, chat = Sprites.load(pictograms.pack()), load_chat(model)
    parts: list[Callable[[], list[Figure]]] = [
        lambda: second_look(chat, sprites, limit),
        lambda: quoting(chat, sprites, limit),
        lambda: reading(limit) if is_installed("rapidocr") else [],
        lambda: tiles(chat, sprites, limit, _larger(model, chat)),
    ]
    figures: list[Figure] = []
    for part in parts:
        figures += part()
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            write_text(output / "figures.json", json.dumps([asdict(f) for f in figures], indent=1))
            write_text(output / "table.md", markdown(figures))
    title = say(f"{chat.name}: beyond one look", f"{chat.name}：不止看一眼")
    Console(width=160).print(Markdown(f"## {title}\n\n{markdown(figures)}"))
    return figures
