"""CLIP and Chinese-CLIP, the library's own classes, as rankers."""

# N pictures, T tokens

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huayu.checkpoints.find import Source, locate, read_config
from huayu.checkpoints.library import from_folder
from huayu.errors import ModelError
from huayu.runtime.device import pick_device
from huayu.runtime.memory import guarded

if TYPE_CHECKING:
    import torch
    from PIL import Image


class _ClipRanker:
    """Scores are the model's ``logits_per_image``: scaled cosines of picture and prompt."""

    model_type: str
    classes: tuple[str, str, str]

    def __init__(self, source: str | Path, *, device: str | torch.device | None = None) -> None:
        found = locate(source, kind="ranker")
        if (came := _model_type(found)) != self.model_type:
            raise ModelError(
                f"{found.name} is a {came}, not a {self.model_type}.",
                f"{found.name} 是 {came}，不是 {self.model_type}。",
            )
        model, tokenizer, processor = self.classes
        self.name = found.name
        self.tokenizer: Any = from_folder(tokenizer, found.path)
        self.processor: Any = from_folder(processor, found.path)
        self.model: Any = from_folder(model, found.path).to(pick_device(device))

    def __call__(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
        """One score for each picture (RGB). Source: spec viscpm §5.4, the diagonal of ``logits_per_image``."""
        import torch

        if not images:
            return []
        longest = self.model.config.text_config.max_position_embeddings
        with torch.inference_mode(), guarded():
            text = self.tokenizer([prompt], truncation=True, max_length=longest, return_tensors="pt")
            pixels = self.processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
            # One prompt for all pictures: its one column (N, 1) is the published diagonal of equal columns.
            scores = self.model(**text.to(self.model.device), **pixels.to(self.model.device)).logits_per_image
        return [float(score) for score in scores[:, 0]]


class ChineseClipRanker(_ClipRanker):
    """For Chinese prompts; published with VisCPM-Paint as ``OFA-Sys/chinese-clip-vit-base-patch16``.

    ``source``: folder or hub id. Raises CheckpointError for what cannot be opened, ModelError for another model.
    """

    model_type = "chinese_clip"
    classes = ("ChineseCLIPModel", "BertTokenizer", "ChineseCLIPImageProcessorPil")


class ClipRanker(_ClipRanker):
    """For English prompts: any CLIP. Arguments and errors as :class:`ChineseClipRanker`."""

    model_type = "clip"
    classes = ("CLIPModel", "CLIPTokenizer", "CLIPImageProcessorPil")


RANKERS: tuple[type[_ClipRanker], ...] = (ChineseClipRanker, ClipRanker)


def open_ranker(source: str | Path, *, device: str | torch.device | None = None) -> ChineseClipRanker | ClipRanker:
    """The ranker for what ``source`` (a folder or hub id) holds. Raises ModelError for neither kind of CLIP."""
    found = locate(source, kind="ranker")
    for ranker in RANKERS:
        if ranker.model_type == _model_type(found):
            return ranker(found.path, device=device)  # type: ignore[return-value]
    raise ModelError(f"{found.name} is no CLIP or Chinese-CLIP.", f"{found.name} 不是 CLIP 或 Chinese-CLIP。")


def _model_type(source: Source) -> str:
    return str((read_config(source.folder) or {}).get("model_type") or "model without a type")
