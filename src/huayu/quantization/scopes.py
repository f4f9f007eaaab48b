"""Which layers of a model are quantised: patterns of module names, as data of the model's family. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huayu.errors import ModelError
from huayu.quantization.rows import BITS

_NAMES: dict[str | int, int] = {"int8": 8, "int4": 4, "8": 8, "4": 4, **{bits: bits for bits in BITS}}


@dataclass(frozen=True)
class Part:
    """Modules by dotted ``pattern``, where ``*`` stands for one word; ``bits`` None: as many as were asked for."""

    pattern: str
    bits: int | None = None

    def has(self, name: str) -> bool:
        """Whether ``name`` is one of them."""
        words, found = self.pattern.split("."), name.split(".")
        return len(words) == len(found) and all(word in ("*", other) for word, other in zip(words, found, strict=True))


Scope = tuple[Part, ...]


def parse_bits(wish: str | int) -> int:
    """8 or 4, also as ``"int8"``, ``"int4"``. Raises ModelError."""
    if wish not in _NAMES:
        raise ModelError(
            f"quantize={wish!r} is not known: int8 and int4 are.", f"quantize={wish!r} 无效：可用 int8 与 int4。"
        )
    return _NAMES[wish]


def scope_of(model: Any, wish: str | Scope) -> Scope:
    """The scope that ``model`` (its class: ``quantization_scopes``) knows by this name, or the caller's own.

    Raises ModelError for a model without scopes and for a name that is not among them.
    """
    if not isinstance(wish, str):
        return wish
    scopes: Mapping[str, Scope] = getattr(model, "quantization_scopes", {})
    if not scopes:
        kind = type(model).__name__
        raise ModelError(f"{kind} cannot be quantised by huayu.", f"huayu 不能量化 {kind}。")
    if wish not in scopes:
        known = ", ".join(scopes)
        raise ModelError(f"There is no scope {wish!r}; known: {known}.", f"没有量化范围 {wish!r}；可用：{known}。")
    return scopes[wish]
