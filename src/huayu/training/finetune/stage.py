"""Stage "finetune": a chat model learns rows that a user brings, and what it learnt is measured before and after."""

# B examples, T tokens

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from huayu.chat import load_chat
from huayu.chat.conversation import Conversation, Turn
from huayu.chat.model import ChatModel
from huayu.data.records import Fault
from huayu.errors import ModelError
from huayu.runtime.language import language_of
from huayu.training.finetune.examples import Batcher, Example
from huayu.training.finetune.methods import METHODS, WHOLE, prepare, write
from huayu.training.finetune.packing import packed
from huayu.training.finetune.reading import Examples, gather
from huayu.training.journal import Sample
from huayu.training.loop import Batch
from huayu.training.sharding import is_first, world_size

_LOG = logging.getLogger("huayu")


class FinetuneStage:
    """``model``: anything :func:`huayu.load_chat` opens; ``data``: what :func:`huayu.data.records.open_tables` reads.

    Several: a list of ``"file"`` or ``"file:weight"``; see :class:`huayu.training.finetune.reading.Examples`.

    ``evaluation``: another such file; empty: the share ``split`` of the rows, drawn by ``seed``, is held back. Its loss
    chooses the weights that are kept (``patience``). ``rehearse``: rows of what the model can do
    already, which are half of what it learns then; ``keep``: rows that tell how much of that it forgets. ``bad_rows``:
    ``"skip"`` names them and goes on, ``"stop"`` ends.
    ``layers``, ``rank``, ``alpha``, ``prefix``, ``tune_vision``: see :func:`huayu.training.finetune.methods.prepare`.
    ``learn``: "answers", or "all": every question, too, as what may be said of its picture after the turns before it.
    ``pack``: short rows share a row of at most so many tokens (VisCPM-Chat); 0: none does.
    ``asks``: examples of each file that are asked in words, before and after.
    ``merge``: also write the whole model with what it learnt.
    """

    def __init__(
        self,
        model: str = "huayu-chat-mini",
        data: str | Sequence[str] = "",
        evaluation: str = "",
        rehearse: str = "",
        keep: str = "",
        pictures: str = "",
        method: str = "lora",
        rank: int = 10,
        alpha: float = 0.0,
        layers: Sequence[int] = (),
        prefix: int = 8,
        tune_vision: bool = False,
        split: float = 0.2,
        bad_rows: str = "skip",
        learn: str = "answers",
        pack: int = 0,
        asks: int = 128,
        merge: bool = False,
        dtype: str = "",
        vocab: str = "",
        seed: int = 0,
    ) -> None:
        if method not in METHODS:
            raise ModelError(f"No method {method!r}; known: {', '.join(METHODS)}.", f"没有方法 {method!r}。")
        if learn not in ("answers", "all"):
            raise ModelError(f"learn is {learn!r}; known: answers, all.", f"learn 是 {learn!r}；可用：answers、all。")
        self.learn, self.pack = learn, pack
        self.base, self.seed, self.method, self.merge, self.asks = model, seed, method, merge, asks
        self.faults: list[Fault] = []
        read: list[Examples] = [
            gather(files, pictures or None, lambda fault: self._bad(fault, bad_rows))
            for files in (data, evaluation, rehearse, keep)
        ]
        self.learnt, self.held, self.rehearsed, self.kept = read
        if not evaluation and split:
            self.learnt, self.held = self.learnt.split(split, seed)
        if not self.learnt:
            names = data if isinstance(data, str) else ", ".join(data)
            raise ModelError(f"{names} holds no row to learn.", f"{names} 中没有可学习的数据。")
        where = "bfloat16" if torch.cuda.is_available() and method not in WHOLE else "float32"
        self.chat = load_chat(model, dtype=dtype or where, vocab=vocab or None)
        self.backend: Any = self.chat.backend
        self.batcher = Batcher(self.backend)
        self.settings = {"rank": rank, "alpha": alpha or None, "layers": tuple(layers), "prefix": prefix}
        self.settings["tune_vision"] = tune_vision
        self.before: dict[str, Any] = {}

    def _bad(self, row: Fault, bad_rows: str) -> None:
        if bad_rows == "stop":
            raise ModelError(str(row), f"{row.file}：第 {row.row} 行：{row.field}：{row.zh}")
        _LOG.warning("%s; skipped", row)
        self.faults.append(row)

    def module(self) -> nn.Module:
        self.before = self.asked() if is_first() else {}
        torch.manual_seed(self.seed)
        return prepare(self.backend.model, self.method, **self.settings)  # type: ignore[arg-type]

    def batch(self, index: int, size: int) -> Batch:
        """Rows in a new order each round, every row once a round; every second one rehearses, where there are some."""
        places = range(index * size, (index + 1) * size)
        files = (self.learnt, self.rehearsed) if self.rehearsed else (self.learnt,)
        count = len(files)
        drawn = [files[at % count].drawn(at // count, (self.seed, at % count)) for at in places]
        if self.learn == "all":  # a question's tokens see each other: only as an answer can it be learnt
            drawn += [replace(example, question="", answer=example.question) for example in drawn]
        hidden = world_size() > 1 and not any(example.picture for example in drawn)
        if hidden:  # processes that share the eye out must all call it: a row of which nothing is learnt
            drawn.append(Example(Image.new("RGB", (8, 8)), (), "?", "?"))  # type: ignore[arg-type]
        batch = self.batcher(drawn)
        if hidden:
            batch["labels"][-1] = -100
        return packed(batch, self.pack) if self.pack else batch

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = module(**batch, use_cache=False).loss
        return loss, {}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """``loss``: mean over the examples held back (over those learnt, if none are)."""
        examples = self.held or self.learnt
        device = next(module.parameters()).device
        losses = []
        for start in range(0, len(examples), 8):
            part = examples[start : start + 8]
            batch = {name: value.to(device) for name, value in self.batcher(part).items()}
            losses.append(float(self.loss(module, batch)[0]) * len(part))
        return {"loss": sum(losses) / len(examples)}

    def asked(self) -> dict[str, Any]:
        """What the model says to rows learnt, held back and kept: share of exact answers, and every answer."""
        groups = {"learnt": self.learnt, "held": self.held, "kept": self.kept}
        return {name: self._ask(rows[: self.asks]) for name, rows in groups.items() if rows and self.asks}

    def samples(self, module: nn.Module, count: int) -> list[Sample]:  # noqa: ARG002 (the same as the backend's)
        """Answers to the first examples held back."""
        examples = (self.held or self.learnt)[:count]
        answers = self._ask(examples)["answers"]
        return [
            Sample(
                f"{example.picture.name if example.picture else ''} {said['question']}", said["answer"], said["truth"]
            )
            for example, said in zip(examples, answers, strict=True)
        ]

    def _ask(self, examples: Sequence[Example]) -> dict[str, Any]:
        self.backend.forget()
        return _ask(ChatModel(self.backend), examples)

    def export(self, module: nn.Module, folder: Path) -> None:
        """The adapter (or, where weights learnt, the model) in ``folder/model``, and ``report.json``."""
        write(module, self.method, self.base, self.backend.processor, folder / "model")  # type: ignore[arg-type]
        report: dict[str, Any] = {
            "model": self.base,
            "method": self.method,
            "faults": [str(fault) for fault in self.faults],
        }
        report |= {"before": self.before, "after": self.asked()}
        if "kept" in report["after"]:
            report["forgetting"] = round(self.before["kept"]["exact"] - report["after"]["kept"]["exact"], 4)
        (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
        if self.merge and self.method not in WHOLE:
            whole = module.merge_and_unload() if hasattr(module, "merge_and_unload") else module
            write(whole, "full", self.base, self.backend.processor, folder / "merged")


def _ask(chat: ChatModel, examples: Sequence[Example]) -> dict[str, Any]:
    requests = [
        (example.picture, example.question, Conversation(tuple(Turn(q, a, language_of(q)) for q, a in example.before)))
        for example in examples
    ]
    replies = chat.ask_batch(requests, max_new_tokens=16 + 2 * max(len(example.answer) for example in examples))
    answers = [
        {"question": example.question, "truth": example.answer, "answer": reply.text}
        for example, reply in zip(examples, replies, strict=True)
    ]
    exact = sum(answer["answer"].strip() == answer["truth"].strip() for answer in answers) / len(answers)
    return {"exact": round(exact, 4), "answers": answers}
