"""Stage "join": the eye learns to give the language model the slots it understands; then all of it answers together.

With ``train_language = false`` the language model stays as it is (alignment); with true everything moves (instruction).
"""

# B dialogues, N pictures (B = N · asks), S slots, C classes, D width

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data.dialogues import Turn, dialogue
from huayu.data.scenes import Composed, Sprites, compose
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeTokenizer, collate
from huayu.models.viscpm_chat import (
    VisCPMChatForConditionalGeneration,
    VisCPMChatProcessor,
    VisCPMImageProcessor,
)
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import (
    NUM_CLASSES,
    NUM_QUERIES,
    chat_config,
    sprites_file,
    vocabulary_of,
)
from huayu.training.mini_chat.language import (
    BLIND_SHARE,
    Reader,
    SlotWords,
    like_lengths,
    names_of,
    rows_of,
    scale_rates,
)
from huayu.training.mini_chat.scoring import right_answers
from huayu.training.mini_chat.vision import SIZE, SightHeads, SlotEye, see, tensors_of

_SIGHT = ("pixels", "things", "where", "slots", "background")  # of pictures; all else is of rows
FIT_BATCHES = 40  # of 64 pictures, from which the projector is fitted

Asked = tuple[int | None, list[Turn], int]  # number of the picture (None: no picture), dialogue, turn that is asked


class Joined(nn.Module):
    """The whole chat model, with the training-only heads of the eye and the ideal words of the slots."""

    def __init__(self, vocabulary: BeeVocabulary) -> None:
        super().__init__()
        self.chat = VisCPMChatForConditionalGeneration(chat_config(len(vocabulary)))
        width = self.chat.config.vision_config.hidden_size
        self.heads = SightHeads(width)
        self.words = SlotWords(self.chat.config.text_config.hidden_size, names_of(vocabulary))

    @classmethod
    def from_parts(cls, vision: Path, language: Path, vocabulary: BeeVocabulary) -> Joined:
        """From the exports of the stages "vision" and "language"."""
        eye, reader = SlotEye(), Reader(vocabulary)
        eye.load_state_dict(torch.load(vision, weights_only=True))
        reader.load_state_dict(torch.load(language, weights_only=True))
        joined = cls(vocabulary)
        joined.chat.vision_encoder.load_state_dict(eye.encoder.state_dict())
        joined.chat.query_tokens.data.copy_(eye.query_tokens.data)
        joined.chat.language_model.load_state_dict(reader.language_model.state_dict())
        joined.words.load_state_dict(reader.words.state_dict())
        joined.heads.load_state_dict(eye.heads.state_dict())
        return joined

    def forward(self, pixels: Tensor, rows: Batch, loss_only: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss of the answers (or, without ``loss_only``, their top tokens), picture embeddings (N, Q, D), states of
        patches and of queries. ``rows["picture"]`` tells which picture each row is about."""
        patches, queries = see(self.chat.vision_encoder, self.chat.query_tokens, pixels)
        seen = self.chat.projector(queries)
        embeds = seen.to(self.chat.language_model.dtype)
        total = []
        for part, share in like_lengths(rows):
            picture = part.pop("picture")
            out = self.chat(image_embeds=embeds[picture][:, None], loss_only=loss_only, **part)
            total.append(share * out.loss if loss_only else right_answers(out.logits, part["labels"]))
        return torch.stack(total).sum() if loss_only else torch.cat(total), seen, patches, queries


@torch.no_grad()
def fit_projector(joined: Joined, batches: Iterable[Batch], ridge: float = 1e-3) -> float:
    """Set the projector in closed form, so that the eye's states become the ideal words of their slots.

    Its first layer takes the slot head's classes, which the eye already tells apart, and random directions for the
    rest; the second is the ridge regression from there. Returns the share of the words' variance left unexplained.
    """
    first, second = joined.chat.projector.linear_1, joined.chat.projector.linear_2
    nn.init.normal_(first.weight, std=first.in_features**-0.5)
    nn.init.normal_(first.bias, std=0.5)
    first.weight[:NUM_CLASSES].copy_(joined.heads.slot.weight)
    first.bias[:NUM_CLASSES].copy_(joined.heads.slot.bias)
    hidden, ideal = [], []
    embedding = joined.chat.get_input_embeddings().weight
    for batch in batches:
        _, queries = see(joined.chat.vision_encoder, joined.chat.query_tokens, batch["pixels"])
        hidden.append(F.gelu(first(queries)).flatten(0, 1))
        ideal.append(joined.words(batch["slots"], batch["background"], embedding).flatten(0, 1))
    x, y = torch.cat(hidden), torch.cat(ideal)
    x_mean, y_mean = x.mean(0), y.mean(0)
    gram = (x - x_mean).T @ (x - x_mean) / len(x)
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram))
    second.weight.copy_(torch.linalg.solve(gram, (x - x_mean).T @ (y - y_mean) / len(x)).T)
    second.bias.copy_(y_mean - second.weight @ x_mean)
    return float(F.mse_loss(second(x), y) / y.var())


class JoinStage:
    """``start`` is the export of an earlier join, or empty to start from ``vision`` and ``language``.

    ``asks``: questions about each picture; ``single``: share of pictures that are made to hold one thing, beside those
    that happen to; ``align`` and ``sight``: weights of the losses beside that of the answers; ``language_rate``: of
    the language model's learning rate.
    """

    def __init__(
        self,
        seed: int = 3,
        data: str = ".cache/pictograms",
        vocabulary: str = "runs/mini_chat/vocab.txt",
        vision: str = "",
        language: str = "",
        start: str = "",
        train_language: bool = False,
        languages: str = "",
        asks: int = 2,
        align: float = 1.0,
        sight: float = 0.3,
        language_rate: float = 0.25,
        single: float = 0.0,
        weights: dict[str, float] | None = None,
    ) -> None:
        self.seed, self.asks, self.align, self.sight = seed, asks, align, sight
        self.paths = (vision, language, start)
        self.train_language, self.language_rate, self.single = train_language, language_rate, single
        self.languages, self.weights = languages, weights
        self.sprites = Sprites.load(sprites_file(data))
        self.vocabulary_file = vocabulary
        self.vocabulary = vocabulary_of(vocabulary)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        vision, language, start = self.paths
        if start:
            joined = Joined(self.vocabulary)
            joined.load_state_dict(torch.load(start, weights_only=True))
        else:
            joined = Joined.from_parts(Path(vision), Path(language), self.vocabulary)
            fit_projector(joined.eval(), (self.batch(-1 - i, 64) for i in range(FIT_BATCHES)))
            joined.train()
        joined.words.requires_grad_(False)
        joined.chat.language_model.requires_grad_(self.train_language)
        scale_rates(joined.chat.language_model)
        for parameter in joined.chat.language_model.parameters():
            parameter.lr_scale = getattr(parameter, "lr_scale", 1.0) * self.language_rate  # type: ignore[attr-defined]
        return joined

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index % 2**32])
        counts = [1 if rng.random() < self.single else None for _ in range(size)]
        scenes = [compose(rng, self.sprites, size=SIZE, count=count) for count in counts]
        asked: list[Asked] = []
        for i, composed in enumerate(scenes):
            for _ in range(self.asks):
                blind = rng.random() < BLIND_SHARE
                scene, weights = (None, None) if blind else (composed.scene, self.weights)
                turns = dialogue(rng, scene, language=self.languages or None, weights=weights)
                last = int(rng.integers(len(turns))) if rng.random() < 0.6 else 0
                asked.append((None if blind else i, turns, last))
        return self.tensors(scenes, asked)

    def tensors(self, scenes: list[Composed], asked: list[Asked]) -> Batch:
        """Pictures with their labels, and the packed questions of all of them, sorted by length."""
        rows = [(rows_of(turns, last, self.vocabulary, i is not None), i or 0) for i, turns, last in asked]
        rows.sort(key=lambda row: len(row[0].input_ids))
        return {
            **tensors_of(scenes, self.sprites),
            **collate([row for row, _ in rows], self.vocabulary, with_labels=True),
            "picture": torch.tensor([i for _, i in rows]),
        }

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        rows = {name: value for name, value in batch.items() if name not in _SIGHT}
        answer, seen, patches, queries = module(batch["pixels"], rows)
        joined = module.module if hasattr(module, "module") else module
        embedding = joined.chat.get_input_embeddings().weight.detach()
        ideal = joined.words(batch["slots"], batch["background"], embedding).float()
        parts = {
            "answer": answer,
            "align": F.mse_loss(seen.float(), ideal) / ideal.var(),
            **joined.heads.losses(patches, queries, batch),
        }
        sight = parts["thing"] + 2 * parts["slot"]
        return parts["answer"] + self.align * parts["align"] + self.sight * sight, parts

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Exact answers by skill and language on new scenes in the training styles, and all in the choosing style."""
        seen = self._exact(module, "train-eval", 512)
        chosen = self._exact(module, "choose", 256)
        return {**seen, **{f"choose/{k}": chosen[k] for k in chosen if k == "all" or k.startswith("name/")}}

    def _exact(self, module: nn.Module, split: str, count: int) -> dict[str, float]:
        rng = np.random.default_rng(78)
        figures: dict[str, list[bool]] = {}
        device = next(module.parameters()).device
        for start in range(0, count, 64):
            pairs = "held" if split == "train-eval" and start % 128 else "any" if split == "choose" else "train"
            scenes = [compose(rng, self.sprites, size=SIZE, split=split, pairs=pairs) for _ in range(64)]  # type: ignore[arg-type]
            asked: list[Asked] = []
            for i, composed in enumerate(scenes):
                turns = dialogue(rng, composed.scene, weights=self.weights)
                asked.append((i, turns, int(rng.integers(len(turns)))))
            batch = {name: value.to(device) for name, value in self.tensors(scenes, asked).items()}
            rows = {name: value for name, value in batch.items() if name not in _SIGHT}
            right, *_ = module(batch["pixels"], rows, loss_only=False)
            for picture, ok in zip(batch["picture"].tolist(), right.tolist(), strict=True):
                _, turns, last = asked[picture]
                figures.setdefault(f"{turns[last].skill}/{turns[last].language}", []).append(ok)
        every = [ok for group in figures.values() for ok in group]
        return {"all": sum(every) / len(every), **{k: sum(v) / len(v) for k, v in sorted(figures.items())}}

    def export(self, module: nn.Module, folder: Path) -> None:
        """``joined.pt`` for a later stage, and ``model/``: the chat model in fp16 with its processor."""
        torch.save(module.state_dict(), folder / "joined.pt")
        export_chat(module.chat, self.vocabulary_file, folder / "model")  # type: ignore[arg-type]


def export_chat(chat: VisCPMChatForConditionalGeneration, vocabulary: str, folder: Path) -> None:
    """Write the model as users open it: fp16 safetensors, configuration, vocabulary, generation settings."""
    chat = chat.cpu().half().eval()
    chat.config.dtype = torch.float16
    chat.generation_config.update(do_sample=False, max_new_tokens=64, pad_token_id=0, bos_token_id=6, eos_token_id=7)
    chat.save_pretrained(folder)
    tokenizer = CpmBeeTokenizer(vocabulary)
    processor = VisCPMChatProcessor(VisCPMImageProcessor(SIZE), tokenizer, num_query_tokens=NUM_QUERIES)
    processor.save_pretrained(folder)
