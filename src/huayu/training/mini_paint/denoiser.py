"""Stage "denoiser": from noise to the picture, told by the words and given their rough picture."""

# N pictures, T tokens, C channels of a latent, H W its sides

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from huayu.models.cpm_bee import CpmBeeTokenizer
from huayu.models.viscpm_paint import VisCPMPaintPipeline
from huayu.training.loop import Batch
from huayu.training.mini_paint.architecture import DEFAULTS, scheduler, unet
from huayu.training.mini_paint.canvas import Drawn, Words, probes, read, words_of

WORDS_RATE = 0.4  # of the learning rate, for what has been learned before
PADS = 0.1  # of captions show the UNet their pads, as the empty one does beside a longer one
CANVAS_SHARE = 0.3  # of the loss keeps the rough picture right


class Painter(nn.Module):
    """Words and UNet."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        self.words, self.unet = words, unet()

    def forward(
        self, noisy: Tensor, noise: Tensor, time: Tensor, visible: Tensor, **inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Noisy latents and their noise (N, C, H, W), steps (N,), which tokens the UNet reads (N, T), packed captions →
        the latents without noise, and the canvas."""
        states, canvas, pooled = self.words(noise, **inputs)
        return self.denoise(noisy, canvas, time, states, pooled, visible), canvas

    def denoise(
        self, noisy: Tensor, canvas: Tensor, time: Tensor, states: Tensor, pooled: Tensor, visible: Tensor
    ) -> Tensor:
        """One pass of the UNet, which adds to the canvas."""
        told = {"encoder_hidden_states": states, "encoder_attention_mask": visible, "class_labels": pooled}
        out = self.unet(torch.cat([noisy, canvas], 1), time, **told, return_dict=False)[0]
        return canvas + out


class Averaged(nn.Module):
    """What is trained and its running average, which is what paints."""

    def __init__(self, painter: Painter, decay: float) -> None:
        super().__init__()
        self.painter, self.decay = painter, decay
        self.average = copy.deepcopy(painter).requires_grad_(False)
        self.register_buffer("updates", torch.zeros(()))

    @torch.no_grad()
    def update(self) -> None:
        """Take the trained weights in; early on they count for more."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates.item()) / (10 + self.updates.item()))
        torch._foreach_lerp_(list(self.average.parameters()), [p.data for p in self.painter.parameters()], 1 - keep)

    def forward(self, *args: Tensor, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.painter(*args, **inputs)


class DenoiserStage:
    """Learn to paint. ``words``: what the stage "canvas" exported, or an earlier painter.pt; ``start``: one whose UNet
    to go on from; ``decay`` of the running average; ``imagined``: pictures of the stage "restyle"."""

    def __init__(
        self,
        seed: int = 3,
        data: str = ".cache/pictograms",
        vocabulary: str = "runs/mini_paint/vocab.txt",
        autoencoder: str = "runs/mini_paint/autoencoder/vae",
        words: str = "runs/mini_paint/canvas/words.pt",
        start: str = "",
        decay: float = 0.998,
        imagined: str = "",
    ) -> None:
        self.seed, self.start, self.decay = seed, start, decay
        self.words = words_of(words) if words else {}
        self.vocabulary = vocabulary
        variants = len(self.words.get("canvas.variant.weight", ()))
        self.drawn = Drawn(data, vocabulary, autoencoder, variants, imagined)
        self.scheduler = scheduler()
        self.probes = probes()

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        words = Words(len(self.drawn.vocabulary), len(self.words.get("canvas.variant.weight", ())))
        if self.words:
            words.load_state_dict(self.words)
        painter = Painter(words)
        if self.start:
            state = torch.load(self.start, weights_only=True)
            painter.unet.load_state_dict(
                {name.removeprefix("unet."): value for name, value in state.items() if name.startswith("unet.")}
            )
        for parameter in words.parameters():
            parameter.lr_scale = WORDS_RATE * getattr(parameter, "lr_scale", 1.0)  # type: ignore[attr-defined]
        return Averaged(painter, self.decay)

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        packed, noise, latents = self.drawn.batch(rng, size)
        time = torch.from_numpy(rng.integers(self.scheduler.config.num_train_timesteps, size=size))
        visible = packed["attention_mask"].bool() | torch.from_numpy(rng.random((size, 1)) < PADS)
        return {**packed, "latents": latents, "noise": noise, "time": time, "visible": visible}

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        averaged = module.module if hasattr(module, "module") else module
        averaged.update()
        batch = dict(batch)
        latents, noise, time = (batch.pop(name) for name in ("latents", "noise", "time"))
        noisy = self.scheduler.add_noise(latents, noise, time).contiguous(memory_format=torch.channels_last)
        painted, canvas = module(noisy, noise, time, **batch)
        clear = torch.cos(time / self.scheduler.config.num_train_timesteps * math.pi / 2)  # little noise counts more
        error = (painted.float() - latents).square().mean((1, 2, 3))
        rough = (canvas.float() - latents).square().mean()
        loss = ((1 + 2 * clear) * error).mean() + CANVAS_SHARE * rough
        return loss, {"painted": error.mean(), "canvas": rough}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Share of painted pictures that are nearest to a real one of the right thing."""
        figures = {}
        painter = module.average
        device = next(painter.parameters()).device
        for name, asked in self.probes.items():
            inputs = read([text for _, text in asked], self.drawn.vocabulary)
            inputs = {key: value.to(device) for key, value in inputs.items()}
            shape = (len(asked), *self.drawn.latents.shape[4:])
            latents = torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(device)
            states, canvas, pooled = painter.words(latents, **inputs)
            self.scheduler.set_timesteps(DEFAULTS["num_inference_steps"])
            mask = inputs["attention_mask"].bool()
            for time in self.scheduler.timesteps:
                steps = time.expand(len(latents)).to(device)
                picture = painter.denoise(latents, canvas, steps, states, pooled, mask)
                latents = self.scheduler.step(picture.float(), time, latents).prev_sample
            figures[name] = self.drawn.judge(latents, [order for order, _ in asked])
        return figures

    def export(self, module: nn.Module, folder: Path) -> None:
        """The whole model as a folder of the pipeline, in half precision, and the trained weights to go on from."""
        torch.save(module.average.state_dict(), folder / "painter.pt")
        words = module.average.words
        pipeline = VisCPMPaintPipeline(
            tokenizer=CpmBeeTokenizer(self.vocabulary),
            text_encoder=words.text_encoder,
            conditioning_head=words.conditioning_head,
            unet=module.average.unet,
            vae=self.drawn.vae,
            scheduler=scheduler(),
            canvas=words.canvas,
            paint_defaults=DEFAULTS,
        )
        halved(pipeline).save_pretrained(folder / "model")


def halved(pipeline: VisCPMPaintPipeline) -> VisCPMPaintPipeline:
    """The same, with all numbers in half precision."""
    for part in pipeline.components.values():
        for tensor in (*part.parameters(), *part.buffers()) if isinstance(part, nn.Module) else ():
            tensor.data = tensor.data.half() if tensor.is_floating_point() else tensor.data
    return pipeline
