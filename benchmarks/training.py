"""Fine-tuning beside a loop written by hand: ``python -m benchmarks.training [--family glm] [--method lora]``.

VisCPM-Chat (CPM-Bee) and VisualGLM (ChatGLM) at the width of the other benchmarks, two layers, 16384 tokens, a small
eye, random weights in fp32; a row of 128 tokens with a picture. The package's loop and one written by hand train equal
copies on the same batch, a step of one after a step of the other. Prints one JSON object, of each family and method:

``…_plain_ratio``: median time of a step by hand over that of the package, 1 if its loop cost nothing, more where it
chose better kernels; ``…_cpu``: by processor time. ``…_tokens_per_second``, ``…_samples_per_second``: of the package.
``…_peak_mb``: memory at its peak of the process, libraries included, before there is a second model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.languages import prompts
from benchmarks.process import figures_of
from benchmarks.timing import Timing

FAMILIES = ("bee", "glm")
METHODS = ("full", "lora", "qlora")


@dataclass(frozen=True)
class Scale:
    """Sizes of both families' models, rows and tokens of a batch, and rounds."""

    bee: dict[str, Any]
    glm: dict[str, Any]
    rows: int
    tokens: int
    rounds: int


LARGE = Scale(
    {"text_config": {"vocab_size": 16384, "hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 16,
                     "head_dim": 64, "intermediate_size": 2560},
     "vision_config": {"image_size": 64, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                       "intermediate_size": 1024, "max_query_positions": 64, "text_vocab_size": 4},
     "num_query_tokens": 32},
    {"text_config": {"vocab_size": 16384, "hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 16,
                     "inner_hidden_size": 4096},
     "vision_config": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 2,
                       "num_attention_heads": 4, "image_size": 56, "patch_size": 14},
     "qformer_config": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 2,
                        "num_attention_heads": 4, "encoder_hidden_size": 256},
     "image_length": 32},
    rows=1, tokens=128, rounds=5,
)  # fmt: skip
TINY = Scale(
    {"text_config": {"vocab_size": 150, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "head_dim": 32, "intermediate_size": 128},
     "vision_config": {"image_size": 32, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "intermediate_size": 32, "max_query_positions": 8, "text_vocab_size": 4},
     "num_query_tokens": 4},
    {"text_config": {"vocab_size": 192, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "inner_hidden_size": 128},
     "vision_config": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 28, "patch_size": 7},
     "qformer_config": {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
                        "encoder_hidden_size": 16},
     "image_length": 4},
    rows=2, tokens=40, rounds=2,
)  # fmt: skip


class OneBatch:
    """A stage that always learns the same batch. ``before``: what is done before each step; its time does not count."""

    def __init__(self, module: Any, batch: dict[str, Any], before: Callable[[], object]) -> None:
        self._module, self._batch, self._before = module, batch, before
        self.steps = Timing()

    def module(self) -> Any:
        return self._module

    def batch(self, index: int, size: int) -> dict[str, Any]:  # noqa: ARG002 (a stage's signature)
        """Asked for as a step begins, which is as the one before has ended; the first does not count."""
        if index:
            self.steps.stop()
        if index == 1:
            self.steps = Timing()
        self._before()
        self.steps.start()
        return self._batch

    def loss(self, module: Any, batch: dict[str, Any]) -> Any:
        """That of a fine-tune."""
        from huayu.training.finetune.stage import FinetuneStage

        return FinetuneStage.loss(self, module, batch)  # type: ignore[arg-type]

    def evaluate(self, module: Any) -> dict[str, float]:  # noqa: ARG002
        return {"loss": 0.0}

    def export(self, module: Any, folder: Path) -> None:
        """Nothing is kept."""


def by_package(stage: OneBatch, rounds: int, **settings: Any) -> Timing:
    """The time of ``rounds`` steps in the package's loop."""
    from huayu.training.loop import LoopSettings, train

    with tempfile.TemporaryDirectory() as folder:
        train(stage, LoopSettings(folder, rounds + 2, 1, 1e-4, **settings))
    return stage.steps


def step_by_hand(module: Any, batch: dict[str, Any], autocast: Any = None) -> Callable[[], None]:
    """What somebody writes who needs no more than this."""
    from contextlib import nullcontext

    import torch

    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)
    module.train()

    def step() -> None:
        with autocast or nullcontext():
            loss = module(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def config_of(family: str, sizes: dict[str, Any]) -> Any:
    """The family's configuration; special tokens are the last of ChatGLM's vocabulary."""
    if family == "bee":
        from huayu.models.viscpm_chat import VisCPMChatConfig

        return VisCPMChatConfig(**sizes)
    from huayu.models.visualglm import VisualGLMConfig

    text = dict(sizes.get("text_config", {}))
    if "vocab_size" in text:
        names = ("mask_token_id", "gmask_token_id", "bos_token_id", "eos_token_id")
        text |= {name: text["vocab_size"] - 8 + at for at, name in enumerate(names)}
    return VisualGLMConfig(**{**sizes, "text_config": text})


def class_of(family: str) -> Any:
    """The family's model."""
    if family == "bee":
        from huayu.models.viscpm_chat import VisCPMChatForConditionalGeneration

        return VisCPMChatForConditionalGeneration
    from huayu.models.visualglm import VisualGLMForConditionalGeneration

    return VisualGLMForConditionalGeneration


def batch_of(config: Any, rows: int, tokens: int) -> dict[str, Any]:
    """Rows of a picture of random numbers, a question, and an answer in the last quarter."""
    import torch

    text, side = config.text_config, config.vision_config.image_size
    start = tokens - tokens // 4
    if config.model_type == "viscpm_chat":
        inputs = prompts(text.vocab_size, rows, tokens, config.num_query_tokens)
        ids = inputs["input_ids"]
    else:
        ids = torch.randint(4, text.mask_token_id, (rows, tokens))
        ids[:, start - 2 : start] = torch.tensor([text.gmask_token_id, text.bos_token_id])
        index = torch.full((rows, tokens), -1)
        index[:, 2 : 2 + config.image_length] = torch.arange(config.image_length)
        inputs = {"input_ids": ids, "image_token_index": index}
    labels = torch.randint(4, text.vocab_size - 20, (rows, tokens))
    labels[:, :start] = -100
    pixels = torch.rand(rows, 1, 3, side, side) * 2 - 1
    return {**inputs, "labels": labels, "pixel_values": pixels}


def prepared(family: str, method: str, scale: Scale) -> tuple[Any, dict[str, Any]]:
    """(model in fp32 on the CPU whose parameters of the method learn, batch): always the same numbers."""
    import torch

    from benchmarks.languages import random
    from huayu.training.finetune.methods import prepare

    config = config_of(family, getattr(scale, family))
    torch.manual_seed(0)
    return prepare(random(class_of(family), config), method), batch_of(config, scale.rows, scale.tokens)  # type: ignore[arg-type]


def measure(family: str, method: str, scale: Scale) -> dict[str, float]:
    """The figures of one case, in this process."""
    from benchmarks.chat import MIB, peak_rss

    ours, batch = prepared(family, method, scale)
    by_package(OneBatch(ours, batch, lambda: None), 1, device="cpu")
    peak = peak_rss() / MIB  # before there is a copy
    theirs, _ = prepared(family, method, scale)
    hand, step = Timing(), step_by_hand(theirs, batch)
    step()
    taken = by_package(OneBatch(ours, batch, lambda: hand.take(step)), scale.rounds, device="cpu")
    hand.wall, hand.cpu = hand.wall[1:-1], hand.cpu[1:-1]  # those before the steps that count
    name, seconds = f"train_{family}_{method}", median(taken.wall)
    return {
        f"{name}_plain_ratio": round(median(hand.wall) / seconds, 3),
        f"{name}_plain_ratio_cpu": round(median(hand.cpu) / median(taken.cpu), 3),
        f"{name}_ms": round(1e3 * seconds, 2),
        f"{name}_samples_per_second": round(scale.rows / seconds, 3),
        f"{name}_tokens_per_second": round(scale.rows * scale.tokens / seconds, 1),
        f"{name}_peak_mb": round(peak, 1),
    }


def figures(quick: bool = False) -> dict[str, Any]:
    """All cases, each in a process of its own; without bitsandbytes none in 4 bits."""
    from huayu.runtime.packages import is_installed

    found: dict[str, Any] = {}
    for family in FAMILIES:
        for method in METHODS:
            if method == "qlora" and not is_installed("bitsandbytes"):
                continue
            case = ("--family", family, "--method", method, *(["--quick"] if quick else []))
            found |= figures_of("benchmarks.training", *case, threads=1)
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--quick", action="store_true", help="a tiny model, only to see that it runs")
    options = parser.parse_args()
    if not (options.family and options.method):
        print(json.dumps(figures(options.quick)))
        return
    print(json.dumps(measure(options.family, options.method, TINY if options.quick else LARGE)))


if __name__ == "__main__":
    main()
