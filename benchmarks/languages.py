"""Language models to time, with random weights in fp32: CPM-Bee as in VisCPM-Chat, ChatGLM as in VisualGLM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Language(ABC):
    """A family at one size. ``prefix``: of the names of its figures."""

    prefix: str
    sizes: dict[str, int]

    @abstractmethod
    def build(self) -> Any:
        """The model."""

    @abstractmethod
    def prompts(self, batch: int, tokens: int) -> Inputs:
        """Model inputs: ``batch`` questions of ``tokens`` tokens each, the answer's first included."""

    @abstractmethod
    def greedy_steps(self, model: Any, inputs: Inputs) -> Callable[[], Any]:
        """One step after another, each feeding the likeliest token of the one before; the prompt is read at once."""

    def output(self, model: Any) -> Any:
        """The vocabulary's matrix."""
        return model.get_output_embeddings().weight


class Bee(Language):
    """CPM-Bee, whose prompts are packed."""

    def build(self) -> Any:
        from huayu.models.cpm_bee import CpmBeeConfig, CpmBeeForCausalLM

        return random(CpmBeeForCausalLM, CpmBeeConfig(**self.sizes))

    def prompts(self, batch: int, tokens: int) -> Inputs:
        return prompts(self.sizes["vocab_size"], batch, tokens)

    def greedy_steps(self, model: Any, inputs: Inputs) -> Callable[[], Any]:
        import torch

        from huayu.generation.published import ModelStepper

        stepper = ModelStepper(model, inputs, num_beams=1, max_steps=4096)
        segment = inputs["segment_ids"][:, -1]
        tokens, position = inputs["input_ids"][:, -1], 0

        def step() -> None:
            nonlocal tokens, position
            position += 1
            tokens = stepper.step(tokens, segment, torch.full_like(segment, position)).argmax(-1)

        return step

    def output(self, model: Any) -> Any:
        return model.get_input_embeddings().weight


class Glm(Language):
    """ChatGLM; its special tokens are the last of the vocabulary."""

    def build(self) -> Any:
        from huayu.models.chatglm import ChatGLMConfig, ChatGLMForCausalLM

        return random(ChatGLMForCausalLM, ChatGLMConfig(**self.sizes, **self._ids()))

    def _ids(self) -> dict[str, int]:
        names = ("mask_token_id", "gmask_token_id", "bos_token_id", "eos_token_id")
        return {name: self.sizes["vocab_size"] - 8 + at for at, name in enumerate(names)}

    def prompts(self, batch: int, tokens: int) -> Inputs:
        import torch

        ids = 10 + (7 * torch.arange(tokens) + torch.arange(batch)[:, None]) % (self.sizes["vocab_size"] - 20)
        ids[:, -2:] = torch.tensor([self._ids()["gmask_token_id"], self._ids()["bos_token_id"]])
        return {"input_ids": ids}

    def greedy_steps(self, model: Any, inputs: Inputs) -> Callable[[], Any]:
        import torch

        from huayu.generation.cache import GrowingCache

        cache, ids = GrowingCache(), inputs["input_ids"]
        settings = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
        tokens = model(ids, **settings).logits.argmax(-1)
        positions = torch.tensor([ids.shape[1] - 2, 1]).view(1, 2, 1).repeat(len(ids), 1, 1)

        def step() -> Any:
            nonlocal tokens
            positions[:, 1] += 1
            logits = model(tokens, position_ids=positions, **settings).logits
            tokens = logits.argmax(-1)
            return logits

        return step


def random(kind: Any, config: Any) -> Any:
    """A model of this class and configuration, filled with numbers."""
    import torch

    with torch.device("meta"):
        model = kind(config)
    model = model.to_empty(device="cpu").eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1) if "norm" in name else parameter.normal_(std=0.02, generator=draw)
    return model


def prompts(vocab_size: int, batch: int, tokens: int, picture_tokens: int = 0, start_answer: bool = True) -> Inputs:
    """``batch`` packed questions of ``tokens`` tokens each, the answer's first included if it is to ``start``.

    With ``picture_tokens`` each begins with the places of a picture.
    """
    from huayu.models.cpm_bee.packing import collate, pack
    from huayu.models.cpm_bee.vocabulary import BeeVocabulary

    special = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>"]
    special += ["image", "context", "question"]
    words = [f"«{n}»" for n in range(vocab_size - len(special))]
    vocabulary = BeeVocabulary([*special, *words])
    picture = {"image": "<unk>" * picture_tokens} if picture_tokens else {}

    def item(length: int, row: int = 0) -> Any:
        text = "".join(words[(7 * at + row) % len(words)] for at in range(length))
        return pack({**picture, "context": "", "question": text, "<ans>": ""}, vocabulary, for_generation=True)

    around = len(item(0).input_ids) + start_answer
    items = [item(tokens - around, row) for row in range(batch)]
    return collate(items, vocabulary, padding="left", start_answer=start_answer)
