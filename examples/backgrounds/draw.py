"""Draw the 20 pictures of this folder to learn from, and 10 to check with: `python examples/backgrounds/draw.py`.

Each asks, in the published few-shot form, what is in the background: rain, snow, stars, dots or stripes.
`rehearse.json` and `keep.json` ask huayu-chat-mini what it can do already: so that it goes on doing it, and so that
forgetting shows. Needs npm and the extra `train`; the things are Noto (Apache-2.0) and Fluent (MIT) emoji, the rest is
drawn here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from huayu.data import pictograms
from huayu.data.dialogues import dialogue
from huayu.data.pictogram_packages import PACKAGES
from huayu.data.scenes import Sprites, compose

SIDE = 128
SKILLS = ("name", "background", "count", "place", "yesno", "list", "category", "edible")
QUESTION = "这张图片的背景里有什么内容？"
THINGS = "🐶🐱🐷🐰🚗🏠🌳🍎🐟🦆"
Draw = ImageDraw.ImageDraw
Rng = np.random.Generator


def rain(draw: Draw, rng: Rng) -> None:
    """Slanting strokes."""
    for x, y in rng.integers(-10, SIDE, (90, 2)).tolist():
        draw.line((x, y, x - 4, y + 13), fill=(90, 130, 190), width=2)


def snow(draw: Draw, rng: Rng) -> None:
    """White flakes."""
    for x, y in rng.integers(0, SIDE, (110, 2)).tolist():
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(255, 255, 255))


def stars(draw: Draw, rng: Rng) -> None:
    """Yellow points with four rays."""
    for x, y in rng.integers(4, SIDE - 4, (34, 2)).tolist():
        draw.polygon([(x, y - 6), (x + 2, y - 2), (x + 6, y), (x + 2, y + 2), (x, y + 6), (x - 2, y + 2), (x - 6, y),
                      (x - 2, y - 2)], fill=(255, 225, 90))  # fmt: skip


def dots(draw: Draw, rng: Rng) -> None:
    """Large discs in rows."""
    colour = tuple(rng.integers(120, 220, 3).tolist())
    for x in range(8, SIDE, 24):
        for y in range(8, SIDE, 24):
            draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=colour)


def stripes(draw: Draw, rng: Rng) -> None:
    """Upright bands of many colours."""
    for x in range(0, SIDE, 16):
        draw.rectangle((x, 0, x + 9, SIDE), fill=tuple(rng.integers(100, 240, 3).tolist()))


# What is drawn, on which colour, and how it is called.
BACKGROUNDS: tuple[tuple[str, Callable[[Draw, Rng], None], tuple[int, int, int], str], ...] = (
    ("rain", rain, (196, 208, 220), "雨"),
    ("snow", snow, (120, 150, 190), "雪"),
    ("stars", stars, (24, 28, 60), "星星"),
    ("dots", dots, (248, 244, 232), "圆点"),
    ("stripes", stripes, (250, 250, 250), "彩条"),
)


def old_skills(folder: Path, cache: Path) -> dict[str, list[dict[str, str]]]:
    """Pictures of the world that the small model knows, and a question of each skill in each language about them."""
    sprites = Sprites.load(pictograms.pack(cache), styles=("noto", "fluent-emoji-flat"))
    rng, rows = np.random.default_rng(8), {"keep.json": [], "rehearse.json": []}
    (folder / "known").mkdir(exist_ok=True)
    for number in range(48):
        skill, pair = SKILLS[number % len(SKILLS)], []
        while len(pair) < 2:  # not every scene can be asked everything
            scene = compose(rng, sprites, size=96, split="train-eval", outside=0.0)
            try:
                pair = [dialogue(rng, scene.scene, language=zh, weights={skill: 1.0})[0] for zh in ("zh", "en")]
            except ValueError:
                continue
        file = f"known/{number + 1}.png"
        Image.fromarray(scene.pixels).quantize(48).save(folder / file, optimize=True)
        asked = [{"img": file, "prompt": turn.question, "label": turn.answer} for turn in pair]
        rows["keep.json" if number < 16 else "rehearse.json"] += asked
    return rows


def main() -> None:
    """Write the pictures, dataset.json and check.json beside this file."""
    parser = argparse.ArgumentParser(description="Draw the few-shot example.")
    parser.add_argument("--cache", type=Path, default=pictograms.DEFAULT_CACHE, help="folder of the pictogram cache")
    cache = parser.parse_args().cache
    package = next(package for package in PACKAGES if package.style == "noto")
    icons = pictograms.Icons.read(pictograms.fetch(package, cache))
    rng, folder = np.random.default_rng(7), Path(__file__).parent
    rows: dict[str, list[dict[str, str]]] = {"dataset.json": [], "check.json": []}
    for name, paint, colour, word in BACKGROUNDS:
        for number, thing in enumerate(rng.permutation(list(THINGS))[:6]):
            picture = Image.new("RGB", (SIDE, SIDE), colour)
            paint(ImageDraw.Draw(picture), rng)
            found = icons.find(thing, icons.name_of(thing))[0]
            drawing = Image.fromarray(pictograms.draw(icons.svg(found), 60))
            x, y = rng.integers(8, SIDE - 68, 2).tolist()
            picture.paste(drawing, (x, y), drawing)
            file = f"{name}{number + 1}.png"
            picture.quantize(64).save(folder / file, optimize=True)
            row = {"img": file, "prompt": QUESTION, "label": f"这张图片的背景里有{word}。"}
            rows["dataset.json" if number < 4 else "check.json"].append(row)
    rows |= old_skills(folder, cache)
    for file, records in rows.items():
        (folder / file).write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
