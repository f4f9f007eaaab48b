"""The whole chat model beside what exists only in training, put together from the parts and taken out again."""

# B rows, N pictures, Q queries, S slots, C classes, D width

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import EYE_WIDTH, WORD_WIDTH
from huayu.training.mini_chat.families import Family
from huayu.training.mini_chat.language import Reader, SlotWords
from huayu.training.mini_chat.reading import ReadingHeads
from huayu.training.mini_chat.telling import tell
from huayu.training.mini_chat.vision import SightHeads, SlotEye


class Told(NamedTuple):
    """The loss of the answers, or which rows are right (B,); losses of reading; picture embeddings (N, Q, D), states
    of patches and of queries."""

    answer: Tensor
    reading: dict[str, Tensor]
    seen: Tensor
    patches: Tensor
    queries: Tensor


class Joined(nn.Module):
    """The whole chat model, with the training-only heads of the eye and the ideal words of the slots."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family, self.chat = family, family.chat()
        self.heads = SightHeads(EYE_WIDTH, family.linear_projector)
        self.words = SlotWords(WORD_WIDTH, family)
        self.reading = ReadingHeads(WORD_WIDTH)

    @classmethod
    def from_parts(cls, vision: Path, language: Path, family: Family) -> Joined:
        """From the exports of the stages "vision" and "language"."""
        eye, reader = SlotEye(family), Reader(family)
        eye.load_state_dict(torch.load(vision, weights_only=True))
        reader.load_state_dict(torch.load(language, weights_only=True))
        joined = cls(family)
        for name, part in eye.eye.named_children():
            joined.chat.get_submodule(name).load_state_dict(part.state_dict())
        joined.chat.query_tokens.data.copy_(eye.eye.query_tokens)
        joined.chat.language_model.load_state_dict(reader.language_model.state_dict())
        joined.words.load_state_dict(reader.words.state_dict())
        joined.reading.load_state_dict(reader.reading.state_dict())
        joined.heads.load_state_dict(eye.heads.state_dict())
        return joined

    def ideal(self, pictures: Batch) -> Tensor:
        """The words of true slots, (N, Q, D)."""
        vectors = self.family.word_vectors(self.chat.language_model)
        return self.words(pictures["slots"], pictures["background"], pictures["style"], vectors)

    def forward(self, pixels: Tensor, rows: Batch, loss_only: bool = True) -> Told:
        """``rows``: as of :func:`tell`."""
        patches, queries = self.family.see(self.chat, pixels)
        seen = self.chat.projector(queries)
        told = tell(self.family, self.chat.language_model, self.reading, seen, rows, loss_only)
        return Told(*told, seen, patches, queries)


@torch.no_grad()
def fit_projector(joined: Joined, batches: Iterable[Batch], ridge: float = 1e-3) -> float:
    """Set the projector in closed form, so that the eye's states become the ideal words of their slots.

    Its last linear is the ridge regression from what comes before it. Returns the share of the words' variance left
    unexplained.
    """
    before, last = joined.family.fit_hidden(joined.chat, joined.heads.slot), joined.family.last_linear(joined.chat)
    hidden, ideal = [], []
    for batch in batches:
        _, queries = joined.family.see(joined.chat, batch["pixels"])
        hidden.append(before(queries).flatten(0, 1))
        ideal.append(joined.ideal(batch).flatten(0, 1))
    x, y = torch.cat(hidden), torch.cat(ideal)
    x_mean, y_mean = x.mean(0), y.mean(0)
    gram = (x - x_mean).T @ (x - x_mean) / len(x)
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    last.weight.copy_(torch.linalg.solve(gram, (x - x_mean).T @ (y - y_mean) / len(x)).T)
    last.bias.copy_(y_mean - last.weight @ x_mean)
    return float(F.mse_loss(last(x), y) / y.var())


def export_chat(joined: Joined, folder: Path) -> None:
    """Write the model as users open it: fp16 safetensors, configuration, vocabulary, generation settings."""
    chat = joined.chat.cpu().half().eval()
    chat.config.dtype = torch.float16
    joined.family.save(chat, folder)
