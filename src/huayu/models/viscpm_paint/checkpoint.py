"""The published VisCPM-Paint file: its names, and the settings that it does not hold. Source: spec viscpm §5.1, 7.2."""

from __future__ import annotations

from typing import Any

from huayu.checkpoints.keymap import KeyMap
from huayu.models.cpm_bee.checkpoint import KEYMAP as CPM_BEE_KEYMAP

# The text encoder is the language model without its output: its names lose their first part.
_TEXT_ENCODER = KeyMap.of((theirs, ours.removeprefix("model.")) for theirs, ours in CPM_BEE_KEYMAP.rules)

# The UNet's names are those of diffusers, then and now.
PARTS = _TEXT_ENCODER.prefixed("llm.", "text_encoder.") + KeyMap.of(
    [
        ("trans_block.w_out_res.weight", "conditioning_head.proj.weight"),
        ("trans_block.layernorm.weight", "conditioning_head.norm.weight"),
        ("trans_block.layernorm.bias", "conditioning_head.norm.bias"),
        ("unet.{rest}", "unet.{rest}"),
    ]
)
# The published code looks at these three prefixes and ignores all else.
KEYMAP = PARTS.within("llm.", "trans_block.", "unet.")

# A VAE file of diffusers before 0.18 calls the projections of its one attention otherwise; a newer file fits as it is.
VAE_KEYMAP = KeyMap.of(
    [
        *(
            (f"{half}.mid_block.attentions.{{n}}.{old}.{kind}", f"{half}.mid_block.attentions.{{n}}.{new}.{kind}")
            for half in ("encoder", "decoder")
            for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))
            for kind in ("weight", "bias")
        ),
        ("{rest}", "{rest}"),
    ]
)

# Presence of these published keys tells the family.
SIGNATURE = ("trans_block.w_out_res.weight", "unet.conv_in.weight", "llm.input_embedding.weight")

# Stable Diffusion 2.1 base. Source: spec viscpm §5.1.
PUBLISHED_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "act_fn": "silu",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "upcast_attention": False,
}
PUBLISHED_VAE: dict[str, Any] = {
    "sample_size": 512,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "act_fn": "silu",
    "scaling_factor": 0.18215,
}
PUBLISHED_NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
# How the published model paints for people; the published way itself is the exact mode.
PUBLISHED_DEFAULTS: dict[str, Any] = {
    "num_inference_steps": 25,
    "guidance_scale": 7.5,
    "sizes": [[512, 512]],
    "scheduler": "dpm++",
}
