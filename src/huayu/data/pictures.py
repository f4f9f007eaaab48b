"""A picture from a path, a URL, bytes or PIL, as RGB: sniffed, capped before decoding, upright, opaque."""

from __future__ import annotations

import io
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile

from huayu.errors import ImageError, PictureTooLarge

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 50_000_000
MIN_SIDE = 2
URL_SECONDS = 30.0

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

# First bytes -> (name to show, Pillow's name when accepted).
_SIGNATURES: tuple[tuple[bytes, str, str | None], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG", "JPEG"),
    (b"GIF87a", "GIF", "GIF"),
    (b"GIF89a", "GIF", "GIF"),
    (b"BM", "BMP", "BMP"),
    (b"%PDF", "PDF", None),
    (b"II*\x00", "TIFF", None),
    (b"MM\x00*", "TIFF", None),
    (b"PK\x03\x04", "ZIP", None),
    (b"<svg", "SVG", None),
    (b"<?xml", "XML", None),
    (b"<!DOCTYPE", "HTML", None),
    (b"<html", "HTML", None),
    (b"8BPS", "PSD", None),
)

# EXIF orientation -> the turn that makes the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


class Held(ABC):
    """A picture inside something larger, read when it is asked for. ``name``: what it is called there."""

    name: str

    @abstractmethod
    def read(self) -> bytes:
        """The bytes of its file. Raises ImageError."""


def open_picture(source: str | Path | bytes | Held | Image.Image, *, allow_url: bool = True) -> Image.Image:
    """One RGB picture, upright, transparency laid on white; of an animation the first frame.

    ``source``: a path; a ``str`` that begins ``http://`` or ``https://`` (a URL, only when ``allow_url``); the bytes
    of a file; Held; or a PIL image, whose pixels are taken as they are unless it is still the opened file.
    Caps: :data:`MAX_BYTES` of file, :data:`MAX_PIXELS`, sides of at least :data:`MIN_SIDE` pixels; checked before
    the pixels are decoded. Raises ImageError.
    """
    if isinstance(source, Image.Image):
        _check_sides(*source.size, MAX_PIXELS)
        return _rgb(source, upright=isinstance(source, ImageFile.ImageFile))
    return decode_picture(read_bytes(source, allow_url=allow_url))


def read_bytes(source: str | Path | bytes | Held, *, allow_url: bool = True) -> bytes:
    """The bytes of a picture file, at most :data:`MAX_BYTES`. Raises ImageError."""
    if isinstance(source, Held):
        return _capped(source.read())
    if isinstance(source, bytes | bytearray | memoryview):
        return _capped(bytes(source))
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        if not allow_url:
            raise ImageError("A picture's URL is not accepted here.", "此处不接受图片网址。")
        return _fetch(source)
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise ImageError(
            f"A picture is a path, a URL, bytes or a PIL image, not {kind}.",
            f"图片应为路径、网址、字节或 PIL 图像，而不是 {kind}。",
        )
    try:
        path = Path(source).expanduser()
        if not path.is_file():
            what_en, what_zh = ("is a folder", "是文件夹") if path.is_dir() else ("does not exist", "不存在")
            raise ImageError(f"The picture {source} {what_en}.", f"图片 {source} {what_zh}。")
        with path.open("rb") as file:
            return _capped(file.read(MAX_BYTES + 1))
    except (OSError, ValueError, RuntimeError) as problem:
        raise ImageError(
            f"The picture {source} cannot be read: {problem}.", f"无法读取图片 {source}：{problem}。"
        ) from problem


def decode_picture(data: bytes, *, formats: Sequence[str] = FORMATS, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """RGB pixels of a picture file's bytes; ``formats`` as in :data:`FORMATS`. Raises ImageError."""
    with _opened(data, formats, max_pixels) as image:
        return _rgb(image, upright=True)


def picture_size(data: bytes, *, formats: Sequence[str] = FORMATS, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) as the file's head says, without decoding. Raises ImageError as :func:`decode_picture` would."""
    with _opened(data, formats, max_pixels) as image:
        return image.size


@contextmanager
def _opened(data: bytes, formats: Sequence[str], max_pixels: int) -> Iterator[Image.Image]:
    kind = _sniff(data, formats)
    try:
        with warnings.catch_warnings():
            # Our own cap is lower and gives the better sentence; what else Pillow has to say is about foreign metadata.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                _check_sides(*image.size, max_pixels)
                yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as problem:
        raise _too_many_pixels(str(problem), max_pixels) from problem
    except Exception as problem:  # a decoder may fail in any way on bytes made to break it
        raise ImageError(
            f"The {kind} picture is damaged or cut short ({problem}).", f"{kind} 图片已损坏或不完整（{problem}）。"
        ) from problem


def _rgb(image: Image.Image, *, upright: bool) -> Image.Image:
    image.load()
    turn = _UPRIGHT.get(_orientation(image)) if upright else None
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it to white
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    elif image.has_transparency_data:
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        image = flat
    image = image.convert("RGB")
    return image.transpose(turn) if turn is not None else image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata must not cost the picture
        return 1


def _check_sides(width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"The picture is {width}×{height} pixels; each side needs at least {MIN_SIDE}.",
            f"图片为 {width}×{height} 像素；每边至少需要 {MIN_SIDE} 像素。",
        )
    if width * height > max_pixels:
        raise _too_many_pixels(f"{width}×{height}", max_pixels)


def _too_many_pixels(found: str, cap: int) -> PictureTooLarge:
    return PictureTooLarge(
        f"The picture has too many pixels ({found}); the cap is {cap / 1e6:g} million.",
        f"图片像素过多（{found}）；上限为 {cap / 1e4:g} 万像素。",
    )


def _capped(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        cap = MAX_BYTES // 2**20
        raise PictureTooLarge(f"The picture file is over the cap of {cap} MB.", f"图片文件超过 {cap} MB 上限。")
    return data


def _sniff(data: bytes, formats: Sequence[str]) -> str:
    """Pillow's name of the format; raises ImageError that says what came."""
    accepted = ", ".join(formats).replace("WEBP", "WebP")
    if not data:
        raise ImageError(f"The picture file is empty; accepted: {accepted}.", f"图片文件为空；可接受：{accepted}。")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and "WEBP" in formats:
        return "WEBP"
    shown = "HEIC/AVIF" if data[4:8] == b"ftyp" else None
    head = data.lstrip()[:16] if data[:1].isspace() else data[:16]
    for signature, name, pillow in _SIGNATURES:
        if head.startswith(signature):
            if pillow in formats:
                return str(pillow)
            shown = name
            break
    came_en, came_zh = (f"a {shown} file", f"{shown} 文件") if shown else ("not a picture", "不是图片")
    raise ImageError(f"This is {came_en}; accepted: {accepted}.", f"收到的{came_zh}；可接受：{accepted}。")


def _fetch(url: str) -> bytes:
    """Download over http(s) only, also after redirects; capped in bytes and seconds."""
    import urllib.request as web
    from urllib.error import HTTPError

    opener = web.OpenerDirector()  # not build_opener: that one would also follow file: and ftp:
    for handler in (
        web.ProxyHandler,
        web.HTTPHandler,
        web.HTTPSHandler,
        web.HTTPDefaultErrorHandler,
        web.HTTPRedirectHandler,
        web.HTTPErrorProcessor,
        web.UnknownHandler,
    ):
        opener.add_handler(handler())
    deadline = time.monotonic() + URL_SECONDS
    try:
        request = web.Request(url, headers={"User-Agent": "huayu", "Accept": "image/*"})
        with opener.open(request, timeout=URL_SECONDS) as answer:
            return _read_until(answer, deadline)
    except ImageError:
        raise
    except HTTPError as problem:
        problem.close()
        raise _unreachable(url, str(problem)) from None
    except Exception as problem:  # urllib, http.client and ssl each have their own errors
        raise _unreachable(url, str(problem)) from problem


def _unreachable(url: str, problem: str) -> ImageError:
    return ImageError(f"The picture {url} cannot be fetched: {problem}.", f"无法下载图片 {url}：{problem}。")


def _read_until(answer: Any, deadline: float) -> bytes:
    data = bytearray()
    while len(data) <= MAX_BYTES:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not finished after {URL_SECONDS:.0f} seconds")
        block = answer.read(1 << 16)
        if not block:
            break
        data += block
    return _capped(bytes(data))
