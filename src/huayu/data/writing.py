"""Rows written as data files: JSONL for pictures that are files, WebDataset for those that were inside shards."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huayu.checkpoints.atomic import replacing
from huayu.data.pictures import Held
from huayu.data.rows import CAPTION_PROMPTS, Record

_SIGNED = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"RIFF", "webp"), (b"GIF8", "gif"), (b"BM", "bmp"))


def fields_of(turns: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What a reader makes the same turns of: a caption, or a LLaVA conversation."""
    said = list(turns)
    if len(said) == 1 and said[0][0] in CAPTION_PROMPTS:
        return {"caption": said[0][1]}
    sides = (("human", "gpt"), said)
    return {
        "conversations": [
            {"from": who, "value": text} for pair in sides[1] for who, text in zip(sides[0], pair, strict=True)
        ]
    }


def line_of(record: Record, fields: Mapping[str, Any], folder: Path) -> str:
    """A line of JSONL; the picture's path as seen from ``folder``."""
    image = {"image": os.path.relpath(record.picture, folder)} if isinstance(record.picture, Path) else {}
    return json.dumps({**image, **fields}, ensure_ascii=False) + "\n"


def write_tar(path: Path, rows: Iterable[tuple[Record, Mapping[str, Any]]]) -> int:
    """A WebDataset file, whole or not at all: the pictures' bytes as they are, under the names they had.

    Returns the number of rows. Raises ImageError for a picture that cannot be read.
    """
    taken = set[str]()
    with replacing(path) as aside, tarfile.open(aside, "w") as tar:
        for record, fields in rows:
            assert isinstance(record.picture, Held)
            data = record.picture.read()
            stem = record.picture.name.partition(".")[0]
            key = stem if stem not in taken else f"{stem}-{record.row}"
            taken.add(key)
            ending = next((name for first, name in _SIGNED if data.startswith(first)), "png")
            parts = {ending: data, "json": json.dumps(fields, ensure_ascii=False).encode()}
            if "caption" in fields:
                parts["txt"] = str(fields["caption"]).encode()
            for name, part in parts.items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
    return len(taken)
