"""Several short rows in one row of a batch, which do not see each other: less padding, the same loss.

CPM-Bee tells samples of a row apart by ``sample_ids``; ChatGLM has nothing of the kind. Source: spec viscpm §1.5.
"""

# B rows, G packed rows, T tokens, P pictures of a row, R flattened relation table, S side in pixels

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from huayu.errors import ModelError
from huayu.training.loop import Batch

_FILL = {"labels": -100, "image_token_index": -1, "request_vocab": -1}


def packed(batch: Batch, limit: int) -> Batch:
    """Rows (B, T) of VisCPM-Chat, padded on the right, → (G, T'), each of at most ``limit`` tokens or of one row.

    Pictures (B, 1, 3, S, S) become (G, P, 3, S, S). A row with words of its own in the output stays alone: they would
    be choices for its neighbours, too. Raises ModelError for another model's rows.
    """
    if "segment_rel" not in batch:
        raise ModelError("Rows of this model cannot be packed: pack = 0.", "此模型的数据行不能打包：请设 pack = 0。")
    lengths = [int(length) for length in batch["attention_mask"].sum(1)]
    words = batch.get("request_vocab")
    alone = [words is not None and bool((words[row] >= 0).any()) for row in range(len(lengths))]
    found = [_joined(batch, group, lengths) for group in _groups(lengths, alone, limit)]
    return {
        name: pad_sequence([row[name] for row in found], batch_first=True, padding_value=_FILL.get(name, 0))
        for name in found[0]
    }


def _groups(lengths: Sequence[int], alone: Sequence[bool], limit: int) -> list[list[int]]:
    """Rows that share a row: the longest first, each into the first that has room."""
    groups: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = next((at for at, left in enumerate(room) if left >= lengths[row] and not alone[row]), None)
        if place is None:
            groups.append([row])
            room.append(0 if alone[row] else limit - lengths[row])
        else:
            groups[place].append(row)
            room[place] -= lengths[row]
    return groups


def _joined(batch: Batch, group: Sequence[int], lengths: Sequence[int]) -> dict[str, Tensor]:
    """The rows of a group one after the other: columns (T,), ``segment_rel`` (R,), pictures (P, 3, S, S)."""
    width = batch["input_ids"].shape[1]
    columns = [name for name, value in batch.items() if value.shape[1:] == (width,) and name != "segment_rel"]
    row: dict[str, list[Tensor]] = {name: [] for name in (*columns, "sample_ids", "segment_rel_offset", "segment_rel")}
    pictures: list[Tensor] = []
    offset = 0
    for number, at in enumerate(group, 1):
        length, segments = lengths[at], int(batch["num_segments"][at, 0])
        part = {name: batch[name][at, :length] for name in columns}
        slots = part.get("image_token_index")
        if slots is not None and bool((slots >= 0).any()):
            part["image_token_index"] = torch.where(slots >= 0, slots + len(pictures) * (slots.max() + 1), slots)
            pictures.append(batch["pixel_values"][at, 0])
        part["sample_ids"] = torch.full((length,), number)
        part["segment_rel_offset"] = torch.full((length,), offset)
        part["segment_rel"] = batch["segment_rel"][at, : segments**2]
        offset += segments**2
        for name, value in part.items():
            row[name].append(value)
    whole = {name: torch.cat(values) for name, values in row.items()}
    if "request_vocab" in batch:
        whole["request_vocab"] = batch["request_vocab"][group[0]]
    if "pixel_values" in batch:
        whole["pixel_values"] = torch.stack(pictures) if pictures else batch["pixel_values"][group[0]]
    return whole
