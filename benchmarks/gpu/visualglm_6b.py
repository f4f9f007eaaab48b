"""The published 6B shape of VisualGLM on one GPU: ``python benchmarks/gpu/visualglm_6b.py [--out FOLDER]``.

Random bf16 weights made on the device (about 16 GB), then the same in 8 and in 4 bits, as published: speed and memory
are those of the real model, answers are not. Needs torch, transformers and this checkout; ends within ``--seconds``,
leaving out what would take longer. ``--tiny`` runs the same on the CPU with a tiny shape. Writes ``visualglm_6b.json``
after every figure. For each of ``bf16``, ``int8``, ``int4``:

``…_first_token_seconds_N``: picture, prompt of N tokens (the picture's included) and the first token. ``…_step_ms_bB``:
B answers at once after prompts of 128 tokens. ``…_floor_ratio_bB``: time to read the language model's weights once, at
the bandwidth of a copy, over the time of a step. ``…_weights_gb``, ``…_peak_gb_bB``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import torch  # noqa: E402 (the checkout comes first)

from benchmarks.gpu.bench import Bench, Case, start  # noqa: E402
from benchmarks.gpu.setting import GLM_FULL, GLM_TINY, fill  # noqa: E402
from huayu.generation.cache import GrowingCache  # noqa: E402
from huayu.models.visualglm import VisualGLMConfig, VisualGLMForConditionalGeneration  # noqa: E402


class Glm6B(Bench):
    """VisualGLM. A case quantises the model that the next one finds: 16 bits, then 8, then 4 of a new one."""

    name = "visualglm_6b"

    def build(self) -> Any:
        with torch.device("meta"):
            model = VisualGLMForConditionalGeneration(VisualGLMConfig(**self.scale.config))
        return fill(model, self.device)

    def cases(self) -> list[Case]:
        return [(form, lambda form=form: self.measure(form)) for form in ("bf16", "int8", "int4")]

    @torch.inference_mode()
    def measure(self, form: str) -> None:
        """One form of the model."""
        if form != "bf16":
            if form == "int4":
                self.model = None  # before the new one is made
                self.model = self.build()
            self.model.quantize(form)
        self.fresh_peak()
        language = self.model.language_model
        weights = sum(tensor.nbytes for tensor in (*language.parameters(), *language.buffers()))
        self.note(**{f"{form}_weights_gb": weights / 1e9})
        for tokens in self.scale.prompts:
            inputs = self.inputs(1, tokens)
            seconds = self.seconds(lambda inputs=inputs: self.model(**inputs, use_cache=True, logits_to_keep=1))
            self.note(**{f"{form}_first_token_seconds_{tokens}": seconds})
        for batch in self.scale.batches:
            self._decode(form, batch, weights)

    def _decode(self, form: str, batch: int, weights: int) -> None:
        inputs, cache, steps = self.inputs(batch, self.scale.prompt), GrowingCache(), self.scale.steps
        self.fresh_peak()
        settings = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
        tokens = self.model(**inputs, **settings).logits.argmax(-1)
        positions = torch.tensor([self.scale.prompt - 2, 1], device=self.device).view(1, 2, 1).repeat(batch, 1, 1)

        def work() -> None:
            nonlocal tokens
            for _ in range(steps):
                positions[:, 1] += 1
                tokens = self.model(tokens, position_ids=positions, **settings).logits.argmax(-1)

        seconds = self.seconds(work) / steps
        self.note(
            **{
                f"{form}_step_ms_b{batch}": 1e3 * seconds,
                f"{form}_tokens_per_second_b{batch}": batch / seconds,
                f"{form}_floor_ratio_b{batch}": weights / (self.found["copy_gb_per_second"] * 1e9) / seconds,
                f"{form}_peak_gb_b{batch}": self.peak_gb(),
            }
        )

    def inputs(self, batch: int, tokens: int) -> dict[str, Any]:
        """Prompts with a picture of random numbers, on the device."""
        config = self.model.config
        text, side, queries = config.text_config, config.vision_config.image_size, config.image_length
        ids = torch.randint(4, text.mask_token_id, (batch, tokens))
        ids[:, -2:] = torch.tensor([text.gmask_token_id, text.bos_token_id])
        index = torch.full((batch, tokens), -1)
        index[:, 2 : 2 + queries] = torch.arange(queries)
        pixels = torch.randn(batch, 1, 3, side, side).to(self.model.dtype)
        named = {"input_ids": ids, "image_token_index": index, "pixel_values": pixels}
        return {name: tensor.to(self.device) for name, tensor in named.items()}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """See the module; returns what it writes."""
    return start(Glm6B, GLM_FULL, GLM_TINY, __doc__ or "", arguments)


if __name__ == "__main__":
    main()
