"""Who sees whom, and how near: CPM-Bee's attention mask and its segment-relative position bias."""

# B batch, T query tokens, K key tokens (cached + T), H heads, R flattened relation tables of a row

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OTHER_SAMPLE = 1  # relation value of two tokens that belong to different samples or spans


def distance_bucket(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of ``key position - query position``; any int shape in, same shape out, values < ``num_buckets``.

    Exact below a quarter of the buckets, then logarithmic; keys to the right take the upper half.
    Source: spec viscpm §1.4.
    """
    half = num_buckets // 2
    exact = half // 2
    n = distance.abs()
    # The order of these fp32 steps decides the truncation at bucket borders.
    far = torch.log(n.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (far.to(torch.int32) + exact).clamp(max=half - 1)
    return torch.where(n < exact, n, far) + (distance > 0).to(n.dtype) * half


@dataclass(frozen=True)
class Layout:
    """How the tokens of a batch relate. All (B, K) int or bool, ``segment_rel`` (B, R).

    ``valid`` false is padding; ``context`` tokens are seen by all of their sample, others causally.
    ``sample_ids`` or ``span_ids`` None: all tokens are of one sample, or of one span.
    """

    valid: Tensor
    context: Tensor
    sample_ids: Tensor | None
    span_ids: Tensor | None
    segment_ids: Tensor
    num_segments: Tensor
    segment_rel_offset: Tensor
    segment_rel: Tensor
    position_ids: Tensor

    def visible(self, queries: int) -> Tensor:
        """(B, T, K) bool attention mask; T = ``queries`` last tokens. Source: spec viscpm §1.5."""
        keys = self.valid.shape[1]
        causal = torch.ones(queries, keys, dtype=torch.bool, device=self.valid.device).tril(keys - queries)
        seen = self.context[:, None, :] | (~self.context[:, -queries:, None] & causal)
        seen = seen & self.valid[:, None, :] & self.valid[:, -queries:, None]
        if self.sample_ids is not None:
            query = self.sample_ids[:, -queries:, None]
            seen = seen & ((query == 0) | (query == self.sample_ids[:, None, :]))
        if self.span_ids is not None:
            seen = seen & (self.span_ids[:, -queries:, None] == self.span_ids[:, None, :])
        return seen

    def relations(self, queries: int) -> Tensor:
        """(B, T, K) int: 0 same segment, 1 other sample or span, else the tree relation of the two segments."""
        start = self.segment_ids * self.num_segments + self.segment_rel_offset
        index = start[:, -queries:, None] + self.segment_ids[:, None, :]
        index = index.clamp(0, self.segment_rel.shape[1] - 1)  # only padding and foreign samples point outside
        relation = self.segment_rel.gather(1, index.flatten(1)).view_as(index)
        for ids in (self.sample_ids, self.span_ids):
            if ids is not None:
                relation = relation.masked_fill(ids[:, -queries:, None] != ids[:, None, :], OTHER_SAMPLE)
        return relation


class SegmentPositionBias(nn.Module):
    """Learned bias by distance inside a segment and by tree relation between segments.

    ``weight``: (num_buckets + num_segment_buckets, H). Source: spec viscpm §1.4.
    """

    def __init__(self, num_buckets: int, num_segment_buckets: int, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.weight = nn.Parameter(torch.empty(num_buckets + num_segment_buckets, num_heads))

    def forward(
        self, query_positions: Tensor, key_positions: Tensor, relations: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        """Bias (B, H, T, K) in the weight's dtype, -inf where ``hidden`` (B, T, K) bool.

        Positions (B, T) and (B, K), relations (B, T, K), all int.
        """
        distance = key_positions[:, None, :] - query_positions[:, :, None]
        near = distance_bucket(distance, self.num_buckets, self.max_distance)
        rows = torch.where(relations == 0, near, relations + (self.num_buckets - 1))
        table = self.weight.t()
        if hidden is not None:  # as one more row of the table: no pass over the (B, H, T, K) that it makes
            rows = rows.masked_fill(hidden, table.shape[1])
            table = F.pad(table, (0, 1), value=float("-inf"))
        return table[:, rows].transpose(0, 1)
