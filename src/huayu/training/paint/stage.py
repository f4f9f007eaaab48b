"""Stage "paint": the UNet of VisCPM-Paint learns pictures with their captions; who reads the words stays as it is."""

# N pictures, T tokens, D width of the text encoder, C channels of a latent, h w its sides

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.errors import ModelError
from huayu.models.cpm_bee.vocabulary import escape
from huayu.models.viscpm_paint import open_pipeline
from huayu.models.viscpm_paint.denoising import condition, predict
from huayu.models.viscpm_paint.prompts import PromptEmbeds
from huayu.models.viscpm_paint.schedulers import exact_scheduler
from huayu.runtime.device import pick_device
from huayu.runtime.packages import require
from huayu.training.held import hold_back
from huayu.training.journal import Sample
from huayu.training.loop import Batch
from huayu.training.paint.rows import Words, caption_of, encode_pictures, read_captions

_PADS = 0.1  # of captions show the UNet their pads, as it sees those of a negative prompt beside a longer one
_ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
_LOOKS = 4  # noises at which each picture is evaluated


class Painter(nn.Module):
    """Conditioning head, canvas (None in the published model) and UNet as one call."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        self.conditioning_head, self.canvas, self.unet = pipeline.conditioning_head, pipeline.canvas, pipeline.unet

    def forward(
        self, states: Tensor, mask: Tensor, visible: Tensor, noisy: Tensor, noise: Tensor, time: Tensor
    ) -> Tensor:
        """States (N, T, D), own and visible tokens (N, T), latents and their noise (N, C, h, w), steps (N,) → what the
        scheduler takes as the prediction (N, C, h, w)."""
        embeds = PromptEmbeds(self.conditioning_head(states), mask, visible)
        return predict(self.unet, condition(embeds, None, self.unet, self.canvas, noise), noisy, time)[1]


class PaintStage:
    """``model``: a VisCPM-Paint that :func:`huayu.load_paint` opens; ``data``: captions, see :func:`read_captions`.

    ``evaluation``: others; empty: the share ``split``. ``method``: "full" (UNet and conditioning head) or "lora" (pairs
    of ``rank`` in the UNet's attention). ``empty``: share of captions left out, so that guidance has what to lead away
    from. ``dtype``: of the text encoder, which does not learn. ``merge``: after "lora" also write the whole model.
    """

    def __init__(
        self,
        model: str = "huayu-paint-mini",
        data: str = "",
        evaluation: str = "",
        pictures: str = "",
        method: str = "full",
        rank: int = 8,
        empty: float = 0.1,
        split: float = 0.1,
        bad_rows: str = "skip",
        merge: bool = False,
        dtype: str = "float32",
        vocab: str = "",
        vae: str = "",
        seed: int = 0,
    ) -> None:
        if method not in ("full", "lora"):
            raise ModelError(f"No method {method!r}; known: full, lora.", f"没有方法 {method!r}；可用：full、lora。")
        self.base, self.method, self.rank, self.empty, self.merge, self.seed = model, method, rank, empty, merge, seed
        rows = read_captions(data, pictures, bad_rows)
        held = read_captions(evaluation, pictures, bad_rows) if evaluation else []
        if not evaluation:
            rows, held = hold_back(rows, split, seed)
        if not rows or not held:
            raise ModelError(f"{data} holds too few pictures.", f"{data} 中的图片太少。")
        self.captions = {"learnt": [caption_of(row) for row in rows], "held": [caption_of(row) for row in held]}
        self.pipeline = open_pipeline(
            model, {"text_encoder": getattr(torch, dtype), "": torch.float32}, vocab=vocab or None, vae=vae or None
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.scheduler = exact_scheduler(self.pipeline._trained)
        self.reader: Any = self.pipeline.text_encoder
        device = pick_device(None)
        texts = [*self.captions["learnt"], *self.captions["held"]]
        self.words = Words(texts, self.pipeline.tokenizer, self.reader.to(device))
        self.reader.to("cpu")  # it has read all there is
        size, coder = self.pipeline.default_size, self.pipeline.vae.to(device)
        self.latents = {"learnt": encode_pictures(rows, coder, size, device)}
        self.latents["held"] = encode_pictures(held, coder, size, device)
        self._order = lru_cache(2)(lambda turn: np.random.default_rng([seed, turn]).permutation(len(rows)))

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        painter = Painter(self.pipeline).requires_grad_(False)
        if self.method == "lora":
            require("peft", "train")
            from peft import LoraConfig

            painter.unet.add_adapter(LoraConfig(r=self.rank, lora_alpha=self.rank, target_modules=_ATTENTION))
        else:
            painter.requires_grad_(True)
        return painter

    def batch(self, index: int, size: int) -> Batch:
        """Pictures in a new order each round, each once a round; noise and its strength drawn for each."""
        rng = np.random.default_rng([self.seed, index])
        count = len(self.captions["learnt"])
        rows = [int(self._order(at // count)[at % count]) for at in range(index * size, (index + 1) * size)]
        texts = ["" if rng.random() < self.empty else self.captions["learnt"][row] for row in rows]
        time = rng.integers(self.scheduler.config.num_train_timesteps, size=size)
        return self._batch("learnt", rows, texts, time, rng)

    def _batch(self, of: str, rows: list[int], texts: list[str], time: np.ndarray, rng: np.random.Generator) -> Batch:
        mean, deviation = self.latents[of][rows].float().unbind(1)
        drawn, noise = (torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32)) for _ in range(2))
        states, mask = self.words.batch(texts)
        visible = mask | torch.from_numpy(rng.random((len(rows), 1)) < _PADS)
        return {
            "states": states, "mask": mask, "visible": visible, "latents": mean + deviation * drawn, "noise": noise,
            "time": torch.from_numpy(time),
        }  # fmt: skip

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean square of what is wrong with the prediction, in fp32. Source: spec viscpm §5.5."""
        latents, noise, time = batch["latents"], batch["noise"], batch["time"]
        told = {name: batch[name] for name in ("states", "mask", "visible", "noise", "time")}
        predicted = module(noisy=self.scheduler.add_noise(latents, noise, time), **told)
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, time)
        else:
            target = latents if kind == "sample" else noise
        return F.mse_loss(predicted.float(), target.float()), {}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """``loss`` over the pictures held back, each at the same few noises every time."""
        device = next(module.parameters()).device
        steps = self.scheduler.config.num_train_timesteps
        losses = []
        for row, caption in enumerate(self.captions["held"]):
            times = (np.arange(_LOOKS) * 2 + 1) * steps // (2 * _LOOKS)
            rng = np.random.default_rng([self.seed, row])
            batch = self._batch("held", [row] * _LOOKS, [caption] * _LOOKS, times, rng)
            losses.append(float(self.loss(module, {name: value.to(device) for name, value in batch.items()})[0]))
        return {"loss": sum(losses) / len(losses)}

    def samples(self, module: nn.Module, count: int) -> list[Sample]:
        """Pictures from the first captions held back, each from the same noise every time."""
        captions = self.captions["held"][:count]
        device = next(module.parameters()).device
        head = self.pipeline.conditioning_head
        self.pipeline.forget_texts()
        self.pipeline.text_encoder = None
        self.pipeline.to(device)
        for text in ("", *captions):
            self.pipeline._texts.known[escape(text)] = tuple(head(part.to(device)).cpu() for part in self.words[text])  # type: ignore[assignment]
        draws = [torch.Generator().manual_seed(row) for row in range(len(captions))]
        pictures = self.pipeline(captions, generator=draws).images
        return [Sample(caption, picture=picture) for caption, picture in zip(captions, pictures, strict=True)]

    def export(self, module: nn.Module, folder: Path) -> None:
        """``folder/model``: the pipeline, or the pairs of "lora"; with ``merge`` also ``folder/merged``."""
        self.pipeline.to("cpu")
        self.pipeline.register_modules(text_encoder=self.reader)
        self.pipeline.forget_texts()
        if self.method == "lora":
            from peft import get_peft_model_state_dict

            pairs = {name: value.contiguous().cpu() for name, value in get_peft_model_state_dict(module.unet).items()}
            self.pipeline.save_lora_weights(folder / "model", unet_lora_layers=pairs)
            if self.merge:
                module.unet.fuse_lora()
                module.unet.unload_lora()
        if self.method == "full" or self.merge:
            self.pipeline.save_pretrained(folder / ("model" if self.method == "full" else "merged"))
        report = {
            "model": self.base,
            "method": self.method,
            **{name: len(rows) for name, rows in self.captions.items()},
        }
        (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
