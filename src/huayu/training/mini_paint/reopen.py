"""Take a finished painter up again where its run is gone: ``python -m huayu.training.mini_paint.reopen MODEL RUNS``.

``MODEL``: an embedded painter's name, or a folder. Written into ``RUNS`` is what the stages hand on to each other:
``vocab.txt``, ``autoencoder/vae`` and ``denoiser/painter.pt``, to ``start`` the stages "canvas" and "denoiser" from.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from huayu import embedded
from huayu.models.viscpm_paint import VisCPMPaintPipeline
from huayu.training.mini_paint.architecture import vocabulary_of
from huayu.training.mini_paint.canvas import Words
from huayu.training.mini_paint.denoiser import Painter


def reopen(model: Path, runs: Path) -> None:
    """Raises RuntimeError where the model has other sizes than here."""
    (runs / "denoiser").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model / "tokenizer" / "vocab.txt", runs / "vocab.txt")
    pipeline = VisCPMPaintPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.vae.save_pretrained(runs / "autoencoder" / "vae")
    painter = Painter(Words(len(vocabulary_of(str(runs / "vocab.txt"))), pipeline.canvas.config.variants))
    for name in ("text_encoder", "conditioning_head", "canvas"):
        painter.words.get_submodule(name).load_state_dict(getattr(pipeline, name).state_dict())
    painter.unet.load_state_dict(pipeline.unet.state_dict())
    torch.save(painter.state_dict(), runs / "denoiser" / "painter.pt")


if __name__ == "__main__":
    named = sys.argv[1]
    reopen(embedded.folder(named) if named in embedded.EMBEDDED else Path(named), Path(sys.argv[2]))
