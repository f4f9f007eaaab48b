"""Fine-tuning examples of VisualGLM: what is learned, what is cut, what is refused."""

from __future__ import annotations

import pytest
import torch

from huayu.data.visualglm_examples import build_example, collate


class Letters:
    """One id a character, as far as the builder asks a tokenizer."""

    pad_token_id, gmask_token_id, bos_token_id, eos_token_id = 3, 9001, 9004, 9005

    def tokenize(self, text):
        return list(text)

    def convert_tokens_to_ids(self, tokens):
        return [100 + ord(token) for token in tokens]


def example(question="问", answer="答案", **sizes):
    return build_example(Letters(), question, answer, image_length=4, **{"max_source_length": 40, **sizes})


def test_only_the_answer_and_its_ends_are_learned():
    made = example()
    learned = [label for label in made.labels if label != -100]
    assert learned == [9004, *[100 + ord(c) for c in "答案"], 9005]
    start = made.input_ids.index(9004)
    assert made.input_ids[start - 1] == 9001
    assert made.labels[:start] == [-100] * start
    assert made.input_ids[made.picture_at : made.picture_at + 4] == [3] * 4


@pytest.mark.parametrize(("source", "target"), [(12, 4), (20, 3)])
def test_what_is_too_long_is_cut_at_its_end(source, target):
    made = example("问" * 30, "答" * 30, max_source_length=source, max_target_length=target)
    start = made.input_ids.index(9004)
    assert start == source  # source - 1 tokens and the mask token
    assert len(made.input_ids) == source + target
    assert made.input_ids[-1] == 9005


def test_a_picture_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no room for 4"):
        example(max_source_length=9)


def test_batches_are_padded_on_the_right_and_learn_nothing_from_it():
    made = [example(), example(answer="很长的一个答案")]
    batch = collate(made, 3, image_length=4, length=50)
    assert batch["input_ids"].shape == (2, 50)
    short = len(made[0].input_ids)
    assert bool((batch["labels"][0, short:] == -100).all())
    assert batch["attention_mask"].sum(1).tolist() == [len(one.input_ids) for one in made]
    assert torch.equal(batch["image_token_index"][1, made[1].picture_at :][:4], torch.arange(4))
