"""What became of every key of a checkpoint: a strict account in both directions. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from huayu.checkpoints.keymap import Dropped, KeyMap
from huayu.errors import CheckpointError
from huayu.runtime.language import say

Shape = tuple[int, ...]
_SHOWN = 4


@dataclass(frozen=True)
class KeyReport:
    """Account of one checkpoint against one model.

    ``loaded``: our name → the checkpoint's name. ``dropped``: the checkpoint's name → reason. ``missing``: our names
    that nothing fills. ``unexpected``: the checkpoint's names that nothing takes. ``misshapen``: the checkpoint's
    name → (shape wanted, shape found).
    """

    loaded: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    unexpected: Sequence[str] = ()
    misshapen: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every key on both sides is accounted for."""
        return not (self.missing or self.unexpected or self.misshapen)

    def require(self, name: str) -> None:
        """CheckpointError naming the first few keys and all counts, unless ``ok``; ``name`` says which checkpoint."""
        if not self.ok:
            raise CheckpointError(f"{name} does not fit: {self._faults(0)}.", f"{name} 不匹配：{self._faults(1)}。")

    def _faults(self, language: int) -> str:
        shapes = [f"{key} {_shape(found)} ≠ {_shape(wanted)}" for key, (wanted, found) in self.misshapen.items()]
        groups = (
            (("missing", "缺少"), self.missing),
            (("unexpected", "多出"), self.unexpected),
            (("of another shape", "形状不符"), shapes),
        )
        parts = [f"{len(keys)} {word[language]} ({_few(keys)})" for word, keys in groups if keys]
        return ("; ", "；")[language].join(parts)

    def __str__(self) -> str:
        """A short table in the screen's language: counts, then each dropped key with its reason, then each fault."""
        rows = [
            (say("loaded", "载入"), len(self.loaded)),
            (say("dropped", "舍去"), len(self.dropped)),
            (say("missing", "缺少"), len(self.missing)),
            (say("unexpected", "多出"), len(self.unexpected)),
            (say("wrong shape", "形状不符"), len(self.misshapen)),
        ]
        lines = [" · ".join(f"{word} {count}" for word, count in rows)]
        lines += [f"  {say('dropped', '舍去')} {key}: {reason}" for key, reason in self.dropped.items()]
        lines += [f"  {say('missing', '缺少')} {key}" for key in self.missing]
        lines += [f"  {say('unexpected', '多出')} {key}" for key in self.unexpected]
        lines += [
            f"  {say('wrong shape', '形状不符')} {key}: {_shape(found)}, {say('wanted', '应为')} {_shape(wanted)}"
            for key, (wanted, found) in self.misshapen.items()
        ]
        return "\n".join(lines)


def account(
    expected: Mapping[str, Shape],
    found: Mapping[str, Shape],
    keymap: KeyMap | None = None,
    tied: Mapping[str, str] | None = None,
) -> KeyReport:
    """Match the shapes a model expects (our names) with those a checkpoint has (its names).

    ``keymap`` None: the names are the same. ``tied``: our name → the name whose tensor it shares; one of a tied group
    is enough. Two keys of the checkpoint for one of ours: the second is unexpected.
    """
    loaded: dict[str, str] = {}
    dropped: dict[str, str] = {}
    unexpected: list[str] = []
    misshapen: dict[str, tuple[Shape, Shape]] = {}
    for key, shape in found.items():
        ours = keymap.to_ours(key) if keymap else key
        if isinstance(ours, Dropped):
            dropped[key] = ours.reason
        elif ours is None or ours not in expected or ours in loaded:
            unexpected.append(key)
        else:
            loaded[ours] = key
            if tuple(shape) != tuple(expected[ours]):
                misshapen[key] = (tuple(expected[ours]), tuple(shape))
    tied = tied or {}
    filled = {tied.get(name, name) for name in loaded}
    missing = [name for name in expected if tied.get(name, name) not in filled]
    return KeyReport(loaded, dropped, missing, unexpected, misshapen)


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"
