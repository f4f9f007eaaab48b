"""What painting costs: ``python -m benchmarks.paint [--model FOLDER] [--large]``. Prints one JSON object.

``paint_seconds``: one picture of a new prompt in a warm process (median), through the same ``Painter`` that users call,
without the safety checks; ``paint_first_seconds``: from the start of a process to its first picture (imports and
weights); ``paint_peak_rss_mb``: the most memory of that process, libraries included.

``--large``, or ``paint_unet`` of run.py: one step of the UNet at the size of Stable Diffusion 2.1 (866 M random
numbers, fp32, 64 × 64 latents): ``unet_step_seconds`` in our pipeline, ``unet_plain_step_seconds`` in
StableDiffusionPipeline's way of calling the very same UNet, taken in turns; both with guidance, so two rows a step.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.chat import MIB, peak_rss
from benchmarks.process import figures_of
from benchmarks.timing import in_turns

PROMPTS = (
    "一只猫",
    "a red apple",
    "汽车，蓝色背景",
    "rocket, 3D style",
    "一朵线条风格的玫瑰",
    "dog on a yellow background",
)


def figures(quick: bool = False, model: str | Path | None = None) -> dict[str, Any]:
    """Of the embedded model, or ``model``: medians of whole processes."""
    chosen = [] if model is None else ["--model", Path(model).resolve()]
    runs = [figures_of("benchmarks.paint", "--here", time.time(), *chosen) for _ in range(1 if quick else 4)]
    return {name: round(median(run[name] for run in runs[len(runs) > 1 :]), 3) for name in runs[0]}


def paint_here(started: float, model: str | None) -> dict[str, float]:
    """Pictures in this process, which ``started`` at that time.time()."""
    from huayu.paint import load_paint

    painter = load_paint(model, device="cpu", safety=None)
    painter.paint("苹果", seed=0)
    first = time.time()
    seconds = []
    for number, prompt in enumerate(PROMPTS):
        start = time.perf_counter()
        painter.paint(prompt, seed=number)
        seconds.append(time.perf_counter() - start)
    return {
        "paint_seconds": median(seconds),
        "paint_first_seconds": first - started,
        "paint_peak_rss_mb": peak_rss() / MIB,
    }


def unet_figures(quick: bool = False) -> dict[str, Any]:
    """One step at the size of SD 2.1 beside plain diffusers; in a process of its own, for its memory."""
    return figures_of("benchmarks.paint", "--unet", *(["--tiny"] if quick else []))


def unet_here(tiny: bool) -> dict[str, float]:
    """One denoising step, ours and plain, in turns in this process."""
    import torch

    from huayu.models.viscpm_paint.denoising import Condition, Job

    unet, width = random_unet(tiny, torch.float32, torch.device("cpu"))
    side = unet.config.sample_size
    states = torch.randn(2, 20, width)
    noise = torch.randn(1, 4, side, side)
    scheduler = published_scheduler(2)

    def ours() -> None:
        scheduler.set_timesteps(2)
        told = Condition(states, None, 7.5)
        job = Job(unet, scheduler, told, scheduler.timesteps[:1], noise, torch.Generator().manual_seed(1))
        with torch.no_grad():
            for _ in job.steps():
                """One step."""

    def plain() -> None:
        scheduler.set_timesteps(2)
        at = scheduler.timesteps[0]
        with torch.no_grad():
            rows = unet(torch.cat([noise, noise]), at, encoder_hidden_states=states, return_dict=False)[0]
            nothing, prompted = rows.chunk(2)
            guided = nothing + 7.5 * (prompted - nothing)
            scheduler.step(guided, at, noise, generator=torch.Generator().manual_seed(1))

    timings = in_turns(2 if tiny else 1, ours, plain)
    return {
        "unet_step_seconds": round(median(timings[0].wall), 3),
        "unet_plain_step_seconds": round(median(timings[1].wall), 3),
        "unet_parameters": sum(parameter.numel() for parameter in unet.parameters()),
        "unet_peak_rss_mb": round(peak_rss() / MIB, 1),
    }


def random_unet(tiny: bool, dtype: Any, device: Any) -> tuple[Any, int]:
    """The published UNet, or a tiny one of its kind, with random weights, and the width of what it attends to."""
    import torch
    from diffusers import UNet2DConditionModel

    from huayu.models.viscpm_paint.checkpoint import PUBLISHED_UNET

    changes = {"block_out_channels": (32, 32, 64, 64), "attention_head_dim": (1, 1, 2, 2), "cross_attention_dim": 32}
    config = {**PUBLISHED_UNET, **({**changes, "sample_size": 16} if tiny else {})}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    unet = unet.to(dtype).to_empty(device=device).eval()
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(float(name.endswith("weight")))
            else:
                parameter.normal_(std=0.02)
    return unet, int(unet.config.cross_attention_dim)


def published_scheduler(steps: int) -> Any:
    """The published DDPM, set to so many steps."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
    )
    scheduler.set_timesteps(steps)
    return scheduler


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or a name; else the embedded model")
    parser.add_argument("--large", action="store_true", help="also one step at the size of SD 2.1")
    parser.add_argument("--here", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--unet", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.unet:
        print(json.dumps(unet_here(options.tiny)))
    elif options.here is not None:
        print(json.dumps(paint_here(options.here, options.model)))
    else:
        print(json.dumps({**figures(model=options.model), **(unet_figures() if options.large else {})}))


if __name__ == "__main__":
    main()
