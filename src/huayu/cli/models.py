"""``huayu models``: what can be named where a model is asked for, and under which licence."""

from __future__ import annotations

import json
from typing import Any

import typer

from huayu import embedded
from huayu.checkpoints.published import PUBLISHED, Published
from huayu.runtime.language import say


def run(*, as_json: bool) -> None:
    """Print the list."""
    records = [as_record(entry) for entry in PUBLISHED]
    if as_json:
        print(json.dumps(records, ensure_ascii=False, indent=1))
        return
    licences = list(dict.fromkeys(record["licence"] for record in records))
    for entry, record in zip(PUBLISHED, records, strict=True):
        typer.secho(entry.name, bold=True, nl=False)
        print(f"  {say(entry.what_en, entry.what_zh)}")
        facts = [*_facts(entry, record), say("licence", "许可") + f" [{licences.index(record['licence']) + 1}]"]
        print(f"    {' · '.join(facts)}")
    print()
    for number, licence in enumerate(licences, 1):
        print(f"[{number}] {licence}")


def as_record(entry: Published) -> dict[str, Any]:
    """One model for ``--json``; ``size`` in bytes on the disk, None when it is not known."""
    return {
        "name": entry.name,
        "kind": entry.kind,
        "family": entry.family,
        "what": say(entry.what_en, entry.what_zh),
        "licence": say(entry.licence_en, entry.licence_zh),
        "parameters": entry.parameters or None,
        "size": entry.size or _size_on_disk(entry.name),
        "repository": entry.repository or None,
        "files": list(entry.files),
        "embedded": entry.name in embedded.EMBEDDED,
    }


def _facts(entry: Published, record: dict[str, Any]) -> list[str]:
    where = "/".join((entry.repository, *entry.files)) if entry.repository else say("in the package", "随包附带")
    facts = [entry.kind, where]
    if entry.parameters:
        billions = entry.parameters / 1e9
        facts.append(say(f"{billions:.1f} billion parameters", f"{billions * 10:.0f} 亿参数"))
    if record["size"]:
        facts.append(_bytes(record["size"]))
    elif record["embedded"]:
        facts.append(say("not in this installation", "此安装中没有"))
    return facts


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _size_on_disk(name: str) -> int | None:
    if name not in embedded.EMBEDDED:
        return None
    folder = embedded.folder(name)
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors")) or None
