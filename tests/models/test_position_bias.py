"""Who sees whom and how near, against the specification's rules written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from huayu.models.cpm_bee.position_bias import Layout, SegmentPositionBias, distance_bucket
from tests.models import tiny

NAMES = ("valid", "context", "sample_ids", "span_ids", "segment_ids", "num_segments", "segment_rel_offset")


@st.composite
def rows(draw, most=9):
    """One row of metadata: up to three samples with a relation table each, then padding on either side."""
    columns = {name: [] for name in (*NAMES, "position_ids")}
    table = []
    for sample in range(draw(st.integers(1, 3))):
        segments = draw(st.integers(1, 3))
        for position in range(draw(st.integers(1, most // 3))):
            values = (1, draw(st.integers(0, 1)), sample, draw(st.integers(0, 1)))
            values = (*values, draw(st.integers(0, segments - 1)), segments, len(table), position)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
        table += draw(st.lists(st.integers(0, 64).filter(lambda v: v != 1), min_size=segments**2, max_size=segments**2))
    left = draw(st.integers(0, 2))
    right = draw(st.integers(0, 2))
    return {name: [0] * left + values + [0] * right for name, values in columns.items()}, table


def layout_of(columns, table):
    tensors = {name: torch.tensor([values]) for name, values in columns.items()}
    tensors["valid"], tensors["context"] = tensors["valid"].bool(), tensors["context"].bool()
    return Layout(segment_rel=torch.tensor([table]), **tensors)


def sees(row, i, j):
    """Source: spec viscpm §1.5."""
    sample, span = row["sample_ids"], row["span_ids"]
    return bool(
        (row["context"][j] or (not row["context"][i] and j <= i))
        and (sample[i] == 0 or sample[i] == sample[j])
        and span[i] == span[j]
        and row["valid"][i]
        and row["valid"][j]
    )


def relation_of(row, table, i, j):
    """Source: spec viscpm §1.4, steps 1 and 2."""
    if row["sample_ids"][i] != row["sample_ids"][j] or row["span_ids"][i] != row["span_ids"][j]:
        return 1
    return table[row["segment_ids"][i] * row["num_segments"][i] + row["segment_ids"][j] + row["segment_rel_offset"][i]]


@settings(max_examples=60, deadline=None)
@given(rows(), st.integers(1, 13))
def test_mask_and_relations_are_the_rules(row, queries):
    columns, table = row
    count = len(columns["valid"])
    queries = min(queries, count)
    layout = layout_of(columns, table)
    visible, relations = layout.visible(queries)[0], layout.relations(queries)[0]
    assert visible.shape == relations.shape == (queries, count)
    for q in range(queries):
        i = count - queries + q
        for j in range(count):
            assert bool(visible[q, j]) == sees(columns, i, j)
            if columns["valid"][i] and columns["valid"][j]:
                assert int(relations[q, j]) == relation_of(columns, table, i, j)


@settings(max_examples=200, deadline=None)
@given(st.integers(-(2**20), 2**20), st.sampled_from([(256, 2048), (32, 128), (8, 20)]))
def test_distance_buckets_are_the_rule(distance, sizes):
    """Exact borders fall where fp32 puts them, so the loop rounds each step to fp32 too."""
    buckets, farthest = sizes
    half, exact = buckets // 2, buckets // 4
    n = abs(distance)
    bucket = n
    if n >= exact:
        far = np.log(np.float32(np.float32(n) / np.float32(exact))) / np.float32(math.log(farthest / exact))
        bucket = min(half - 1, exact + int(np.float32(far * np.float32(half - exact))))
    bucket += half if distance > 0 else 0
    assert int(distance_bucket(torch.tensor(distance), *sizes)) == bucket


def test_buckets_of_the_published_sizes():
    """Source: spec viscpm §1.4."""
    distance = torch.tensor([0, 1, -1, 63, -63, 64, -64, 2047, -2047, 2048, -2048, 10**6, -(10**6)])
    known = [0, 129, 1, 191, 63, 192, 64, 255, 127, 255, 127, 255, 127]
    assert distance_bucket(distance, 256, 2048).tolist() == known
    every = distance_bucket(torch.arange(-3000, 1), 256, 2048)
    assert every.flip(0).diff().min() >= 0  # farther is never a nearer bucket
    assert sorted(set(every.tolist())) == list(range(128))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_bias_is_a_row_of_the_table(dtype):
    bias = SegmentPositionBias(8, 65, 20, 2)
    bias.weight.data = torch.randn(73, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    queries, keys = torch.tensor([[2, 5]]), torch.tensor([[0, 2, 5, 5]])
    relations = torch.tensor([[[0, 0, 0, 1], [2, 64, 0, 10]]])
    out = bias(queries, keys, relations)
    assert out.shape == (1, 2, 2, 4)
    assert out.dtype == dtype
    near = [[distance_bucket(keys[0, j] - queries[0, i], 8, 20) for j in range(4)] for i in range(2)]
    expected = [[near[0][0], near[0][1], near[0][2], 8], [9, 71, near[1][2], 17]]
    for i in range(2):
        for j in range(4):
            assert out[0, :, i, j].equal(bias.weight[int(expected[i][j])])


@pytest.fixture(scope="module")
def one_layer():
    return tiny.language(num_hidden_layers=1).model


@settings(max_examples=25, deadline=None)
@given(rows(), st.integers(0, 12))
def test_the_whole_model_obeys_the_mask(one_layer, row, changed):
    """With one layer a change of one token reaches exactly the tokens that see it."""
    columns, table = row
    count = len(columns["valid"])
    changed = min(changed, count - 1)
    inputs = {name: torch.tensor([values]) for name, values in columns.items()}
    inputs["attention_mask"], inputs["is_context"] = inputs.pop("valid"), inputs.pop("context")
    ids = torch.arange(count)[None] + 11
    other = ids.clone()
    other[0, changed] = len(tiny.LINES) - 1
    with torch.no_grad():
        before, after = (
            one_layer(input_ids=x, segment_rel=torch.tensor([table]), **inputs).last_hidden_state[0]
            for x in (ids, other)
        )
    for i in range(count):
        if sees(columns, i, changed) or i == changed:
            assert not before[i].equal(after[i])
        else:
            assert_close(before[i], after[i], atol=1e-6, rtol=0)
