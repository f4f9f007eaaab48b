"""Token embedding whose rotation tells apart words of one request that share a vocabulary entry."""

# B batch, T tokens, D width, E words of the request's own, V vocabulary

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DISTANCE_SCALE = 16


def inverse_frequencies(dim: int, dtype: torch.dtype, device: torch.device | str | None = None) -> Tensor:
    """(D/2,) rotary frequencies: computed in fp32, then rounded to the model's dtype as published."""
    exponent = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
    return (1.0 / (10000**exponent)).to(dtype)


def rotate_by_subscript(embeds: Tensor, subscripts: Tensor) -> Tensor:
    """Rotate ``embeds`` (…, D) by integer ``subscripts`` (…); subscript 0 is the identity.

    Angle, cosine and sine are evaluated in the dtype of ``embeds``: the published fp16 models rely on it.
    Source: spec viscpm §1.3.
    """
    angle = (subscripts * DISTANCE_SCALE).to(embeds.dtype)[..., None]
    angle = angle * inverse_frequencies(embeds.shape[-1], embeds.dtype, embeds.device)
    angle = torch.cat([angle, angle], dim=-1)
    first, second = embeds.chunk(2, dim=-1)
    return embeds * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()


class CpmBeeEmbedding(nn.Embedding):
    """Embedding matrix (V, D), tied to the output; rows are scaled by 1/sqrt(D)."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        subscripts: Tensor | None = None,
        *,
        hidden_states: Tensor | None = None,
        request_vocab: Tensor | None = None,
    ) -> Tensor:
        """Ids and subscripts (…) → (…, D), None for subscripts that are all 0; ``hidden_states`` → :meth:`logits`.

        A model calls both uses through here: what offloads or moves weights sees only calls of modules.
        """
        if hidden_states is not None:
            return self.logits(hidden_states, request_vocab)
        assert input_ids is not None
        return self.embed(input_ids, subscripts)

    def embed(self, input_ids: Tensor, subscripts: Tensor | None) -> Tensor:
        """Ids and subscripts (…) → (…, D)."""
        embeds = F.embedding(input_ids, self.weight) / self.embedding_dim**0.5
        return embeds if subscripts is None else rotate_by_subscript(embeds, subscripts)

    def request_words(self, request_vocab: Tensor) -> Tensor:
        """(B, E, 2) of (base id, subscript), padded with -1 → (B, E, D)."""
        base, subscripts = request_vocab.clamp(min=0).unbind(-1)
        return self.embed(base, subscripts)

    def logits(self, hidden_states: Tensor, request_vocab: Tensor | None = None) -> Tensor:
        """(B, T, D) → (B, T, V + E): the vocabulary, then the request's own words (padding gets dtype's minimum).

        Source: spec viscpm §1.3.
        """
        logits = F.linear(hidden_states / self.embedding_dim**0.5, self.weight)
        if request_vocab is None or request_vocab.shape[1] == 0:
            return logits
        own = torch.einsum("btd,bed->bte", hidden_states, self.request_words(request_vocab))
        absent = (request_vocab[..., 0] < 0)[:, None, :]
        return torch.cat([logits, own.masked_fill(absent, torch.finfo(own.dtype).min)], dim=-1)
