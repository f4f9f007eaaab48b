"""A tiny real pipeline with random weights that all matter."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel

from huayu.models.cpm_bee.tokenization import CpmBeeTokenizer
from huayu.models.viscpm_paint import CanvasHead, ConditioningHead, VisCPMPaintPipeline
from tests.models import tiny

LINES = [*tiny.LINES, "caption", "objects", "红", "苹", "果"]
WIDTH = 16


def save_vocabulary(folder: Path) -> Path:
    path = Path(folder) / "vocab.txt"
    path.write_text("\n".join(LINES), encoding="utf-8", newline="\n")
    return path


def unet(channels: int = 4, **changes) -> UNet2DConditionModel:
    sizes = {"sample_size": 8, "in_channels": channels, "out_channels": 4, "layers_per_block": 1}
    blocks = {
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(
        **{**sizes, **blocks, "cross_attention_dim": WIDTH, "attention_head_dim": 2, "norm_num_groups": 4,
           "use_linear_projection": True, **changes}
    )  # fmt: skip


def vae(**changes) -> AutoencoderKL:
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
    }
    return AutoencoderKL(**{**blocks, "latent_channels": 4, "norm_num_groups": 4, "sample_size": 16, **changes})


def pipeline(folder: Path, canvas: bool = False, seed: int = 0) -> VisCPMPaintPipeline:
    """Seeded by hand: building modules must not touch the tests' random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        language = tiny.language(seed, vocab_size=len(LINES)).model
        parts = {
            "conditioning_head": ConditioningHead(language.config.hidden_size, WIDTH),
            "unet": unet(8, class_embed_type="projection", projection_class_embeddings_input_dim=WIDTH)
            if canvas
            else unet(),
            "vae": vae(),
            "canvas": CanvasHead(WIDTH, 4, 8, hidden_dim=24, variants=4, grounds=2) if canvas else None,
        }
    prediction = "sample" if canvas else "epsilon"
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction
    )
    made = VisCPMPaintPipeline(
        tokenizer=CpmBeeTokenizer(str(save_vocabulary(folder))),
        text_encoder=language,
        scheduler=scheduler,
        paint_defaults={"num_inference_steps": 3, "guidance_scale": 3.0, "sizes": [[16, 16]]},
        **parts,
    )
    made.set_progress_bar_config(disable=True)
    for module in made.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval()
    return made


def weights(pipe):
    """Every tensor of the pipeline's parts, by part and name."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def same_weights(a, b):
    """To the bit."""
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def close(a, b):
    """Pictures (N, 3, H, W) alike but for rounding: where weights lie in memory may change the order of a sum."""
    return a.shape == b.shape and torch.allclose(a, b, atol=2e-5)
