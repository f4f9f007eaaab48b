"""Answers that are JSON of a wanted form: at each step only tokens that can still lead there.

By llguidance: it takes any vocabulary as bytes, writes a mask for 130,000 tokens in tens of microseconds, knows most of
JSON Schema and says what it does not. R rows, T tokens so far, V vocabulary, W ≥ V width of the logits.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from huayu.errors import OptionError
from huayu.runtime.packages import require

# A small model that may write blanks writes nothing else.
_GUIDANCE = {"x-guidance": {"whitespace_flexible": False}}
# Without forcing: tokens are whole characters in some vocabularies, which lack the bytes that would be forced.
_LARK = '%llguidance {{"no_forcing": true}}\nstart: %json {schema}'
_LARGEST = 2**53 - 1  # of the whole numbers that all readers of JSON share


class ByteVocabulary:
    """A model's tokens as llguidance takes them; make one for a model and keep it."""

    def __init__(self, tokenizer: Any, tokens: Collection[bytes] | None = None) -> None:
        self._tokenizer = tokenizer
        self._tokens = None if tokens is None else frozenset(tokens)

    @classmethod
    def of(cls, tokens: Sequence[bytes], special: Collection[int], eos: int) -> ByteVocabulary:
        """``tokens`` by id; the ``special`` ones stand for no text. Raises ModelError without llguidance."""
        require("llguidance", "serve")
        from llguidance import LLTokenizer, TokenizerWrapper

        own = SimpleNamespace(eos_token_id=eos, bos_token_id=None, tokens=tokens, special_token_ids=sorted(special))
        texts = {token: at for at, token in enumerate(tokens) if at not in special}
        own_type = type("Tokens", (SimpleNamespace,), {"__call__": lambda _, text: _in_characters(text, texts)})
        return cls(LLTokenizer(TokenizerWrapper(own_type(**vars(own)))), texts)

    @classmethod
    def of_library(cls, tokenizer: Any, eos: Collection[int]) -> ByteVocabulary:
        """Of a fast tokenizer of the transformers library. Raises OptionError for another one."""
        require("llguidance", "serve")
        from llguidance.hf import from_tokenizer

        try:
            return cls(from_tokenizer(tokenizer, eos_token=sorted(eos)))
        except ValueError as problem:
            raise OptionError(
                f"This model cannot be kept to a JSON schema: {problem}", f"此模型不能按 JSON schema 作答：{problem}"
            ) from problem

    def keep_to(self, schema: str) -> KeepToSchema:
        """A step for one call of ``generate``. Raises OptionError for a schema that is none or cannot be followed."""
        from llguidance import LLMatcher

        try:
            wanted = _closed(json.loads(schema))
            grammar = LLMatcher.grammar_from_lark(_LARK.format(schema=json.dumps({**wanted, **_GUIDANCE})))
            problem = LLMatcher.validate_grammar(grammar, self._tokenizer)
        except (ValueError, TypeError, RecursionError) as error:
            problem = str(error)
        if problem and not problem.startswith("WARNING"):
            first = problem.strip().split("\n")[0][:300]
            raise OptionError(f"The JSON schema cannot be used: {first}", f"无法使用该 JSON schema：{first}")
        self._require_characters(wanted)
        return KeepToSchema(self._tokenizer, grammar)

    def _require_characters(self, schema: Any) -> None:
        if self._tokens is None:
            return  # a library's tokenizer falls back to bytes
        wanted = set('{}[]":,0123456789') | {char for text in _fixed(schema) for char in text}
        missing = sorted(c for c in wanted if c.encode() not in self._tokens and not self._has_bytes(c))
        if missing:
            shown = " ".join(missing[:20])
            raise OptionError(
                f"This model's vocabulary lacks characters that the JSON needs: {shown}",
                f"此模型的词表缺少该 JSON 所需的字符：{shown}",
            )

    def _has_bytes(self, char: str) -> bool:
        return self._tokens is not None and all(bytes([byte]) in self._tokens for byte in char.encode())


class KeepToSchema(LogitsProcessor):
    """Scores (R, W) → -inf for what no JSON of the schema goes on with. Holds the state of one call."""

    def __init__(self, tokenizer: Any, grammar: str) -> None:
        self._tokenizer, self._grammar = tokenizer, grammar
        self._closers = [tokenizer.greedy_tokenize(mark)[0] for mark in '"]}']
        self._rows: list[Any] = []
        self._seen = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        from llguidance import LLMatcher

        if not self._rows:
            self._rows = [LLMatcher(self._tokenizer, self._grammar) for _ in input_ids]
            self._seen = input_ids.shape[1]
        new = input_ids[:, self._seen :].tolist()
        self._seen = input_ids.shape[1]
        allowed = torch.zeros(scores.shape, dtype=torch.bool)
        for row, (matcher, tokens) in enumerate(zip(self._rows, new, strict=True)):
            for token in tokens:
                if not matcher.is_stopped():
                    matcher.consume_token(token)
            if matcher.is_stopped():
                allowed[row, self._tokenizer.eos_token] = True
                continue
            mask = torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=torch.uint8) > 0
            allowed[row, : len(mask)] = mask[: scores.shape[1]]
        scores = self._closed_sooner(scores, allowed)
        scores = scores.masked_fill(~allowed.to(scores.device), -torch.inf)
        if bool(scores.isneginf().all(dim=1).any()) or any(matcher.is_error() for matcher in self._rows):
            raise OptionError(
                "This model's vocabulary has no token with which the JSON could go on.",
                "此模型的词表中没有可以续写该 JSON 的词元。",
            )
        return scores

    def _closed_sooner(self, scores: Tensor, allowed: Tensor) -> Tensor:
        """Where an answer cannot end yet, the wish to end it is one to close the string, list or object."""
        eos = self._tokenizer.eos_token
        for row in (~allowed[:, eos]).nonzero().flatten().tolist():
            quote, *ends = (closer if allowed[row, closer] else None for closer in self._closers)
            ends = [end for end in ends if end is not None]
            closer = ends[0] if len(ends) == 1 else quote  # both only within a string
            if closer is not None and scores[row, closer] < scores[row, eos]:
                scores = scores.clone()
                scores[row, closer] = scores[row, eos]
        return scores


def _in_characters(text: str | bytes, ids: dict[bytes, int]) -> list[int]:
    """Some way to write ``text`` with ``ids``; what they lack is left out."""
    plain = text.decode(errors="ignore") if isinstance(text, bytes) else text
    return [ids[char.encode()] for char in plain if char.encode() in ids]


def _closed(schema: Any) -> Any:
    """The same without names that it does not list, and with whole numbers in the range that all readers of JSON share
    (RFC 8259 §6), where it leaves that open: a small model would find no end."""
    if not isinstance(schema, dict) or {"allOf", "anyOf", "oneOf", "$ref"} & set(schema):
        return schema
    schema = dict(schema)
    if schema.get("type") == "integer" and not {"enum", "const", "multipleOf"} & set(schema):
        for side, bound in (("Minimum", -_LARGEST), ("Maximum", _LARGEST)):
            if f"exclusive{side}" not in schema:
                schema.setdefault(side.lower(), bound)
    if isinstance(schema.get("properties"), dict):
        schema["properties"] = {name: _closed(part) for name, part in schema["properties"].items()}
        if "patternProperties" not in schema and set(schema.get("required", ())) <= set(schema["properties"]):
            schema.setdefault("additionalProperties", False)
    if "items" in schema:
        schema["items"] = _closed(schema["items"])
    return schema


def _fixed(schema: Any) -> Iterator[str]:
    """Texts that the JSON must or may hold word for word."""
    if isinstance(schema, list):
        for part in schema:
            yield from _fixed(part)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in ("enum", "const"):
            yield json.dumps(value, ensure_ascii=False)
        elif key == "properties" and isinstance(value, dict):
            yield from (json.dumps(name, ensure_ascii=False)[1:-1] for name in value)
            yield from (text for part in value.values() for text in _fixed(part))
        else:
            yield from _fixed(value)
