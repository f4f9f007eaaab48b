"""VisCPM's own chat class: the same arguments, results and search. Source: spec viscpm §3.4."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huayu.chat.conversation import Picture
from huayu.chat.loading import open_viscpm
from huayu.chat.options import Settings
from huayu.checkpoints.find import locate
from huayu.errors import CheckpointError, PromptError
from huayu.runtime.language import language_of, say
from huayu.runtime.memory import guarded
from huayu.safety import Guard, default_guard, objections

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

_LOG = logging.getLogger("huayu")


class VisCPMChat:
    """Opens a VisCPM-Chat model on the GPU (half precision) or the CPU (float32).

    ``model_path``: the published file, its folder or name, or a converted folder. ``config_path``: a json of CPM-Bee's
    sizes; None takes those of the weights. ``image_safety_checker``: Stable Diffusion's, from ``safety_checker`` beside
    the model, and open_nsfw if installed; without either a warning says that pictures are not checked. (The published
    class looked at the inverted picture and only printed the outcome: spec §8.)

    ``CUDA_MEMORY_CPMBEE_MAX`` and ``CUDA_MEM_SAVE`` are honoured as by :func:`huayu.load_chat`.
    Raises CheckpointError and ModelError.
    """

    def __init__(
        self, model_path: str | Path, config_path: str | Path | None = None, image_safety_checker: bool = False
    ) -> None:
        settings = None if config_path is None else _read_sizes(Path(config_path))
        self.backend = open_viscpm(model_path, settings=settings, verbatim=True)
        folder = locate(model_path, kind="chat").folder
        self.guard = default_guard(folder, prompt=False) if image_safety_checker else Guard()
        if image_safety_checker and not self.guard.picture_checks:
            _LOG.warning(
                "%s",
                say(
                    f"Pictures are not checked: {folder} has no safety_checker, and huayu[safety] is not installed.",
                    f"图片不做检查：{folder} 中没有 safety_checker，也未安装 huayu[safety]。",
                ),
            )

    def chat(
        self,
        image: Image.Image | None,
        question: str,
        context: str = "",
        vision_hidden_states: Tensor | None = None,
    ) -> tuple[str, str, Tensor | None]:
        """``(answer, context, vision_hidden_states)``; hand the last two to the next turn.

        ``image``: RGB; not looked at when ``vision_hidden_states`` (1, Q, D) of an earlier turn are given. Texts are
        taken as they are: a single ``<`` in one raises PromptError, ``<<`` is the character. The answer, too, has
        ``<<`` for ``<``. Beam search with 3 beams, at most 512 tokens, as published. A picture that is found unsafe is
        not looked at: the answer says why, and the other two come back unchanged. Raises PromptError, OutOfMemory.
        """
        if not question:
            raise PromptError("The question is empty (0 characters; at least 1).", "问题为空（0 个字；至少 1 个）。")
        with guarded():
            if vision_hidden_states is None and image is not None:
                refused = objections(self.guard.picture(image.convert("RGB"))[1])
                if refused:
                    zh = language_of(question) == "zh"
                    return refused[0].reason_zh if zh else refused[0].reason_en, context, None
                vision_hidden_states = self.backend.image_embeds([Picture(image.convert("RGB"))])
            prompt = self.backend.prepare_raw(context, question, vision_hidden_states)
            pieces = self.backend.generate([prompt], _published_search(), threading.Event())
            answer = "".join(piece.text for piece in pieces)
        return answer, f"{context}User: {question}\nAI: {answer}\n", vision_hidden_states


def _published_search() -> Settings:
    from huayu.models.viscpm_chat.checkpoint import PUBLISHED_GENERATION

    return Settings(search="beam", **PUBLISHED_GENERATION)


def _read_sizes(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text("utf-8"))
        if not isinstance(settings, dict) or "dim_model" not in settings:
            raise ValueError("dim_model is not in it")
    except (OSError, ValueError) as problem:
        raise CheckpointError(
            f"{path} is not a json of CPM-Bee's sizes: {problem}.", f"{path} 不是 CPM-Bee 的尺寸 json：{problem}。"
        ) from problem
    return settings
