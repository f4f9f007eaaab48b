"""A golden case on the disk: its settings, its tensors, the model that its weights make."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.loading import load_into
from huayu.checkpoints.reader import open_tensors
from huayu.errors import CheckpointError
from huayu.models.beit3.configuration import Beit3Config
from huayu.models.cpm_bee.configuration import CpmBeeConfig
from huayu.models.cpm_bee.vocabulary import BeeVocabulary


class Case:
    """Files of one folder; every tensor of ``io.safetensors`` must be taken once, so none stays unchecked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = self.json("config.json")
        self.taken: set[str] = set()

    @property
    def tolerance(self) -> float:
        """Largest absolute difference of floating numbers."""
        return float(self.config["tolerance"])

    @property
    def dtype(self) -> torch.dtype:
        """What the published model was built in."""
        return torch.float16 if self.config.get("llm", {}).get("half") else torch.float32

    def path(self, name: str) -> Path:
        """A file by its path relative to the folder. Raises CheckpointError when there is none."""
        path = self.folder / name
        if not path.is_file():
            raise CheckpointError(f"{name} is missing", f"缺少 {name}")
        return path

    def json(self, name: str) -> Any:
        """A JSON file. Raises CheckpointError when it is missing or broken."""
        try:
            return json.loads(self.path(name).read_text("utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{name} is not JSON: {error}", f"{name} 不是 JSON：{error}") from error

    def lines(self, name: str) -> list[Any]:
        """A file with one JSON value per line."""
        try:
            return [json.loads(line) for line in self.path(name).read_text("utf-8").split("\n") if line]
        except ValueError as error:
            raise CheckpointError(f"{name} is not JSON lines: {error}", f"{name} 不是 JSON 行：{error}") from error

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of ``io.safetensors``."""
        return dict(open_tensors(self.path("io.safetensors")))

    def take(self, name: str) -> Tensor:
        """A tensor of ``io.safetensors``. Raises CheckpointError."""
        if name not in self.tensors:
            raise CheckpointError(f"io.safetensors has no {name}", f"io.safetensors 中没有 {name}")
        self.taken.add(name)
        return self.tensors[name]

    def has(self, name: str) -> bool:
        """Whether ``io.safetensors`` holds ``name``."""
        return name in self.tensors

    @property
    def untaken(self) -> list[str]:
        """Tensors that nothing has asked for."""
        if not (self.folder / "io.safetensors").is_file():
            return []
        return [name for name in self.tensors if name not in self.taken]

    def picture(self, name: str) -> Image.Image:
        """A picture file as RGB. Raises CheckpointError when it is broken."""
        try:
            with Image.open(self.path(name)) as image:
                return image.convert("RGB")
        except OSError as error:
            raise CheckpointError(f"{name} is not a picture: {error}", f"{name} 不是图片：{error}") from error

    @cached_property
    def vocabulary(self) -> BeeVocabulary:
        """The case's own small vocabulary."""
        return BeeVocabulary.from_file(self.path("vocab.txt"))

    def text_config(self) -> CpmBeeConfig:
        """Sizes of the language model."""
        return CpmBeeConfig.from_published(self.config["llm"])

    def vision_config(self) -> Beit3Config:
        """Sizes of the vision branch."""
        return Beit3Config.from_published(self.config["beit3"])

    def language_model(self) -> Any:
        """The language model alone, from published names without a prefix."""
        from huayu.models.cpm_bee.checkpoint import KEYMAP
        from huayu.models.cpm_bee.modeling import CpmBeeForCausalLM

        with torch.device("meta"):
            model = CpmBeeForCausalLM(self.text_config())
        return self.filled(model, KEYMAP)

    def chat_model(self) -> Any:
        """The whole VisCPM-Chat."""
        from huayu.models.viscpm_chat.checkpoint import KEYMAP
        from huayu.models.viscpm_chat.configuration import VisCPMChatConfig
        from huayu.models.viscpm_chat.modeling import VisCPMChatForConditionalGeneration

        config = VisCPMChatConfig(
            text_config=self.text_config(),
            vision_config=self.vision_config(),
            num_query_tokens=self.config["query_num"],
        )
        with torch.device("meta"):
            model = VisCPMChatForConditionalGeneration(config)
        return self.filled(model, KEYMAP)

    def filled(self, model: nn.Module, keymap: KeyMap) -> Any:
        """``model`` with the case's weights, every key accounted for, ready to run."""
        weights = open_tensors(self.path(self.config.get("weights", "weights.safetensors")))
        load_into(model, weights, keymap, self.dtype)
        return model.eval()
