"""VisCPM-Chat and the embedded model of its family: pictures read once, the published context, all three searches."""

# B batch, P pictures of a row, Q queries of a picture, D language width

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from huayu.chat.backend import Finish, Piece, Prompt
from huayu.chat.conversation import Conversation, Picture, Turn
from huayu.chat.language import is_foreign, simplified
from huayu.chat.options import ChatOptions, Settings
from huayu.chat.tokens import Written, follow, penalties_of, sampling_of
from huayu.errors import Cancelled, PromptError
from huayu.generation.constrained import ByteVocabulary
from huayu.generation.options import BeamOptions
from huayu.generation.published import beam_search
from huayu.generation.streaming import stream_ids
from huayu.models.cpm_bee.vocabulary import BeeVocabulary, escape

if TYPE_CHECKING:
    from huayu.models.cpm_bee.packing import PackedItem
    from huayu.models.viscpm_chat import VisCPMChatForConditionalGeneration, VisCPMChatProcessor

REMEMBERED_PICTURES = 64
PUBLISHED_TOKENS = 86583


@dataclass(frozen=True)
class Packed:
    """One prompt: its token lists, and its pictures as ``image_embeds`` (P, Q, D), or None without any."""

    item: PackedItem
    image_embeds: Tensor | None


def published_context(turns: Sequence[Turn]) -> str:
    """Earlier turns as the published ``chat()`` hands them on. Source: spec viscpm §3.4."""
    return "".join(f"User: {turn.question}\nAI: {turn.answer}\n" for turn in turns)


class VisCPMBackend:
    """Answers with a :class:`VisCPMChatForConditionalGeneration`.

    What a user typed is escaped: it can neither fail nor become a special token; special tokens in answers are not
    shown. ``verbatim`` turns both off, as the published code had it. The last :data:`REMEMBERED_PICTURES` pictures
    are remembered as the model read them.

    A model with the published vocabulary is asked in words for another language; a smaller one would not understand
    that, and is kept from tokens of the other language instead.
    """

    reads_traditional = False

    def __init__(
        self,
        model: VisCPMChatForConditionalGeneration,
        processor: VisCPMChatProcessor,
        *,
        name: str,
        defaults: ChatOptions,
        max_prompt_tokens: int | None = None,
        verbatim: bool = False,
    ) -> None:
        self.model, self.processor, self.name, self.defaults = model, processor, name, defaults
        self.max_prompt_tokens, self.verbatim = max_prompt_tokens, verbatim
        self._read: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()
        self._special = frozenset(self.vocabulary.special_ids.values())
        self.follows_requests = len(self.vocabulary) == PUBLISHED_TOKENS
        self._bytes: ByteVocabulary | None = None

    @property
    def vocabulary(self) -> BeeVocabulary:
        """The model's own."""
        return cast(BeeVocabulary, self.processor.tokenizer.vocabulary)

    def image_embeds(self, pictures: Sequence[Picture]) -> Tensor | None:
        """Pictures as the language model sees them, (P, Q, D); None without any. Each is read only the first time."""
        if not pictures:
            return None
        with self._lock:
            new = {p.key: p for p in pictures if p.key not in self._read}
            known = {p.key: self._read[p.key] for p in pictures if p.key in self._read}
        if new:
            known |= dict(zip(new, self._look_at(list(new.values())), strict=True))
        with self._lock:
            for key in (picture.key for picture in pictures):
                self._read[key] = self._read.pop(key, known[key])  # the last of them is the newest
            while len(self._read) > REMEMBERED_PICTURES:
                self._read.popitem(last=False)
        return torch.stack([known[picture.key] for picture in pictures])

    def forget(self) -> None:
        """Read every picture anew: the model's weights have changed."""
        self._read.clear()

    @torch.inference_mode()
    def _look_at(self, pictures: Sequence[Picture]) -> Tensor:
        pixels = self.processor.pixel_values([picture.image for picture in pictures])
        return self.model.get_image_features(pixels.to(self.model.device))

    def prepare(self, conversation: Conversation, question: str) -> Prompt:
        """See :class:`huayu.chat.backend.Backend`; the published limit does not count the answer."""
        for dropped in range(len(conversation.turns) + 1):
            asked, turns = simplified(question, conversation.window(dropped))
            try:
                item = self._pack(len(conversation.pictures), published_context(turns), asked)
            except PromptError:
                if dropped == len(conversation.turns):
                    raise
            else:
                embeds = self.image_embeds(conversation.pictures)
                return Prompt(Packed(item, embeds), len(item.input_ids), dropped)
        raise AssertionError("the last round returns or raises")

    def prepare_raw(self, context: str, question: str, image_embeds: Tensor | None) -> Prompt:
        """A prompt from the published arguments; ``image_embeds`` (P, Q, D). Raises PromptError."""
        item = self._pack(0 if image_embeds is None else len(image_embeds), context, question)
        return Prompt(Packed(item, image_embeds), len(item.input_ids))

    def _pack(self, pictures: int, context: str, question: str) -> PackedItem:
        if not self.verbatim:
            context, question = escape(context), escape(question)
        try:
            return self.processor.pack_chat(pictures, context, question, max_prompt_tokens=self.max_prompt_tokens)
        except ValueError as problem:
            raise PromptError(f"The text cannot be read: {problem}.", f"无法读取文本：{problem}。") from problem

    def generate(self, prompts: Sequence[Prompt], settings: Settings, cancel: threading.Event) -> Iterator[Piece]:
        """See :class:`huayu.chat.backend.Backend`."""
        packed: list[Packed] = [prompt.inputs for prompt in prompts]
        if cancel.is_set():
            raise Cancelled
        ids = (
            self._beam(packed, settings, cancel) if settings.search == "beam" else self._walk(packed, settings, cancel)
        )
        seen = [0] * len(packed)
        for row, tokens, finish in ids:
            if finish or len(tokens) > seen[row]:
                yield Piece(row, self._text(tokens[seen[row] :], packed[row].item), len(tokens), finish)
                seen[row] = len(tokens)

    def _beam(self, packed: Sequence[Packed], settings: Settings, cancel: threading.Event) -> Iterator[Written]:
        options = BeamOptions(
            num_beams=settings.num_beams,
            max_new_tokens=settings.max_new_tokens,
            repetition_penalty=settings.repetition_penalty,
            length_penalty=settings.length_penalty,
            temperature=settings.temperature,
        )
        inputs = self._inputs(packed, start_answer=False)
        foreign = self._foreign(settings)
        items = [one.item for one in packed]
        for progress in beam_search(self.model, inputs, items, options, cancel=cancel, forbidden=foreign):
            for row, tokens in enumerate(progress.stable):
                finish: Finish | None = None
                if progress.results:
                    best = progress.results[row].hypotheses[0].token_ids
                    finish = "stop" if best[-1] == self.vocabulary.ids["</s>"] else "length"
                yield row, tokens, finish

    def _walk(self, packed: Sequence[Packed], settings: Settings, cancel: threading.Event) -> Iterator[Written]:
        """Greedy or sampled, without special tokens but those that stand for a text of the row's own prompt."""
        closing_token = self.vocabulary.ids["</s>"]
        groups: dict[frozenset[int], list[int]] = {}
        for row, one in enumerate(packed):
            forbidden = self._special.difference([closing_token], one.item.answer_words).union(self._foreign(settings))
            groups.setdefault(forbidden, []).append(row)
        for forbidden, rows in groups.items():
            for place, tokens, finish in self._walk_rows(
                [packed[r] for r in rows], settings, cancel, sorted(forbidden)
            ):
                yield rows[place], tokens, finish

    def _walk_rows(
        self, packed: Sequence[Packed], settings: Settings, cancel: threading.Event, forbidden: list[int]
    ) -> Iterator[Written]:
        ids = self.vocabulary.ids
        steps = stream_ids(
            self.model,
            self._inputs(packed, start_answer=True),
            sampling=sampling_of(settings),
            cancel=cancel,
            max_new_tokens=settings.max_new_tokens,
            repetition_penalty=settings.repetition_penalty,
            eos_token_id=ids["</s>"],
            pad_token_id=ids["<pad>"],
            suppress_tokens=forbidden,
            processors=(penalties_of(settings), self._constraint(settings)),
        )
        with closing(steps):
            yield from follow(steps, len(packed), {ids["</s>"]}, settings.max_new_tokens)

    def _constraint(self, settings: Settings) -> Any:
        if settings.json_schema is None:
            return None
        if self._bytes is None:
            tokens = [token.encode() for token in self.vocabulary.tokens]
            self._bytes = ByteVocabulary.of(tokens, self._special, self.vocabulary.ids["</s>"])
        return self._bytes.keep_to(settings.json_schema)

    def _foreign(self, settings: Settings) -> list[int]:
        """Ids that an answer in the language asked for does not hold, where words would not be understood."""
        language = settings.answer_language
        if self.follows_requests or language == "auto" or settings.json_schema is not None:
            return []
        tokens = self.vocabulary.tokens
        return [at for at, token in enumerate(tokens) if at not in self._special and is_foreign(token, language)]

    def _inputs(self, packed: Sequence[Packed], start_answer: bool) -> dict[str, Any]:
        items = [one.item for one in packed]
        inputs = self.processor.collate(items, padding="left", start_answer=start_answer)
        if any(one.image_embeds is not None for one in packed):
            inputs["image_embeds"] = _stacked([one.image_embeds for one in packed])
        return {name: tensor.to(self.model.device) for name, tensor in inputs.items()}

    def _text(self, tokens: Sequence[int], item: PackedItem) -> str:
        if self.verbatim:
            return self.vocabulary.decode(tokens, item.answer_words)
        special, words = self._special, item.answer_words
        return "".join(
            words[t] if t in words else self.vocabulary.tokens[t] for t in tokens if t in words or t not in special
        )


def _stacked(embeds: Sequence[Tensor | None]) -> Tensor:
    """(P, Q, D) or None each → (B, most P, Q, D), rows with fewer pictures padded with zeros."""
    given = [one for one in embeds if one is not None]
    batch = given[0].new_zeros(len(embeds), max(map(len, given)), *given[0].shape[1:])
    for row, one in enumerate(embeds):
        if one is not None:
            batch[row, : len(one)] = one
    return batch
