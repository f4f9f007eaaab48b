"""From a tree of texts to tensors: segments, relations, pictures, words, limits, labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huayu.errors import PromptError
from huayu.models.cpm_bee import collate, pack
from huayu.models.cpm_bee.packing import labels_of, relation
from huayu.models.cpm_bee.vocabulary import escape
from tests.models import tiny

VOCABULARY, SIZE = tiny.vocabulary(), len(tiny.LINES)
BOS, EOS, UNK, ANS = 6, 7, 1, 9
TEXTS = st.text("ab猫 龘齉<", max_size=6).map(escape)
KEYS = st.sampled_from(["question", "context", "image", "<ans>", "龘", "a", "1"])
TREES = st.recursive(TEXTS, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)
ITEMS = st.dictionaries(KEYS, TREES, min_size=1, max_size=4)


def segments_of(item):
    """[(text, path, is leaf)] depth first; a path is a tuple of segment numbers from the root."""
    found = [("<root>", (0,), ())]

    def visit(node, path, keys):
        for key, value in node.items():
            found.append((key, (*path, len(found)), (*keys, key)))
            here = found[-1][1]
            if isinstance(value, str):
                found.append((value, (*here, len(found)), (*keys, key, None)))
            else:
                visit(value, here, (*keys, key))

    visit(item, (0,), ())
    return found


@settings(max_examples=60, deadline=None)
@given(ITEMS)
def test_every_segment_is_there_in_order(item):
    packed = pack(item, VOCABULARY)
    segments = segments_of(item)
    assert packed.num_segments == len(segments)
    assert packed.segment_ids == sorted(packed.segment_ids)
    for number, (text, _, keys) in enumerate(segments):
        places = [i for i, segment in enumerate(packed.segment_ids) if segment == number]
        ids, words = [packed.input_ids[i] for i in places], dict(packed.words)
        is_answer = keys[:1] == ("<ans>",) and keys[-1] is None
        assert ids[0] == BOS
        assert is_answer or (len(ids) > 1 and ids[-1] == EOS)
        back = {(VOCABULARY.ids[b], s): w for b, known in packed.word_ids.items() for w, s in known.items()}
        content = places[1:] if is_answer else places[1:-1]
        restored = [back.get((packed.input_ids[i], packed.token_subscripts[i]), packed.input_ids[i]) for i in content]
        assert VOCABULARY.decode(restored, words) == text
        assert {packed.is_context[i] for i in places} == {0 if is_answer else 1}


@settings(max_examples=60, deadline=None)
@given(ITEMS)
def test_relations_count_steps_to_the_common_ancestor(item):
    packed = pack(item, VOCABULARY)
    paths = [path for _, path, _ in segments_of(item)]
    for query, a in enumerate(paths):
        for key, b in enumerate(paths):
            shared = next(n for n in range(len(a), 0, -1) if a[:n] == b[:n])
            value = packed.segment_rel[query * packed.num_segments + key]
            assert value == relation(len(a) - shared, len(b) - shared, 8)
            assert (value == 0) is (query == key)


def test_known_relation_values():
    """Source: spec viscpm §1.4."""
    values = {(0, 0): 0, (0, 1): 2, (1, 0): 9, (1, 1): 10, (7, 7): 64, (8, 9): 64, (7, 0): 57, (20, 0): 57, (0, 20): 8}
    assert {pair: relation(*pair, 8) for pair in values} == values
    every = [relation(up, down, 8) for up in range(8) for down in range(8)]
    assert len(set(every)) == 64
    assert 1 not in every


def test_depth_is_capped():
    deep = leaf = {}
    for _ in range(9):
        leaf["a"] = {}
        leaf = leaf["a"]
    leaf["a"] = "b"
    packed = pack(deep, VOCABULARY)
    n = packed.num_segments
    assert n == 12
    assert [packed.segment_rel[key] for key in range(n)] == [0, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8]
    assert [packed.segment_rel[query * n] for query in range(n)] == [0, 9, 17, 25, 33, 41, 49, 57, 57, 57, 57, 57]


def test_picture_bounds_follow_an_answer_that_comes_first():
    """The answer's own tokens are not fed: what stands behind them moves."""
    item = {"<ans>": {"a": "", "b": ""}, "image": "<unk><unk>", "question": "a"}
    packed = pack(item, VOCABULARY, for_generation=True)
    ((begin, end),) = packed.image_bounds
    assert packed.input_ids[begin - 1 : end + 1] == [BOS, UNK, UNK, EOS]
    assert packed.predict_segments == [(3, 1), (5, 2)]
    assert packed.answer_paths == [["a"], ["b"]]
    index = collate([packed], VOCABULARY, start_answer=True)["image_token_index"][0]
    assert index[begin:end].tolist() == [0, 1]
    assert (index >= 0).sum() == 2


def test_words_of_the_request():
    """Subscripts count within a base token, in order of appearance. Source: spec viscpm §2.4."""
    item = {"question": "龘a<mask_0>齉<ans_7>龘", "context": "<mask_1>齉<mask_0><unk>", "<ans>": ""}
    packed = pack(item, VOCABULARY, for_generation=True)
    named = {(i, s) for i, s in zip(packed.input_ids, packed.token_subscripts, strict=True) if s}
    assert packed.word_ids == {
        "<unk>": {SIZE: 0, SIZE + 2: 1},
        "<mask>": {SIZE + 1: 0, SIZE + 4: 1},
        "<ans>": {SIZE + 3: 0, SIZE + 5: 1},
    }
    assert packed.words == {
        SIZE: "龘",
        SIZE + 1: "<mask_0>",
        SIZE + 2: "齉",
        SIZE + 3: "<ans_7>",
        SIZE + 4: "<mask_1>",
        SIZE + 5: "<ans_1>",
    }
    assert named == {(UNK, 1), (2, 1)}
    assert packed.request_vocab == [(UNK, 1), (2, 1)]  # placeholders of answers are not words
    assert packed.answer_words == {UNK: "龘", SIZE: "齉", 2: "<mask_0>", SIZE + 1: "<mask_1>"}


def test_a_later_item_goes_on_numbering_the_words_of_an_earlier_one():
    first = pack({"question": "龘a齉", "<ans>": "b"}, VOCABULARY)
    known = dict(first.words), {base: dict(ids) for base, ids in first.word_ids.items()}
    second = pack({"question": "齾a齉", "<ans>": "龘"}, VOCABULARY, past=first)
    assert second.words == {SIZE: "龘", SIZE + 1: "齉", SIZE + 2: "齾"}
    assert [s for i, s in zip(second.input_ids, second.token_subscripts, strict=True) if i == UNK] == [2, 1, 0]
    assert (first.words, first.word_ids) == known


def test_a_special_token_without_a_base_is_an_error():
    with pytest.raises(ValueError, match="<nothing>"):
        pack({"question": "<nothing_1>", "<ans>": ""}, VOCABULARY)


@given(st.text("<>a龘 _", max_size=8))
def test_whatever_a_user_types_can_be_packed(text):
    packed = pack({"question": escape(text), "<ans>": ""}, VOCABULARY, for_generation=True)
    assert len(packed.input_ids) == len(packed.token_subscripts)
    assert packed.predict_segments == [(4, 1)]


@pytest.mark.parametrize("item", [{"question": "", "context": "", "<ans>": ""}, {"<ans>": ""}])
def test_empty_texts(item, language):
    packed = pack(item, VOCABULARY, for_generation=True)
    batch = collate([packed], VOCABULARY, padding="left", start_answer=True)
    assert language.generate(**batch, max_new_tokens=2).shape[1] > batch["input_ids"].shape[1]


class TestLimit:
    ITEM = {"question": "ab" * 20, "<ans>": ""}

    def test_the_limit_counts_all_tokens_with_the_answer_s(self):
        total = len(pack(self.ITEM, VOCABULARY, for_generation=True).input_ids) + 2  # <s> and <ans_1>
        whole = pack(self.ITEM, VOCABULARY, for_generation=True, max_prompt_tokens=total)
        assert len(whole.input_ids) == total - 2
        with pytest.raises(PromptError) as error:
            pack(self.ITEM, VOCABULARY, for_generation=True, max_prompt_tokens=total - 1)
        for text in (error.value.en, error.value.zh):
            assert str(total) in text
            assert str(total - 1) in text

    def test_nothing_fits_into_nothing(self):
        with pytest.raises(PromptError):
            pack(self.ITEM, VOCABULARY, for_generation=True, max_prompt_tokens=0)

    def test_a_prompt_without_an_answer_is_cut(self):
        packed = pack({"caption": "ab" * 20}, VOCABULARY, for_generation=True, max_prompt_tokens=10)
        assert len(packed.input_ids) == 10


class TestLabels:
    def labels(self, item):
        packed = pack(item, VOCABULARY)
        return packed, labels_of(packed, SIZE, EOS, BOS)

    def test_each_answer_token_names_the_next(self):
        packed, labels = self.labels({"question": "a", "<ans>": "b猫"})
        assert labels[:-3] == [-100] * (len(labels) - 3)
        assert labels[-3:] == [tiny.LINES.index("b"), tiny.LINES.index("猫"), EOS]
        assert packed.input_ids[-3:] == [BOS, tiny.LINES.index("b"), tiny.LINES.index("猫")]

    def test_words_are_named_by_their_rows(self):
        """The first shares <unk>; the others have rows of their own, also those that only the answer holds."""
        packed, labels = self.labels({"question": "龘a齉", "<ans>": "齉a龘b齾"})
        assert packed.request_vocab == [(UNK, 1), (UNK, 2)]
        assert labels[-6:] == [SIZE, tiny.LINES.index("a"), UNK, tiny.LINES.index("b"), SIZE + 1, EOS]
        assert packed.token_subscripts[-5:] == [1, 0, 0, 0, 2]
        assert packed.answer_words == {UNK: "龘", SIZE: "齉", SIZE + 1: "齾"}
        assert VOCABULARY.decode(labels[-6:-1], packed.answer_words) == "齉a龘b齾"

    def test_several_answers_each_end(self):
        packed, labels = self.labels({"<ans>": {"a": "b", "c": "d"}, "question": "e"})
        named = [(i, label) for i, label in enumerate(labels) if label != -100]
        ids = {word: tiny.LINES.index(word) for word in "bd"}
        assert [label for _, label in named] == [ids["b"], EOS, ids["d"], EOS]
        assert all(packed.is_context[i] == 0 for i, _ in named)

    def test_padding_has_no_labels(self):
        items = [pack({"question": q, "<ans>": "a"}, VOCABULARY) for q in ("a", "abcdef" * 3)]
        for side in ("left", "right"):
            batch = collate(items, VOCABULARY, padding=side, with_labels=True)
            assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
            assert (batch["labels"] != -100).sum(1).tolist() == [2, 2]


@settings(max_examples=30, deadline=None)
@given(st.lists(ITEMS, min_size=1, max_size=3), st.sampled_from(["left", "right"]))
def test_a_batch_holds_each_item_whole(items, side):
    packed = [pack(item, VOCABULARY) for item in items]
    batch = collate(packed, VOCABULARY, padding=side)
    for row, item in enumerate(packed):
        valid = batch["attention_mask"][row].bool()
        length = len(item.input_ids)
        assert valid.sum() == length
        assert bool(valid[-1] if side == "left" else valid[0])
        for name in ("input_ids", "token_subscripts", "is_context", "segment_ids"):
            if name in batch:
                assert batch[name][row][valid].tolist() == getattr(item, name)
        assert batch["position_ids"][row][valid].tolist() == [*range(length)]
        assert batch["num_segments"][row][valid].tolist() == [item.num_segments] * length
        assert batch["segment_rel"][row, : item.num_segments**2].tolist() == item.segment_rel
        words = batch["request_vocab"][row].tolist() if "request_vocab" in batch else []
        assert [tuple(pair) for pair in words if pair[0] >= 0] == item.request_vocab
    assert {value.dtype for value in batch.values()} == {torch.int64}
