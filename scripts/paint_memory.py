"""Memory that VisCPM-Paint takes on a GPU, by plan: ``python scripts/paint_memory.py``. No weights are needed."""

from __future__ import annotations

import torch

from huayu.models.cpm_bee.configuration import CpmBeeConfig
from huayu.models.viscpm_paint.checkpoint import PUBLISHED_UNET, PUBLISHED_VAE
from huayu.models.viscpm_paint.memory import memory_plan
from huayu.models.viscpm_paint.published import VisCPMPaintConfig, VisCPMPaintModel

FORMATS = {
    "as published (text encoder fp16, rest fp32)": {"text_encoder": torch.float16, "": torch.float32},
    "fp16": {"": torch.float16},
}
ASKED = [(1, (512, 512)), (4, (512, 512)), (16, (512, 512)), (1, (768, 768))]


def main() -> None:
    """A table in Markdown, in GB of 10⁹ bytes."""
    with torch.device("meta"):
        whole = VisCPMPaintModel(VisCPMPaintConfig(CpmBeeConfig(), (4096, 1024), PUBLISHED_UNET, PUBLISHED_VAE))
    print("| format | pictures | size | together | in turn | texts first |\n|---|---|---|---|---|---|")
    for name, dtypes in FORMATS.items():
        for pictures, size in ASKED:
            plan = memory_plan(dict(whole.named_children()), dtypes, pictures=pictures, size=size, sliced=True)
            figures = " | ".join(f"{plan[mode] / 1e9:.1f}" for mode in ("together", "in turn", "texts first"))
            print(f"| {name} | {pictures} | {size[0]}×{size[1]} | {figures} |")


if __name__ == "__main__":
    main()
