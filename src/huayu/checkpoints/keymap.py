"""Names of tensors: published ⇄ ours, as anchored rules held as data.

A rule is a pair of templates such as ``("llm.encoder.layers.{n}.x", "language_model.layers.{n}.x")``;
``{n}`` stands for a decimal number and must occur equally often on both sides. A whole key matches
or nothing does: there is no replacing inside strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Dropped:
    """A published tensor that is left out on purpose."""

    reason: str


@dataclass(frozen=True)
class KeyMap:
    """Rules (published template, our template) and templates dropped with a reason."""

    rules: tuple[tuple[str, str], ...]
    dropped: Mapping[str, str]

    @classmethod
    def of(cls, rules: Iterable[tuple[str, str]], dropped: Mapping[str, str] | None = None) -> KeyMap:
        """Build from any iterable of pairs."""
        return cls(tuple(rules), dict(dropped or {}))

    def prefixed(self, published: str, ours: str) -> KeyMap:
        """The same map below a prefix on each side, as when one model is part of another."""
        rules = tuple((published + a, ours + b) for a, b in self.rules)
        return KeyMap(rules, {published + key: reason for key, reason in self.dropped.items()})

    def __add__(self, other: KeyMap) -> KeyMap:
        return KeyMap(self.rules + other.rules, {**self.dropped, **other.dropped})

    def to_ours(self, key: str) -> str | Dropped | None:
        """Our name for a published key, ``Dropped``, or None when no rule knows it."""
        for pattern, reason in self._drop_patterns:
            if pattern.fullmatch(key):
                return Dropped(reason)
        return _translate(self._forward, key)

    def to_published(self, key: str) -> str | None:
        """The published name for one of ours, or None when no rule knows it."""
        return _translate(self._backward, key)

    @cached_property
    def _drop_patterns(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(template), reason) for template, reason in self.dropped.items()]

    @cached_property
    def _forward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(a), b) for a, b in self.rules]

    @cached_property
    def _backward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(b), a) for a, b in self.rules]


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(re.escape("{n}"), r"(\d+)"))


def _translate(table: list[tuple[re.Pattern[str], str]], key: str) -> str | None:
    for pattern, template in table:
        if match := pattern.fullmatch(key):
            for number in match.groups():
                template = template.replace("{n}", number, 1)
            return template
    return None
