"""JSON of a wanted form: the masks, whole-character vocabularies, what cannot be kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from huayu.errors import OptionError
from huayu.generation.constrained import ByteVocabulary
from tests.models.visualglm import tiny

# No bytes and no escapes: 红 and 绿 begin with the same byte, which is no token.
TOKENS = ["<pad>", "</s>", *'{}[]":,0123456789abc红绿', "true", '":', " "]
EOS = 1
COLOUR = {"properties": {"c": {"enum": ["红", "绿"]}}, "required": ["c"]}


@pytest.fixture(scope="module")
def vocabulary() -> ByteVocabulary:
    return ByteVocabulary.of([token.encode() for token in TOKENS], {0, EOS}, EOS)


def written(vocabulary: ByteVocabulary, schema: Any, wishes: list[str], steps: int = 40) -> str:
    """The likeliest text for scores that prefer ``wishes``, the first most; two rows must agree."""
    keep = vocabulary.keep_to(json.dumps(schema))
    scores = torch.zeros(2, len(TOKENS) + 3)  # wider than the vocabulary: words of a request
    scores[:, len(TOKENS) :] = 99
    for rank, wish in enumerate(wishes):
        scores[:, TOKENS.index(wish)] = 10.0 - rank
    ids = torch.zeros(2, 1, dtype=torch.long)
    for _ in range(steps):
        token = keep(ids, scores.clone()).argmax(dim=-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
    first, second = ids[:, 1:].tolist()
    assert first == second
    text = [TOKENS[token] for token in first]
    assert "</s>" in text
    assert set(text[text.index("</s>") :]) == {"</s>"}
    return "".join(text[: text.index("</s>")])


def test_a_choice_of_whole_characters(vocabulary: ByteVocabulary) -> None:
    assert written(vocabulary, {"type": "object", **COLOUR}, ["绿"]) == '{"c":"绿"}'
    assert written(vocabulary, {"type": "object", **COLOUR}, ["红", "绿"]) == '{"c":"红"}'


def test_the_wish_to_end_closes_what_is_open(vocabulary: ByteVocabulary) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}, "required": ["a"]}
    found = json.loads(written(vocabulary, schema, ["</s>"]))
    assert found["a"] == ""
    endless = written(vocabulary, {"type": "array", "items": {"type": "integer"}}, ["</s>", "7"])
    assert json.loads(endless) == []


def test_a_whole_number_ends(vocabulary: ByteVocabulary) -> None:
    endless = written(vocabulary, {"type": "integer"}, ["7"])
    assert len(endless) >= 15
    assert int(endless) < 2**53
    assert written(vocabulary, {"type": "integer", "maximum": 100}, ["7"]) == "77"
    assert len(written(vocabulary, {"type": "integer", "enum": [3, 71]}, ["7"])) == 2


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "nothing"}, "nothing"),
        ({"properties": {"x": {}}}, "lacks characters.* x"),
        ({"enum": ["d"]}, "lacks characters"),
        ([1], "JSON schema"),
    ],
)
def test_what_cannot_be_kept(vocabulary: ByteVocabulary, schema: Any, word: str) -> None:
    with pytest.raises(OptionError, match=word):
        vocabulary.keep_to(json.dumps(schema))


def test_a_sentencepiece_vocabulary_as_bytes() -> None:
    from huayu.chat import ChatOptions
    from huayu.chat.model import ChatModel
    from huayu.chat.visualglm import VisualGLMBackend

    processor = tiny.processor()
    tokens, special = processor.tokenizer.as_bytes()
    assert len(tokens) == processor.tokenizer.vocab_size
    assert processor.tokenizer.eos_token_id in special
    text = "图中 有\n几个人"
    ids = [i for i in processor.tokenizer(text, add_special_tokens=False)["input_ids"] if i not in special]
    assert b"".join(tokens[i] for i in ids).decode().strip() == text
    chat = ChatModel(VisualGLMBackend(tiny.model(), processor, name="tiny", defaults=ChatOptions(search="greedy")))
    schema = json.dumps({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2})
    for seed in range(3):
        try:
            reply = chat.ask(None, "几个？", json_schema=schema, search="sample", seed=seed, max_new_tokens=40)
        except OptionError:
            pytest.skip("the tiny vocabulary lacks characters")
        assert reply.finish == "length" or all(isinstance(item, bool) for item in json.loads(reply.text))
