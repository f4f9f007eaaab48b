"""Stage "align": a connector learns to hand a picture to a language model; with LoRA the language model learns, too."""

# B examples, T tokens, N pictures, S side in pixels

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from huayu.chat import load_chat
from huayu.chat.conversation import Conversation, Picture, Turn
from huayu.chat.huggingface import HuggingFaceBackend
from huayu.chat.model import ChatModel
from huayu.chat.options import ChatOptions
from huayu.data.pictures import open_picture
from huayu.data.records import Record, read_records
from huayu.errors import ModelError
from huayu.runtime.device import pick_dtype
from huayu.runtime.language import language_of
from huayu.runtime.packages import require
from huayu.training.align.join import Connector, connector_of, join, parameters_of
from huayu.training.finetune.examples import MAX_TOKENS, Example, examples_of
from huayu.training.held import hold_back
from huayu.training.loop import Batch

_LOG = logging.getLogger("huayu")
_ASKED = 32  # examples that are asked in words at the end
_IGNORED = -100
# With LoRA the connector goes on ten times as slowly. Source: LLaVA-1.5 (arXiv 2310.03744), its published script
_CONNECTOR_SCALE = 0.1


class AlignStage:
    """``vision``, ``language``, ``connector``, ``queries``, ``layers``: see :func:`huayu.training.align.join.join`.

    ``model``: instead of a pair, the folder of an earlier run. ``data``: a file that :func:`read_records` reads;
    ``evaluation``: another, or the share ``split`` of the rows. ``lora``: pairs of ``rank`` beside every matrix of the
    language model learn as well, and end in its weights. ``check_pictures``: each is opened before it begins.
    """

    def __init__(
        self,
        vision: str = "",
        language: str = "",
        model: str = "",
        data: str = "",
        evaluation: str = "",
        pictures: str = "",
        connector: Connector = "queries",
        queries: int = 64,
        layers: int = 2,
        lora: bool = False,
        rank: int = 16,
        split: float = 0.02,
        check_pictures: bool = True,
        dtype: str = "",
        seed: int = 0,
    ) -> None:
        if bool(model) == bool(vision and language):
            raise ModelError("Name a vision encoder and a language model.", "请给出视觉编码器和语言模型。")
        self.seed, self.rank, self.faults = seed, rank if lora else 0, list[str]()
        rows = self._rows(data, pictures, check_pictures)
        held = self._rows(evaluation, pictures, check_pictures) if evaluation else []
        if not evaluation and split and len(rows) > 1:
            rows, held = hold_back(rows, split, seed)
        self.learnt, self.held = examples_of(rows), examples_of(held)
        if not self.learnt:
            raise ModelError(f"{data} holds no row to learn.", f"{data} 中没有可学习的数据。")
        self._order: tuple[int, Any] = (-1, None)
        self.names = {"model": model} if model else {"vision": vision, "language": language}
        number = pick_dtype(dtype or ("bfloat16" if torch.cuda.is_available() else "float32"), torch.device("cpu"))
        self.backend: Any
        if model:
            self.backend = _aligned(model, number)
        else:
            sizes: dict[str, Any] = {"connector": connector, "queries": queries, "layers": layers}
            made = join(vision, language, **sizes, dtype=number, seed=seed)
            self.backend = HuggingFaceBackend(*made, name="align", defaults=ChatOptions(search="greedy"))
        self.dtype = self.backend.model.dtype

    def _rows(self, file: str, pictures: str, check: bool) -> list[Record]:
        good = []
        for row in read_records(file, pictures=pictures or None, open_pictures=check):
            if isinstance(row, Record):
                good.append(row)
            else:
                _LOG.warning("%s; skipped", row)
                self.faults.append(str(row))
        return good

    def module(self) -> nn.Module:
        model = self.backend.model.requires_grad_(False)
        trained = self._with_pairs(model) if self.rank else model
        connector = connector_of(model).float().requires_grad_(True)
        if self.rank:
            for parameter in connector.parameters():
                parameter.lr_scale = _CONNECTOR_SCALE  # type: ignore[attr-defined]
        return trained

    def _with_pairs(self, model: nn.Module) -> nn.Module:
        require("peft", "train")
        import peft
        from transformers.pytorch_utils import Conv1D

        within = model.model.language_model.named_modules()
        linears = {name: module for name, module in within if isinstance(module, nn.Linear | Conv1D)}
        settings = peft.LoraConfig(
            r=self.rank,
            lora_alpha=2 * self.rank,
            target_modules=[f"model.language_model.{name}" for name in linears],
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in linears.values()),
        )
        torch.manual_seed(self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers in words that are going out
            trained: nn.Module = peft.get_peft_model(model, settings)
        return trained

    def batch(self, index: int, size: int) -> Batch:
        """Rows in a new order each round, every row once a round."""
        places = range(index * size, (index + 1) * size)
        return self.collated([self._row(at) for at in places])

    def _row(self, at: int) -> Example:
        count = len(self.learnt)
        if self._order[0] != at // count:
            self._order = at // count, np.random.default_rng([self.seed, at // count]).permutation(count)
        return self.learnt[self._order[1][at % count]]

    def collated(self, examples: Sequence[Example]) -> Batch:
        """``input_ids``, ``attention_mask``, ``labels`` (B, T), padded on the right; ``pixel_values`` (N, 3, S, S)."""
        rows, pictures = [], []
        for example in examples:
            past = _conversation(example)
            prompt = self.backend.read([self.backend.messages(past, past.turns, example.question)])
            rows.append((prompt["input_ids"][0], self._answer(example.answer)[:MAX_TOKENS]))
            pictures += [prompt["pixel_values"]] if "pixel_values" in prompt else []
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = torch.full((len(rows), width), self.backend.tokenizer.pad_token_id)
        labels, mask = torch.full_like(ids, _IGNORED), torch.zeros_like(ids)
        for row, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            ids[row, :end], mask[row, :end] = torch.cat([prompt, answer]), 1
            labels[row, len(prompt) : end] = answer
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {**batch, "pixel_values": torch.cat(pictures).to(self.dtype)} if pictures else batch

    def _answer(self, text: str) -> Tensor:
        tokenizer = self.backend.tokenizer
        ids = tokenizer(self.backend.plain(text), add_special_tokens=False)["input_ids"]
        return torch.tensor([*ids, tokenizer.eos_token_id])

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        if module.training:  # what is fixed drops nothing out
            model = self.backend.model
            for part in (model.model.vision_tower, *(() if self.rank else (model.model.language_model,))):
                part.eval()
        return module(**batch, use_cache=False).loss, {}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """``loss``: mean over the examples held back (over those learnt, if none are)."""
        examples = self.held or self.learnt
        device, losses = self.backend.model.device, []
        for start in range(0, len(examples), 8):
            part = examples[start : start + 8]
            batch = {name: value.to(device) for name, value in self.collated(part).items()}
            losses.append(float(self.loss(module, batch)[0]) * len(part))
        return {"loss": sum(losses) / len(examples)}

    def export(self, module: nn.Module, folder: Path) -> None:
        """The whole model in ``folder/model``, pairs in its weights; ``report.json`` with answers."""
        model: Any = module.merge_and_unload() if self.rank else module
        self.backend.model = model.to(self.dtype)
        model.save_pretrained(folder / "model")
        self.backend.processor.save_pretrained(folder / "model")
        report = {
            **self.names,
            "class": type(model).__name__,
            "parameters": parameters_of(model),
            "connector_parameters": parameters_of(connector_of(model)),
            "faults": self.faults,
            "answers": self._answers((self.held or self.learnt)[:_ASKED]),
        }
        (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")

    def _answers(self, examples: Sequence[Example]) -> list[dict[str, str]]:
        requests = [(None, example.question, _conversation(example)) for example in examples]
        longest = max(len(self._answer(example.answer)) for example in examples)
        replies = ChatModel(self.backend).ask_batch(requests, search="greedy", max_new_tokens=longest)
        return [
            {"question": example.question, "truth": example.answer, "answer": reply.text}
            for example, reply in zip(examples, replies, strict=True)
        ]


def _conversation(example: Example) -> Conversation:
    """What was said before, the picture with the first turn."""
    pictures = () if example.picture is None else (Picture(open_picture(example.picture)),)
    turns = [Turn(q, a, language_of(q), len(pictures) * (at == 0)) for at, (q, a) in enumerate(example.before)]
    return Conversation(tuple(turns), pictures)


def _aligned(folder: str, dtype: torch.dtype) -> Any:
    """The backend of what an earlier run wrote. Raises ModelError for another model."""
    backend: Any = load_chat(folder, device="cpu", dtype=dtype).backend
    if not hasattr(getattr(backend.model, "model", None), "multi_modal_projector"):
        raise ModelError(f"{folder} is no Llava.", f"{folder} 不是 Llava 模型。")
    return backend
