"""Names of tensors: published ⇄ ours, as anchored rules held as data.

A rule is a pair of templates such as ``("llm.encoder.layers.{n}.x", "language_model.layers.{n}.x")``;
``{n}`` stands for a decimal number and ``{rest}`` for the rest of a name; both sides have the same ones in the same
order. A whole key matches or nothing does: there is no replacing inside strings. The first rule that matches counts.
Tensors that are laid out in another way are recast (:mod:`.recast`), and rules name their parts: ``….weight#key``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huayu.checkpoints.recast import Recast


@dataclass(frozen=True)
class Dropped:
    """A published tensor that is left out on purpose."""

    reason: str


@dataclass(frozen=True)
class KeyMap:
    """Rules (published template, our template) and templates dropped with a reason.

    ``scope``: when given, the prefixes of what the format is about; a published key outside is dropped.
    ``recasts``: published templates of tensors that are laid out in another way than ours.
    """

    rules: tuple[tuple[str, str], ...]
    dropped: Mapping[str, str]
    scope: tuple[str, ...] = ()
    recasts: tuple[tuple[str, Recast], ...] = ()

    @classmethod
    def of(
        cls,
        rules: Iterable[tuple[str, str]],
        dropped: Mapping[str, str] | None = None,
        recasts: Mapping[str, Recast] | None = None,
    ) -> KeyMap:
        """Build from any iterable of pairs."""
        return cls(tuple(rules), dict(dropped or {}), recasts=tuple((recasts or {}).items()))

    def prefixed(self, published: str, ours: str) -> KeyMap:
        """The same map below a prefix on each side, as when one model is part of another."""
        rules = tuple((published + a, ours + b) for a, b in self.rules)
        dropped = {published + key: reason for key, reason in self.dropped.items()}
        return KeyMap(rules, dropped, recasts=tuple((published + key, recast) for key, recast in self.recasts))

    def within(self, *scope: str) -> KeyMap:
        """The same map for files in which published code looks at keys with these prefixes only."""
        return KeyMap(self.rules, self.dropped, scope, self.recasts)

    def __add__(self, other: KeyMap) -> KeyMap:
        dropped = {**self.dropped, **other.dropped}
        return KeyMap(self.rules + other.rules, dropped, recasts=self.recasts + other.recasts)

    def to_ours(self, key: str) -> str | Dropped | None:
        """Our name for a published key, ``Dropped``, or None when no rule knows it."""
        if self.scope and not key.startswith(self.scope):
            return Dropped(f"not part of the model, which is {', '.join(f'{prefix}*' for prefix in self.scope)}")
        for pattern, reason in self._drop_patterns:
            if pattern.fullmatch(key):
                return Dropped(reason)
        return _translate(self._forward, key)

    def to_published(self, key: str) -> str | None:
        """The published name for one of ours, or None when no rule knows it."""
        return _translate(self._backward, key)

    def recast_of(self, key: str) -> Recast | None:
        """How the published tensor ``key`` is taken apart; None when it is ours as it is."""
        return next((recast for pattern, recast in self._recast_patterns if pattern.fullmatch(key)), None)

    @cached_property
    def _recast_patterns(self) -> list[tuple[re.Pattern[str], Recast]]:
        return [(_pattern(template), recast) for template, recast in self.recasts]

    @cached_property
    def _drop_patterns(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(template), reason) for template, reason in self.dropped.items()]

    @cached_property
    def _forward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(a), b) for a, b in self.rules]

    @cached_property
    def _backward(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(b), a) for a, b in self.rules]


_WILDCARDS = {"{n}": r"(\d+)", "{rest}": "(.+)"}
_WILDCARD = re.compile("|".join(map(re.escape, _WILDCARDS)))


def _pattern(template: str) -> re.Pattern[str]:
    literal = map(re.escape, _WILDCARD.split(template))
    found = [_WILDCARDS[wildcard] for wildcard in _WILDCARD.findall(template)]
    return re.compile("".join(chain.from_iterable(zip_longest(literal, found, fillvalue=""))))


def _translate(table: list[tuple[re.Pattern[str], str]], key: str) -> str | None:
    for pattern, template in table:
        if match := pattern.fullmatch(key):
            return "".join(chain.from_iterable(zip_longest(_WILDCARD.split(template), match.groups(), fillvalue="")))
    return None
