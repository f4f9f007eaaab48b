"""Which prompts ask for two things, and what is asked of each."""

from __future__ import annotations

import time

import pytest

from huayu.data.paint_pairs import MOST, Pair, parse

BESIDE = {
    "左边一只狗，右边一只猫": ("一只狗", "一只猫"),
    "左边是狗右边是猫，蓝色背景": ("狗，蓝色背景", "猫，蓝色背景"),
    "右侧一个苹果，左侧一辆汽车": ("一辆汽车", "一个苹果"),
    "画一幅画，左边有一只狗，右边有一只猫。": ("一只狗。", "一只猫。"),
    "请帮我画左边一只狗右边一只猫": ("一只狗", "一只猫"),
    "蓝色背景，左边一只狗，右边一只猫": ("一只狗，蓝色背景", "一只猫，蓝色背景"),
    "左边红色背景的狗，右边蓝色背景的猫": ("红色背景的狗", "蓝色背景的猫"),
    "一只狗在左边，一只猫在右边，黄色背景": ("一只狗，黄色背景", "一只猫，黄色背景"),
    "一只狗和一只猫": ("一只狗", "一只猫"),
    "画一只狗和一只猫，红色背景": ("一只狗，红色背景", "一只猫，红色背景"),
    "扁平风格的狮子与老虎": ("扁平风格的狮子", "扁平风格的老虎"),
    "a dog on the left, a cat on the right": ("a dog", "a cat"),
    "A dog on the right and a cat on the left on a blue background": (
        "a cat on a blue background",
        "A dog on a blue background",
    ),
    "On the left a dog, on the right a cat, flat style": ("a dog, flat style", "a cat, flat style"),
    "Draw on the left a dog and on the right a cat": ("a dog", "a cat"),
    "a picture with a dog to the left and a palm tree to the right": ("a dog", "a palm tree"),
    "flat style, on the left a dog, on the right a cat": ("a dog, flat style", "a cat, flat style"),
    "please draw an apple and a banana, flat style": ("an apple, flat style", "a banana, flat style"),
    "a dog next to a cat": ("a dog", "a cat"),
}
ABOVE = {
    "上面一只小鸡，下面一条鱼": ("一只小鸡", "一条鱼"),
    "下方一条鱼，上方一只小鸡，扁平风格": ("一只小鸡，扁平风格", "一条鱼，扁平风格"),
    "a bee at the top and a fish at the bottom": ("a bee", "a fish"),
}
NO_PAIRS = (
    *(
        "一只狗",
        "左边一只狗",
        "左边一只狗，左边一只猫",
        "左边一只狗，下面一只猫",
        "一只黑白相间的猫",
        "和平鸽",
        "狗、猫和鱼",
    ),
    *("一只猫，蓝色背景", "a dog", "a black and white cat", "a rock and roll guitar", "a cat on a blue background"),
    *("a dog, a cat and a fish", "a dog on the left", ""),
)


@pytest.mark.parametrize("prompt", BESIDE)
def test_side_by_side(prompt: str) -> None:
    assert parse(prompt) == Pair(*BESIDE[prompt], upright=False)


@pytest.mark.parametrize("prompt", ABOVE)
def test_one_above_the_other(prompt: str) -> None:
    assert parse(prompt) == Pair(*ABOVE[prompt], upright=True)


@pytest.mark.parametrize("prompt", NO_PAIRS)
def test_no_pair(prompt: str) -> None:
    assert parse(prompt) is None


@pytest.mark.parametrize("part", ["左边", "，和", "背景，", "on the left ", "a and ", "style, ", "在左边一"])
def test_no_prompt_takes_long(part: str) -> None:
    start = time.perf_counter()
    parse((part * MOST)[:MOST])
    assert time.perf_counter() - start < 2
    assert parse(f"左边一只狗，右边一只猫，{part * MOST}") is None
