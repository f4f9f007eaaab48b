"""Fetching, drawing and packing, with a package made on the spot."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huayu.data import pictograms, world
from huayu.data.pictogram_packages import PACKAGES, Package
from huayu.data.sprites import Sprites
from huayu.errors import HuayuError

SQUARE = '<rect x="2" y="4" width="4" height="8" fill="#f00"/>'
DISC = '<circle cx="8" cy="8" r="5" fill="#00f"/>'


def archive(folder: Path, package: Package, icons: dict[str, str], codes: dict[str, str]) -> Package:
    """Write a package as npm packs it; the same package with the hash that this file has."""
    path = folder / f"iconify-json-{package.style}-{package.version}.tgz"
    parts = {
        "icons": {
            "width": 16,
            "height": 16,
            "aliases": {"puppy": {"parent": "dog-face"}},
            "icons": {name: {"body": body} for name, body in icons.items()},
        },
        "chars": codes,
    }
    with tarfile.open(path, "w:gz") as file:
        for name, value in parts.items():
            data = json.dumps(value).encode()
            entry = tarfile.TarInfo(f"package/{name}.json")
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return replace(package, integrity=f"sha512-{digest}")


def test_a_drawing_is_cut_to_what_is_visible() -> None:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" width="16" height="16">{SQUARE}</svg>'
    drawn = pictograms.draw(svg)
    assert drawn.shape == (80, 80, 4)
    rows, columns = np.flatnonzero(drawn[..., 3].max(1)), np.flatnonzero(drawn[..., 3].max(0))
    assert len(rows) == 80
    assert 38 <= len(columns) <= 42
    assert (drawn[40, 40] == (255, 0, 0, 255)).all()
    assert (drawn[drawn[..., 3] == 0] == 0).all()


def test_a_changed_archive_is_refused(tmp_path: Path) -> None:
    package = archive(tmp_path, PACKAGES[0], {"dog-face": SQUARE}, {})
    path = pictograms.fetch(package, tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(HuayuError, match="pinned hash"):
        pictograms.fetch(package, tmp_path)


def test_without_npm_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HuayuError, match="npm") as caught:
        pictograms.fetch(PACKAGES[0], tmp_path)
    assert "npm" in caught.value.zh


def test_icons_are_found_by_code_and_by_older_names(tmp_path: Path) -> None:
    new = archive(tmp_path, PACKAGES[0], {"dog-face": SQUARE, "bear": DISC}, {"1f436": "puppy", "1F43B": "bear"})
    icons = pictograms.Icons.read(pictograms.fetch(new, tmp_path))
    assert icons.find("🐶", None) == ["puppy"]
    assert SQUARE in icons.svg("puppy")
    assert icons.find("🐱", "cat-face") == []
    old = archive(tmp_path, PACKAGES[1], {"bearface": DISC, "cake-1": DISC, "cake-2": SQUARE}, {})
    icons = pictograms.Icons.read(pictograms.fetch(old, tmp_path))
    assert icons.find("🐻", "bear") == ["bearface"]
    assert icons.find("🍰", "cake") == ["cake-1", "cake-2"]


def test_packed_drawings_load_and_say_who_may_see_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emoji = {"dog": "🐶", "apple": "🍎", "zebra": "🦓", "hedgehog": "🦔"}
    codes = {f"{ord(char):x}": name for name, char in emoji.items()}
    icons = {"dog": SQUARE, "apple": DISC, "zebra": SQUARE, "hedgehog": DISC}
    packages = tuple(archive(tmp_path, package, icons, codes) for package in (PACKAGES[0], *PACKAGES[-2:]))
    monkeypatch.setattr(pictograms, "PACKAGES", packages)
    steps: list[tuple[int, int, str]] = []
    path = pictograms.pack(tmp_path, lambda *step: steps.append(step))
    assert steps[-1][:2] == (3, 3)
    before = path.stat().st_mtime_ns
    assert pictograms.pack(tmp_path) == path
    assert path.stat().st_mtime_ns == before
    sprites = Sprites.load(path)
    dog, outside = world.concept_ids()["dog"], world.OUTSIDE
    assert sprites.roles == ("train", "choose", "test")
    rows = zip(sprites.style.tolist(), sprites.concept.tolist(), sprites.reserved.tolist(), strict=True)
    assert sorted(rows) == sorted(
        [(style, concept, False) for style in range(3) for concept in (dog, world.concept_ids()["apple"])]
        + [(0, outside, False), (1, outside, False), (2, outside, True)]
    )
    assert set(Sprites.load(path, roles=("train",)).style) == {0}
    assert set(sprites.known(dog + 1).concept) == {dog, outside}, "what is not known is left out, strangers stay"
    monkeypatch.setattr(world, "version", lambda: "another world")
    with pytest.raises(ValueError, match="another version"):
        Sprites.load(path)


def test_two_programs_may_pack_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictograms, "PACKAGES", (archive(tmp_path, PACKAGES[0], {"dog": SQUARE}, {"1f436": "dog"}),))
    save, nested = np.savez_compressed, []

    def while_another_does(*given: Any, **arrays: Any) -> None:
        if not nested:
            nested.append(True)
            pictograms.pack(tmp_path)
        save(*given, **arrays)

    monkeypatch.setattr(np, "savez_compressed", while_another_does)
    path = pictograms.pack(tmp_path)
    assert nested
    assert len(Sprites.load(path).concept) == 1
    assert sorted(tmp_path.iterdir()) == sorted([path, *tmp_path.glob("*.tgz")]), "nothing is left over"
