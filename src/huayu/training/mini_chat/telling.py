"""What the language model says of pictures that an eye, or an ideal one, shows it; and what is learnt from that."""

# B rows, N pictures, Q queries, D width, T tokens

from __future__ import annotations

import torch
from torch import Tensor, nn

from huayu.training.loop import Batch
from huayu.training.mini_chat.families import Family
from huayu.training.mini_chat.reading import LABELS, ReadingHeads
from huayu.training.mini_chat.rows import like_lengths
from huayu.training.mini_chat.scoring import right_answers


def tell(
    family: Family, model: nn.Module, reading: ReadingHeads, seen: Tensor, rows: Batch, loss_only: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the answers, or which rows are right (B,), and losses of reading.

    ``rows["pictures"]`` (B, 2) tells which of ``seen`` (N, Q, D) each row is about; it comes from
    :func:`huayu.training.mini_chat.reading.numbers`.
    """
    order = rows["attention_mask"].sum(1).argsort()
    answers: list[Tensor] = []
    losses: dict[str, Tensor] = {}
    for part, share in like_lengths({name: value[order] for name, value in rows.items()}):
        labels = {name: part.pop(name) for name in LABELS}
        shown = seen[part.pop("pictures")].flatten(1, 2)
        embeds, index = family.embed(model, part.pop("input_ids")), part.pop("image_token_index")
        place = index.clamp(min=0)[..., None].expand(-1, -1, shown.shape[-1])
        embeds = torch.where((index >= 0)[..., None], shown.to(embeds.dtype).gather(1, place), embeds)
        out = family.read(model, embeds, part, loss_only)
        answers.append(share * out.loss if loss_only else right_answers(out.logits, part["labels"]))
        for name, loss in reading.losses(out.hidden_states, index, labels).items():
            losses[name] = losses.get(name, 0) + share * loss
    return torch.stack(answers).sum() if loss_only else torch.cat(answers)[order.argsort()], losses
