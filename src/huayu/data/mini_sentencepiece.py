"""The vocabulary of the embedded VisualGLM, a SentencePiece model: English words, Chinese characters, bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from huayu.data import mini_vocabulary

BLANKS = range(2, 9)  # runs of so many spaces are pieces of their own. Source: spec visualglm §5
_CUT = "\t"  # no piece reaches over it
# A word is met before several marks and often, so that it becomes a piece and stays one.
_ENDS, _TIMES = ("", ",", ".", "?"), 25
_SIZE = 4000  # more than there are: all that are of use are kept


def _lines() -> Iterator[str]:
    yield from mini_vocabulary.texts("zh")
    for line in mini_vocabulary.texts("en"):
        yield f"Q:{_CUT}{line}"  # as prompts have it: no space before the first word
        yield line
    for token in mini_vocabulary.tokens():
        for end in _ENDS if token.startswith(" ") else ("",):
            yield from [token.strip() + end] * _TIMES
    yield "问：答：A:"


def build(path: str | Path) -> int:
    """Write the model; the number of pieces. What no piece covers is spelled in bytes."""
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=(re.sub(r"([^\x00-\x7f])", rf"{_CUT}\1{_CUT}", line) for line in _lines()),
        model_writer=written,
        model_type="unigram",
        vocab_size=_SIZE,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        split_digits=True,
        pretokenization_delimiter=_CUT,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        shuffle_input_sentence=False,
        num_threads=1,
        minloglevel=2,
        unk_id=0,
        eos_id=1,
        bos_id=-1,
        pad_id=3,
        pad_piece="<pad>",
        control_symbols=["[MASK]", "[gMASK]", "<sop>", "<eop>"],
        user_defined_symbols=["<n>", "<|tab|>", *(f"<|blank_{count}|>" for count in BLANKS), "<img>", "</img>"],
    )
    Path(path).write_bytes(written.getvalue())
    return int(SentencePieceProcessor(model_proto=written.getvalue()).vocab_size())
