"""Finished paintings: what is said of them, and how the history keeps them."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from huayu.paint import Painted
from huayu.types import Verdict
from huayu.webui.common import Room
from huayu.webui.history import Item
from huayu.webui.words import Language


@dataclass(frozen=True)
class Work:
    """A finished painting: ``png`` with its labels, and what is said of it."""

    png: bytes
    seed: int
    size: str
    scores: tuple[float, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    look: Verdict | None = None
    tries: int = 1

    @classmethod
    def of(cls, painted: Painted, folder: Path) -> Work:
        """What was just painted; ``folder`` is for a moment."""
        file = folder / f"{uuid.uuid4().hex}.png"
        painted.save(file)
        png = file.read_bytes()
        file.unlink()
        size = "{}×{}".format(*painted.image.size)
        return cls(png, painted.seed, size, painted.scores, painted.verdicts, painted.look)

    @property
    def name(self) -> str:
        """Of its file; the same for the same picture."""
        return f"huayu-{self.seed}-{uuid.uuid5(uuid.NAMESPACE_OID, base64.b64encode(self.png).decode()).hex[:8]}.png"


def works_of(item: Item) -> tuple[str, tuple[Work, ...]]:
    """Prompt and paintings from the history."""
    record = json.loads(item.body)
    works = [
        Work(
            base64.b64decode(said["png"]),
            said["seed"],
            said["size"],
            tuple(said["scores"]),
            tuple(Verdict(**verdict) for verdict in said["verdicts"]),
            Verdict(**said["look"]) if said["look"] else None,
            said["tries"],
        )
        for said in record["pictures"]
    ]
    return record["prompt"], tuple(works)


def record_of(prompt: str, works: list[Work]) -> str:
    """Prompt and paintings for the history."""
    pictures = [{**asdict(work), "png": base64.b64encode(work.png).decode("ascii")} for work in works]
    return json.dumps({"format": "huayu.painting", "version": 1, "prompt": prompt, "pictures": pictures})


def caption(work: Work, number: int, room: Room) -> str:
    """Under the picture: its number, seed and score, and whether it fits."""
    said = [f"{number}", f"{room.say('seed')} {work.seed}"]
    if work.scores:
        said.append(f"{room.say('score')} {max(work.scores):.1f}")
    if work.look is not None:
        said.append(_judged(work.look, room))
    return " · ".join(said)


def story(works: tuple[Work, ...], at: int, room: Room) -> str:
    """HTML: everything that is known of one picture."""
    if at >= len(works):
        return ""
    say, work = room.say, works[at]
    rows = [(say("seed"), str(work.seed)), (say("size"), work.size)]
    if work.scores:
        listed = " · ".join(f"{score:.1f}" for score in work.scores)
        rows.append((say("score"), f"{max(work.scores):.1f} ({say('best of')} {listed})"))
    if work.look is not None:
        tries = f" ×{work.tries}" if work.tries > 1 else ""
        rows.append((_judged(work.look, room) + tries, reason(work.look, room.language)))
    rows += [(say("safety"), reason(verdict, room.language)) for verdict in work.verdicts]
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows) + "</dl>"


def _judged(look: Verdict, room: Room) -> str:
    return room.say("fits" if look.allowed else "unsure" if look.score else "no fit")


def reason(verdict: Verdict, language: Language) -> str:
    """In the page's language."""
    return verdict.reason_zh if language == "zh" else verdict.reason_en
