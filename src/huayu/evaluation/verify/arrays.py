"""The published row layout, made again from a case's items, and translated to our model inputs.

B rows, T tokens, R relation entries, E words. Published names differ from case to case: ``_NAMES`` knows them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.models.cpm_bee.packing import PackedItem, pack
from huayu.models.cpm_bee.vocabulary import BeeVocabulary

NEW_SPAN = "NEWSPAN"
PLACEHOLDER = (0, 1)  # what a published table without words may hold
_NAMES = {
    "input_ids": ("input", "input_ids"),
    "token_subscripts": ("input_sub", "input_id_subs"),
    "is_context": ("context",),
    "sample_ids": ("sample_ids", "sample_idx"),
    "span_ids": ("span",),
    "segment_ids": ("segment", "segment_ids"),
    "num_segments": ("num_segments",),
    "segment_rel_offset": ("segment_rel_offset",),
    "segment_rel": ("segment_rel",),
    "position_ids": ("input_pos",),
    "length": ("length",),
    "image_bounds": ("image_bound",),
}
_WORDS = (("ext_table_ids", "ext_table_sub"), ("batch_ext_table_ids", "batch_ext_table_sub"))


@dataclass
class Row:
    """One row of a batch, by our names; all lists have one entry per token but the last ones."""

    input_ids: list[int] = field(default_factory=list)
    token_subscripts: list[int] = field(default_factory=list)
    is_context: list[int] = field(default_factory=list)
    sample_ids: list[int] = field(default_factory=list)
    span_ids: list[int] = field(default_factory=list)
    segment_ids: list[int] = field(default_factory=list)
    num_segments: list[int] = field(default_factory=list)
    segment_rel_offset: list[int] = field(default_factory=list)
    segment_rel: list[int] = field(default_factory=list)
    image_bounds: list[tuple[int, int]] = field(default_factory=list)

    def add(self, item: PackedItem, sample: int = 0, span: int = 0) -> Row:
        """Append an item; all tokens of a further sample are context."""
        count = len(item.input_ids)
        start = len(self.input_ids)
        self.input_ids += item.input_ids
        self.token_subscripts += item.token_subscripts
        self.is_context += [1] * count if sample else item.is_context
        self.sample_ids += [sample] * count
        self.span_ids += [span] * count
        self.segment_ids += item.segment_ids
        self.num_segments += [item.num_segments] * count
        self.segment_rel_offset += [len(self.segment_rel)] * count
        self.segment_rel += item.segment_rel
        self.image_bounds += [(begin + start, end + start) for begin, end in item.image_bounds]
        return self

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return len(self.input_ids)

    @property
    def position_ids(self) -> list[int]:
        """Index of each token."""
        return list(range(self.length))

    @property
    def words(self) -> list[tuple[int, int]]:
        """(base id, subscript) of every token with a subscript, in order, repetitions included."""
        pairs = zip(self.input_ids, self.token_subscripts, strict=True)
        return [(token, subscript) for token, subscript in pairs if subscript]


def packed_row(entries: Sequence[Any], vocabulary: BeeVocabulary, continued: bool = False) -> Row:
    """A row of in-context samples; the word NEWSPAN starts a new span with a new sample 0.

    ``continued``: the words of a sample go on from the numbers of those before it in its span.
    """
    row, sample, span = Row(), 0, 0
    packed: PackedItem | None = None
    for entry in entries:
        if entry == NEW_SPAN:
            sample, span, packed = 0, span + 1, None
            continue
        packed = pack(entry, vocabulary, past=packed if continued else None)
        row.add(packed, sample, span)
        sample += 1
    return row


def packed_rows(rows: Sequence[Sequence[Any]], vocabulary: BeeVocabulary, subscripts: Tensor) -> list[Row]:
    """All rows, with words numbered the way that gives ``subscripts`` (B, T).

    The published converter may or may not be handed the words of the samples before: both are its results. When
    neither way fits, the rows numbered sample by sample are returned, to be compared.
    """
    alone, continued = ([packed_row(row, vocabulary, way) for row in rows] for way in (False, True))
    wanted, width = subscripts.tolist(), subscripts.shape[-1]
    return continued if _padded([row.token_subscripts for row in continued], width) == wanted else alone


def check_rows(report: Report, rows: Sequence[Row], inputs: Mapping[str, Tensor], prefix: str) -> None:
    """Compare every published input array of ``inputs`` (short name → tensor) with the rows packed here."""
    for ours, names in _NAMES.items():
        for name in names:
            if name in inputs:
                theirs = inputs[name]
                values = [getattr(row, ours) for row in rows]
                padded = values if ours in ("length", "image_bounds") else _padded(values, theirs.shape[-1])
                report.exact(f"{prefix}{name}", padded, theirs)


def _padded(rows: Iterable[Sequence[int]], width: int) -> list[list[int]]:
    return [[*row, *[0] * (width - len(row))] for row in rows]


def short_names(tensors: Mapping[str, Tensor], prefix: str, case: Case | None = None) -> dict[str, Tensor]:
    """Tensors whose name begins with ``prefix``, by the rest of their name; taken from ``case`` if given."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): case.take(name) if case else tensors[name] for name in names}


def words_of(inputs: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    """The published table of request words: [(base id, subscript)]."""
    ids, subscripts = next((pair for pair in _WORDS if pair[0] in inputs), (None, None))
    if ids is None or subscripts is None:
        return []
    return list(zip(inputs[ids].tolist(), inputs[subscripts].tolist(), strict=True))


def model_inputs(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published arrays → the inputs of our models (int64, all rows share one table of words)."""
    batch: dict[str, Tensor] = {}
    for ours, names in _NAMES.items():
        for name in names:
            if name in inputs and ours not in ("length", "image_bounds"):
                batch[ours] = inputs[name].long()
    rows, tokens = batch["input_ids"].shape
    batch.setdefault("position_ids", torch.arange(tokens).expand(rows, -1))
    if "length" in inputs:
        batch["attention_mask"] = (torch.arange(tokens)[None] < inputs["length"].long()[:, None]).long()
    if words := words_of(inputs):
        batch["request_vocab"] = torch.tensor(words).expand(rows, -1, -1)
    if "image_bound" in inputs:
        batch["image_token_index"] = _picture_index(inputs["image_bound"], rows, tokens)
    return batch


def _picture_index(bounds: Tensor, rows: int, tokens: int) -> Tensor:
    index = torch.full((rows, tokens), -1)
    for row in range(rows):
        begin_of_picture = 0
        for begin, end in bounds[row].tolist():
            index[row, begin:end] = torch.arange(begin_of_picture, begin_of_picture + end - begin)
            begin_of_picture += end - begin
    return index
