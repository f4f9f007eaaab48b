"""Greedy longest match, special tokens, words of the request's own: properties over random texts and vocabularies."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from huayu.models.cpm_bee import BeeVocabulary, CpmBeeTokenizer
from huayu.models.cpm_bee.vocabulary import Piece, escape, unescape
from tests.models import tiny

VOCABULARY, SIZE = tiny.vocabulary(), len(tiny.LINES)
# Characters of many tokens, of none, of special tokens, space, line end, astral.
LETTERS = "abcdef猫狗是？<> \n龘齉1😀"
TEXTS = st.text(LETTERS, max_size=30)
UNMARKED = st.text(LETTERS.replace("<", ""), max_size=30)
SPECIAL = ["<s>", "</s>", "<unk>", "<ans>", "<ans_1>", "<mask_0>", "<龘>", "<a b>"]
# What pack() accepts: text in which every `<` is doubled or opens a special token.
VALID = st.lists(TEXTS.map(escape) | st.sampled_from(SPECIAL), max_size=6).map("".join)


@given(UNMARKED)
def test_decode_undoes_encode_for_plain_text(text):
    assert VOCABULARY.decode(*VOCABULARY.encode(text)) == text


@given(VALID)
def test_decode_undoes_encode_for_all_valid_text(text):
    """Words of its own come back raw, all else escaped. Source: spec viscpm §2.3."""
    ids, table = VOCABULARY.encode(text)
    assert VOCABULARY.decode(ids, table) == text


@given(TEXTS)
def test_unescape_undoes_escape(text):
    assert unescape(escape(text)) == text


@given(TEXTS)
def test_escaped_text_never_holds_a_special_token(text):
    pieces = VOCABULARY.pieces(escape(text))
    assert not any(piece.is_special for piece in pieces)
    assert "".join(piece.text for piece in pieces) == text


def slow_pieces(text, tokens):
    """Longest match by trying every token at every place; runs of what does not match are one piece."""
    found, start = [], 0
    while start < len(text):
        best = max((t for t in tokens if t and text.startswith(t, start)), key=len, default=None)
        if best is not None:
            found.append(Piece(best, False, False))
        elif found and found[-1].is_unknown:
            found[-1] = Piece(found[-1].text + text[start], True, False)
        else:
            found.append(Piece(text[start], True, False))
        start += len(best or "x")
    return found


@settings(max_examples=200)
@given(st.text("abc ", max_size=20), st.lists(st.text("abc ", max_size=4), max_size=12))
def test_pieces_are_the_longest_matches(text, tokens):
    vocabulary = BeeVocabulary([*tiny.SPECIAL, *tokens])
    assert vocabulary.pieces(text) == slow_pieces(text, [" ", "\n", *tokens])


def test_tokens_longer_than_32_characters_never_match():
    vocabulary = BeeVocabulary(["a" * 32, "a" * 33, "b"])
    assert [piece.text for piece in vocabulary.pieces("a" * 33 + "b")] == ["a" * 32, "a", "b"]


def test_special_tokens_are_not_matched_inside_text():
    assert [tuple(piece) for piece in VOCABULARY.pieces("<<s>a<s>")] == [
        ("<", False, False),
        ("s", True, False),
        (">", False, False),
        ("a", False, False),
        ("<s>", False, True),
    ]


def test_a_longer_token_does_not_open_the_door_to_a_special_one():
    vocabulary = BeeVocabulary([*tiny.SPECIAL, "<", "<s>ab"])
    assert [piece.text for piece in vocabulary.pieces("<<s>a<<s>ab")] == ["<", "s>a", "<s>ab"]


def test_runs_of_the_unknown_end_at_special_tokens_and_tokens():
    texts = [piece.text for piece in VOCABULARY.pieces("龘齉a龘<sep>齉龘")]
    assert texts == ["龘齉", "a", "龘", "<sep>", "齉龘"]


@pytest.mark.parametrize("text", ["<", "a<", "<a", "a<b", "<a<b>", "<s", "<<<", "<>", "<s><"])
def test_a_single_opening_is_an_error(text):
    with pytest.raises(ValueError, match="<"):
        VOCABULARY.encode(text)


def test_the_quirk_of_an_empty_special_token():
    """Its `>` does not close it. Source: spec viscpm §2.2."""
    assert VOCABULARY.pieces("<>b>") == [Piece("<>b>", False, True)]


def test_the_renamed_tokens_are_space_and_line_end():
    """And `</n>` itself is a special token that the vocabulary does not have. Source: spec viscpm §2.1."""
    ids, table = VOCABULARY.encode(" \n</n></_>")
    assert ids == [5, 4, SIZE, SIZE + 1]
    assert table == {SIZE: "</n>", SIZE + 1: "</_>"}


@given(st.lists(VALID, max_size=5))
def test_a_table_goes_on_over_several_texts(texts):
    table, all_ids = {}, []
    for text in texts:
        ids, table = VOCABULARY.encode(text, table)
        all_ids += ids
    own = [i for i in all_ids if i >= len(VOCABULARY)]
    assert sorted(table) == list(range(len(VOCABULARY), len(VOCABULARY) + len(table)))
    assert len(set(table.values())) == len(table)
    assert list(dict.fromkeys(own)) == sorted(table)  # numbered in order of appearance
    assert VOCABULARY.decode(all_ids, table) == "".join(texts)


def test_encode_leaves_the_given_table_alone():
    table = {SIZE: "龘"}
    VOCABULARY.encode("齉", table)
    assert table == {SIZE: "龘"}


def test_negative_ids_are_skipped():
    assert VOCABULARY.decode([-100, 16, -1, 17]) == "ab"


LINES = st.lists(st.text("ab 猫\r\t\u2028\u00a0<", max_size=4), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("lines") / "vocab.txt"


@settings(max_examples=40, deadline=None)
@given(LINES.filter(lambda lines: lines[-1] != ""), st.sampled_from(["", "\n"]))
def test_file_there_and_back(path, lines, end):
    """Lines end with a line feed and with nothing else; spaces belong to the token."""
    path.write_bytes(("\n".join(lines) + end).encode("utf-8"))
    vocabulary = BeeVocabulary.from_file(path)
    assert vocabulary.tokens == lines
    assert vocabulary.lines() == ["</_>" if line == " " else line for line in lines]
    path.write_bytes("\n".join(vocabulary.lines()).encode("utf-8"))
    assert BeeVocabulary.from_file(path).tokens == lines


@pytest.fixture(scope="module")
def tokenizer(processor):
    return processor.tokenizer


@settings(deadline=None)
@given(UNMARKED.filter(lambda text: not set(text) & set("龘齉😀")))
def test_the_library_s_tokenizer_says_the_same(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids == VOCABULARY.encode(text)[0]
    assert tokenizer.decode(ids) == text


def test_the_library_s_tokenizer_on_special_tokens_and_batches(tokenizer):
    assert tokenizer.encode("<s>ab</s>龘") == [6, tiny.LINES.index("ab"), 7, 1]
    batch = tokenizer(["ab", "abcab 猫狗"], padding=True, return_tensors="pt")
    lengths = batch["attention_mask"].sum(1).tolist()
    assert batch["input_ids"][0].tolist()[: -lengths[0]] == [0] * (lengths[1] - lengths[0])
    assert tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True) == ["ab", "abcab 猫狗"]
    assert (len(tokenizer), tokenizer.vocab_size) == (len(tiny.LINES),) * 2
    special = ("pad", "unk", "bos", "eos")
    assert [getattr(tokenizer, f"{name}_token_id") for name in special] == [0, 1, 6, 7]
    assert tokenizer.decode(tokenizer.encode("a<<b")) == "a<b"
    with pytest.raises(ValueError, match="<"):
        tokenizer.encode("a<b")


def test_the_library_s_tokenizer_there_and_back(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = CpmBeeTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.encode(" ab\n猫狗") == tokenizer.encode(" ab\n猫狗")


@given(TEXTS)
def test_escaped_text_has_no_word_of_a_special_form(text):
    """So that pack() never takes a user's word for a base token it does not know."""
    _, table = VOCABULARY.encode(escape(text))
    assume(table)
    assert not any(word.startswith("<") and word.endswith(">") for word in table.values())
