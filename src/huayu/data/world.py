"""The small world the embedded models know: concepts, categories, backgrounds, and pictograms that are outside it.

Literal tables, reviewed by eye against every drawing. Nothing here opens a file.
"""

from __future__ import annotations

import hashlib
from functools import cache

from huayu.data.concepts import CONCEPTS, PLURAL, Concept
from huayu.data.strangers import OUTSIDE_TEST, OUTSIDE_TRAIN

__all__ = [
    "ALIKE",
    "BACKGROUNDS",
    "CATEGORIES",
    "CONCEPTS",
    "GENERIC",
    "OUTSIDE",
    "PLURAL",
    "Concept",
    "alike",
    "concept_ids",
    "held_pair",
    "held_pairs",
    "kin",
    "version",
]

OUTSIDE = -1  # the concept id of a thing the world has no word for

# Groups in which a drawing of one may fairly be called another: no "no" is asked among them.
ALIKE: tuple[frozenset[str], ...] = (
    frozenset({"chicken", "chick"}), frozenset({"tree", "palm", "christmastree"}), frozenset({"house", "castle"}),
    frozenset({"phone", "telephone"}), frozenset({"ship", "sailboat"}), frozenset({"rose", "tulip", "sunflower"}),
    frozenset({"bread", "cake"}), frozenset({"football", "basketball"}), frozenset({"tshirt", "dress"}),
    frozenset({"coffee", "tea"}), frozenset({"key", "lock"}), frozenset({"snake", "dragon"}),
)
# Aliases that also cover other things: used only where the answer is yes.
GENERIC = frozenset({"车", "笔", "衣服", "灯", "电脑", "星", "心", "蛋", "糖", "hot drink", "computer", "lamp",
"seat", "keyboard", "sweet"})

# key: (English with article, Chinese)
CATEGORIES: dict[str, tuple[str, str]] = {
    "animal": ("an animal", "动物"),
    "fruit": ("a fruit", "水果"),
    "vegetable": ("a vegetable", "蔬菜"),
    "food": ("a food", "食物"),
    "drink": ("a drink", "饮料"),
    "vehicle": ("a vehicle", "交通工具"),
    "building": ("a building", "建筑"),
    "plant": ("a plant", "植物"),
    "nature": ("a thing of nature", "自然景物"),
    "toy": ("a toy", "玩具"),
    "fantasy": ("a fantasy creature", "幻想生物"),
    "object": ("a daily object", "日常用品"),
    "symbol": ("a symbol", "符号"),
    "tool": ("a tool", "工具"),
    "device": ("an electric device", "电器"),
    "instrument": ("a musical instrument", "乐器"),
    "sport": ("a ball", "球类"),
    "clothing": ("a thing to wear", "穿戴用品"),
    "furniture": ("a piece of furniture", "家具"),
    "festival": ("a festival item", "节日用品"),
}

# (English, Chinese, RGB of the middle of the colour)
BACKGROUNDS: tuple[tuple[str, str, tuple[int, int, int]], ...] = (
    ("white", "白色", (250, 250, 250)),
    ("gray", "灰色", (150, 150, 150)),
    ("black", "黑色", (22, 22, 22)),
    ("red", "红色", (214, 50, 42)),
    ("orange", "橙色", (246, 146, 42)),
    ("yellow", "黄色", (247, 218, 70)),
    ("green", "绿色", (80, 168, 86)),
    ("blue", "蓝色", (62, 116, 220)),
    ("purple", "紫色", (142, 82, 190)),
    ("pink", "粉色", (250, 172, 196)),
    ("brown", "棕色", (128, 88, 54)),
)


@cache
def concept_ids() -> dict[str, int]:
    """key -> concept id."""
    return {concept.key: number for number, concept in enumerate(CONCEPTS)}


@cache
def alike(a: int, b: int) -> bool:
    """Whether a drawing of one could fairly be called the other, so that "no" would be unfair."""
    return a != b and any({CONCEPTS[a].key, CONCEPTS[b].key} <= group for group in ALIKE)


@cache
def kin() -> tuple[tuple[int, ...], ...]:
    """For each concept, the others of its category."""
    return tuple(
        tuple(i for i, other in enumerate(CONCEPTS) if other.category == concept.category and other != concept)
        for concept in CONCEPTS
    )


@cache
def held_pair(a: int, b: int) -> bool:
    """Whether concepts a and b are kept apart in training scenes (a fixed tenth of all pairs)."""
    first, second = sorted((CONCEPTS[a].key, CONCEPTS[b].key))
    return first != second and hashlib.sha256(f"{first}+{second}".encode()).digest()[0] % 10 == 0


@cache
def held_pairs() -> tuple[tuple[int, int], ...]:
    """All pairs (a < b) that training scenes never show together."""
    count = len(CONCEPTS)
    return tuple((a, b) for a in range(count) for b in range(a + 1, count) if held_pair(a, b))


@cache
def version() -> str:
    """Twelve hex digits that change with any table of this file."""
    text = repr((CONCEPTS, sorted(CATEGORIES.items()), BACKGROUNDS, OUTSIDE_TRAIN, OUTSIDE_TEST))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
