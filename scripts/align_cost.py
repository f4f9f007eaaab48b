"""What it costs to align a pair of models, on paper: ``python scripts/align_cost.py [--pairs 558000] [--text 48]``.

The models are built without weights and run once without numbers. Operations are two for each multiplication of each
matrix product, forward and backward, as torch counts them; a part that does not learn has no gradient of its weights.
``kept``: what a forward pass keeps for the backward pass. Memory is weights, 12 bytes more for each number that learns
(gradient and two moments in fp32), and what is kept of all rows of a batch. Time is operations over ``--mfu`` times the
peak of the machine. Sizes: Qwen3 (arXiv 2505.09388, table 1, and the config.json of Qwen/Qwen3-0.6B), SigLIP 2 B/16 at
224 pixels (arXiv 2502.14786; the config.json of google/siglip2-base-patch16-224 leaves the library's defaults).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
import transformers
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from huayu.models.llava_queries import LlavaQueriesConfig, LlavaQueriesForConditionalGeneration
from huayu.training.align.join import qformer_sizes

VISION = {"patch_size": 16, "image_size": 224, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
          "intermediate_size": 3072}  # fmt: skip
LANGUAGE = {"vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
            "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
            "tie_word_embeddings": True}  # fmt: skip
# Peak operations a second. H200: dense bf16, NVIDIA's data sheet. A core: the floor of a prompt in docs/benchmarks.md.
MACHINES = {"one core, fp32": (148e9, 4), "one H200, bf16": (989e12, 2)}


@dataclass(frozen=True)
class Part:
    """Parameters, operations forward and backward of one picture with its text, and bytes kept (fp32)."""

    name: str
    parameters: int
    forward: int
    backward: int
    kept: int


def parts(vision: dict[str, Any], language: dict[str, Any], connector: str, queries: int, text: int) -> list[Part]:
    """The three parts of a pair, for one picture and ``text`` tokens."""
    shared = {
        "vision_config": transformers.SiglipVisionConfig(**vision),
        "text_config": transformers.Qwen3Config(**language),
    }
    with torch.device("meta"):
        if connector == "queries":
            sizes = qformer_sizes(vision["hidden_size"], 2)
            model: Any = LlavaQueriesForConditionalGeneration(
                LlavaQueriesConfig(**shared, num_queries=queries, qformer_config=sizes)
            )
        else:
            model = transformers.LlavaForConditionalGeneration(transformers.LlavaConfig(**shared))
        model.tie_weights()
        model.requires_grad_(False)
        joint = model.model.multi_modal_projector.requires_grad_(True)
        pixels = torch.empty(1, 3, vision["image_size"], vision["image_size"])
        tower = model.model.vision_tower
        with FlopCounterMode(display=False) as seen:
            states = tower(pixels).last_hidden_state
        found = [Part("vision encoder", _numbers(tower), seen.get_total_flops(), 0, 0)]
        found.append(_learning("connector", joint, lambda: joint(states)))
        places = queries if connector == "queries" else states.shape[1]
        embeds = torch.empty(1, places + text, language["hidden_size"], requires_grad=True)
        speaker = model.model.language_model
        words = torch.zeros(places + text, dtype=torch.long)

        def speak() -> torch.Tensor:
            return cross_entropy(model.lm_head(speaker(inputs_embeds=embeds)[0])[0], words)

        found.append(_learning("language model", speaker, speak))
    return found


def _learning(name: str, module: Any, work: Callable[[], torch.Tensor]) -> Part:
    """Count ``work``, whose result is summed to be a loss."""
    own = {_storage(parameter) for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        FlopCounterMode(display=False) as forward,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        loss = work().sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return Part(name, _numbers(module), forward.get_total_flops(), backward.get_total_flops(), sum(kept.values()))


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _numbers(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def table(found: list[Part], pairs: int, batch: int, mfu: float) -> str:
    """Markdown of the parts and of what the machines need."""
    rows = [("part", "parameters", "forward, GFLOP", "backward, GFLOP", "kept, fp32, MB")]
    rows.append(("---",) * 5)
    for part in found:
        sizes = (part.forward / 1e9, part.backward / 1e9, part.kept / 1e6)
        rows.append((part.name, f"{part.parameters / 1e6:.1f} M", *(f"{size:.1f}" for size in sizes)))
    work = sum(part.forward + part.backward for part in found)
    every, learnt = sum(part.parameters for part in found), found[1].parameters
    rows.append(
        ("a pair", f"{every / 1e6:.1f} M", f"{work / 1e9:.1f} in all", "", f"{sum(p.kept for p in found) / 1e6:.1f}")
    )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", f"| {pairs} pairs, {batch} rows a step | memory, GB | hours |", "| --- | --- | --- |"]
    for name, (peak, size) in MACHINES.items():
        weights = (every - learnt) * size + learnt * 16
        memory = weights + batch * sum(part.kept for part in found) * size / 4
        hours = pairs * work / (mfu * peak) / 3600
        lines.append(f"| {name} | {memory / 1e9:.1f} | {hours:.{0 if hours > 10 else 2}f} |")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=558_000, help="LLaVA's first stage (arXiv 2310.03744)")
    parser.add_argument("--text", type=int, default=48, help="tokens of template, question and caption")
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mfu", type=float, default=0.4)
    options = parser.parse_args()
    for connector in ("queries", "mlp"):
        found = parts(VISION, LANGUAGE, connector, options.queries, options.text)
        print(f"{connector}:\n\n{table(found, options.pairs, options.batch, options.mfu)}\n")


if __name__ == "__main__":
    main()
