"""Checkpoints with the published names and random numbers, of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class ChatSizes:
    """Sizes of a VisCPM-Chat state dict; the defaults are the published ones."""

    vocab: int = 86583
    width: int = 4096
    layers: int = 48
    heads: int = 32
    head_dim: int = 128
    inner: int = 10240
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    vision_inner: int = 4096
    vision_vocab: int = 64010
    image: int = 224
    patch: int = 16
    max_queries: int = 1024
    queries: int = 64
    codebook: int = 8192

    @property
    def published_config(self) -> dict:
        """The same sizes under the names of the published json files."""
        return {
            "vocab_size": self.vocab, "dim_model": self.width, "num_layers": self.layers, "num_heads": self.heads,
            "dim_head": self.head_dim, "dim_ff": self.inner, "half": True,
        }  # fmt: skip


# About 2.3 GB in fp16: published widths, fewer layers.
LARGE = ChatSizes(layers=3, vision_layers=4)
# About 150 MB in fp16.
MIDDLE = ChatSizes(vocab=20000, width=1024, layers=3, heads=8, inner=2560, vision_width=512, vision_layers=4,
                   vision_heads=8, vision_inner=2048, vision_vocab=1000, codebook=512)  # fmt: skip
# About 100 kB.
SMALL = ChatSizes(vocab=137, width=32, layers=2, heads=4, head_dim=8, inner=80, vision_width=24, vision_layers=2,
                  vision_heads=4, vision_inner=48, vision_vocab=40, image=32, max_queries=64, queries=4,
                  codebook=16)  # fmt: skip


def chat_shapes(sizes: ChatSizes) -> Shapes:
    """Every published name with its shape. Source: spec viscpm §7.1."""
    return {"query": (sizes.queries, sizes.vision_width), **_vision(sizes), **_language(sizes), **_mapping(sizes)}


def write_chat(path: str | Path, sizes: ChatSizes, dtype: torch.dtype = torch.float16, seed: int = 0) -> int:
    """Write a ``torch.save`` state dict with small random numbers; returns its bytes."""
    shapes = chat_shapes(sizes)
    pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(seed)).mul_(0.02).to(dtype)
    state = {}
    for step, (name, shape) in enumerate(shapes.items()):
        size = torch.Size(shape).numel()
        turned = pool.roll(step)
        state[name] = turned.repeat(-(-size // len(pool)))[:size].clone().reshape(shape)
    torch.save(state, path)
    return Path(path).stat().st_size


def write_vocabulary(path: str | Path, tokens: int) -> None:
    """Write a vocabulary of so many tokens: the special ones where CPM-Bee has them, then digits in angle quotes."""
    special = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
    lines = special + [f"«{n}»" for n in range(tokens - len(special))]
    Path(path).write_text("\n".join(lines), "utf-8")


def _vision(s: ChatSizes) -> Shapes:
    d, inner = s.vision_width, s.vision_inner
    shapes: Shapes = {
        "vpm.beit3.text_embed.weight": (s.vision_vocab, d),
        "vpm.beit3.vision_embed.mask_token": (1, 1, d),
        "vpm.beit3.vision_embed.cls_token": (1, 1, d),
        "vpm.beit3.vision_embed.proj.weight": (d, 3, s.patch, s.patch),
        "vpm.beit3.vision_embed.proj.bias": (d,),
        "vpm.beit3.encoder.embed_positions.A.weight": ((s.image // s.patch) ** 2 + 3, d),
        "vpm.beit3.encoder.embed_positions.B.weight": (s.max_queries, d),
    }
    for n in range(s.vision_layers):
        layer = f"vpm.beit3.encoder.layers.{n}."
        for expert in "AB":
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                shapes |= _affine(f"{layer}self_attn.{part}.{expert}", (d, d))
            for part in ("self_attn.inner_attn_ln", "self_attn_layer_norm", "final_layer_norm"):
                shapes |= _affine(f"{layer}{part}.{expert}", (d,))
            shapes |= _affine(f"{layer}ffn.{expert}.fc1", (inner, d))
            shapes |= _affine(f"{layer}ffn.{expert}.fc2", (d, inner))
            shapes |= _affine(f"{layer}ffn.{expert}.ffn_layernorm", (inner,))
    for expert in "AB":
        shapes |= _affine(f"vpm.beit3.encoder.layer_norm.{expert}", (d,))
    return shapes | _affine("vpm.mim_head", (s.codebook, d))


def _language(s: ChatSizes) -> Shapes:
    d, inside = s.width, s.heads * s.head_dim
    shapes: Shapes = {}
    for n in range(s.layers):
        layer = f"llm.encoder.layers.{n}."
        shapes[f"{layer}self_att.layernorm_before_attention.weight"] = (d,)
        for part in "qkv":
            shapes[f"{layer}self_att.self_attention.project_{part}.weight"] = (inside, d)
        shapes[f"{layer}self_att.self_attention.attention_out.weight"] = (d, inside)
        shapes[f"{layer}ffn.layernorm_before_ffn.weight"] = (d,)
        for part in ("w_0", "w_1"):
            shapes[f"{layer}ffn.ffn.w_in.{part}.weight"] = (s.inner, d)
        shapes[f"{layer}ffn.ffn.w_out.weight"] = (d, s.inner)
    shapes["llm.encoder.output_layernorm.weight"] = (d,)
    shapes["llm.input_embedding.weight"] = (s.vocab, d)
    shapes["llm.position_bias.relative_attention_bias"] = (512, s.heads)
    return shapes


def _mapping(s: ChatSizes) -> Shapes:
    return _affine("mapping.0", (s.width, s.vision_width)) | _affine("mapping.2", (s.width, s.width))


def _affine(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
