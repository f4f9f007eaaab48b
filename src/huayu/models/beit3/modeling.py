"""BEiT-3's vision branch with appended query tokens: two experts, one joint attention."""

# N pictures, P patches + 1, Q queries, D width, H heads

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput

from huayu.models.beit3.configuration import Beit3Config
from huayu.models.stem import StemmedPatches, init_stem

UNUSED_POSITIONS = 2  # rows 0 and 1 of both position tables are never read


class Multiway(nn.Module):
    """Two copies of a module: ``vision`` for the first ``split`` tokens, ``query`` for the rest."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.vision = make()
        self.query = make()

    def forward(self, x: Tensor, split: int) -> Tensor:
        """(N, P + Q, D) → (N, P + Q, D')."""
        if split == x.shape[1]:
            return self.vision(x)
        return torch.cat([self.vision(x[:, :split]), self.query(x[:, split:])], dim=1)


class Beit3PatchEmbedding(StemmedPatches):
    """Pixels → class token and patches, row-major."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__(config.stem_channels, config.stem_depth, config.patch_size, config.hidden_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(N, 3, S, S) → (N, P, D)."""
        patches = super().forward(pixel_values.to(self.weight.dtype)).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)


class Beit3Attention(nn.Module):
    """Joint attention over pictures and queries with per-expert projections and a norm before the output."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        dim = config.hidden_size
        self.num_heads = config.num_attention_heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, Multiway(lambda: nn.Linear(dim, dim)))
        self.inner_norm = Multiway(lambda: nn.LayerNorm(dim, eps=config.layer_norm_eps))

    def forward(self, x: Tensor, split: int) -> Tensor:
        """(N, P + Q, D) → (N, P + Q, D)."""
        batch, tokens, dim = x.shape
        q, k, v = (
            proj(x, split).view(batch, tokens, self.num_heads, -1).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim)
        return self.out_proj(self.inner_norm(out, split), split)


class Beit3MLP(nn.Module):
    """Feed-forward of one expert: GELU in fp32, then a norm before the second linear."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.norm = nn.LayerNorm(config.intermediate_size, eps=config.layer_norm_eps)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        hidden = self.fc1(x)
        return self.fc2(self.norm(F.gelu(hidden.float()).to(hidden.dtype)))


class Beit3Layer(GradientCheckpointingLayer):
    """Pre-norm block with sub-layer norms."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.attention_norm = Multiway(lambda: nn.LayerNorm(dim, eps=eps))
        self.attention = Beit3Attention(config)
        self.mlp_norm = Multiway(lambda: nn.LayerNorm(dim, eps=eps))
        self.mlp = Multiway(lambda: Beit3MLP(config))

    def forward(self, x: Tensor, split: int) -> Tensor:
        """(N, P + Q, D) → (N, P + Q, D)."""
        x = x + self.attention(self.attention_norm(x, split), split)
        return x + self.mlp(self.mlp_norm(x, split), split)


class Beit3Model(PreTrainedModel):
    """Vision encoder: pictures and learned queries in, one state for each query out. Source: spec viscpm §3.1."""

    config_class = Beit3Config
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Beit3Layer"]
    _supports_sdpa = True

    def __init__(self, config: Beit3Config) -> None:
        super().__init__(config)
        patches = (config.image_size // config.patch_size) ** 2
        self.patch_embedding = Beit3PatchEmbedding(config)
        self.vision_positions = nn.Embedding(patches + 1 + UNUSED_POSITIONS, config.hidden_size)
        self.query_positions = nn.Embedding(config.max_query_positions, config.hidden_size)
        self.layers = nn.ModuleList(Beit3Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Multiway(lambda: nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps))
        self.gradient_checkpointing = False
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Beit3PatchEmbedding):
            init.normal_(module.cls_token, std=self.config.initializer_range)
        init_stem(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.patch_embedding

    def forward(
        self, pixel_values: Tensor, query_embeds: Tensor, output_hidden_states: bool | None = None
    ) -> BaseModelOutput:
        """pixel_values (N, 3, S, S) in [-1, 1], query_embeds (N, Q, D) → ``last_hidden_state`` (N, Q, D).

        ``hidden_states`` (if asked for): all tokens (N, P + Q, D) before the first layer, after each layer, and after
        the last norm. Raises ValueError for another picture size unless ``interpolate_positions`` is set, and then for
        one that patches do not fill.
        """
        image = self.patch_embedding(pixel_values)
        split, queries = image.shape[1], query_embeds.shape[1]
        image = image + self._vision_position_rows(pixel_values)
        rows = torch.arange(UNUSED_POSITIONS, UNUSED_POSITIONS + queries, device=image.device)
        x = torch.cat([image, query_embeds.to(image.dtype) + self.query_positions(rows)], dim=1)
        states = [x]
        for layer in self.layers:
            x = layer(x, split)
            if output_hidden_states:
                states.append(x)
        x = self.norm(x, split)
        return BaseModelOutput(
            last_hidden_state=x[:, split:], hidden_states=(*states, x) if output_hidden_states else None
        )

    def _vision_position_rows(self, pixel_values: Tensor) -> Tensor:
        """(P, D) positions for pictures (N, 3, S, S); bicubic in fp32 where S is not the trained size."""
        size, trained, patch = tuple(pixel_values.shape[-2:]), self.config.image_size, self.config.patch_size
        last = self.vision_positions.num_embeddings
        rows = self.vision_positions(torch.arange(UNUSED_POSITIONS, last, device=pixel_values.device))
        if size == (trained, trained):
            return rows
        if not self.config.interpolate_positions:
            raise ValueError(f"picture of {size} pixels, but the model takes {trained}")
        if any(side % patch for side in size):
            raise ValueError(f"picture of {size} pixels, but patches have {patch}")
        square = rows[1:].float().view(1, trained // patch, trained // patch, -1).permute(0, 3, 1, 2)
        square = F.interpolate(square, size=[side // patch for side in size], mode="bicubic", align_corners=False)
        return torch.cat([rows[:1], square.flatten(2)[0].transpose(0, 1).to(rows.dtype)])
