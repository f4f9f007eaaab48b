"""The CPM-Bee vocabulary: found where the user has it, told by its hash. It is not part of this package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from huayu.errors import CheckpointError

# Of the file without a final newline, as the VisCPM repository has it; the CPM-Bee repository's copy ends in one.
BEE_MD5, BEE_TOKENS = "e170eab24d31155844408627fbb17878", 86583
BEE_SIZE = 629410
NAMES = ("vocab.txt", "bee.txt")
_SUBFOLDERS = ("", "vocabs", "vocab", "cpm_tokenizers/vocabs")
_MAX_LOOKED_AT = 2000


def home() -> Path:
    """The folder for the user's own files: HUAYU_HOME, else ``~/.cache/huayu``. It is never made by reading."""
    return Path(os.environ.get("HUAYU_HOME") or Path.home() / ".cache" / "huayu").expanduser()


def vocabulary_md5(path: str | Path) -> str:
    """md5 of a vocabulary file; one final newline does not count."""
    data = Path(path).read_bytes()
    return hashlib.md5(data.removesuffix(b"\n"), usedforsecurity=False).hexdigest()


def find_vocabulary(folder: str | Path, path: str | Path | None = None, md5: str | None = BEE_MD5) -> Path:
    """The vocabulary file for the checkpoint in ``folder`` (or the checkpoint's own file).

    ``path``: the file itself or its folder; then only there. Else: ``vocab.txt`` or ``bee.txt`` in the folder; the
    file HUAYU_VOCAB names; the same names in :func:`home`; with the published ``md5`` any file of that size in or
    beside the folder, or in ``vocabs/`` there. ``md5`` None takes the first file that has the name, as for a model
    with a vocabulary of its own. Raises CheckpointError: not there, or only files with another hash.
    """
    if path is not None:
        return _named(Path(path).expanduser(), md5)
    folder = Path(folder)
    folder = folder if folder.is_dir() else folder.parent
    others: list[Path] = []
    for candidate in _candidates(folder, by_size=md5 == BEE_MD5):
        if md5 is None or vocabulary_md5(candidate) == md5:
            return candidate
        others.append(candidate)
    raise CheckpointError(*_not_found(folder, others))


def _named(path: Path, md5: str | None) -> Path:
    if path.is_dir():
        path = next((path / name for name in NAMES if (path / name).is_file()), path / NAMES[0])
    if not path.is_file():
        raise CheckpointError(f"There is no vocabulary file {path}.", f"找不到词表文件 {path}。")
    if md5 and (found := vocabulary_md5(path)) != md5:
        raise CheckpointError(
            f"{path} is not the vocabulary of this model: md5 {found}, wanted {md5}.",
            f"{path} 不是该模型的词表：md5 为 {found}，应为 {md5}。",
        )
    return path


def _candidates(folder: Path, by_size: bool) -> Iterator[Path]:
    named = Path(os.environ.get("HUAYU_VOCAB") or folder / NAMES[0]).expanduser()
    for path in (*(folder / name for name in NAMES), named, *(home() / name for name in NAMES)):
        if path.is_file():
            yield path
    if by_size:
        yield from _same_size(folder)


def _same_size(folder: Path) -> Iterator[Path]:
    places = dict.fromkeys(base / sub for base in (folder, folder.parent, home()) for sub in _SUBFOLDERS)
    files = (path for place in places for path in _files(place))
    for path in islice(files, _MAX_LOOKED_AT):
        if 0 <= path.stat().st_size - BEE_SIZE <= 1:
            yield path


def _files(folder: Path) -> Iterable[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_file())
    except OSError:
        return []


def _not_found(folder: Path, others: list[Path]) -> tuple[str, str]:
    other_en = f" ({others[0]} is another vocabulary)" if others else ""
    other_zh = f"（{others[0]} 是另一个词表）" if others else ""
    return (
        f"The vocabulary of {folder} was not found{other_en}. Put vocab.txt into that folder, or name it with --vocab "
        f"or HUAYU_VOCAB. The published one is vocab.txt in openbmb/VisCPM-Chat, or vocabs/bee.txt in the VisCPM and "
        f"CPM-Bee repositories (md5 {BEE_MD5}).",
        f"找不到 {folder} 的词表{other_zh}。请把 vocab.txt 放进该文件夹，或用 --vocab 或 HUAYU_VOCAB 指明。"
        f"已发布的词表是 openbmb/VisCPM-Chat 中的 vocab.txt，或 VisCPM、CPM-Bee 代码库中的 vocabs/bee.txt"
        f"（md5 {BEE_MD5}）。",
    )


def find_bee(folder: Path, path: str | Path | None, tokens: int) -> Path:
    """:func:`find_vocabulary` of a model with so many tokens: the published one is known by its hash."""
    return find_vocabulary(folder, path, BEE_MD5 if tokens == BEE_TOKENS else None)


def find_named(folder: Path, name: str, path: str | Path | None = None) -> Path:
    """The file ``name`` of a published tokenizer: ``path``, or in that folder; else in ``folder`` or :func:`home`.

    Raises CheckpointError.
    """
    given = Path(path).expanduser() if path is not None else None
    places = (given, given / name) if given else (folder / name, home() / name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise CheckpointError(
            f"{name} was not found in {given or folder}: put it there, or name it with --vocab.",
            f"在 {given or folder} 中找不到 {name}：请放在那里，或用 --vocab 指明。",
        )
    return found
