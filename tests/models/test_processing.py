"""The processor: a chat turn's layout, pictures and texts in, an answer's text out."""

from __future__ import annotations

import pytest
import torch

from huayu.models.cpm_bee.packing import relation
from tests.models import tiny

VOCABULARY, SIZE = tiny.vocabulary(), len(tiny.LINES)
BOS, EOS, UNK, ANS = 6, 7, 1, 9


def test_the_layout_of_a_chat_turn(processor):
    """Source: spec viscpm §2.6."""
    packed = processor.pack_chat(1, "", "a")
    image, context, question, a = (tiny.LINES.index(word) for word in ("image", "context", "question", "a"))
    assert packed.input_ids == [
        *(BOS, 8, EOS, BOS, image, EOS, BOS, UNK, UNK, UNK, UNK, EOS),
        *(BOS, context, EOS, BOS, EOS, BOS, question, EOS, BOS, a, EOS, BOS, ANS, EOS),
    ]
    assert packed.segment_ids == [0] * 3 + [1] * 3 + [2] * 6 + [3] * 3 + [4] * 2 + [5] * 3 + [6] * 3 + [7] * 3
    assert packed.num_segments == 9
    assert packed.image_bounds == [(7, 11)]
    assert packed.predict_segments == [(8, 1)]
    assert set(packed.is_context) == {1}
    batch = processor.collate([packed], padding="left", start_answer=True)
    assert batch["position_ids"].tolist() == [[*range(26), 0]]
    assert batch["is_context"].tolist() == [[1] * 26 + [0]]
    assert batch["segment_ids"][0, -1] == 8
    assert batch["image_token_index"].tolist() == [[-1] * 7 + [0, 1, 2, 3] + [-1] * 16]
    assert "token_subscripts" not in batch
    assert "request_vocab" not in batch


def test_the_layout_of_several_pictures(processor):
    packed = processor.pack_chat(3, "", "a")
    assert len(packed.image_bounds) == 3
    assert packed.num_segments == 9 + 5
    texts = [packed.input_ids[begin:end] for begin, end in packed.image_bounds]
    assert texts == [[UNK] * 4] * 3
    batch = processor.collate([packed, processor.pack_chat(0, "", "b")], padding="left", start_answer=True)
    index = batch["image_token_index"]
    assert index[0][index[0] >= 0].tolist() == [*range(12)]
    assert (index[1] == -1).all()
    first, second = (packed.segment_ids[begin] for begin, _ in packed.image_bounds[:2])
    assert packed.segment_rel[first * packed.num_segments + second] == relation(2, 2, 8)


def test_without_pictures_there_is_no_image_entry(processor):
    packed = processor.pack_chat(0, "", "a")
    assert packed.num_segments == 7
    assert tiny.LINES.index("image") not in packed.input_ids
    assert "image_token_index" not in processor.collate([packed])


def test_a_call_is_pack_and_collate(processor, photographs):
    batch = processor(images=[photographs, [], photographs[:1]], text=["a<b", "猫", "龘a齉"], context=["", "c", ""])
    assert batch["pixel_values"].shape == (3, 2, 3, tiny.SIDE, tiny.SIDE)
    assert batch["pixel_values"][1].abs().max() == 0
    packed = [processor.pack_chat(*row) for row in ((2, "", "a<<b"), (0, "c", "猫"), (1, "", "龘a齉"))]
    expected = processor.collate(packed, padding="left", start_answer=True)
    assert {name for name in batch if name != "pixel_values"} == set(expected)
    assert all(batch[name].equal(value) for name, value in expected.items())


def test_one_picture_and_one_question(processor, photographs, chat):
    batch = processor(images=photographs[0], text="a")
    red = batch["pixel_values"][0, 0]
    assert red[0].eq(1).all()
    assert red[1:].eq(-1).all()
    out = chat.generate(**batch, max_new_tokens=3, eos_token_id=None)
    text = processor.decode_answer(out[0, batch["input_ids"].shape[1] :])
    assert text == VOCABULARY.decode(out[0, -3:].tolist())


def test_rows_must_agree(processor, photographs):
    with pytest.raises(ValueError, match="one entry for each row"):
        processor(images=[photographs], text=["a", "b"])


def test_unknown_arguments_are_errors(processor):
    with pytest.raises(TypeError, match="padding_side"):
        processor(text="a", padding_side="right")
    with pytest.raises(ValueError, match="'np'"):
        processor(text="a", return_tensors="np")


def test_an_answer_ends_at_its_eos_and_shows_words(processor):
    packed = processor.pack_chat(0, "", "龘a齉")
    ids = [SIZE, tiny.LINES.index("a"), UNK, tiny.LINES.index("<"), EOS, 16, 0]
    assert processor.decode_answer(torch.tensor(ids), packed) == "齉a龘<<"
