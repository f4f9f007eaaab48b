"""Golden cases without weights of a model: position tables, and the tokenizer with its packing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from huayu.checkpoints.vocabulary import vocabulary_md5
from huayu.errors import CheckpointError, HuayuError
from huayu.evaluation.verify.arrays import Row
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.models.cpm_bee.embedding import CpmBeeEmbedding, inverse_frequencies
from huayu.models.cpm_bee.packing import pack, relation
from huayu.models.cpm_bee.position_bias import SegmentPositionBias, distance_bucket
from huayu.models.cpm_bee.vocabulary import MAX_TOKEN_LENGTH, BeeVocabulary

# The words that the published driver put beside the vocabulary for ``proj_*``: (base id, subscript).
_PROJECTED_WORDS = ((1, 1), (9, 2), (3, 3))
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_MAX_PROMPT_TOKENS = 3000


@torch.no_grad()
def position_bias(case: Case, report: Report) -> None:
    """Distance buckets, segment relations, the bias lookup, rotated embeddings, relation matrices of trees."""
    distance = case.take("relative_position")
    for name in case.tensors:
        if found := re.fullmatch(r"bucket_(\d+)_(\d+)", name):
            report.exact(name, distance_bucket(distance, int(found[1]), int(found[2])), case.take(name))
        elif found := re.fullmatch(r"rel_to_bucket_(\d+)", name):
            depth = int(found[1])
            table = [[relation(up, down, depth) for down in range(depth)] for up in range(depth)]
            report.exact(name, table, case.take(name))
    _check_bias(case, report)
    for suffix in sorted({name.rsplit("_", 1)[1] for name in case.tensors if name.startswith("ext_weight_")}):
        _check_embedding(case, report, suffix)
    _check_trees(case, report)


def _check_bias(case: Case, report: Report) -> None:
    table = case.take("bias_table")
    buckets = table.shape[0] // 2  # as many for distances as for segments
    bias = SegmentPositionBias(buckets, table.shape[0] - buckets, 2048, table.shape[1])
    bias.weight.copy_(table)
    ours = bias(case.take("bias_query_pos").long(), case.take("bias_key_pos").long(), case.take("bias_rel").long())
    report.close("bias_out", ours, case.take("bias_out"), case.tolerance)


def _check_embedding(case: Case, report: Report, suffix: str) -> None:
    dtype = _DTYPES[suffix]
    weight, subscripts = case.take(f"ext_weight_{suffix}"), case.take("ext_subs").long()
    embedding = CpmBeeEmbedding(weight.shape[0], weight.shape[1], dtype=dtype)
    embedding.weight.copy_(weight)
    embeds = embedding(torch.arange(weight.shape[0]), subscripts)
    report.close(f"ext_embed_{suffix}", embeds, case.take(f"ext_embed_{suffix}"), case.tolerance)
    frequencies = inverse_frequencies(weight.shape[1], dtype)
    report.close(f"inv_freq_{suffix}", frequencies, case.take(f"inv_freq_{suffix}"), case.tolerance)
    hidden = case.take("proj_x").to(dtype)
    logits = embedding.logits(hidden[None], torch.tensor([_PROJECTED_WORDS]))[0]
    report.close(f"proj_{suffix}", logits, case.take(f"proj_{suffix}"), case.tolerance)


def _check_trees(case: Case, report: Report) -> None:
    try:
        vocabulary = published_vocabulary(case)
    except HuayuError as error:
        vocabulary = None
        report.skip("tree*.ids", error.en, error.zh)
    stand_in = BeeVocabulary(["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>"])
    for number, item in enumerate(case.config["trees"]):
        packed = pack(item, vocabulary or stand_in)
        names = (f"tree{number}.segment_rel", f"tree{number}.ids", f"tree{number}.segments")
        relations, ids, segments = (case.take(name) for name in names)
        count = packed.num_segments
        report.exact(names[0], torch.tensor(packed.segment_rel).view(count, count), relations)
        if vocabulary:
            report.exact(names[1], packed.input_ids, ids)
            report.exact(names[2], packed.segment_ids, segments)
        else:  # every segment begins with <s>
            report.exact(names[2], (ids == 6).cumsum(0) - 1, segments)


def published_vocabulary(case: Case) -> BeeVocabulary:
    """The published vocabulary: as the case's settings name it, else HUAYU_VOCAB, else ``data`` beside the cases.

    Raises CheckpointError when it is nowhere, or is not the one that the case was made with.
    """
    wanted = case.config.get("vocab_md5")
    named = [case.folder / case.config["vocab"]] if "vocab" in case.config else []
    named += [Path(os.environ["HUAYU_VOCAB"])] if os.environ.get("HUAYU_VOCAB") else []
    named += [parent / "data" / "cpm-bee" / "bee.txt" for parent in case.folder.resolve().parents]
    path = next((path for path in named if path.is_file()), None)
    if path is None:
        raise CheckpointError(
            "the vocabulary bee.txt was not found; name it in HUAYU_VOCAB",
            "找不到词表 bee.txt；请用 HUAYU_VOCAB 指明",
        )
    if wanted and vocabulary_md5(path) != wanted:
        raise CheckpointError(f"{path.name} is another vocabulary (md5)", f"{path.name} 是另一个词表（md5 不同）")
    return BeeVocabulary.from_file(path)


def tokenizer(case: Case, report: Report) -> None:
    """Special tokens, every text, every packed item."""
    vocabulary, config = published_vocabulary(case), case.config
    report.exact("vocab_size", len(vocabulary), config["vocab_size"])
    report.exact("special", vocabulary.special_ids, config["special"])
    for name, token in (
        ("bos", "<s>"),
        ("eos", "</s>"),
        ("unk", "<unk>"),
        ("mask", "<mask>"),
        ("newline", "\n"),
        ("space", " "),
    ):
        report.exact(name, vocabulary.ids[token], config[name])
    report.exact("max_word_len", MAX_TOKEN_LENGTH, config["max_word_len"])
    _check_lines(report, "texts", case.lines("texts.jsonl"), lambda line: _text(vocabulary, line))
    _check_lines(report, "items", case.lines("items.jsonl"), lambda line: _item(vocabulary, line))


def _check_lines(report: Report, name: str, lines: list[Any], ours: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """One comparison per field, over all lines; a line where one side raises and the other does not is a mismatch."""
    made = [ours(line) for line in lines]
    fields = dict.fromkeys(field for line in lines for field in line)
    for field in fields:
        theirs = [line.get(field) for line in lines]
        report.exact(f"{name}.{field}", [line.get(field) for line in made], theirs)


def _text(vocabulary: BeeVocabulary, line: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {key: line[key] for key in ("text", "past_table") if key in line}
    past = {int(key): value for key, value in line.get("past_table", {}).items()}
    try:
        ids, table = vocabulary.encode(line["text"], past)
    except ValueError as error:
        return {**given, "error": type(error).__name__}
    return {
        **given,
        "pieces": [list(piece) for piece in vocabulary.pieces(line["text"])],
        "ids": ids,
        "ext_table": _by_text(table),
        "decoded": vocabulary.decode(ids, table),
    }


def _item(vocabulary: BeeVocabulary, line: dict[str, Any]) -> dict[str, Any]:
    given = {"item": line["item"], "generation": line["generation"]}
    try:
        limit = _MAX_PROMPT_TOKENS if line["generation"] else None
        packed = pack(line["item"], vocabulary, for_generation=line["generation"], max_prompt_tokens=limit)
    except ValueError as error:
        return {**given, "error": type(error).__name__}
    row = Row().add(packed)
    made = {
        **given,
        "input_ids": row.input_ids,
        "input_id_subs": row.token_subscripts,
        "input_pos": row.position_ids,
        "context": row.is_context,
        "segment_ids": row.segment_ids,
        "segment_rel_offset": row.segment_rel_offset,
        "segment_rel": row.segment_rel,
        "sample_ids": row.sample_ids,
        "num_segments": row.num_segments,
        "n_segments": packed.num_segments,
        "predict_segments": [list(pair) for pair in packed.predict_segments],
        "answer_placeholders": packed.answer_paths,
        "ext_table": _by_text(packed.words),
        "token_id_table": {base: _by_text(known) for base, known in packed.word_ids.items()},
        "image_bound": [list(bound) for bound in packed.image_bounds],
    }
    return {field: made[field] for field in line if field in made}


def _by_text(table: dict[int, Any]) -> dict[str, Any]:
    """As JSON keeps it: keys are texts."""
    return {str(key): value for key, value in table.items()}
