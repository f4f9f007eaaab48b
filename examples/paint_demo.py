"""Two pictures from words, one in Chinese and one in English: `python examples/paint_demo.py [FOLDER]`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import huayu
from huayu.runtime.language import say
from huayu.runtime.terminal import in_half_blocks

PROMPTS = {"apple": "一个红苹果", "sailboat": "a sailboat on a blue background"}


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    painter = huayu.load_paint()
    print(say("Model", "模型") + f": {painter.name}\n")
    for name, prompt in PROMPTS.items():
        start = time.perf_counter()
        result = painter.paint(prompt, seed=7)
        seconds = time.perf_counter() - start
        path = folder / f"{name}.png"
        folder.mkdir(parents=True, exist_ok=True)
        result.save(path)
        print(f"  {prompt} → {path}  ({seconds:.1f} s)")
        if sys.stdout.isatty():
            print(in_half_blocks(result.images[0], width=32) + "\n")


if __name__ == "__main__":
    main()
