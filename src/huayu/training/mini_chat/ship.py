"""Put a trained model into the package: ``python -m huayu.training.mini_chat.ship NAME RUN EVALUATION CARD PICTURE``.

``NAME`` is what it is called there, ``RUN`` the output folder of the recipe "instruct", ``EVALUATION`` that of
``huayu evaluate mini-chat|mini-glm --output``, ``CARD`` the text of the model card with ``{table}``, ``{dialogues}``
and ``{parameters}`` to be filled, ``PICTURE`` the one that the self-test asks about.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from huayu import embedded
from huayu.chat import load_chat
from huayu.checkpoints.atomic import write_text
from huayu.checkpoints.checksums import FILE, write_checksums
from huayu.training.mini_chat.architecture import SIZE

SELF_TEST = {"picture": "selftest.png", "question": "这张图片里有什么？"}


def fill_card(card: str, evaluation: Path, parameters: int) -> str:
    """The model card with the figures of the evaluation that was run."""
    parts = {
        "{table}": (evaluation / "table.md").read_text("utf-8"),
        "{dialogues}": (evaluation / "dialogues.md").read_text("utf-8"),
        "{parameters}": f"{parameters / 1e6:.1f} M",
    }
    if set(parts) != set(re.findall(r"\{\w+\}", card)):
        raise ValueError(f"the card must have {', '.join(parts)} and no other marks")
    for mark, text in parts.items():
        card = card.replace(mark, text)
    return card


def ship(name: str, run: Path, evaluation: Path, card: Path, picture: Path) -> Path:
    """Replace the embedded model ``name`` by ``run/model``; records the answer about ``picture`` as its self-test."""
    folder = embedded.folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file in sorted((run / "model").iterdir()):
        shutil.copyfile(file, folder / file.name)
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / SELF_TEST["picture"])
    chat = load_chat(folder, device="cpu")
    answer = chat.ask(folder / SELF_TEST["picture"], SELF_TEST["question"]).text
    write_text(folder / "selftest.json", json.dumps({**SELF_TEST, "answer": answer}, ensure_ascii=False, indent=1))
    parameters = sum(p.numel() for p in chat.backend.model.parameters())  # type: ignore[attr-defined]
    write_text(folder / "README.md", fill_card(card.read_text("utf-8"), evaluation, parameters))
    write_checksums(folder)
    return folder / FILE


if __name__ == "__main__":
    print(ship(sys.argv[1], *map(Path, sys.argv[2:6])))
