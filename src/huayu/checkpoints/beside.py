"""What lies beside the weights in a folder: licences, cards, vocabularies, recorded answers."""

from __future__ import annotations

import shutil
from pathlib import Path

from huayu import __version__
from huayu.checkpoints import checksums, sniff
from huayu.checkpoints.opening import Blueprint
from huayu.checkpoints.published import by_name

_KEPT_NAMES = ("LICENSE", "LICENCE", "NOTICE", "README", "COPYING")
_SELF_TEST = "selftest."


def copy_all(folder: Path, aside: Path, *, same_numbers: bool) -> None:
    """Configuration, vocabulary, processor, card; what was recorded of the answers only with the ``same_numbers``."""
    for path in sorted(folder.iterdir()):
        skipped = path.suffix in (*sniff.WEIGHT_SUFFIXES, ".py") or path.name.endswith(".index.json")
        stale = path.name.startswith(_SELF_TEST) and not same_numbers
        if path.is_file() and not (skipped or stale or path.name.startswith(".") or path.name == checksums.FILE):
            shutil.copyfile(path, aside / path.name)


def copy_licences(plan: Blueprint, aside: Path, name: str) -> None:
    """The source's licences and card; a card for the model ``name`` where the source has none."""
    for path in sorted(plan.source.folder.iterdir()):
        kept = any(word in path.name.upper() for word in _KEPT_NAMES) and path.suffix != ".py"
        if kept and path.is_file() and not (aside / path.name).exists():
            shutil.copyfile(path, aside / path.name)
    readme = aside / "README.md"
    if not readme.exists():
        readme.write_text(_card(plan, name), "utf-8")
    if (bits := getattr(plan.model.config, "quantization_bit", None)) and (
        line := f"\nQuantised by huayu: {bits} bits. · 由 huayu 量化：{bits} 位。\n"
    ) not in readme.read_text("utf-8"):
        readme.write_text(readme.read_text("utf-8") + line, "utf-8")


def _card(plan: Blueprint, name: str) -> str:
    """It names the file, not where it lay."""
    source = plan.source
    known = by_name(source.name)
    licence_en = known.licence_en if known else "That of the source: see there."
    licence_zh = known.licence_zh if known else "以来源处的许可为准。"
    return (
        f"# {name}\n\n{source.path.name} ({plan.family}), converted by huayu {__version__}. "
        f"The weights are their makers'.\n\nLicence: {licence_en}\n\n"
        f"由 huayu {__version__} 转换自 {source.path.name}（{plan.family}）。"
        f"权重属于原作者。\n\n许可：{licence_zh}\n"
    )
