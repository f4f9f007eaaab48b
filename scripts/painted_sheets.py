"""Sheets of the embedded painter for the docs: docs/images/painted.png and docs/images/schedules.png.

    python scripts/painted_sheets.py

The second shows the same prompts and seeds by each schedule, one a row, and prints how far each is from the first, the
published one with 50 steps (mean absolute difference of 8-bit levels), and how long it takes. Captions want a Chinese
font on the system.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

import huayu
from huayu.paint import PaintResult

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
PROMPTS = (
    *("一个红苹果", "a sailboat", "一只熊猫", "a pizza", "一栋房子", "a guitar", "向日葵", "a rocket"),
    *("猫，扁平风格", "bus, flat style", "立体的草莓", "a 3D tiger"),
    *("线条风格的狗", "owl, line art", "黑色背景上的月亮", "a key on green"),
    *("大象，黄色背景", "a snowman on blue", "粉色背景的蛋糕", "red background, panda"),
    *("紫色背景上的相机", "a bell on orange", "火车，灰色背景", "a crown on black"),
)
SCHEDULES = (
    ("ddpm 50", {"scheduler": "ddpm", "steps": 50}),
    ("ddim 10", {}),
    ("dpm++ 10", {"scheduler": "dpm++", "steps": 10}),
    ("unipc 10", {"scheduler": "unipc", "steps": 10}),
    ("euler 10", {"scheduler": "euler", "steps": 10}),
)  # fmt: skip


def main() -> None:
    painter = huayu.load_paint()
    pictures = [painter.paint(prompt, seed=7).images[0] for prompt in PROMPTS]
    big = [picture.resize((128, 128), Image.Resampling.LANCZOS) for picture in pictures]
    huayu.contact_sheet(big, PROMPTS, columns=8).quantize(255).save(FOLDER / "painted.png", optimize=True)
    rows: dict[str, list[PaintResult]] = {}
    for name, changes in SCHEDULES:
        rows[name] = [painter.paint(prompt, seed=7, **changes) for prompt in PROMPTS[::2]]
    tiles = [result.images[0] for results in rows.values() for result in results]
    captions = [name if not at else " " for name in rows for at in range(len(PROMPTS[::2]))]
    huayu.contact_sheet(tiles, captions, columns=len(PROMPTS[::2])).quantize(255).save(
        FOLDER / "schedules.png", optimize=True
    )
    first = next(iter(rows.values()))
    for name, results in rows.items():
        apart = [
            np.abs(np.asarray(a.images[0], int) - np.asarray(b.images[0], int)).mean()
            for a, b in zip(results, first, strict=True)
        ]
        print(f"{name:<10} {np.mean(apart):5.2f} levels  {median(result.seconds for result in results):.2f} s")


if __name__ == "__main__":
    main()
