"""The published beam search on our models: the prompt is read once per sentence, beams share it.

S sentences, B beams, R = S × B rows, P prompt tokens, E request words, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from huayu.generation.beam import BeamSearch
from huayu.generation.cache import GrowingCache
from huayu.generation.options import BeamOptions
from huayu.generation.records import BeamProgress, Sentence, SpecialIds

if TYPE_CHECKING:
    from huayu.models.cpm_bee.packing import PackedItem
    from huayu.models.cpm_bee.vocabulary import BeeVocabulary

# What describes one token each, and what a generated token has there (None: as the prompt's last token).
_PER_TOKEN: dict[str, int | None] = {
    "attention_mask": 1,
    "is_context": 1,
    "sample_ids": 0,
    "span_ids": None,
    "segment_ids": 0,
    "num_segments": None,
    "segment_rel_offset": None,
    "position_ids": 0,
}
_PER_SENTENCE = ("segment_rel", "request_vocab")
_PROMPT_ONLY = ("input_ids", "inputs_embeds", "token_subscripts", "pixel_values", "image_embeds", "image_token_index")


class ModelStepper:
    """Feeds one token per row to a CPM-Bee model that has read the prompts. Implements ``records.Stepper``."""

    def __init__(self, model: Any, inputs: Mapping[str, Tensor], num_beams: int, max_steps: int) -> None:
        self.model = model
        self.cache = GrowingCache()
        self.read_prompt(inputs)
        self.length = self.cache.get_seq_length()
        self.cache.batch_repeat_interleave(num_beams)
        self.cache.shared_tokens = self.length
        self.columns = {
            name: _widened(inputs[name].repeat_interleave(num_beams, 0), max_steps, value)
            for name, value in _PER_TOKEN.items()
            if inputs.get(name) is not None
        }
        self.constant = {
            name: inputs[name].repeat_interleave(num_beams, 0) for name in _PER_SENTENCE if inputs.get(name) is not None
        }
        self.device = self.columns["segment_ids"].device

    @torch.inference_mode()
    def read_prompt(self, inputs: Mapping[str, Tensor]) -> None:
        """Fill the cache from the prompts, one row per sentence."""
        known = (*_PER_TOKEN, *_PER_SENTENCE, *_PROMPT_ONLY)
        given = {name: inputs[name] for name in known if inputs.get(name) is not None}
        self.model(**given, past_key_values=self.cache, use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def step(self, token_ids: Tensor, segment_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Feed tokens (R,) → logits (R, V + E)."""
        self.columns["segment_ids"][:, self.length] = segment_ids
        self.columns["position_ids"][:, self.length] = position_ids
        self.length += 1
        metadata = {name: column[:, : self.length] for name, column in self.columns.items()}
        output = self.model(
            input_ids=token_ids[:, None],
            **metadata,
            **self.constant,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    @torch.inference_mode()
    def reorder(self, parents: Tensor) -> None:
        """Let row r go on from row ``parents[r]`` (R,); what beams share stays where it is."""
        self.cache.reorder_cache(parents)
        start = self.cache.shared_tokens
        for name in ("segment_ids", "position_ids"):
            held = self.columns[name][:, start : self.length]
            held.copy_(held[parents])


def _widened(column: Tensor, extra: int, value: int | None) -> Tensor:
    """(R, P) → (R, P + extra), filled with ``value`` or each row's last entry."""
    tail = column[:, -1:].expand(-1, extra) if value is None else column.new_full((column.shape[0], extra), value)
    return torch.cat([column, tail], dim=1).long()


def beam_search(
    model: Any,
    inputs: Mapping[str, Tensor],
    packed: Sequence[PackedItem],
    options: BeamOptions | None = None,
    *,
    vocabulary: BeeVocabulary | None = None,
    cancel: threading.Event | None = None,
    forbidden: Sequence[int] = (),
) -> Iterator[BeamProgress]:
    """Answer prompts as the published systems do; yields after each step, the last time with ``results``.

    ``inputs``: tensors of left-padded prompts *without* an answer's `<s>`, by the names of ``CpmBeeForCausalLM`` or
    ``VisCPMChatForConditionalGeneration`` (pictures as ``pixel_values`` or ``image_embeds``); ``packed``: the same
    prompts, one per row. With a ``vocabulary`` every progress has ``texts`` and every result its ``text``.
    ``forbidden``: ids that no answer may hold (the published search forbids none). Raises Cancelled when
    ``cancel`` is set; closing the iterator stops the search as well.

    Source: viscpm specification, section 4.
    """
    options = options or BeamOptions()
    special = special_ids(model.config)
    sentences = [replace(sentence_of(item, special.unk), forbidden=tuple(forbidden)) for item in packed]
    stepper = ModelStepper(model, inputs, options.num_beams, options.max_new_tokens + 2)
    search = BeamSearch(stepper, sentences, special, options, cancel)
    yield from search if vocabulary is None else _with_texts(search, packed, vocabulary)


def sentence_of(item: PackedItem, unk: int) -> Sentence:
    """What the search must know of a packed prompt."""
    words = tuple(base for base, _ in item.request_vocab)
    return Sentence(tuple(item.predict_segments), words, allow_unk=unk in item.answer_words)


def published_generate(
    model: Any,
    input_ids: Tensor,
    packed: Sequence[PackedItem] | None = None,
    options: BeamOptions | None = None,
    generation_config: Any = None,
    **model_kwargs: Any,
) -> Tensor:
    """For ``model.generate(**inputs, custom_generate=published_generate, packed=[…], options=…, max_new_tokens=…)``.

    ``inputs`` may end with the answer's `<s>` as usual for ``generate``; it is fed by the search itself. ``options``
    stands for the library's settings, but for ``max_new_tokens``, which the library wants to be told. Returns
    (S, P + T) int64: the prompt, then each answer, padded on the right. Raises ValueError without ``packed``.
    """
    if packed is None:
        raise ValueError("published_generate needs packed=[…], the packed prompts")
    inputs = {"input_ids": input_ids, **model_kwargs}
    context = inputs.get("is_context")
    if context is not None and not context[:, -1].any():
        length = input_ids.shape[1]
        per_token = (*_PER_TOKEN, "input_ids", "token_subscripts", "image_token_index")
        for name in per_token:
            value = inputs.get(name)
            if value is not None and value.shape[1] == length:
                inputs[name] = value[:, :-1]
    options = options or BeamOptions()
    if generation_config is not None and generation_config.max_new_tokens is not None:
        options = replace(options, max_new_tokens=generation_config.max_new_tokens)
    *_, last = beam_search(model, inputs, packed, options)
    assert last.results is not None
    answers = [torch.tensor(result.token_ids, dtype=torch.long) for result in last.results]
    special = special_ids(model.config)
    padded = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=special.pad)
    return torch.cat([input_ids, padded.to(input_ids.device)], dim=1)


def special_ids(config: Any) -> SpecialIds:
    """The ids that the search must know, from a model's configuration."""
    text = config.get_text_config()
    return SpecialIds(
        vocab_size=text.vocab_size,
        unk=text.unk_token_id,
        bos=text.bos_token_id,
        eos=text.eos_token_id,
        pad=text.pad_token_id,
    )


def _with_texts(
    search: Iterable[BeamProgress], packed: Sequence[PackedItem], vocabulary: BeeVocabulary
) -> Iterator[BeamProgress]:
    """The same progress with its tokens as text; what is stable is decoded once."""
    texts, done = [""] * len(packed), [0] * len(packed)
    for progress in search:
        for row, (ids, item) in enumerate(zip(progress.stable, packed, strict=True)):
            texts[row] += vocabulary.decode(ids[done[row] :], item.answer_words)
            done[row] = len(ids)
        results = progress.results
        if results is not None:
            results = tuple(replace(result, text=text) for result, text in zip(results, texts, strict=True))
        yield replace(progress, texts=tuple(texts), results=results)
