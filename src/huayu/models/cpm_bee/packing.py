"""A tree of texts → the tensors of CPM-Bee. Source: spec viscpm §2.4–2.6."""

# B batch, T tokens, R flattened relation table, E words of the request's own

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from huayu.errors import PromptError
from huayu.models.cpm_bee.vocabulary import BeeVocabulary

ANSWER, IMAGE = "<ans>", "image"
IGNORED = -100


@dataclass(frozen=True)
class Segment:
    """One node of the item's tree: its text, its parent, and what it is."""

    text: str
    parent: int
    path: tuple[str, ...]
    is_answer: bool
    is_image: bool


@dataclass
class PackedItem:
    """One item as token lists (all of one length T) and its tables.

    ``input_ids`` are base ids; ``segment_rel`` is flat (num_segments²). ``words`` maps extension id → text and
    ``word_ids`` base token → {extension id: subscript}. ``image_bounds`` are half-open token ranges.
    ``predict_segments`` (generation only) are (segment, number of ``<ans_k>``).
    ``request_vocab`` lists (base id, subscript) of the words that need a row of their own in the output;
    ``answer_words`` maps every id that an answer may use for such a word to its text.
    """

    input_ids: list[int]
    token_subscripts: list[int]
    is_context: list[int]
    segment_ids: list[int]
    segment_rel: list[int]
    num_segments: int
    words: dict[int, str]
    word_ids: dict[str, dict[int, int]]
    image_bounds: list[tuple[int, int]]
    predict_segments: list[tuple[int, int]] = field(default_factory=list)
    answer_paths: list[list[str]] = field(default_factory=list)
    request_vocab: list[tuple[int, int]] = field(default_factory=list)
    answer_words: dict[int, str] = field(default_factory=dict)


def relation(up: int, down: int, max_depth: int) -> int:
    """Relation value of two segments ``up`` steps below and ``down`` steps above their common ancestor."""
    up, down = min(up, max_depth - 1), min(down, max_depth - 1)
    return 0 if up == down == 0 else up * max_depth + down + 1


def _walk(item: Mapping[str, Any], number_answers: bool) -> list[Segment]:
    segments = [Segment("<root>", -1, (), False, False)]
    answers = 0

    def visit(node: Mapping[str, Any], parent: int, path: tuple[str, ...]) -> None:
        nonlocal answers
        for key, value in node.items():
            where = (*path, key)
            segments.append(Segment(key, parent, where, False, False))
            index = len(segments) - 1
            if isinstance(value, Mapping):
                visit(value, index, where)
                continue
            is_answer, is_image = where[0] == ANSWER, where[0] == IMAGE
            if is_answer and number_answers:
                answers += 1
                value = f"<ans_{answers}>"
            segments.append(Segment(value, index, where, is_answer, is_image))

    visit(item, 0, ())
    return segments


def _relation_table(segments: Sequence[Segment], max_depth: int) -> list[int]:
    chains = []
    for i in range(len(segments)):
        chain = [i]
        while segments[chain[-1]].parent >= 0:
            chain.append(segments[chain[-1]].parent)
        chains.append(chain[::-1])
    table = []
    for query in chains:
        for key in chains:
            shared = sum(1 for a, b in zip(query, key, strict=False) if a == b)
            table.append(relation(len(query) - shared, len(key) - shared, max_depth))
    return table


def _base_token(word: str, vocabulary: BeeVocabulary) -> str:
    if not (word.startswith("<") and word.endswith(">")):
        return "<unk>"
    name = word[1:-1].split("_", 1)[0]
    base = f"<{name}>"
    if base not in vocabulary.special_ids:
        raise ValueError(f"no special token {base!r} for {word!r}")
    return base


def _with_subscript(
    token: int, words: Mapping[int, str], word_ids: dict[str, dict[int, int]], vocabulary: BeeVocabulary
) -> tuple[int, int]:
    """Base id and subscript; the words of a request are numbered within their base, in order of appearance."""
    if token < len(vocabulary):
        return token, 0
    base = _base_token(words[token], vocabulary)
    known = word_ids.setdefault(base, {})
    return vocabulary.ids[base], known.setdefault(token, len(known))


def pack(
    item: Mapping[str, Any],
    vocabulary: BeeVocabulary,
    *,
    for_generation: bool = False,
    max_prompt_tokens: int | None = None,
    max_depth: int = 8,
    past: PackedItem | None = None,
) -> PackedItem:
    """Pack a nested dict of strings; leaves below ``<ans>`` are answers, below ``image`` picture placeholders.

    With ``for_generation`` answers become ``<ans_k>``, and only context tokens are kept. ``max_prompt_tokens`` counts
    all tokens, answer segment included. ``past``: an item before this one in the same row, whose words keep their
    numbers. Raises ValueError for malformed ``<`` and PromptError when the prompt is too long for its answer.
    """
    segments = _walk(item, number_answers=for_generation)
    bos, eos = vocabulary.ids["<s>"], vocabulary.ids["</s>"]
    ids: list[int] = []
    subscripts: list[int] = []
    context: list[int] = []
    segment_ids: list[int] = []
    words = dict(past.words) if past else {}
    word_ids = {base: dict(known) for base, known in past.word_ids.items()} if past else {}
    bounds: list[tuple[int, int]] = []
    for number, segment in enumerate(segments):
        tokens, words = vocabulary.encode(segment.text, words)
        tokens = [bos, *tokens] if segment.is_answer else [bos, *tokens, eos]
        if segment.is_image:
            bounds.append((len(ids) + 1, len(ids) + len(tokens) - 1))
        for token in tokens:
            base, subscript = _with_subscript(token, words, word_ids, vocabulary)
            ids.append(base)
            subscripts.append(subscript)
            context.append(0 if segment.is_answer else 1)
            segment_ids.append(number)
    packed = PackedItem(
        ids,
        subscripts,
        context,
        segment_ids,
        _relation_table(segments, max_depth),
        len(segments),
        words,
        word_ids,
        bounds,
        answer_paths=[list(s.path[1:]) for s in segments if s.is_answer],
    )
    _name_words(packed, vocabulary)
    return _prompt_only(packed, vocabulary, max_prompt_tokens) if for_generation else packed


def _name_words(packed: PackedItem, vocabulary: BeeVocabulary) -> None:
    """Fill ``request_vocab`` and ``answer_words``; placeholders of answers are not words."""
    for base, known in packed.word_ids.items():
        if base == ANSWER:
            continue
        for extension, subscript in known.items():
            token = vocabulary.ids[base]
            if subscript:
                packed.request_vocab.append((token, subscript))
                token = len(vocabulary) + len(packed.request_vocab) - 1
            packed.answer_words[token] = packed.words[extension]


def _prompt_only(packed: PackedItem, vocabulary: BeeVocabulary, limit: int | None) -> PackedItem:
    total = len(packed.input_ids)
    answer = vocabulary.ids[ANSWER]
    keep = []
    for i in range(total if limit is None else min(total, limit)):
        if packed.is_context[i]:
            keep.append(i)
        elif packed.input_ids[i] == answer:
            packed.predict_segments.append((packed.segment_ids[i], packed.token_subscripts[i] + 1))
    if packed.answer_paths and not packed.predict_segments:
        raise PromptError(
            f"The prompt has {total} tokens; the model takes {limit}.",
            f"提示共 {total} 个词元，模型最多接受 {limit} 个。",
        )
    packed.image_bounds = [(bisect_left(keep, begin), bisect_left(keep, end)) for begin, end in packed.image_bounds]
    for name in ("input_ids", "token_subscripts", "is_context", "segment_ids"):
        values = getattr(packed, name)
        setattr(packed, name, [values[i] for i in keep])
    return packed


def labels_of(packed: PackedItem, vocab_size: int, eos: int, bos: int) -> list[int]:
    """(T,) next-token targets of the answer tokens, -100 elsewhere. Source: spec viscpm §2.5."""
    rows = {pair: vocab_size + i for i, pair in enumerate(packed.request_vocab)}
    ids, subs, context = packed.input_ids, packed.token_subscripts, packed.is_context
    labels = [IGNORED] * len(ids)
    for j in range(1, len(ids)):
        if not context[j - 1]:
            labels[j - 1] = eos if ids[j] == bos else rows.get((ids[j], subs[j]), ids[j])
    if not context[-1]:
        labels[-1] = eos
    return labels


def collate(
    items: Sequence[PackedItem],
    vocabulary: BeeVocabulary,
    *,
    padding: str = "right",
    start_answer: bool = False,
    with_labels: bool = False,
) -> dict[str, Tensor]:
    """Batch packed items. ``padding`` is ``"left"`` (generation) or ``"right"`` (training).

    ``start_answer`` appends the ``<s>`` of the first answer segment, from which ``generate`` goes on. Returns int64
    (B, T) tensors by the names of ``CpmBeeForCausalLM``, ``segment_rel`` (B, R), ``image_token_index`` (B, T) when
    there are pictures, and ``request_vocab`` (B, E, 2) and ``token_subscripts`` only where some word needs them.
    """
    bos, eos = vocabulary.ids["<s>"], vocabulary.ids["</s>"]
    columns: dict[str, list[list[int]]] = {}
    for item in items:
        for name, values in _columns(item, len(vocabulary), bos, eos, start_answer, with_labels):
            columns.setdefault(name, []).append(values)
    fill = {"labels": IGNORED, "image_token_index": -1}
    batch = {name: _pad(rows, fill.get(name, 0), padding) for name, rows in columns.items()}
    batch["segment_rel"] = _pad([item.segment_rel for item in items], 0, "right")
    if not any(item.image_bounds for item in items):
        del batch["image_token_index"]
    if not batch["token_subscripts"].any():
        del batch["token_subscripts"]
    if any(item.request_vocab for item in items):
        flat = _pad([[x for pair in item.request_vocab for x in pair] for item in items], -1, "right")
        batch["request_vocab"] = flat.view(len(items), -1, 2)
    return batch


def _columns(
    item: PackedItem, vocab_size: int, bos: int, eos: int, start_answer: bool, with_labels: bool
) -> Iterator[tuple[str, list[int]]]:
    tail = 1 if start_answer else 0
    length = len(item.input_ids)
    pictures = [-1] * (length + tail)
    for p, (begin, end) in enumerate(item.image_bounds):
        pictures[begin:end] = range(p * (end - begin), (p + 1) * (end - begin))
    first_answer = item.predict_segments[0][0] if tail else 0
    yield "input_ids", item.input_ids + [bos] * tail
    yield "token_subscripts", item.token_subscripts + [0] * tail
    yield "attention_mask", [1] * (length + tail)
    yield "is_context", item.is_context + [0] * tail
    yield "segment_ids", item.segment_ids + [first_answer] * tail
    yield "num_segments", [item.num_segments] * (length + tail)
    yield "position_ids", [*range(length)] + [0] * tail
    yield "image_token_index", pictures
    if with_labels:
        yield "labels", labels_of(item, vocab_size, eos, bos)


def _pad(rows: Sequence[Sequence[int]], value: int, side: str) -> Tensor:
    width = max(map(len, rows))
    padded = [
        [value] * (width - len(row)) + list(row) if side == "left" else list(row) + [value] * (width - len(row))
        for row in rows
    ]
    return torch.tensor(padded, dtype=torch.long)
