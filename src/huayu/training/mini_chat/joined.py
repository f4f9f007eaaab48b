"""The whole chat model beside what exists only in training, put together from the parts and taken out again."""

# B rows, N pictures, Q queries, S slots, C classes, D width

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.models.cpm_bee import BeeVocabulary, CpmBeeTokenizer
from huayu.models.viscpm_chat import (
    VisCPMChatForConditionalGeneration,
    VisCPMChatProcessor,
    VisCPMImageProcessor,
)
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import NUM_CLASSES, NUM_QUERIES, chat_config
from huayu.training.mini_chat.language import Reader, SlotWords, names_of
from huayu.training.mini_chat.reading import LABELS, ReadingHeads
from huayu.training.mini_chat.rows import like_lengths
from huayu.training.mini_chat.scoring import right_answers
from huayu.training.mini_chat.vision import SIZE, SightHeads, SlotEye, see


class Told(NamedTuple):
    """The loss of the answers, or which rows are right (B,); losses of reading; picture embeddings (N, Q, D), states
    of patches and of queries."""

    answer: Tensor
    reading: dict[str, Tensor]
    seen: Tensor
    patches: Tensor
    queries: Tensor


class Joined(nn.Module):
    """The whole chat model, with the training-only heads of the eye and the ideal words of the slots."""

    def __init__(self, vocabulary: BeeVocabulary) -> None:
        super().__init__()
        self.chat = VisCPMChatForConditionalGeneration(chat_config(len(vocabulary)))
        width = self.chat.config.vision_config.hidden_size
        self.heads = SightHeads(width)
        self.words = SlotWords(self.chat.config.text_config.hidden_size, names_of(vocabulary))
        self.reading = ReadingHeads(self.chat.config.text_config.hidden_size)

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
        joined.reading.load_state_dict(reader.reading.state_dict())
        joined.heads.load_state_dict(eye.heads.state_dict())
        return joined

    def forward(self, pixels: Tensor, rows: Batch, loss_only: bool = True) -> Told:
        """``rows["picture"]`` tells which picture each row is about."""
        patches, queries = see(self.chat.vision_encoder, self.chat.query_tokens, pixels)
        seen = self.chat.projector(queries)
        embeds = seen.to(self.chat.language_model.dtype)
        answers: list[Tensor] = []
        reading: dict[str, Tensor] = {}
        for part, share in like_lengths(rows):
            picture = part.pop("picture")
            labels = {name: part.pop(name) for name in LABELS}
            out = self.chat(
                image_embeds=embeds[picture][:, None], loss_only=loss_only, output_hidden_states=True, **part
            )
            answers.append(share * out.loss if loss_only else right_answers(out.logits, part["labels"]))
            for name, loss in self.reading.losses(out.hidden_states, part["image_token_index"], labels).items():
                reading[name] = reading.get(name, 0) + share * loss
        return Told(torch.stack(answers).sum() if loss_only else torch.cat(answers), reading, seen, patches, queries)


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


def export_chat(chat: VisCPMChatForConditionalGeneration, vocabulary: str, folder: Path) -> None:
    """Write the model as users open it: fp16 safetensors, configuration, vocabulary, generation settings."""
    chat = chat.cpu().half().eval()
    chat.config.dtype = torch.float16
    chat.generation_config.update(do_sample=False, max_new_tokens=64, pad_token_id=0, bos_token_id=6, eos_token_id=7)
    chat.save_pretrained(folder)
    tokenizer = CpmBeeTokenizer(vocabulary)
    processor = VisCPMChatProcessor(VisCPMImageProcessor(SIZE), tokenizer, num_query_tokens=NUM_QUERIES)
    processor.save_pretrained(folder)
