"""Prompts → what the UNet attends to, each text encoded once."""

# B batch, T tokens, n tokens of one text, D width of the text encoder, C width of the UNet's cross attention

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from huayu.errors import PromptError
from huayu.models.cpm_bee.packing import PackedItem, collate, pack
from huayu.models.cpm_bee.vocabulary import BeeVocabulary, escape

_ROWS = 16  # texts in one pass


def pack_prompt(text: str, vocabulary: BeeVocabulary) -> PackedItem:
    """``{"caption": text, "objects": ""}``, all of it context. PromptError for a malformed ``<`` (see ``escape``).

    Source: spec viscpm §5.2.
    """
    try:
        return pack({"caption": text, "objects": ""}, vocabulary)
    except ValueError as error:
        raise PromptError(f"The prompt is malformed: {error}.", f"提示词格式有误：{error}。") from error


@dataclass(frozen=True)
class PromptEmbeds:
    """What B pictures are painted from.

    ``cond``, ``uncond`` (B, T, C); ``uncond`` None: there is no second pass. ``cond_mask``, ``uncond_mask`` (B, T): the
    text's own tokens. ``visible`` (B, T): what the UNet may attend to, which includes the pads up to the longer text
    of each pair (as published), not those that only fill the batch.
    """

    cond: Tensor
    cond_mask: Tensor
    visible: Tensor
    uncond: Tensor | None = None
    uncond_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.cond)

    def _each(self, change: Any) -> PromptEmbeds:
        values = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: change(value) for name, value in values.items()})

    def repeated(self, count: int) -> PromptEmbeds:
        """Each row ``count`` times, one after the other."""
        return self._each(lambda value: value.repeat_interleave(count, 0))

    def to(self, device: torch.device, dtype: torch.dtype) -> PromptEmbeds:
        """On another device, floating tensors in another dtype."""
        return self._each(lambda value: value.to(device, dtype if value.is_floating_point() else None))


class PromptEncoder:
    """Text encoder and conditioning head, with the results of the last ``limit`` texts.

    A text's own states do not depend on what pads it, and all pads have one state: so a text is encoded and kept
    alone, whatever it is paired with.
    """

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit
        self.known: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def encode(self, texts: Iterable[str], tokenizer: Any, text_encoder: Any, head: Any) -> list[tuple[Tensor, Tensor]]:
        """For each text its states (n, C) and the state of a pad (C,); texts not known yet go through in one pass."""
        texts = list(texts)
        found = {text: self.known[text] for text in texts if text in self.known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new and text_encoder is None:
            raise PromptError(
                f"The text encoder was let go; {new[0]!r} was not encoded before.",
                f"文本编码器已释放；{new[0]!r} 此前没有编码。",
            )
        for start in range(0, len(new), _ROWS):
            rows = new[start : start + _ROWS]
            found.update(zip(rows, _states(rows, tokenizer, text_encoder, head), strict=True))
        self.known.update(found)
        for text in found:
            self.known.move_to_end(text)
        while len(self.known) > self.limit:
            self.known.popitem(last=False)
        return [found[text] for text in texts]

    @torch.no_grad()
    def encode_typed(self, texts: Iterable[str], tokenizer: Any, text_encoder: Any, head: Any) -> None:
        """Encode what a user typed, and the empty text, and keep all of it however much it is."""
        wanted = dict.fromkeys(escape(text) for text in ("", *texts))
        self.limit = max(self.limit, len(self.known) + len(wanted))
        self.encode(wanted, tokenizer, text_encoder, head)


def _states(texts: Sequence[str], tokenizer: Any, text_encoder: Any, head: Any) -> list[tuple[Tensor, Tensor]]:
    items = [pack_prompt(text, tokenizer.vocabulary) for text in texts]
    batch = collate(items, tokenizer.vocabulary, padding="right")
    width = batch["input_ids"].shape[1]
    # One column more than the longest text, so that there is always a pad to look at.
    batch = {
        name: F.pad(value, (0, 1)) if value.shape[1:] == (width,) and name != "segment_rel" else value
        for name, value in batch.items()
    }
    batch = {name: value.to(text_encoder.device) for name, value in batch.items()}
    hidden = text_encoder(**batch, use_cache=False).last_hidden_state
    # Kept on the CPU: they are small, and parts may move between devices from one prompt to the next.
    states = head(hidden.to(head.dtype)).cpu()
    return [(row[: len(item.input_ids)].clone(), row[-1].clone()) for row, item in zip(states, items, strict=True)]


def paired(cond: Sequence[tuple[Tensor, Tensor]], uncond: Sequence[tuple[Tensor, Tensor]] | None) -> PromptEmbeds:
    """Rows of texts, each pair padded to its longer text by the state of a pad, then all to one length."""
    lengths = [len(states) for states, _ in cond]
    if uncond is not None:
        lengths = [max(length, len(states)) for length, (states, _) in zip(lengths, uncond, strict=True)]
    width = max(lengths)
    positions = torch.arange(width, device=cond[0][0].device)

    def rows(texts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        padded = [torch.cat([states, pad.expand(width - len(states), -1)]) for states, pad in texts]
        return torch.stack(padded), torch.stack([positions < len(states) for states, _ in texts])

    visible = torch.stack([positions < length for length in lengths])
    return PromptEmbeds(*rows(cond), visible, *(rows(uncond) if uncond is not None else ()))
