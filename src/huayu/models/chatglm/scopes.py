"""Which layers of the language model are quantised. Source: spec visualglm §8."""

from __future__ import annotations

from huayu.quantization.scopes import Part, Scope

_LAYER = "model.layers.*."
_BLOCKS = ("attention.qkv_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2")


def scopes(prefix: str = "", lean: Scope = ()) -> dict[str, Scope]:
    """``published``: the four linears of every block. ``lean``: embedding and output matrix in 8 bits, too, and
    whatever else is named in ``lean``. ``prefix``: of the language model's name in a larger model."""
    blocks = tuple(Part(f"{prefix}{_LAYER}{name}") for name in _BLOCKS)
    tables = (Part(f"{prefix}model.embed_tokens", 8), Part(f"{prefix}lm_head", 8))
    return {"published": blocks, "lean": (*blocks, *tables, *lean)}
