"""Pictures from outside: what is accepted, what is refused before decoding, and with which words."""

from __future__ import annotations

import http.server
import io
import struct
import threading
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from huayu.data import pictures
from huayu.data.pictures import open_picture
from huayu.errors import ImageError


def _file(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def _two_halves(mode: str = "RGB") -> Image.Image:
    """Left red, right blue; 8 wide, 4 high."""
    image = Image.new("RGB", (8, 4), (255, 0, 0))
    image.paste((0, 0, 255), (4, 0, 8, 4))
    return image.convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_each_accepted_format(kind: str) -> None:
    settings = {"lossless": True} if kind == "WEBP" else {}
    image = open_picture(_file(_two_halves(), kind, **settings))
    assert image.mode == "RGB"
    assert image.size == (8, 4)
    red, _, blue = image.getpixel((0, 0))
    assert red > 200
    assert blue < 60


def test_path_string_bytes_and_pil_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "图片.png"
    file.write_bytes(_file(_two_halves()))
    pixels = {open_picture(source).tobytes() for source in (file, str(file), file.read_bytes(), _two_halves())}
    assert len(pixels) == 1


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert open_picture(_file(clear)).getpixel((1, 1)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 3)
    palette.info["transparency"] = 3
    assert open_picture(_file(palette, "GIF", transparency=3)).getpixel((1, 1)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    grey = Image.new("I;16", (4, 4), 32896)
    assert open_picture(_file(grey)).getpixel((0, 0)) == (128, 128, 128)


def test_exif_orientation_is_applied_to_files_only() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 270 degrees
    data = _file(_two_halves(), "JPEG", exif=exif, quality=95)
    upright = open_picture(data)
    assert upright.size == (4, 8)
    assert upright.getpixel((2, 0))[0] > 200  # the left half is now on top
    opened = Image.open(io.BytesIO(data))
    assert open_picture(opened).size == (4, 8)
    assert open_picture(opened.convert("RGB").copy()).size == (8, 4)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = _file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_picture(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "not a picture"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"II*\x00aaaa", "TIFF"),
        (b"  <svg xmlns='x'/>", "SVG"),
        (b"\x00\x00\x00\x18ftypheic", "HEIC"),
        (b"\x89PNG\r\n\x1a\nrubbish", "damaged"),
    ],
)
def test_foreign_bytes_are_named(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        open_picture(data)
    assert caught.value.zh != caught.value.en


def test_truncated_file() -> None:
    noisy = Image.effect_noise((64, 64), 90).convert("RGB")
    data = _file(noisy, "JPEG")
    with pytest.raises(ImageError, match="cut short"):
        open_picture(data[: len(data) // 2])


def _png_that_claims(width: int, height: int) -> bytes:
    """A valid PNG head with almost no data: decoding it would need width × height × 3 bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (20_000, 20_000), (60_000, 1_000)])
def test_bombs_are_refused_before_decoding(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(self: Image.Image) -> None:
        raise AssertionError("the pixels were decoded")

    from PIL import PngImagePlugin

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decoded)
    with pytest.raises(ImageError, match="50 million"):
        open_picture(_png_that_claims(*size))


def test_one_pixel_sides_and_heavy_files() -> None:
    with pytest.raises(ImageError, match="1×9"):
        open_picture(Image.new("RGB", (1, 9)))
    with pytest.raises(ImageError, match="32 MB"):
        open_picture(b"\x89PNG\r\n\x1a\n" + bytes(pictures.MAX_BYTES))


@pytest.mark.parametrize("source", ["nowhere.png", "a\0b.png", "x" * 5000])
def test_missing_paths(source: str) -> None:
    with pytest.raises(ImageError):
        open_picture(source)


def test_a_folder_and_a_wrong_type(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        open_picture(tmp_path)
    with pytest.raises(ImageError, match="not int"):
        open_picture(7)


class _Site(http.server.BaseHTTPRequestHandler):
    picture = _file(_two_halves())

    def do_GET(self) -> None:
        if self.path == "/to-file":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/etc/passwd")
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(20):
                self.wfile.write(bytes(1 << 16))
                time.sleep(0.02)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.picture if self.path == "/ok.png" else b"\x89PNG\r\n\x1a\n" + bytes(4096))

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_urls(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_picture(f"{site}/ok.png").size == (8, 4)
    with pytest.raises(ImageError, match="URL is not accepted"):
        open_picture(f"{site}/ok.png", allow_url=False)
    with pytest.raises(ImageError, match="404"):
        open_picture(f"{site}/missing")
    with pytest.raises(ImageError, match="cannot be fetched"):
        open_picture(f"{site}/to-file")
    monkeypatch.setattr(pictures, "URL_SECONDS", 0.1)
    with pytest.raises(ImageError, match="not finished"):
        open_picture(f"{site}/slow")
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    with pytest.raises(ImageError, match="over the cap"):
        open_picture(f"{site}/heavy")
