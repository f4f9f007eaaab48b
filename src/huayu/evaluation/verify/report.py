"""Comparisons, one line each: name, shape, largest difference or first mismatch, tolerance, ok or FAIL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from huayu.runtime.language import say


@dataclass(frozen=True)
class Check:
    """One comparison. ``ok`` is None for what could not be checked and is not counted."""

    name: str
    shape: str
    found: str
    tolerance: str
    ok: bool | None

    def __str__(self) -> str:
        verdict = {True: "ok", False: "FAIL", None: say("not checked", "未检查")}[self.ok]
        return f"  {self.name:<38} {self.shape:<18} {self.found:<26} {self.tolerance:<8} {verdict}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


@dataclass
class Report:
    """All comparisons of one path; ``emit`` is given each as it is made."""

    emit: Callable[[Check], None] | None = None
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when something was compared and nothing failed."""
        return any(check.ok for check in self.checks) and all(check.ok is not False for check in self.checks)

    def close(self, name: str, ours: Tensor | float, theirs: Tensor | float, tolerance: float) -> None:
        """Floating numbers: equal shapes, and no difference above ``tolerance``."""
        ours, theirs = _double(ours), _double(theirs)
        if ours.shape != theirs.shape:
            found = say("shape is ", "形状为 ") + shape_of(ours)
            self._add(name, shape_of(theirs), found, f"{tolerance:g}", False)
            return
        # Equal infinities differ by nothing; a NaN differs from everything.
        difference = torch.where(ours == theirs, 0.0, (ours - theirs).abs()).nan_to_num(nan=torch.inf)
        largest = difference.max().item() if difference.numel() else 0.0
        self._add(name, shape_of(theirs), f"{largest:.2e}", f"{tolerance:g}", largest <= tolerance)

    def exact(self, name: str, ours: Any, theirs: Any) -> None:
        """Ids, masks, lists and texts: equal throughout. Tensors are compared as nested lists."""
        ours, theirs = _plain(ours), _plain(theirs)
        mismatch = first_mismatch(ours, theirs)
        self._add(name, shape_of(theirs), mismatch or "=", "exact", mismatch is None)

    def empty(self, name: str, faults: Sequence[str], checked: str) -> None:
        """An inventory: ``faults`` found in what ``checked`` says was looked at."""
        found = "=" if not faults else ", ".join(faults[:3]) + (f", … ({len(faults)})" if len(faults) > 3 else "")
        self._add(name, checked, found, "exact", not faults)

    def fail(self, name: str, en: str, zh: str) -> None:
        """Something that could not even be compared."""
        self._add(name, "", say(en, zh), "", False)

    def skip(self, name: str, en: str, zh: str) -> None:
        """Something that is left open, in words."""
        self._add(name, "", say(en, zh), "", None)

    def _add(self, name: str, shape: str, found: str, tolerance: str, ok: bool | None) -> None:
        self.checks.append(Check(name, shape, found, tolerance, ok))
        if self.emit:
            self.emit(self.checks[-1])


def shape_of(value: Any) -> str:
    """``2×3`` for a tensor, ``[12]`` for a list, ``"…" 5`` for a text of 5 characters."""
    if isinstance(value, Tensor):
        return "×".join(map(str, value.shape)) or "scalar"
    if isinstance(value, str):
        return f"text {len(value)}"
    if isinstance(value, Mapping):
        return f"{{{len(value)}}}"
    if isinstance(value, Sequence):
        sizes = []
        while isinstance(value, list | tuple):
            sizes.append(len(value))
            value = value[0] if value else None
        return f"[{'×'.join(map(str, sizes))}]"
    return type(value).__name__


def first_mismatch(ours: Any, theirs: Any) -> str | None:
    """Where two values made of lists, mappings, texts and numbers first differ; None when they do not."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        if ours.keys() != theirs.keys():
            return f"keys {_short(sorted(ours.keys() ^ theirs.keys()))}"
        return _first((f".{key}", first_mismatch(ours[key], theirs[key])) for key in theirs)
    if isinstance(ours, str) and isinstance(theirs, str):
        if ours == theirs:
            return None
        at = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        return f"[{at}] {_short(ours[at : at + 6])} ≠ {_short(theirs[at : at + 6])}"
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        inner = _first((f"[{i}]", first_mismatch(a, b)) for i, (a, b) in enumerate(zip(ours, theirs, strict=False)))
        return inner or (f"{len(ours)} ≠ {len(theirs)}" if len(ours) != len(theirs) else None)
    if type(ours) is not type(theirs) and not all(isinstance(v, int | float) for v in (ours, theirs)):
        return f"{_short(ours)} ≠ {_short(theirs)}"
    return None if ours == theirs else f"{_short(ours)} ≠ {_short(theirs)}"


def _first(parts: Any) -> str | None:
    for place, mismatch in parts:
        if mismatch is not None:
            separator = "" if mismatch[0] in ".[" else " "
            return place + separator + mismatch
    return None


def _double(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value).detach().cpu().double()


def _plain(value: Any) -> Any:
    return value.detach().cpu().long().tolist() if isinstance(value, Tensor) else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
