"""Stage "pretrain": the language model of a chat model learns plain text, token by token."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from huayu.chat import load_chat
from huayu.errors import ModelError
from huayu.training.finetune.methods import METHODS, WHOLE, prepare, write
from huayu.training.finetune.packing import packed
from huayu.training.held import hold_back
from huayu.training.language.texts import pieces, read_texts
from huayu.training.loop import Batch

_METHODS = tuple(method for method in METHODS if method not in ("full", "vision", "ptuning"))


class PretrainStage:
    """``model``: CPM-Bee or ChatGLM within anything :func:`huayu.load_chat` opens; ``data``: see :func:`read_texts`.

    Texts are cut to ``length`` characters and stay in memory. ``evaluation``: other texts; empty: the share ``split``
    of the pieces. ``method``: "language" (all its weights), "lora", "dora" or "qlora", with ``rank``, ``alpha`` and
    ``layers`` as in a fine-tune. Nothing else of the model learns. ``pack``: see :func:`packed`; 0: not.
    """

    def __init__(
        self,
        model: str = "huayu-chat-mini",
        data: str = "",
        evaluation: str = "",
        length: int = 512,
        pack: int = 0,
        method: str = "language",
        rank: int = 10,
        alpha: float = 0.0,
        layers: Sequence[int] = (),
        split: float = 0.05,
        dtype: str = "",
        vocab: str = "",
        seed: int = 0,
    ) -> None:
        if method not in _METHODS:
            raise ModelError(f"No method {method!r}; known: {', '.join(_METHODS)}.", f"没有方法 {method!r}。")
        self.base, self.method, self.seed, self.pack = model, method, seed, pack
        self.learnt, self.held = _cut(data, length), _cut(evaluation, length) if evaluation else []
        if not evaluation and len(self.learnt) > 1:
            self.learnt, self.held = hold_back(self.learnt, split, seed)
        if not self.learnt or not self.held:
            raise ModelError(f"{data} holds too little text.", f"{data} 中的文本太少。")
        where = "bfloat16" if torch.cuda.is_available() and method not in WHOLE else "float32"
        opened: Any = load_chat(model, dtype=dtype or where, vocab=vocab or None)
        self.backend = opened.backend
        kind = self.backend.model.config.model_type
        if kind not in _LAYOUTS:
            raise ModelError(f"{self.backend.name} cannot be pretrained here.", f"这里无法预训练 {self.backend.name}。")
        self._lay_out = _LAYOUTS[kind]
        self.settings = {"rank": rank, "alpha": alpha or None, "layers": tuple(layers)}
        self._order = lru_cache(2)(lambda turn: np.random.default_rng([seed, turn]).permutation(len(self.learnt)))

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return prepare(self.backend.model, self.method, **self.settings)  # type: ignore[arg-type]

    def batch(self, index: int, size: int) -> Batch:
        """Pieces in a new order each round, each once a round."""
        count = len(self.learnt)
        places = range(index * size, (index + 1) * size)
        texts = [self.learnt[self._order(at // count)[at % count]] for at in places]
        batch = self._lay_out(self.backend.processor, texts)
        return packed(batch, self.pack) if self.pack else batch

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return module(**batch, use_cache=False).loss, {}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """``loss``: mean over the tokens held back; ``perplexity``: its exponential."""
        device = next(module.parameters()).device
        total = tokens = 0.0
        for start in range(0, len(self.held), 8):
            batch = self._lay_out(self.backend.processor, self.held[start : start + 8])
            count = float((batch["labels"] != -100).sum())
            batch = {name: value.to(device) for name, value in batch.items()}
            total, tokens = total + float(self.loss(module, batch)[0]) * count, tokens + count
        return {"loss": total / tokens, "perplexity": math.exp(min(total / tokens, 700))}

    def export(self, module: nn.Module, folder: Path) -> None:
        """The model, or the adapter, in ``folder/model``, and ``report.json``."""
        write(module, self.method, self.base, self.backend.processor, folder / "model")  # type: ignore[arg-type]
        report = {"model": self.base, "method": self.method, "learnt": len(self.learnt), "held": len(self.held)}
        (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _cut(path: str, length: int) -> list[str]:
    return [piece for text in read_texts(path) for piece in pieces(text, length)]


def _viscpm(processor: Any, texts: Sequence[str]) -> Batch:
    """A text is an answer to nothing."""
    from huayu.models.cpm_bee.packing import pack
    from huayu.models.cpm_bee.vocabulary import escape

    items = [pack({"<ans>": escape(text)}, processor.tokenizer.vocabulary) for text in texts]
    batch: Batch = processor.collate(items, padding="right", with_labels=True)
    return batch


def _visualglm(processor: Any, texts: Sequence[str]) -> Batch:
    """``[gMASK] <sop>`` text ``<eop>``. Source: spec visualglm §2."""
    from huayu.data.visualglm_examples import IGNORED, Example, collate

    words = processor.tokenizer
    built = []
    for text in texts:
        ids = words.convert_tokens_to_ids(words.tokenize(text))
        learned = [words.bos_token_id, *ids, words.eos_token_id]
        built.append(Example([words.gmask_token_id, *learned], [IGNORED, *learned], None))
    batch = collate(built, words.pad_token_id)
    del batch["image_token_index"]
    return batch


_LAYOUTS = {"viscpm_chat": _viscpm, "visualglm": _visualglm}
