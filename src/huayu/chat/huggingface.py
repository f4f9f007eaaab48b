"""Any image-text-to-text model of the transformers library, through its own processor, template and ``generate``."""

# B rows of a batch, T tokens

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from huayu.chat.backend import Piece, Prompt
from huayu.chat.conversation import Conversation, Turn
from huayu.chat.options import ChatOptions, Settings
from huayu.chat.tokens import Written, follow, penalties_of, sampling_of
from huayu.errors import Cancelled, CheckpointError, ModelError, PromptError
from huayu.generation.constrained import ByteVocabulary
from huayu.generation.library_beams import stream_beams
from huayu.generation.streaming import stream_ids

if TYPE_CHECKING:
    from PIL import Image

    from huayu.checkpoints.find import Source
    from huayu.runtime.memory import Placement

_HALF_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class Messages:
    """One prompt: pictures in the order of the text, and the text as the model's template writes it."""

    text: str
    pictures: tuple[Image.Image, ...]


class HuggingFaceBackend:
    """Answers with ``model.generate``; pictures are read again in each turn, since models differ in how they do it.

    ``processor`` needs a chat template; without one, turns are written as plain lines (``User: …``). Beam search is the
    library's own.
    """

    reads_traditional = True
    follows_requests = True

    def __init__(self, model: Any, processor: Any, *, name: str, defaults: ChatOptions) -> None:
        self.model, self.processor, self.name, self.defaults = model, processor, name, defaults
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        named = (*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab())
        self.special = sorted({token for token in named if len(token) > 1}, key=len, reverse=True)
        self.eos = frozenset(_eos_ids(model, self.tokenizer))
        self._bytes: ByteVocabulary | None = None
        self.max_tokens: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    def prepare(self, conversation: Conversation, question: str) -> Prompt:
        """See :class:`huayu.chat.backend.Backend`; dropped turns leave their pictures in the first turn that stays."""
        for dropped in range(len(conversation.turns) + 1):
            messages = self.messages(conversation, conversation.window(dropped), question)
            size = int(self._inputs([messages])["input_ids"].shape[1])
            if self.max_tokens is None or size < self.max_tokens:
                return Prompt(messages, size, dropped)
        raise PromptError(
            f"The prompt has {size} tokens; the model takes {self.max_tokens}, answer included.",
            f"提示共 {size} 个词元，模型连同答案最多接受 {self.max_tokens} 个。",
        )

    def messages(self, conversation: Conversation, turns: Sequence[Turn], question: str) -> Messages:
        """The prompt of a question after ``turns``, the newest of the conversation."""
        pictures = [picture.image for picture in conversation.pictures]
        counts = [turn.num_pictures for turn in turns]
        now = len(pictures) - sum(turn.num_pictures for turn in conversation.turns)
        early = len(pictures) - sum(counts) - now  # of dropped turns
        spoken = [(turn.question, turn.answer) for turn in turns]
        counts = [*counts, now]
        counts[0] += early
        chat: list[dict[str, Any]] = []
        for (asked, answer), count in zip([*spoken, (question, None)], counts, strict=True):
            content = [{"type": "image"}] * count + [{"type": "text", "text": self.plain(asked)}]
            chat.append({"role": "user", "content": content})
            if answer is not None:
                chat.append({"role": "assistant", "content": [{"type": "text", "text": self.plain(answer)}]})
        return Messages(self._written(chat), tuple(pictures))

    def plain(self, text: str) -> str:
        """Text that holds no special token: a mark that is not seen breaks each that a user (or an answer) wrote."""
        for token in self.special:
            text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
        return text

    def _written(self, chat: list[dict[str, Any]]) -> str:
        if getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None):
            return str(self.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        image = getattr(self.processor, "image_token", None) or ""
        names = {"user": "User", "assistant": "AI"}
        lines = []
        for message in chat:
            parts = [image if part["type"] == "image" else part["text"] for part in message["content"]]
            lines.append(f"{names[message['role']]}: {' '.join(part for part in parts if part)}\n")
        return "".join(lines) + "AI:"

    def read(self, prompts: Sequence[Messages]) -> Mapping[str, torch.Tensor]:
        """The model's inputs, padded on the left, on the CPU."""
        pictures = [list(prompt.pictures) for prompt in prompts]
        texts = [prompt.text for prompt in prompts]
        # A template has written the special tokens already; a second <s> would not be what the model knows.
        plain = not (self.tokenizer.bos_token and texts[0].startswith(self.tokenizer.bos_token))
        settings = {"padding": True, "add_special_tokens": plain, "return_tensors": "pt"}
        return dict(self.processor(images=pictures if any(pictures) else None, text=texts, **settings))

    def _inputs(self, prompts: Sequence[Messages]) -> Mapping[str, torch.Tensor]:
        like, read = self.model, self.read(prompts).items()
        return {name: value.to(like.device, like.dtype if value.is_floating_point() else None) for name, value in read}

    def generate(self, prompts: Sequence[Prompt], settings: Settings, cancel: threading.Event) -> Iterator[Piece]:
        """See :class:`huayu.chat.backend.Backend`. Rows with and without pictures run one group after the other."""
        if cancel.is_set():
            raise Cancelled
        groups: dict[bool, list[int]] = {}
        for row, prompt in enumerate(prompts):
            groups.setdefault(bool(prompt.inputs.pictures), []).append(row)
        for rows in groups.values():
            inputs = self._inputs([prompts[row].inputs for row in rows])
            room = (self.max_tokens or 2**31) - inputs["input_ids"].shape[1]
            length = min(settings.max_new_tokens, room)
            write = self._beam if settings.search == "beam" else self._walk
            texts = [_Text(self.tokenizer) for _ in rows]
            for place, tokens, finish in write(inputs, settings, length, cancel):
                yield Piece(rows[place], texts[place].feed(tokens, last=finish is not None), len(tokens), finish)

    def _walk(
        self, inputs: Mapping[str, torch.Tensor], settings: Settings, length: int, cancel: threading.Event
    ) -> Iterator[Written]:
        steps = stream_ids(
            self.model,
            inputs,
            sampling=sampling_of(settings),
            cancel=cancel,
            max_new_tokens=length,
            repetition_penalty=settings.repetition_penalty,
            pad_token_id=self.tokenizer.pad_token_id,
            processors=(penalties_of(settings), self._constraint(settings)),
        )
        with closing(steps):
            yield from follow(steps, len(inputs["input_ids"]), self.eos, length)

    def _constraint(self, settings: Settings) -> Any:
        if settings.json_schema is None:
            return None
        if self._bytes is None:
            self._bytes = ByteVocabulary.of_library(self.tokenizer, self.eos)
        return self._bytes.keep_to(settings.json_schema)

    def _beam(
        self, inputs: Mapping[str, torch.Tensor], settings: Settings, length: int, cancel: threading.Event
    ) -> Iterator[Written]:
        steps = stream_beams(
            self.model,
            inputs,
            num_beams=settings.num_beams,
            eos=self.eos,
            temperature=settings.temperature,
            cancel=cancel,
            max_new_tokens=length,
            repetition_penalty=settings.repetition_penalty,
            length_penalty=settings.length_penalty,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        with closing(steps):
            for answers, ended in steps:
                for row, tokens in enumerate(answers):
                    yield row, tokens, None if ended is None else "stop" if ended[row] else "length"


class _Text:
    """One row's text as its tokens come. A piece never ends in half a character."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.shown = tokenizer, ""

    def feed(self, tokens: Sequence[int], *, last: bool) -> str:
        """What all tokens so far add to what was shown."""
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if not last:
            text = text.rstrip(_HALF_CHARACTER)
        if not text.startswith(self.shown):  # the tokenizer changed its mind: say nothing until it agrees
            return ""
        piece = text[len(self.shown) :]
        self.shown = text
        return piece


def open_backend(
    source: Source, device: torch.device, dtype: str | torch.dtype | None, placement: Placement
) -> HuggingFaceBackend:
    """Open a folder by the Auto classes; nothing of its own code runs. Raises ModelError, CheckpointError."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from huayu.chat.loading import chat_defaults
    from huayu.runtime.device import pick_dtype
    from huayu.runtime.memory import guarded, place

    wanted = "auto" if dtype is None else pick_dtype(dtype, device)
    if dtype is None and device.type == "cpu":
        wanted = torch.float32  # half precision is slow there, and not every operation has it
    try:
        with guarded():
            processor = AutoProcessor.from_pretrained(source.path, local_files_only=True, trust_remote_code=False)
            model, report = AutoModelForImageTextToText.from_pretrained(
                source.path,
                dtype=wanted,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (ValueError, KeyError, ImportError, OSError, RuntimeError) as problem:
        first = str(problem).strip().split("\n")[0]
        raise ModelError(
            f"{source.name} cannot be opened as an image-text-to-text model: {first}",
            f"无法以图文模型打开 {source.name}：{first}",
        ) from problem
    _require_complete(source, report)
    if not hasattr(processor, "image_processor"):
        raise ModelError(f"{source.name} cannot see pictures.", f"{source.name} 不能看图。")
    place(model.eval(), device, placement)
    return HuggingFaceBackend(model, processor, name=source.name, defaults=chat_defaults(source))


def _require_complete(source: Source, report: Mapping[str, Any]) -> None:
    """The library fills missing weights with random numbers and says so in a warning: here it is an error."""
    for en, zh, key in (("missing", "缺少", "missing_keys"), ("of another shape", "形状不符", "mismatched_keys")):
        names = sorted(map(str, report.get(key) or ()))
        if names:
            raise CheckpointError(
                f"{source.name} does not fit: {len(names)} {en} ({names[0]}).",
                f"{source.name} 不匹配：{zh} {len(names)} 个（{names[0]}）。",
            )


def _eos_ids(model: Any, tokenizer: Any) -> set[int]:
    eos = model.generation_config.eos_token_id
    eos = tokenizer.eos_token_id if eos is None else eos
    return {int(token) for token in (eos if isinstance(eos, list) else [eos]) if token is not None}
