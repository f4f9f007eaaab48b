"""VisualGLM: one picture a conversation, read once; published prompts, sampling and punctuation."""

# B batch, Q queries of a picture, D language width

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, MinPLogitsWarper

from huayu.chat.backend import Piece, Prompt
from huayu.chat.conversation import Conversation, Picture
from huayu.chat.language import is_foreign, simplified
from huayu.chat.options import ChatOptions, Settings
from huayu.chat.tokens import Written, follow, penalties_of
from huayu.errors import Cancelled, PromptError
from huayu.generation.constrained import ByteVocabulary
from huayu.generation.glm_sampling import CHINESE, DrawAsPublished, GLMSampling
from huayu.generation.library_beams import stream_beams
from huayu.generation.streaming import stream_ids
from huayu.models.chatglm.prompts import process_response
from huayu.models.visualglm.checkpoint import PUBLISHED_GENERATION

if TYPE_CHECKING:
    from huayu.models.visualglm import VisualGLMForConditionalGeneration, VisualGLMProcessor
    from huayu.models.visualglm.processing import Encoded

REMEMBERED_PICTURES = 64
DEFAULTS = ChatOptions(**PUBLISHED_GENERATION)
_PUBLISHED_PIECES = 130344
_HAN = re.compile("[\u4e00-\u9fa5]")
# The end of a text that what follows may still change: punctuation, spaces, half characters, the mark of a date.
_UNSURE = re.compile(r"(\s*[,.!:;?\s\ufffd]*|\s(n|n'|'\s?\w{0,2})|\[\[?训?练?时?间?\]?)$")


@dataclass(frozen=True)
class Asked:
    """One prompt: its ids, and the picture as ``image_embeds`` (1, Q, D), or None without one."""

    prompt: Encoded
    image_embeds: Tensor | None


class VisualGLMBackend:
    """Answers with a :class:`VisualGLMForConditionalGeneration`.

    A question without a Chinese character is asked in the published English form. What was typed is text: ``<img>`` and
    ``<sop>`` do nothing. The last :data:`REMEMBERED_PICTURES` pictures are remembered as the model read them. A model
    with a vocabulary of its own is taken for a small one, which reads Simplified Chinese and follows no requests.
    """

    def __init__(
        self,
        model: VisualGLMForConditionalGeneration,
        processor: VisualGLMProcessor,
        *,
        name: str,
        defaults: ChatOptions = DEFAULTS,
    ) -> None:
        self.model, self.processor, self.name, self.defaults = model, processor, name, defaults
        self._read: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()
        text: Any = model.config.text_config
        self.max_tokens, self.eos = int(text.max_sequence_length), int(text.eos_token_id)
        self.follows_requests = self.reads_traditional = processor.tokenizer.vocab_size == _PUBLISHED_PIECES
        self._bytes: ByteVocabulary | None = None
        self._unspoken = (processor.tokenizer.vocab_size, int(text.vocab_size))

    def image_embeds(self, picture: Picture) -> Tensor:
        """The picture as the language model sees it, (1, Q, D); read only the first time."""
        with self._lock:
            known = self._read.get(picture.key)
        if known is None:
            with torch.inference_mode():
                pixels = self.processor.pixel_values([picture.image])
                known = self.model.get_image_features(pixels.to(self.model.device))
        with self._lock:
            self._read[picture.key] = known
            self._read.move_to_end(picture.key)
            while len(self._read) > REMEMBERED_PICTURES:
                self._read.popitem(last=False)
        return known

    def forget(self) -> None:
        """Read every picture anew: the model's weights have changed."""
        self._read.clear()

    def prepare(self, conversation: Conversation, question: str) -> Prompt:
        """See :class:`huayu.chat.backend.Backend`. Raises PromptError for a second picture, too."""
        pictures = conversation.pictures
        if len(pictures) > 1:
            raise PromptError(
                f"This model looks at one picture in a conversation, not {len(pictures)}: start a new conversation.",
                f"该模型每段对话只能看一张图片，现有 {len(pictures)} 张：请开始新的对话。",
            )
        english = not _HAN.search(question)
        for dropped in range(len(conversation.turns) + 1):
            asked, past = question, conversation.window(dropped)
            if not self.reads_traditional:
                asked, past = simplified(question, past)
            turns = [(turn.question, turn.answer) for turn in past]
            prompt = self.processor.chat_prompt(asked, turns, picture=bool(pictures), english=english)
            if len(prompt.ids) < self.max_tokens:
                embeds = self.image_embeds(pictures[0]) if pictures else None
                return Prompt(Asked(prompt, embeds), len(prompt.ids), dropped)
        raise PromptError(
            f"The prompt has {len(prompt.ids)} tokens; the model takes {self.max_tokens}, answer included.",
            f"提示共 {len(prompt.ids)} 个词元，模型连同答案最多接受 {self.max_tokens} 个。",
        )

    def generate(self, prompts: Sequence[Prompt], settings: Settings, cancel: threading.Event) -> Iterator[Piece]:
        """See :class:`huayu.chat.backend.Backend`. ``<eop>`` ends an answer; the context's end does, too."""
        if cancel.is_set():
            raise Cancelled
        inputs = self._inputs([prompt.inputs for prompt in prompts])
        length = min(settings.max_new_tokens, self.max_tokens - inputs["input_ids"].shape[1])
        write = self._beam if settings.search == "beam" else self._walk
        texts = [_Text(self.processor.tokenizer, exact=settings.json_schema is not None) for _ in prompts]
        for row, tokens, finish in write(inputs, settings, length, cancel):
            yield Piece(row, texts[row].feed(tokens, last=finish is not None), len(tokens), finish)

    def _walk(
        self, inputs: Mapping[str, Tensor], settings: Settings, length: int, cancel: threading.Event
    ) -> Iterator[Written]:
        sampling: Any = PublishedSteps(self._sampling(settings), inputs["input_ids"].shape[1], settings.min_p)
        steps = stream_ids(
            self.model,
            inputs,
            sampling=sampling,
            cancel=cancel,
            processors=(penalties_of(settings), self._constraint(settings)),
            suppress_tokens=self._foreign(settings) or None,
            **self._stop(length),
        )
        with closing(steps):
            yield from follow(steps, len(inputs["input_ids"]), {self.eos}, length)

    def _beam(
        self, inputs: Mapping[str, Tensor], settings: Settings, length: int, cancel: threading.Event
    ) -> Iterator[Written]:
        first, end = self._unspoken
        steps = stream_beams(
            self.model,
            inputs,
            num_beams=settings.num_beams,
            eos={self.eos},
            temperature=settings.temperature,
            cancel=cancel,
            repetition_penalty=settings.repetition_penalty,
            length_penalty=settings.length_penalty,
            suppress_tokens=[*range(first, end), *self._foreign(settings)] or None,
            **self._stop(length),
        )
        with closing(steps):
            for answers, ended in steps:
                for row, tokens in enumerate(answers):
                    yield row, tokens, None if ended is None else "stop" if ended[row] else "length"

    def _sampling(self, settings: Settings) -> GLMSampling:
        forbidden = [self._unspoken] if self._unspoken[0] < self._unspoken[1] else []
        if settings.answer_language == "en" and self.follows_requests:
            forbidden.append(CHINESE)
        return GLMSampling(
            mode="hf",
            temperature=settings.temperature or 1.0,
            top_k=settings.top_k,
            top_p=settings.top_p,
            repetition_penalty=settings.repetition_penalty,
            greedy=settings.search == "greedy",
            forbidden=tuple(forbidden),
            seed=settings.seed,
        )

    def _constraint(self, settings: Settings) -> Any:
        if settings.json_schema is None:
            return None
        if self._bytes is None:
            tokens, special = self.processor.tokenizer.as_bytes()
            self._bytes = ByteVocabulary.of(tokens, special, self.eos)
        return self._bytes.keep_to(settings.json_schema)

    def _foreign(self, settings: Settings) -> list[int]:
        """Ids that an answer in the language asked for does not hold, where words would not be understood."""
        language = settings.answer_language
        if self.follows_requests or language == "auto" or settings.json_schema is not None:
            return []
        tokens, special = self.processor.tokenizer.as_bytes()
        texts = [token.decode("utf-8", "replace").replace("\ufffd", "\n") for token in tokens]
        return [at for at, text in enumerate(texts) if at not in special and is_foreign(text, language)]

    def _stop(self, length: int) -> dict[str, Any]:
        pad = self.processor.tokenizer.pad_token_id
        return {"max_new_tokens": length, "eos_token_id": self.eos, "pad_token_id": pad}

    def _inputs(self, asked: Sequence[Asked]) -> dict[str, Tensor]:
        inputs = self.processor.collate([one.prompt for one in asked])
        seen = [one.image_embeds for one in asked]
        if (first := next((one for one in seen if one is not None), None)) is not None:
            inputs["image_embeds"] = torch.stack([torch.zeros_like(first) if one is None else one for one in seen])
        return {name: tensor.to(self.model.device) for name, tensor in inputs.items()}


@dataclass(frozen=True)
class PublishedSteps:
    """The published order of sampling for prompts of one length."""

    sampling: GLMSampling
    prompt_tokens: int
    min_p: float = 0.0

    def processors(self) -> LogitsProcessorList:
        """As of :class:`huayu.generation.sampling.Sampling`."""
        steps = self.sampling.scores(self.prompt_tokens)
        if self.sampling.greedy:
            return steps
        if self.min_p > 0.0:
            steps.append(MinPLogitsWarper(float(self.min_p)))
        steps.append(DrawAsPublished(self.sampling.seed))
        return steps


class _Text:
    """One row's text as its tokens come; nothing is shown that later tokens may change."""

    def __init__(self, tokenizer: Any, *, exact: bool = False) -> None:
        self.tokenizer, self.exact = tokenizer, exact
        self.shown = ""

    def feed(self, tokens: Sequence[int], *, last: bool) -> str:
        """What all tokens so far add to what was shown."""
        text = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=not self.exact)
        text = text if last else _UNSURE.sub("", text)
        text = text if self.exact else process_response(text)
        if not text.startswith(self.shown):  # never seen; then the rest waits for the end
            return text[len(self.shown) :] if last else ""
        piece = text[len(self.shown) :]
        self.shown = text
        return piece
