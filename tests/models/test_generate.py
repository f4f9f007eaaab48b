"""The library's ``generate`` on packed prompts against loops written by hand."""

from __future__ import annotations

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.testing import assert_close
from transformers import LogitsProcessor, LogitsProcessorList

from tests.models import tiny

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
V = len(tiny.LINES)
LONG = {"max_new_tokens": 7, "do_sample": False, "eos_token_id": None}


def answers(model, inputs, **settings):
    out = model.generate(**inputs, **{**LONG, **settings})
    return out[:, inputs["input_ids"].shape[1] :]


@torch.no_grad()
def likeliest(model, inputs, steps):
    """Greedy answers (B, steps), everything computed anew at each step."""
    given = inputs["input_ids"].shape[1]
    for _ in range(steps):
        token = model(**inputs, use_cache=False).logits[:, -1:].argmax(-1)
        inputs = tiny.grown(inputs, token)
    return inputs["input_ids"][:, given:]


class Force(LogitsProcessor):
    """Step n gives ``answer[:, n]``."""

    def __init__(self, answer, given):
        self.answer, self.given = answer, given

    def __call__(self, input_ids, scores):
        token = self.answer[:, input_ids.shape[1] - self.given]
        return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_is_a_loop(chat, batch, use_cache):
    expected = likeliest(chat, batch, 7)
    assert answers(chat, batch, use_cache=use_cache).tolist() == expected.tolist()
    assert len(expected.unique()) > 3


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_of_the_language_model_alone(language, texts, use_cache):
    assert texts["token_subscripts"].any()
    assert answers(language, texts, use_cache=use_cache).tolist() == likeliest(language, texts, 7).tolist()


def test_a_batch_answers_as_its_rows(chat, batch, singles):
    together = answers(chat, batch)
    for row, single in enumerate(singles):
        assert answers(chat, single).tolist() == together[row : row + 1].tolist()


def test_a_row_that_ends_is_padded_and_disturbs_no_other(chat, batch):
    whole = answers(chat, batch).tolist()
    for eos in range(V):
        cut = [row[: row.index(eos) + 1] if eos in row else row for row in whole]
        if len({len(row) for row in cut}) > 1:
            break
    longest = max(len(row) for row in cut)
    expected = [row + [0] * (longest - len(row)) for row in cut]
    assert answers(chat, batch, eos_token_id=eos).tolist() == expected != whole


def test_draws_repeat_with_their_seed(chat, batch):
    def drawn(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return answers(chat, batch, do_sample=True, top_k=0, temperature=1.5).tolist()

    assert drawn(1) == drawn(1) != drawn(2)


def test_beams_with_a_cache_are_beams_without(chat, batch):
    beams = answers(chat, batch, num_beams=3, num_return_sequences=2)
    assert beams.shape == (6, 7)
    assert beams.tolist() == answers(chat, batch, num_beams=3, num_return_sequences=2, use_cache=False).tolist()
    assert all(beams[row].tolist() != beams[row + 1].tolist() for row in (0, 2, 4))
    assert beams[::2].tolist() != answers(chat, batch).tolist()  # else the beams made no difference


def test_several_draws_of_a_prompt_belong_to_it(chat, batch, singles):
    """Copies of a row follow each other; what belongs to the row is copied with it."""
    settings = {**LONG, "max_new_tokens": 1, "do_sample": True, "num_return_sequences": 2}
    settings |= {"output_logits": True, "return_dict_in_generate": True}
    logits = chat.generate(**batch, **settings).logits[0]
    for row, single in enumerate(singles):
        own = chat(**single, logits_to_keep=1).logits[0].expand(2, -1)
        assert_close(logits[2 * row : 2 * row + 2, : own.shape[1]], own, **CLOSE)


FORCED = torch.tensor([[16, 22, 17, 23], [V, 1, V + 1, V], [1, V, V, 22]])


@pytest.mark.parametrize("use_cache", [True, False])
def test_words_of_the_request_are_said_and_read_again(chat, batch, use_cache):
    given = batch["input_ids"].shape[1]
    forced = LogitsProcessorList([Force(FORCED, given)])
    settings = {"output_logits": True, "return_dict_in_generate": True, "use_cache": use_cache}
    out = chat.generate(**batch, **{**LONG, "max_new_tokens": 4}, logits_processor=forced, **settings)
    assert out.sequences[:, given:].tolist() == FORCED.tolist()
    whole = chat(**tiny.grown(batch, FORCED)).logits[:, given - 1 : -1]
    assert_close(torch.stack(out.logits, 1), whole, **CLOSE)


def test_a_word_that_is_fed_is_its_base_token_and_subscript(chat, batch):
    """Row 1 knows 龘 齉 龘c齾… as <unk> 0, 1, 2: id V + k is the subscript k + 1."""
    words = batch["request_vocab"]
    assert words.tolist() == [[[-1, -1]] * 2, [[1, 1], [1, 2]], [[1, 1], [-1, -1]]]
    by_id = tiny.grown(batch, FORCED)
    base = torch.tensor([[16, 22, 17, 23], [1, 1, 1, 1], [1, 1, 1, 22]])
    by_subscript = tiny.grown(batch, base)
    by_subscript["token_subscripts"][:, -4:] = torch.tensor([[0, 0, 0, 0], [1, 0, 2, 1], [0, 1, 1, 0]])
    assert_close(chat(**by_id).logits, chat(**by_subscript).logits, **CLOSE)


def test_a_row_never_says_what_only_others_know(chat, batch):
    logits = chat(**batch, logits_to_keep=1).logits[:, 0]
    lowest = torch.finfo(logits.dtype).min
    assert (logits[:, V:] == lowest).tolist() == [[True, True], [False, False], [False, True]]


def test_prompts_may_come_as_embeddings(language, texts):
    embeds = language.model.embed(texts["input_ids"], texts["token_subscripts"], None)
    inputs = {name: value for name, value in texts.items() if name not in ("input_ids", "token_subscripts")}
    out = language.generate(**inputs, inputs_embeds=embeds, **LONG)
    assert out.tolist() == answers(language, texts).tolist()
    assert language.generate(**inputs, inputs_embeds=embeds, use_cache=False, **LONG).tolist() == out.tolist()


def test_pictures_may_come_as_embeddings(chat, batch):
    pictures = torch.nan_to_num(batch["pixel_values"])
    features = chat.get_image_features(pictures.flatten(0, 1)).unflatten(0, (3, 2))
    inputs = {name: value for name, value in batch.items() if name != "pixel_values"}
    assert answers(chat, {**inputs, "image_embeds": features}).tolist() == answers(chat, batch).tolist()


def test_the_prompt_gives_one_row_of_logits(chat, batch, monkeypatch):
    """Not one for each of its tokens: with a vocabulary of 86583 that is most of the memory of a long prompt."""
    shapes = []
    forward = chat.language_model.forward
    monkeypatch.setattr(chat.language_model, "forward", lambda **kw: shapes.append(forward(**kw)) or shapes[-1])
    answers(chat, batch, max_new_tokens=2)
    assert [out.logits.shape[1] for out in shapes] == [1, 1]


class TestErrors:
    def test_unknown_inputs(self, chat, language, batch, texts):
        with pytest.raises(ValueError, match="is_contxt"):
            chat.generate(**batch, is_contxt=batch["is_context"])
        with pytest.raises(TypeError, match="is_contxt"):
            chat(**batch, is_contxt=batch["is_context"])
        with pytest.raises(TypeError, match="pixel_values"):
            language(**texts, pixel_values=batch["pixel_values"])

    def test_attention_weights_are_never_there(self, chat, batch):
        assert chat(**batch, output_attentions=False).logits.isfinite().all()
        with pytest.raises(TypeError, match="output_attentions"):
            chat(**batch, output_attentions=True)

    @pytest.mark.parametrize("name", ["attention_mask", "is_context", "segment_ids", "num_segments", "position_ids"])
    def test_metadata_of_another_length(self, language, texts, name):
        with pytest.raises(ValueError, match="must cover all"):
            language(**{**texts, name: texts[name][:, 1:]})

    def test_a_context_cannot_be_read_in_chunks(self, language, texts):
        with pytest.raises(ValueError, match="must cover all"):
            answers(language, texts, prefill_chunk_size=4)

    def test_pictures_without_a_place(self, chat, batch, texts):
        inputs = {name: value for name, value in batch.items() if name != "image_token_index"}
        with pytest.raises(ValueError, match="belong together"):
            chat(**inputs)
        with pytest.raises(ValueError, match="belong together"):
            chat(**texts, image_embeds=torch.zeros(3, 1, tiny.QUERIES, 32))

    def test_a_place_without_pictures(self, chat, batch):
        with pytest.raises(ValueError, match="belong together"):
            chat(**{**batch, "pixel_values": None})

    def test_pictures_twice(self, chat, batch):
        with pytest.raises(ValueError, match="either pixel_values or image_embeds"):
            chat(**batch, image_embeds=torch.zeros(3, 2, tiny.QUERIES, 32))

    def test_ids_and_embeddings(self, language, texts):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            language(**texts, inputs_embeds=torch.zeros(*texts["input_ids"].shape, 32))
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            language(**{**texts, "input_ids": None})


ABSENT = {
    "attention": [[True, False], [False, False], [False, False]],
    "mlp": [[False, True], [False, False], [False, True]],
    "both": [[False, False], [True, True], [True, False]],
}


@pytest.mark.parametrize("mask_modules", ABSENT.values(), ids=ABSENT)
def test_compressed_models(texts, mask_modules):
    model = tiny.language(num_hidden_layers=3, mask_modules=mask_modules)
    for layer, (no_attention, no_mlp) in zip(model.model.layers, mask_modules, strict=True):
        names = {name.split(".")[0] for name, _ in layer.named_parameters()}
        assert names == {
            *([] if no_attention else ["attention", "attention_norm"]),
            *([] if no_mlp else ["mlp", "mlp_norm"]),
        }
    expected = likeliest(model, texts, 7)
    assert answers(model, texts).tolist() == expected.tolist()
    assert answers(model, texts, num_beams=2).tolist() == answers(model, texts, num_beams=2, use_cache=False).tolist()


def test_mask_modules_name_every_layer():
    with pytest.raises(StrictDataclassClassValidationError, match="3 pairs for 2 layers"):
        tiny.text_config(mask_modules=ABSENT["mlp"])
