"""Draw the example pictures of this folder from open pictograms: `python examples/make_pictures.py [--cache DIR]`.

Needs npm and the extra `train`. Only Apache-2.0 and MIT drawings are used; see LICENSES.md beside this file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from huayu.data import pictograms, world
from huayu.data.pictogram_packages import PACKAGES

SIDE = 320
# file: background, then (emoji, style, centre x, centre y, size) with lengths as fractions of the side
PICTURES: dict[str, tuple[str, tuple[tuple[str, str, float, float, float], ...]]] = {
    "dog.png": ("yellow", (("🐶", "noto", 0.5, 0.5, 0.7),)),
    "table.png": (
        "brown",
        (
            ("🍎", "noto", 0.22, 0.36, 0.34),
            ("🍞", "noto", 0.72, 0.33, 0.42),
            ("🍌", "fluent-emoji-flat", 0.46, 0.76, 0.4),
        ),
    ),
    "fruit_and_dog.png": (
        "blue",
        (
            ("🍎", "fluent-emoji-flat", 0.24, 0.3, 0.36),
            ("🐶", "fluent-emoji-flat", 0.73, 0.33, 0.42),
            ("🍌", "noto", 0.45, 0.76, 0.38),
        ),
    ),
    "car_and_tree.png": ("white", (("🚗", "noto", 0.27, 0.6, 0.42), ("🌳", "noto", 0.74, 0.45, 0.5))),
    "spring_festival.png": (
        "yellow",
        (
            ("🏮", "noto", 0.25, 0.34, 0.44),
            ("🧧", "noto", 0.75, 0.36, 0.42),
            ("🥟", "noto", 0.5, 0.78, 0.38),
        ),
    ),
    "stranger.png": ("pink", (("🦓", "noto", 0.5, 0.5, 0.72),)),
}


def main() -> None:
    """Write all pictures beside this file."""
    parser = argparse.ArgumentParser(description="Draw the example pictures.")
    parser.add_argument("--cache", type=Path, default=pictograms.DEFAULT_CACHE, help="folder of the pictogram cache")
    cache = parser.parse_args().cache
    icons = {
        package.style: pictograms.Icons.read(pictograms.fetch(package, cache))
        for package in PACKAGES
        if package.style in ("noto", "fluent-emoji-flat")
    }
    colours = {en: rgb for en, _, rgb in world.BACKGROUNDS}
    for name, (background, things) in PICTURES.items():
        picture = Image.new("RGB", (SIDE, SIDE), colours[background])
        for emoji, style, cx, cy, size in things:
            found = icons[style].find(emoji, icons["noto"].name_of(emoji))[0]
            drawing = Image.fromarray(pictograms.draw(icons[style].svg(found), round(size * SIDE)))
            corner = (round(cx * SIDE - drawing.width / 2), round(cy * SIDE - drawing.height / 2))
            picture.paste(drawing, corner, drawing)
        path = Path(__file__).with_name(name)
        picture.save(path, optimize=True)
        print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
