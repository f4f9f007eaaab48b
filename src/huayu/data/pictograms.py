"""Fetch pinned open pictogram packages, draw the world's things from them, and pack the drawings into one file.

`python -m huayu.data.pictograms [--cache DIR]` does it all. Only packages of the role "train" are ever trained on or
shipped as a picture; those of the roles "choose" and "test" are share-alike and serve evaluation alone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from huayu.checkpoints.atomic import replacing
from huayu.data import world
from huayu.data.pictogram_packages import DROPPED, OLD_NAMES, PACKAGES, Package
from huayu.data.strangers import OUTSIDE_TEST, OUTSIDE_TRAIN
from huayu.errors import HuayuError

PIXELS = 80
DEFAULT_CACHE = Path(".cache/pictograms")


def fetch(package: Package, cache_dir: Path) -> Path:
    """The package's archive in `cache_dir`, downloaded with `npm pack` when it is not there yet.

    Raises:
        HuayuError: npm is missing or fails, or the archive does not have the pinned hash.
    """
    name = f"iconify-json-{package.style}-{package.version}.tgz"
    path = cache_dir / name
    if not path.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise HuayuError(
                "npm is needed to fetch the pictograms; install Node.js.", "下载图标需要 npm，请先安装 Node.js。"
            )
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
            spec = f"@iconify-json/{package.style}@{package.version}"
            command = [npm, "pack", "--silent", spec]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            made = Path(folder) / name
            if done.returncode or not made.exists():
                reason = done.stderr.strip()[-300:]
                raise HuayuError(f"npm could not fetch {spec}: {reason}", f"npm 无法下载 {spec}：{reason}")
            check(made, package)
            made.replace(path)
    check(path, package)
    return path


def check(path: Path, package: Package) -> None:
    """Raise HuayuError unless the file has the pinned hash."""
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise HuayuError(
            f"{path.name} does not have the pinned hash; delete it and try again.",
            f"{path.name} 的校验和与记录不符，请删除后重试。",
        )


@dataclass(frozen=True, slots=True)
class Icons:
    """One package's icons. `codes` maps lower-case code points ("1f436") to names, empty in some packages;
    `plain` maps names without hyphens to names."""

    data: dict
    codes: dict[str, str]
    plain: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Icons:
        """Read the archive in memory; nothing is unpacked."""
        with tarfile.open(path) as archive:
            data, codes = (
                json.load(archive.extractfile(f"package/{name}.json"))  # type: ignore[arg-type]
                for name in ("icons", "chars")
            )
        names = [*data.get("aliases", {}), *data["icons"]]
        return cls(
            data, {code.lower(): name for code, name in codes.items()}, {name.replace("-", ""): name for name in names}
        )

    def name_of(self, emoji: str) -> str | None:
        """The name under the emoji's code point."""
        code = f"{ord(emoji):x}"
        return self.codes.get(code) or self.codes.get(f"{code}-fe0f")

    def find(self, emoji: str, name: str | None) -> list[str]:
        """Names of the icons that draw an emoji which is elsewhere called `name`, with numbered variants."""
        if self.codes:
            found = self.name_of(emoji)
            return [found] if found else []
        for candidate in (name, *OLD_NAMES.get(name or "", ())) if name else ():
            stem = candidate.replace("-", "")
            found_all = [self.plain[key] for key in (stem, *(f"{stem}{n}" for n in range(1, 6))) if key in self.plain]
            if found_all:
                return found_all
        return []

    def svg(self, name: str) -> str:
        """The icon as an SVG document."""
        while name not in self.data["icons"]:
            name = self.data["aliases"][name]["parent"]
        icon = {"left": 0, "top": 0, "width": 16, "height": 16, **self.data, **self.data["icons"][name]}
        box = f"{icon['left']} {icon['top']} {icon['width']} {icon['height']}"
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000" '
            f'viewBox="{box}" width="{icon["width"]}" height="{icon["height"]}">{icon["body"]}</svg>'
        )


def draw(svg: str, pixels: int = PIXELS) -> np.ndarray:
    """Render an SVG to (pixels, pixels, 4) uint8, straight alpha, cut to the smallest square around what is visible."""
    import resvg_py

    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * pixels, height=2 * pixels))
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 24)).getbbox()
    if box is None:
        raise ValueError("an empty drawing")
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    left, top = (left + right - side) // 2, (top + bottom - side) // 2
    picture = picture.crop((left, top, left + side, top + side)).resize(
        (pixels, pixels), Image.Resampling.BOX if side >= pixels else Image.Resampling.BICUBIC
    )
    array = np.array(picture)
    array[array[..., 3] == 0] = 0
    return array


def wanted(role: str) -> Iterator[tuple[int, bool, str]]:
    """(concept id or OUTSIDE, whether for the test alone, emoji) of all that a style of this role must draw."""
    for number, concept in enumerate(world.CONCEPTS):
        yield from ((number, False, emoji) for emoji in concept.emoji)
    if role != "test":
        yield from ((world.OUTSIDE, False, emoji) for emoji in OUTSIDE_TRAIN)
    if role == "test":
        yield from ((world.OUTSIDE, True, emoji) for emoji in OUTSIDE_TEST)


def pack(cache_dir: Path = DEFAULT_CACHE, progress: Callable[[int, int, str], None] | None = None) -> Path:
    """Fetch, draw and pack everything once; later calls return the file that is there.

    The file `world-<version>.npz` holds pixels (N, 80, 80, 4) uint8 and, for each of the N drawings, concept int16
    (OUTSIDE = -1), style uint8 (index into styles) and reserved bool; and styles, roles, ink of the S styles.
    `progress(done, total, style)` is called after each style. Raises HuayuError as `fetch` does.
    """
    key = hashlib.sha256(repr((world.version(), PACKAGES, sorted(DROPPED), PIXELS)).encode()).hexdigest()[:12]
    path = Path(cache_dir) / f"world-{key}.npz"
    if path.exists():
        return path
    pixels, rows, seen = [], [], set()
    naming = Icons.read(fetch(PACKAGES[0], Path(cache_dir)))
    for number, package in enumerate(PACKAGES):
        icons = Icons.read(fetch(package, Path(cache_dir)))
        for concept, reserved, emoji in wanted(package.role):
            if (package.style, emoji) in DROPPED:
                continue
            for name in icons.find(emoji, naming.name_of(emoji)):
                if (concept, number, name) in seen:  # some packages draw a face and a body as one
                    continue
                seen.add((concept, number, name))
                pixels.append(draw(icons.svg(name)))
                rows.append((concept, number, reserved))
        if progress:
            progress(number + 1, len(PACKAGES), package.style)
    concept_of, style_of, reserved_of = (np.array(column) for column in zip(*rows, strict=True))
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez_compressed(
            file,
            pixels=np.stack(pixels),
            concept=concept_of.astype(np.int16),
            style=style_of.astype(np.uint8),
            reserved=reserved_of.astype(bool),
            styles=np.array([p.style for p in PACKAGES]),
            roles=np.array([p.role for p in PACKAGES]),
            ink=np.array([p.ink for p in PACKAGES]),
            version=np.array(world.version()),
        )
    return path


def main() -> None:
    """Command line: pack, with a progress bar, and say what was packed."""
    parser = argparse.ArgumentParser(prog="python -m huayu.data.pictograms", description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of the cache")
    out = sys.stderr

    def bar(done: int, total: int, style: str) -> None:
        out.write(f"\r[{'#' * done}{'.' * (total - done)}] {style:<28}" + "\n" * (done == total))
        out.flush()

    try:
        path = pack(parser.parse_args().cache, bar)
    except HuayuError as error:
        sys.exit(f"{error.en} {error.zh}")
    with np.load(path) as file:
        style, concept = file["style"], file["concept"]
        for number, package in enumerate(PACKAGES):
            inside = concept[(style == number) & (concept >= 0)]
            sys.stdout.write(
                f"{package.style:<28}{package.role:<8}{package.licence:<14}{len(set(inside)):>4} concepts"
                f"{len(inside):>5} drawings{int(((style == number) & (concept < 0)).sum()):>5} outside\n"
            )
    sys.stdout.write(f"{path}  {path.stat().st_size / 1e6:.1f} MB  {len(style)} drawings\n")


if __name__ == "__main__":
    main()
