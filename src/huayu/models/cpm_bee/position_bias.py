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
    """

    valid: Tensor
    context: Tensor
    sample_ids: Tensor
    span_ids: Tensor
    segment_ids: Tensor
    num_segments: Tensor
    segment_rel_offset: Tensor
    segment_rel: Tensor
    position_ids: Tensor

    def same_sample(self, queries: int) -> Tensor:
        """(B, T, K) bool: query and key are of one sample and span; T = ``queries`` last tokens."""
        sample = self.sample_ids[:, -queries:, None] == self.sample_ids[:, None, :]
        return sample & (self.span_ids[:, -queries:, None] == self.span_ids[:, None, :])

    def visible(self, queries: int) -> Tensor:
        """(B, T, K) bool attention mask. Source: spec viscpm §1.5."""
        index = torch.arange(self.valid.shape[1], device=self.valid.device)
        causal = index[None, None, :] <= index[None, -queries:, None]
        query_sample = self.sample_ids[:, -queries:, None]
        sample = (query_sample == 0) | (query_sample == self.sample_ids[:, None, :])
        span = self.span_ids[:, -queries:, None] == self.span_ids[:, None, :]
        order = self.context[:, None, :] | (~self.context[:, -queries:, None] & causal)
        return order & sample & span & self.valid[:, None, :] & self.valid[:, -queries:, None]

    def relations(self, queries: int) -> Tensor:
        """(B, T, K) int: 0 same segment, 1 other sample, else the tree relation of the two segments."""
        start = self.segment_ids * self.num_segments + self.segment_rel_offset
        index = start[:, -queries:, None] + self.segment_ids[:, None, :]
        index = index.clamp(0, self.segment_rel.shape[1] - 1)  # only padding and foreign samples point outside
        relation = self.segment_rel.gather(1, index.flatten(1)).view_as(index)
        return relation.masked_fill(~self.same_sample(queries), OTHER_SAMPLE)


class SegmentPositionBias(nn.Module):
    """Learned bias by distance inside a segment and by tree relation between segments.

    ``weight``: (num_buckets + num_segment_buckets, H). Source: spec viscpm §1.4.
    """

    def __init__(self, num_buckets: int, num_segment_buckets: int, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.weight = nn.Parameter(torch.empty(num_buckets + num_segment_buckets, num_heads))

    def forward(self, query_positions: Tensor, key_positions: Tensor, relations: Tensor) -> Tensor:
        """Positions (B, T) and (B, K), relations (B, T, K), all int → bias (B, H, T, K) in the weight's dtype."""
        distance = key_positions[:, None, :] - query_positions[:, :, None]
        near = distance_bucket(distance, self.num_buckets, self.max_distance)
        rows = torch.where(relations == 0, near, relations + (self.num_buckets - 1))
        return F.embedding(rows, self.weight).permute(0, 3, 1, 2).contiguous()
