"""Pictures written with their labels, and read back: an edited file is noticed."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

from PIL import Image, PngImagePlugin

from huayu.checkpoints.atomic import write_bytes
from huayu.errors import LabelError
from huayu.labelling.aigc import xmp_packet
from huayu.labelling.record import PaintRecord

RECORD_KEY, XMP_KEY = "huayu", "XML:com.adobe.xmp"
_MAX_PIXELS = 50_000_000
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def label(image: Image.Image, record: PaintRecord) -> PngImagePlugin.PngInfo:
    """Text chunks for ``image.save(..., pnginfo=)`` of an RGB picture: the record with its hash, and the XMP labels."""
    digest = _digest(image, record)
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECORD_KEY, json.dumps({"record": record.to_json(), "sha256": digest}, ensure_ascii=False))
    info.add_itxt(XMP_KEY, _packet(record, digest))
    return info


def save_png(image: Image.Image, path: str | Path, record: PaintRecord) -> None:
    """Write the picture as an RGB PNG with its labels, all or nothing. Raises CheckpointError for a full disk."""
    image, buffer = image.convert("RGB"), io.BytesIO()
    image.save(buffer, "PNG", pnginfo=label(image, record))
    write_bytes(path, buffer.getvalue())


def read_record(path: str | Path) -> PaintRecord:
    """What painted the file. Raises LabelError when it has no record, or when pixels, record or labels were changed.

    The hash notices accidents and edits; it is no signature, and does not prove who made the file.
    """
    image, texts = _opened(path)
    if RECORD_KEY not in texts:
        raise LabelError(f"{path} holds no record of a painting.", f"{path} 中没有作画记录。")
    try:
        stored = json.loads(texts[RECORD_KEY])
        text, digest = str(stored["record"]), str(stored["sha256"])
    except (ValueError, KeyError, TypeError) as problem:
        raise LabelError(f"{path}: the record is damaged.", f"{path}：记录已损坏。") from problem
    record = PaintRecord.from_json(text)
    for what_en, what_zh, same in (
        ("pixels or its record", "像素或记录", _digest(image, record) == digest),
        ("label", "标识", texts.get(XMP_KEY) == _packet(record, digest)),
    ):
        if not same:
            raise LabelError(f"{path} was edited: its {what_en} changed.", f"{path} 被改动过：{what_zh}已变。")
    return record


def resave(source: str | Path, target: str | Path, image: Image.Image | None = None) -> None:
    """Write a painted file anew, its labels kept; ``image``: what became of its picture (None: as it is).

    A PNG keeps the record too; a JPEG or WebP the machine-readable labels. Raises LabelError as :func:`read_record`,
    and for another kind of file.
    """
    record = read_record(source)
    picture = _opened(source)[0] if image is None else image.convert("RGB")
    kind = _KINDS.get(Path(target).suffix.lower())
    if kind is None:
        known = ", ".join(_KINDS)
        raise LabelError(f"{target}: labels are kept in {known}.", f"{target}：标识可保存于 {known}。")
    if kind == "PNG":
        save_png(picture, target, record)
        return
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=95, xmp=_packet(record, _digest(picture, record)).encode())
    write_bytes(target, buffer.getvalue())


def _digest(image: Image.Image, record: PaintRecord) -> str:
    width, height = image.size
    head = f"{width}x{height}:{record.to_json()}:".encode()
    return hashlib.sha256(head + image.convert("RGB").tobytes()).hexdigest()


def _packet(record: PaintRecord, digest: str) -> str:
    return xmp_packet(record.producer, digest[:32], f"huayu {record.version} {record.model}".strip())


def _opened(path: str | Path) -> tuple[Image.Image, dict[str, str]]:
    """RGB pixels and text chunks of a PNG."""
    try:
        with Image.open(path, formats=["PNG"]) as file:
            if file.width * file.height > _MAX_PIXELS:
                raise ValueError(f"{file.width}×{file.height} pixels")
            file.load()  # also reads the text chunks behind the pixels
            texts = {key: str(value) for key, value in getattr(file, "text", {}).items()}
            return file.convert("RGB"), texts
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise LabelError(f"{path} is not a PNG that huayu wrote.", f"{path} 不是 huayu 写出的 PNG。") from problem
