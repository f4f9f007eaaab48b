"""VisualGLM at the size of huayu-glm-mini: ChatGLM, a ViT of 128 pixels with a stem, and a Q-Former."""

# B rows, N pictures, Q queries, S side in pixels, T tokens, P patches, D width, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import Blip2QFormerConfig, Blip2QFormerModel, Blip2VisionConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from huayu.data import mini_sentencepiece
from huayu.data.dialogues import Turn
from huayu.data.scenes import GRID as PATCH_GRID
from huayu.data.visualglm_examples import IGNORED, Example, build_example
from huayu.data.visualglm_examples import collate as padded
from huayu.models.chatglm import ChatGLMConfig, ChatGLMForCausalLM, ChatGLMTokenizer
from huayu.models.visualglm import VisualGLMConfig, VisualGLMForConditionalGeneration, VisualGLMProcessor
from huayu.models.visualglm.processing import MEAN, STD, VisualGLMImageProcessor
from huayu.runtime.language import language_of
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import EYE_WIDTH, GRID, NUM_QUERIES, SIZE, WORD_WIDTH

# What a token attends to is told loudly from the start: beside a residual times sqrt(2 · layers) it is hardly heard.
# Of the answers 24 % were exact after 500 steps, 49 % after 750; made quieter, as deep models want it, 15 % after 500.
LOUD = 2.0
LONGEST = 1024  # tokens of a row; none is as long
SAME = 1.4  # how much more a query attends to patches of its cell at the start


class Eye(nn.Module):
    """What of the chat model makes queries of pictures."""

    def __init__(self) -> None:
        super().__init__()
        mute = ChatGLMConfig(vocab_size=1, hidden_size=4, num_hidden_layers=0, num_attention_heads=1)
        chat = VisualGLMForConditionalGeneration(whole_config(mute))
        self.vision_encoder, self.qformer, self.query_tokens = chat.vision_encoder, chat.qformer, chat.query_tokens
        _look_at_cells(self.vision_encoder.embeddings.position_embedding, self.query_tokens, self.qformer)


class VisualGLM:
    """See :class:`huayu.training.mini_chat.families.Family`."""

    linear_projector = True
    most_pictures = 1

    def __init__(self, vocabulary: str, layers: int) -> None:
        self.file, self.layers = Path(vocabulary), layers

    @cached_property
    def tokenizer(self) -> ChatGLMTokenizer:
        """Made where there is none."""
        if not self.file.exists():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            mini_sentencepiece.build(self.file)
        return ChatGLMTokenizer(str(self.file))

    def __len__(self) -> int:
        return int(self.tokenizer.vocab_size)

    def words(self) -> list[str]:
        return list(self.tokenizer.convert_ids_to_tokens(list(range(len(self)))))

    def encode(self, text: str) -> list[int]:
        pieces = self.tokenizer.tokenize(text.strip())
        return self.tokenizer.convert_tokens_to_ids(pieces[1:] if pieces[0] == "\u2581" else pieces)

    def row(self, turns: Sequence[Turn], last: int, pictures: int) -> Example:
        """Source: spec visualglm §6, 9."""
        return build_example(
            self.tokenizer,
            turns[last].question,
            turns[last].answer,
            history=[(turn.question, turn.answer) for turn in turns[:last]],
            picture=pictures == 1,
            english=language_of(turns[last].question) == "en",
            image_length=NUM_QUERIES,
            max_source_length=LONGEST,
            max_target_length=LONGEST,
        )

    def collate(self, rows: Sequence[Example]) -> Batch:
        batch = padded(rows, self.tokenizer.pad_token_id, image_length=NUM_QUERIES)
        told = batch["input_ids"] == self.tokenizer.bos_token_id
        answer = told.long().cumsum(1)
        following = torch.roll(batch["labels"], -1, 1)
        following[:, -1] = IGNORED
        positions = [torch.tensor(self.tokenizer.position_rows(row.input_ids)).T for row in rows]
        return {
            **batch,
            "labels": torch.where(answer > 0, following, IGNORED),  # <sop> itself is given
            "is_context": (1 - answer) * batch["attention_mask"],
            "position_ids": pad_sequence(positions, batch_first=True).transpose(1, 2),
        }

    def language_model(self) -> ChatGLMForCausalLM:
        model = ChatGLMForCausalLM(text_config(self.tokenizer, self.layers))
        for number, layer in enumerate(model.model.layers):
            layer.attention.o_proj.weight.data.mul_(LOUD)
            if number < 2:  # like attends to like: a noun to the slot of such a thing
                query, key, _ = layer.attention.qkv_proj.weight.data.chunk(3)
                key.copy_(query)
        return _tied(model)

    def word_vectors(self, model: ChatGLMForCausalLM) -> Tensor:
        return model.model.embed_tokens.weight

    def embed(self, model: ChatGLMForCausalLM, ids: Tensor) -> Tensor:
        return model.model.embed_tokens(ids)

    def read(self, model: ChatGLMForCausalLM, embeds: Tensor, rows: Batch, loss_only: bool) -> CausalLMOutputWithPast:
        out = model.model(
            inputs_embeds=embeds,
            attention_mask=rows["attention_mask"],
            position_ids=rows["position_ids"],
            use_cache=False,
            output_hidden_states=True,
        )
        states, labels = out.last_hidden_state, rows["labels"]
        if not loss_only:
            return CausalLMOutputWithPast(logits=model.lm_head(states), hidden_states=out.hidden_states)
        learnt = labels != IGNORED
        loss = F.cross_entropy(model.lm_head(states[learnt]).float(), labels[learnt])
        return CausalLMOutputWithPast(loss=loss, hidden_states=out.hidden_states)

    def eye(self) -> Eye:
        return Eye()

    def see(self, eye: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (MEAN, STD))
        values = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
        patches = eye.vision_encoder(values).last_hidden_state
        queries = eye.query_tokens.expand(len(values), -1, -1)
        states = eye.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
        return patches[:, 1:], states

    def chat(self) -> VisualGLMForConditionalGeneration:
        chat = VisualGLMForConditionalGeneration(whole_config(text_config(self.tokenizer, self.layers)))
        _tied(chat.language_model)
        return chat

    def fit_hidden(self, _chat: VisualGLMForConditionalGeneration, _head: nn.Linear) -> nn.Module:
        return nn.Identity()

    def last_linear(self, chat: VisualGLMForConditionalGeneration) -> nn.Linear:
        return chat.projector

    def save(self, chat: VisualGLMForConditionalGeneration, folder: Path) -> None:
        text = chat.config.text_config
        chat.generation_config.update(
            do_sample=False,
            max_new_tokens=64,
            pad_token_id=text.pad_token_id,
            bos_token_id=text.bos_token_id,
            eos_token_id=text.eos_token_id,
        )
        head = chat.language_model.lm_head
        head.weight = nn.Parameter(head.weight.detach().clone())
        chat.save_pretrained(folder)
        VisualGLMProcessor(VisualGLMImageProcessor(SIZE), self.tokenizer, NUM_QUERIES).save_pretrained(folder)


def _tied(model: ChatGLMForCausalLM) -> ChatGLMForCausalLM:
    """Words are written by what they are read by while it learns: what a slot shows is then nearly its name."""
    model.lm_head.weight = model.model.embed_tokens.weight
    return model


@torch.no_grad()
def _look_at_cells(positions: Tensor, query_tokens: Tensor, qformer: Blip2QFormerModel) -> None:
    """Each query begins by attending to the patches of its cell, and the last to all of them alike."""
    cells = torch.randn(GRID, GRID, positions.shape[-1])
    side = PATCH_GRID // GRID
    patches = cells.repeat_interleave(side, 0).repeat_interleave(side, 1).flatten(0, 1)
    positions[0, 1:] = 0.4 * patches + 0.2 * torch.randn_like(patches)
    query_tokens[:-1] = cells.flatten(0, 1)
    query_tokens[-1] = 0.1 * torch.randn(len(query_tokens[-1]))
    for layer in qformer.encoder.layer:
        attention = layer.crossattention.attention
        nn.init.orthogonal_(attention.query.weight, gain=SAME)
        attention.key.weight.copy_(attention.query.weight)


def whole_config(text: ChatGLMConfig) -> VisualGLMConfig:
    """Of the model around a language model."""
    return VisualGLMConfig(
        text_config=text,
        vision_config=vision_config(),
        qformer_config=qformer_config(),
        image_length=NUM_QUERIES,
        stem_channels=[32, 64, 128],
        stem_depth=2,
    )


def text_config(tokenizer: ChatGLMTokenizer, layers: int) -> ChatGLMConfig:
    """Words and slots are about as long as those of CPM-Bee at this size."""
    return ChatGLMConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=WORD_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        inner_hidden_size=3 * WORD_WIDTH,
        initializer_range=WORD_WIDTH**-0.5,
        pad_token_id=tokenizer.pad_token_id,
        unk_token_id=tokenizer.unk_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        mask_token_id=tokenizer.mask_token_id,
        gmask_token_id=tokenizer.gmask_token_id,
    )


def vision_config() -> Blip2VisionConfig:
    """An 8×8 grid of patches."""
    return Blip2VisionConfig(
        image_size=SIZE,
        patch_size=SIZE // PATCH_GRID,
        hidden_size=EYE_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=512,
        initializer_range=0.05,
    )


def qformer_config() -> Blip2QFormerConfig:
    """Both of its layers look at the picture."""
    return Blip2QFormerConfig(
        hidden_size=EYE_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=512,
        encoder_hidden_size=EYE_WIDTH,
        cross_attention_frequency=1,
        initializer_range=0.05,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
