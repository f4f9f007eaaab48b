"""The published 10B shape of VisCPM-Chat on one GPU: ``python benchmarks/gpu/decode_10b.py [--out FOLDER]``.

Random bf16 weights made on the device (about 21 GB), so speed and memory are those of the real model, answers are not.
Needs torch, transformers and this checkout; ends within ``--seconds``, leaving out what would take longer. ``--tiny``
runs the same on the CPU with a tiny shape. Writes ``decode_10b.json`` after every figure, ``decode_10b.log``:

``copy_gb_per_second``: bytes read and written by a copy on the device. ``first_token_seconds_N``: picture, prompt of N
tokens (the picture's included) and the first token. ``…_bB``: B answers at once, after prompts of 128 tokens with a
picture: ``eager`` is the package's own loop, ``graph`` the same step as a CUDA graph, ``generate`` is
``model.generate``. ``…_floor_ratio_bB``: time to read the weights once, and the keys and values of all rows, at the
bandwidth of the copy, over the time of a step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import torch  # noqa: E402 (the checkout comes first)

from benchmarks.gpu.bench import Bench, Case, start  # noqa: E402
from benchmarks.gpu.setting import FULL, TINY, build  # noqa: E402
from benchmarks.gpu.steps import FixedSteps, GrowingSteps, captured  # noqa: E402
from benchmarks.languages import prompts  # noqa: E402


class Chat10B(Bench):
    """VisCPM-Chat."""

    name = "decode_10b"

    def build(self) -> Any:
        model = build(self.scale.config, self.device)
        self.weight_bytes = sum(parameter.nbytes for parameter in model.language_model.parameters())
        self.note(language_weight_bytes=self.weight_bytes)
        return model

    def cases(self) -> list[Case]:
        return [
            *((f"first token after {n}", lambda n=n: self.first_token(n)) for n in self.scale.prompts),
            *((f"batch {n}", lambda n=n: self.decode(n)) for n in self.scale.batches),
        ]

    @torch.inference_mode()
    def first_token(self, tokens: int) -> None:
        """A picture and a prompt, to the first token."""
        size = self.model.config.vision_config.image_size
        pixels = torch.rand(1, 1, 3, size, size, device=self.device).to(self.model.dtype) * 2 - 1
        inputs = {**self.inputs(1, tokens, start_answer=True), "pixel_values": pixels}

        def work() -> int:
            return int(self.model(**inputs, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())

        self.fresh_peak()
        self.note(**{f"first_token_seconds_{tokens}": self.seconds(work)})
        self.note(**{f"first_token_peak_gb_{tokens}": self.peak_gb()})

    def decode(self, batch: int) -> None:
        """Steps for ``batch`` answers at once: eager, inside ``generate``, as a graph; are their tokens the same?"""
        scale = self.scale
        inputs = self.inputs(batch, scale.prompt)
        answer = int(self.inputs(1, scale.prompt, start_answer=True)["segment_ids"][0, -1])
        room = 4 + scale.steps * (scale.rounds + 2)
        self.fresh_peak()
        eager = GrowingSteps(self.model, inputs, answer, room)
        tokens = [eager().clone() for _ in range(scale.steps)]
        self._steps("eager", batch, eager)
        del eager
        self._generate(batch)
        fixed = FixedSteps(self.model, inputs, answer, room)
        first = [fixed().clone() for _ in range(scale.steps)]
        same = (torch.stack(tokens) == torch.stack(first)).float().mean()
        self.note(**{f"same_tokens_b{batch}": float(same)})
        if self.device.type == "cuda":
            self._steps("graph", batch, captured(fixed))

    def inputs(self, batch: int, tokens: int, start_answer: bool = False) -> dict[str, Any]:
        """Prompts on the device; each has a picture, which has been read unless the answer is to start."""
        config = self.model.config
        places = config.num_query_tokens
        packed = prompts(config.text_config.vocab_size, batch, tokens, places, start_answer)
        inputs = {name: tensor.to(self.device) for name, tensor in packed.items()}
        if not start_answer:
            shape = (batch, 1, places, config.text_config.hidden_size)
            inputs["image_embeds"] = torch.randn(shape, device=self.device).to(self.model.dtype)
        return inputs

    def _steps(self, name: str, batch: int, step: Callable[[], object]) -> None:
        steps, text = self.scale.steps, self.model.config.text_config

        def work() -> None:
            for _ in range(steps):
                step()

        seconds = self.seconds(work) / steps
        per_token = 2 * text.num_hidden_layers * text.num_attention_heads * text.head_dim * self.model.dtype.itemsize
        held = batch * per_token * (self.scale.prompt + steps * (self.scale.rounds + 3) // 2)
        bandwidth = self.found["copy_gb_per_second"] * 1e9
        self.note(
            **{
                f"{name}_step_ms_b{batch}": 1e3 * seconds,
                f"{name}_tokens_per_second_b{batch}": batch / seconds,
                f"{name}_floor_ratio_b{batch}": (self.weight_bytes + held) / bandwidth / seconds,
                f"{name}_weights_floor_ratio_b{batch}": self.weight_bytes / bandwidth / seconds,
                f"{name}_peak_gb_b{batch}": self.peak_gb(),
            }
        )

    def _generate(self, batch: int) -> None:
        """Tokens per second inside ``generate``, less the time that it takes for one token."""
        from huayu.generation.cache import GrowingCache

        inputs = self.inputs(batch, self.scale.prompt, start_answer=True)
        inputs.pop("image_token_index")

        def work(count: int) -> None:
            settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "pad_token_id": 0}
            self.model.generate(**inputs, **settings, past_key_values=GrowingCache())

        more = self.seconds(lambda: work(1 + self.scale.steps)) - self.seconds(lambda: work(1))
        self.note(**{f"generate_tokens_per_second_b{batch}": batch * self.scale.steps / more})


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """See the module; returns what it writes."""
    return start(Chat10B, FULL, TINY, __doc__ or "", arguments)


if __name__ == "__main__":
    main()
