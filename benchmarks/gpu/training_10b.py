"""LoRA and QLoRA at the published sizes on one GPU: ``python benchmarks/gpu/training_10b.py [--out FOLDER]``.

VisCPM-Chat (10B) and VisualGLM (6B), random bf16 weights made on the device, by the package's own loop in bf16. Rows
have a picture and the published length: 512 tokens for the 10B (spec viscpm §6), 64 + 256 for the 6B (spec visualglm
§9); LoRA of rank 10 on every layer. Needs torch, transformers, peft and this checkout, QLoRA also bitsandbytes; ends
within ``--seconds``, leaving out what would take longer. ``--tiny`` runs the same on the CPU with tiny shapes. Writes
``training_10b.json`` after every figure, ``training_10b.log``. Figures are named FAMILY_METHOD_…_bB, of B rows a step:

``step_seconds``, ``tokens_per_second``, ``samples_per_second``; ``plain_ratio``: time of a step written by hand on the
same model, over ours. ``tflop``: of a step, ``4·N·B·T + 12·L·B·T²·A + 2·V·B·P``: N numbers in the language model's
matrices, its output matrix included (what is fixed has a product forward and one backward, for its inputs), L layers, T
tokens, A width of all heads, V numbers in the eye's matrices, P patches. ``mfu``: those over the time and the device's
dense bf16 peak. ``peak_gb``: of training; ``made_peak_gb``: of making the model, and of packing it while it lies there
in bf16.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import torch  # noqa: E402 (the checkout comes first)
from torch import nn  # noqa: E402

from benchmarks import training  # noqa: E402
from benchmarks.gpu.bench import Bench, Case, start  # noqa: E402
from benchmarks.gpu.setting import FULL, GLM_FULL, Scale, fill  # noqa: E402
from benchmarks.timing import in_turns  # noqa: E402
from huayu.runtime.packages import is_installed  # noqa: E402
from huayu.training.finetune.methods import prepare  # noqa: E402

# Dense bf16 operations a second, by NVIDIA's data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
TOKENS = {"bee": 512, "glm": 320}
ROWS = {"bee": (1, 8), "glm": (4, 16)}  # as published, and what fills the device


class Training10B(Bench):
    """Every case makes its own model: a method changes it."""

    name = "training_10b"

    def build(self) -> Any:
        return nn.Module()

    def cases(self) -> list[Case]:
        methods = ("lora", "qlora") if is_installed("bitsandbytes") else ("lora",)
        return [
            (f"{family} {method}", lambda family=family, method=method: self.measure(family, method))
            for family in training.FAMILIES
            for method in methods
        ]

    def measure(self, family: str, method: str) -> None:
        """One model by one method, all its batches."""
        tiny, name = self.scale is TINY, f"{family}_{method}"
        sizes = getattr(training.TINY, family) if tiny else {"bee": FULL, "glm": GLM_FULL}[family].config
        config = training.config_of(family, sizes)
        self.model = None
        gc.collect()
        self.fresh_peak()
        with torch.device("meta"):
            model = training.class_of(family)(config)
        numbers = _numbers(model, config)
        self.model = prepare(fill(model, self.device), method)  # type: ignore[arg-type]
        self.note(**{f"{name}_made_peak_gb": self.peak_gb(), f"{name}_parameters": sum(numbers)})
        for rows in (2,) if tiny else ROWS[family]:
            self.fresh_peak()
            try:
                self._steps(name, config, rows, training.TINY.tokens if tiny else TOKENS[family], numbers)
            except torch.cuda.OutOfMemoryError:
                self.note(**{f"{name}_out_of_memory_b{rows}": 1})

    def _steps(self, name: str, config: Any, rows: int, tokens: int, numbers: tuple[int, int]) -> None:
        batch = {key: value.to(self.device) for key, value in training.batch_of(config, rows, tokens).items()}
        kind = "cpu" if self.device.type == "cpu" else "auto"
        stage = training.OneBatch(self.model, batch, self.wait)
        seconds = median(training.by_package(stage, self.scale.rounds, device=kind, precision="bf16").wall)
        peak = self.peak_gb()
        hand = training.step_by_hand(self.model, batch, torch.autocast(self.device.type, torch.bfloat16))
        (plain,) = in_turns(self.scale.rounds, lambda: (hand(), self.wait()))
        work = operations(config, rows, tokens, *numbers)
        figures: dict[str, Any] = {
            "step_seconds": seconds,
            "tokens_per_second": rows * tokens / seconds,
            "samples_per_second": rows / seconds,
            "plain_ratio": median(plain.wall) / seconds,
            "tflop": work / 1e12,
            "peak_gb": peak,
        }
        if peaks := [peak for part, peak in PEAKS.items() if part in self.found["device"]]:
            figures["mfu"] = work / seconds / peaks[0]
        self.note(**{f"{name}_{key}_b{rows}": value for key, value in figures.items()})


def operations(config: Any, rows: int, tokens: int, language: int, eye: int) -> float:
    """Of one step of LoRA, as the module says; ``language``, ``eye``: numbers in their matrices."""
    text, vision = config.text_config, config.vision_config
    heads = getattr(text, "head_dim", text.hidden_size // text.num_attention_heads) * text.num_attention_heads
    patches = (vision.image_size // vision.patch_size) ** 2
    products = 4 * language * tokens + 12 * text.num_hidden_layers * tokens**2 * heads + 2 * eye * patches
    return float(rows * products)


def _numbers(model: Any, config: Any) -> tuple[int, int]:
    """In the matrices of the language model with its output, and in those of the rest."""

    def matrices(module: nn.Module) -> int:
        return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))

    language, text = model.language_model, config.text_config
    output = text.vocab_size * text.hidden_size  # CPM-Bee's is its table of embeddings
    own = matrices(language) - sum(
        part.weight.numel()
        for part in language.modules()
        if isinstance(part, nn.Linear) and part.out_features == text.vocab_size
    )
    return own + output, matrices(model) - matrices(language)


SETTING = Scale({}, rounds=8)
TINY = Scale({}, rounds=2, copied_bytes=1 << 20)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """See the module; returns what it writes."""
    return start(Training10B, SETTING, TINY, __doc__ or "", arguments)


if __name__ == "__main__":
    main()
