"""Where ChatGLM's tokens stand: two position numbers each, and who sees whom.

A prompt is context (all tokens before ``<sop>``, which see each other) and an answer that starts with ``<sop>``. The
first number of a context token is its index and stays at the mask token's index throughout the answer; the second is
0 in the context and counts 1, 2, … from ``<sop>`` on. So the second number alone tells context from answer.
Source: spec visualglm §2.
"""

# B batch, T tokens, K cached + T tokens, R rotated numbers of half a head

from __future__ import annotations

import torch
from torch import Tensor

from huayu.models.chatglm.configuration import ChatGLMConfig

_BASE = 10000.0
# Dtype that the frequencies are rounded to, dtype of angles, cosine and sine.
_FLOWS = {
    "fp32_from_fp16": (torch.float16, torch.float32),
    "hf_fp16": (torch.float16, torch.float16),
    "fp32": (torch.float32, torch.float32),
}


def inverse_frequencies(dim: int, dtype: torch.dtype, device: torch.device | str | None = None) -> Tensor:
    """(dim/2,) frequencies, computed in fp32 and rounded to ``dtype``."""
    exponent = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
    return (1.0 / _BASE**exponent).to(dtype)


def rotary_angles(positions: Tensor, dim: int, flow: str | tuple[torch.dtype, torch.dtype]) -> tuple[Tensor, Tensor]:
    """Integer positions (…) → cosine and sine (…, dim), the second half of ``dim`` repeating the first.

    ``flow``: a name in ``ROPE_FLOWS``, or dtypes of the frequencies and of all that follows. Source: spec §2, l_rope.
    """
    stored, dtype = _FLOWS[flow] if isinstance(flow, str) else flow
    frequencies = inverse_frequencies(dim, stored, positions.device).to(dtype)
    angles = positions.to(dtype)[..., None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """x (B, H, T, 2·R) with the angles (B, 1, T, 2, R) of its two halves → the same, each half rotated by its own.

    ``sine`` is that of :func:`rotary_angles` with its first half negated.
    """
    halves = x.unflatten(-1, (2, -1))
    first, second = halves.chunk(2, dim=-1)
    return (halves * cosine + torch.cat([second, first], dim=-1) * sine).flatten(-2)


def position_ids_of(input_ids: Tensor, config: ChatGLMConfig, attention_mask: Tensor | None = None) -> Tensor:
    """Ids (B, T) of whole prompts → (B, 2, T), counted from each row's first real token; 0 on padding before it.

    ``attention_mask`` (B, T) tells padding; without it a row's leading run of the padding token is. Raises ValueError
    for a row without ``<sop>``, or with neither mask token before its end. Source: spec visualglm §2, 11.
    """
    valid = (input_ids != config.pad_token_id) if attention_mask is None else attention_mask.bool()
    started = valid.long().cumsum(dim=1) > 0
    index = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    bos = _first(input_ids == config.bos_token_id, "<sop>", config.bos_token_id)
    gmask = input_ids == config.gmask_token_id
    kind = torch.where(gmask.any(dim=1, keepdim=True), gmask, input_ids == config.mask_token_id)
    mask = _first(kind, "[gMASK], [MASK]", config.gmask_token_id)
    answer = index >= bos
    start = (~started).sum(dim=1, keepdim=True)
    first_row = torch.where(answer, mask, index) - start
    second_row = torch.where(answer, index - bos + 1, 0)
    return torch.stack([first_row.clamp(min=0), second_row], dim=1)


def _first(found: Tensor, names: str, token: int | None) -> Tensor:
    """Index (B, 1) of the first True of each row."""
    if not bool(found.any(dim=1).all()):
        raise ValueError(f"every row needs {names} (id {token}): a prompt ends with [gMASK] <sop>")
    return found.int().argmax(dim=1, keepdim=True)


def held(position_ids: Tensor) -> Tensor:
    """(B, 2, T) whose first row may have been counted on in the answer → the same, held at the mask token's index."""
    first, second = position_ids.unbind(1)
    answer = second > 0
    start = answer.int().argmax(dim=1, keepdim=True)
    return torch.stack([torch.where(answer, first.gather(1, start), first), second], dim=1)


def visible(context: Tensor, attention_mask: Tensor | None = None, past: int = 0) -> Tensor | None:
    """Who sees whom: (B, 1, T, K) True where query t sees key k; None when all see all.

    ``context`` (B, T) True for new tokens of the context, ``attention_mask`` (B, K) 1 for real tokens, ``past`` = K - T
    cached tokens. A token sees what is before it, itself and all of the context that came with it, but no padding. Rows
    of padding see everything: what they compute is never used.
    """
    tokens = context.shape[1]
    if tokens == 1 and attention_mask is None:
        return None
    index = torch.arange(past + tokens, device=context.device)
    seen = (index <= index[past:, None]).expand(context.shape[0], -1, -1)
    if tokens > 1:
        seen = seen | torch.nn.functional.pad(context, (past, 0))[:, None]
    if attention_mask is not None:
        valid = attention_mask.bool()
        seen = (seen & valid[:, None]) | ~valid[:, past:, None]
    return seen[:, None]
