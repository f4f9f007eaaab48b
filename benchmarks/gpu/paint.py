"""The published shape of VisCPM-Paint on one GPU: ``python benchmarks/gpu/paint.py [--out FOLDER]``.

Random bf16 weights of UNet and VAE made on the device, made-up embeddings of prompts: speed and memory are those of the
real model without its text encoder, pictures are not. Needs torch, diffusers and this checkout; ends within
``--seconds``, leaving out what would take longer. ``--tiny`` runs the same on the CPU with a tiny shape. Writes
``paint.json`` after every figure. ``…_bB``: B pictures of 512 × 512 at once, seconds for all of them:

``default``: DPM-Solver++, 25 steps; ``exact``: DDPM, 50 steps, the published way; both guided. ``…_plain``: the same
settings in diffusers' StableDiffusionPipeline. ``…_compiled``: with ``torch.compile`` of the UNet.
``flops_per_picture_step``: of the UNet, two rows; ``…_floor_ratio``: time of these operations at the speed of a large
matrix product on this device, over the time taken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import torch  # noqa: E402 (the checkout comes first)
from diffusers import AutoencoderKL, StableDiffusionPipeline  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.gpu.setting import environment  # noqa: E402
from benchmarks.paint import published_scheduler, random_unet  # noqa: E402
from huayu.models.viscpm_paint import ConditioningHead, PromptEmbeds, VisCPMPaintPipeline  # noqa: E402

TOKENS = 24
BATCHES = (1, 4, 16)


class Bench:
    """Both pipelines over the same UNet and VAE. ``found`` is written after every figure."""

    def __init__(self, device: torch.device, tiny: bool, out: Path, deadline: float) -> None:
        self.device, self.tiny, self.out, self.deadline = device, tiny, out, deadline
        self.steps = {"default": 2, "exact": 3} if tiny else {"default": 25, "exact": 50}
        self.found: dict[str, Any] = {}
        out.mkdir(parents=True, exist_ok=True)
        self.note(**environment(device))
        self.unet, self.width = random_unet(tiny, torch.bfloat16, device)
        widths = (32, 32, 64, 64) if tiny else (128, 256, 512, 512)
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        with torch.device(device):
            vae = AutoencoderKL(block_out_channels=widths, layers_per_block=2, latent_channels=4, **kinds)
        self.vae = vae.to(torch.bfloat16).eval()
        scheduler = published_scheduler(50)
        head = ConditioningHead(8, self.width).to(device, torch.bfloat16)
        self.ours = VisCPMPaintPipeline(None, None, head, self.unet, self.vae, scheduler)
        self.plain = StableDiffusionPipeline(
            self.vae, None, None, self.unet, scheduler, None, None, requires_safety_checker=False
        )
        for pipeline in (self.ours, self.plain):
            pipeline.set_progress_bar_config(disable=True)

    def note(self, **figures: Any) -> None:
        """Keep, print and write."""
        self.found |= {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}
        (self.out / "paint.json").write_text(json.dumps(self.found, indent=1) + "\n", "utf-8")
        print(" ".join(f"{name}={self.found[name]}" for name in figures), flush=True)

    def seconds(self, work: Callable[[], object], rounds: int = 3) -> float:
        """Median wall time of ``work`` and of the device finishing it, after one round that does not count."""
        taken = []
        for _ in range(rounds + 1):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - start)
        return median(taken[1:])

    def wait(self) -> None:
        """Until the device has done all it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def floor(self) -> None:
        """Operations of a step, and the speed of a large matrix product."""
        side, n = self.unet.config.sample_size, 256 if self.tiny else 8192
        latents = torch.randn(2, 4, side, side, device=self.device, dtype=torch.bfloat16)
        states = torch.randn(2, TOKENS, self.width, device=self.device, dtype=torch.bfloat16)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.unet(latents, 10, encoder_hidden_states=states)
        self.flops = counter.get_total_flops()
        matrix = torch.randn(n, n, device=self.device, dtype=torch.bfloat16)
        self.speed = 2 * n**3 / self.seconds(lambda: matrix @ matrix, 10)
        self.note(flops_per_picture_step=self.flops, matmul_tflops=self.speed / 1e12)

    def paint(self, mode: str, batch: int, plain: bool) -> Callable[[], object]:
        """A whole painting of ``batch`` pictures."""
        shape = (batch, TOKENS, self.width)
        cond, uncond = (torch.randn(shape, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        seen = torch.ones(shape[:2], dtype=torch.bool, device=self.device)
        draws = torch.Generator(self.device).manual_seed(1)
        steps = self.steps[mode]
        told = {"num_inference_steps": steps, "guidance_scale": 7.5, "generator": draws, "output_type": "pt"}
        if plain:
            scheduler = published_scheduler(steps)
            if mode == "default":
                self.ours.set_scheduler("dpm++")
                scheduler = self.ours.scheduler
            self.plain.scheduler = scheduler
            return lambda: self.plain(prompt_embeds=cond, negative_prompt_embeds=uncond, **told)
        embeds = PromptEmbeds(cond, seen, seen, uncond, seen)
        self.ours.set_scheduler("dpm++")
        return lambda: self.ours(prompt_embeds=embeds, exact=mode == "exact", **told)

    def measure(self, name: str, mode: str, batch: int, plain: bool = False) -> None:
        """One figure with its floor, unless the time is up."""
        if time.monotonic() > self.deadline:
            return
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        seconds = self.seconds(self.paint(mode, batch, plain), 1 if self.tiny else 2)
        ratio = self.flops * batch * self.steps[mode] / self.speed / seconds
        self.note(**{f"{name}_seconds_b{batch}": seconds, f"{name}_floor_ratio_b{batch}": ratio})
        if self.device.type == "cuda":
            self.note(**{f"{name}_peak_gb_b{batch}": torch.cuda.max_memory_allocated(self.device) / 1e9})

    def run(self) -> None:
        """Everything, in order of use."""
        self.floor()
        batches = (1, 2) if self.tiny else BATCHES
        for batch in batches:
            for mode in self.steps:
                self.measure(mode, mode, batch)
                self.measure(f"{mode}_plain", mode, batch, plain=True)
        self.ours.channels_last()
        for batch in batches:
            self.measure("default_channels_last", "default", batch)
        if self.device.type == "cuda":
            self.unet.compile()
            for batch in batches:
                self.measure("default_compiled", "default", batch)


def main(arguments: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    device = torch.device("cpu" if options.tiny or not torch.cuda.is_available() else "cuda")
    if device.type == "cpu" and not options.tiny:
        parser.error("there is no GPU; --tiny shows that all runs")
    Bench(device, options.tiny, options.out, time.monotonic() + options.seconds).run()


if __name__ == "__main__":
    main()
