"""Published folders and hub names behind the library's own ``AutoModel`` and ``AutoTokenizer``.

A published ``config.json`` says ``chatglm``, as that of our language model does: its contents tell them apart. The
configuration it becomes is of a class without a tokenizer of its own, so that the library finds ours by its name and
leaves the code in the repository alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import open_model
from huayu.models.chatglm import ChatGLMConfig
from huayu.models.visualglm.configuration import VisualGLMConfig
from huayu.models.visualglm.modeling import VisualGLMForConditionalGeneration
from huayu.runtime.device import pick_dtype

# What the Auto classes hand on besides, and what is so in any case.
_IDLE = {"trust_remote_code", "adapter_kwargs", "low_cpu_mem_usage", "_from_auto"}


class PublishedTextConfig(ChatGLMConfig):
    """Of ChatGLM-6B; its tokenizer is opened by it."""


class PublishedConfig(VisualGLMConfig):
    """Of VisualGLM-6B."""


class ByContents(ChatGLMConfig):
    """What ``chatglm`` stands for in a ``config.json``."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Ours as it is; a published one as one of the classes above."""
        if "num_layers" not in config_dict:
            return ChatGLMConfig.from_dict(config_dict, **kwargs)
        kind: Any = PublishedConfig if "eva_config" in config_dict else PublishedTextConfig
        unused = kwargs.pop("return_unused_kwargs", False)
        kwargs.pop("name_or_path", None)
        config = kind.from_published(config_dict)
        return (config, kwargs) if unused else config


class PublishedModel(VisualGLMForConditionalGeneration):
    """What ``AutoModel`` opens a published checkpoint by; the model it gives is of our own class."""

    config_class = PublishedConfig

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | Path,
        *,
        config: Any = None,  # noqa: ARG003 (the Auto classes hand it on; the checkpoint is asked itself)
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        **others: Any,
    ) -> VisualGLMForConditionalGeneration:
        """A model in evaluation mode, on the CPU; ``dtype`` None or ``"auto"``: the checkpoint's own.

        Raises CheckpointError, and TypeError for an argument that would have no effect: convert the checkpoint first.
        """
        if odd := sorted(others.keys() - _IDLE):
            raise TypeError(f"{odd[0]} has no effect on a published checkpoint; `huayu convert` it first")
        local = revision is None or Path(name).exists()
        source = locate(name if local else f"{name}@{revision}")
        wish = dtype or torch_dtype or "auto"
        model: Any = open_model(source, None if wish == "auto" else pick_dtype(wish, torch.device("cpu"))).model
        return model  # type: ignore[no-any-return]
