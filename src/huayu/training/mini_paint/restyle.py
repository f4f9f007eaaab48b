"""Stage "restyle": from a thing's drawings in some styles to the one in another, as one family of artists draws it.

A tenth of the pairs of thing and style is held back: nobody draws them for training. From what is left this stage
learns how a drawing changes with its style, and imagines them; the painter may then learn what was imagined.
"""

# N things, C concepts, A artists, T targets among them, S side of a drawing in pixels

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data import paintings, pictograms, world
from huayu.data.art_styles import DEFAULT_STYLE, STYLES
from huayu.data.sprites import Sprites
from huayu.training.loop import Batch

SIDE = 64
ARTISTS = tuple(package for style in STYLES for package in style.packages)
STYLE_OF = torch.tensor([number for number, style in enumerate(STYLES) for _ in style.packages])
# Three drawings of one design, so that one follows from another.
TARGETS = ("fluent-emoji-flat", "fluent-emoji", "fluent-emoji-high-contrast")
COLUMNS = [ARTISTS.index(name) for name in TARGETS]
HIDDEN = 0.25  # of the other drawings are not shown, so that none is relied on
RECOLOURED = 0.7  # of the examples have their colours' channels in another order
INK_WEIGHT = 0.3  # of cross entropy, beside distances
DECIDED = 6.0  # ink is there or not: where the likelier of both is not sure, it is drawn nearly as if it were


class Restyler(nn.Module):
    """What differs between the asked drawing and the most alike one that is shown; of ink, where it is."""

    inked: Tensor  # (T,) bool

    def __init__(self, ink: Tensor) -> None:
        super().__init__()
        self.net = UNet2DModel(
            sample_size=SIDE,
            in_channels=4 * len(ARTISTS),
            out_channels=4 * len(TARGETS),
            down_block_types=("DownBlock2D",) * 4,
            up_block_types=("UpBlock2D",) * 4,
            block_out_channels=(16, 40, 80, 120),
            layers_per_block=1,
            norm_num_groups=8,
            add_attention=False,
        ).to(memory_format=torch.channels_last)
        nn.init.zeros_(self.net.conv_out.weight)
        nn.init.zeros_(self.net.conv_out.bias)
        alike = [*COLUMNS, *(column for column in range(len(ARTISTS)) if column not in COLUMNS)]
        self.alike = [column for column in alike if not ink[column]]
        self.register_buffer("inked", ink[COLUMNS])

    def forward(self, drawings: Tensor, shown: Tensor) -> Tensor:
        """(N, A, 4, S, S) premultiplied in [0, 1], which of them are shown (N, A) → (N, T, 4, S, S): drawings; of those
        in ink all four are logits of where it is."""
        seen = drawings * shown[:, :, None, None, None]
        first = shown[:, self.alike].long().argmax(1)
        base = seen[:, self.alike][torch.arange(len(seen)), first]
        values = seen.flatten(1, 2).contiguous(memory_format=torch.channels_last)
        out = self.net(values, torch.zeros(len(seen), device=seen.device)).sample.unflatten(1, (len(TARGETS), 4))
        return torch.where(self.inked[:, None, None, None], out, base[:, None] + out)


class RestyleStage:
    """``data``: folder of the packed drawings."""

    def __init__(self, seed: int = 6, data: str = ".cache/pictograms") -> None:
        self.seed = seed
        sprites = Sprites.load(pictograms.pack(Path(data)), styles=ARTISTS)
        self.ink = torch.tensor([sprites.ink[sprites.styles.index(name)] for name in ARTISTS])
        self.drawings, self.drawn = drawings_of(sprites)
        styles = range(len(STYLES))
        self.held = torch.tensor([[paintings.held_style(c, s) for s in styles] for c in range(len(self.drawn))])
        self.shown = self.drawn & ~self.held[:, STYLE_OF]

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return Restyler(self.ink)

    def batch(self, index: int, size: int) -> Batch:
        """``drawings``, ``shown``, and ``asked`` (N, T): the targets; nothing of their style is shown."""
        rng = np.random.default_rng([self.seed, index])
        asked = self.shown[:, COLUMNS]
        things = rng.choice(torch.nonzero(asked.any(1))[:, 0].numpy(), size)
        style = [int(rng.choice(STYLE_OF[COLUMNS][asked[thing]].numpy())) for thing in things]
        same = torch.tensor(style)[:, None] == STYLE_OF
        shown = self.shown[things] & ~same & torch.from_numpy(rng.random(same.shape) > HIDDEN)
        shown[:, STYLE_OF == DEFAULT_STYLE] |= self.shown[things][:, STYLE_OF == DEFAULT_STYLE] & ~shown.any(1)[:, None]
        drawings = self.drawings[things]
        for number in np.flatnonzero(rng.random(size) < RECOLOURED):
            drawings[number, :, :3] = drawings[number][:, rng.permutation(3)]
        return {"drawings": _moved(rng, drawings), "shown": shown, "asked": (self.shown[things] & same)[:, COLUMNS]}

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        true, asked = batch["drawings"][:, COLUMNS], batch["asked"]
        made = module(batch["drawings"], batch["shown"]).float()
        inked = self.ink[COLUMNS].to(asked.device) & asked
        far = (made - true).abs()[asked & ~inked].sum() / max(1, made[0, 0].numel() * int((asked & ~inked).sum()))
        where = true[inked][:, 3:].expand(-1, 4, -1, -1)
        ink = F.binary_cross_entropy_with_logits(made[inked], where) if len(where) else torch.zeros(())
        return far + INK_WEIGHT * ink, {"colour": far, "ink": ink}

    @torch.no_grad()
    def imagined(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """The pairs that are held back, (N, 2) concepts and styles, and what they are imagined as, (N, 4, S, S)."""
        device = next(module.parameters()).device
        pairs = torch.nonzero(self.held)
        made = torch.cat(
            [
                module(self.drawings[part].to(device), self.shown[part].to(device)).cpu()
                for part in pairs[:, 0].split(16)
            ]
        )
        target = (STYLE_OF[COLUMNS] == pairs[:, 1:]).long().argmax(1)
        found = made[torch.arange(len(pairs)), target]
        inked = self.ink[COLUMNS][target]
        alpha = (DECIDED * found[:, 3:]).sigmoid()
        return pairs, torch.where(
            inked[:, None, None, None], torch.cat([0 * found[:, :3], alpha], 1), found.clamp(0, 1)
        )

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """How far the imagined drawings are from the real ones, which nobody learned from: levels of 255, by style."""
        pairs, made = self.imagined(module)
        target = (STYLE_OF[COLUMNS] == pairs[:, 1:]).long().argmax(1)
        true = self.drawings[pairs[:, 0], torch.tensor(COLUMNS)[target]]
        far = 255 * (made - true)[:, 3:].abs().mean((1, 2, 3)), 255 * (made - true)[:, :3].abs().mean((1, 2, 3))
        styles = pairs[:, 1].unique().tolist()
        return {
            f"{kind}/{STYLES[style].en[0]}": float(error[pairs[:, 1] == style].mean())
            for kind, error in zip(("shape", "colour"), far, strict=True)
            for style in styles
        }

    def export(self, module: nn.Module, folder: Path) -> None:
        """``imagined.npz`` for the painter's stages."""
        pairs, made = self.imagined(module)
        pixels = (made * 255).round().byte().permute(0, 2, 3, 1).numpy()
        ink = self.ink[COLUMNS][(STYLE_OF[COLUMNS] == pairs[:, 1:]).long().argmax(1)].numpy()
        np.savez_compressed(
            folder / "imagined.npz", concepts=pairs[:, 0].numpy(), styles=pairs[:, 1].numpy(), ink=ink, pixels=pixels
        )
        torch.save(module.state_dict(), folder / "restyler.pt")


def drawings_of(sprites: Sprites) -> tuple[Tensor, Tensor]:
    """Each artist's first drawing of a thing, premultiplied, ink in black, (C, A, 4, S, S); which there are, (C, A)."""
    shape = (len(world.CONCEPTS), len(ARTISTS))
    drawings, drawn = torch.zeros(*shape, 4, SIDE, SIDE), torch.zeros(shape, dtype=torch.bool)
    for concept in range(shape[0]):
        for column, name in enumerate(ARTISTS):
            artist = sprites.styles.index(name)
            for row in np.flatnonzero((sprites.style == artist) & (sprites.concept == concept))[:1]:
                small = sprites.image(int(row), half=False).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                drawings[concept, column] = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
                drawings[concept, column, :3] *= not sprites.ink[artist]
                drawn[concept, column] = True
    return drawings, drawn


def _moved(rng: np.random.Generator, drawings: Tensor) -> Tensor:
    """Each thing's drawings (N, A, 4, S, S) turned, stretched, mirrored and moved alike."""
    size = len(drawings)
    turn = np.radians(rng.uniform(-15, 15, size))
    tall = 1 / rng.uniform(0.75, 1.1, size)
    wide = tall * rng.uniform(0.9, 1.1, size) * np.where(rng.random(size) < 0.5, -1, 1)
    away = rng.uniform(-0.1, 0.1, (2, size))
    cos, sin = np.cos(turn), np.sin(turn)
    rows = np.array([[wide * cos, -tall * sin, away[0]], [wide * sin, tall * cos, away[1]]])
    grid = F.affine_grid(torch.from_numpy(rows).permute(2, 0, 1).float(), [size, 1, SIDE, SIDE], align_corners=False)
    return F.grid_sample(drawings.flatten(1, 2), grid, align_corners=False).unflatten(1, drawings.shape[1:3])
