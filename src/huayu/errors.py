"""The errors that huayu raises: each says one plain sentence, in English and in Chinese."""

from __future__ import annotations

from typing import Any


class HuayuError(Exception):
    """Base of all errors meant for users. ``str(error)`` is the English sentence."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.en = en
        self.zh = zh

    def __reduce__(self) -> tuple[Any, ...]:
        """Subclasses take other arguments; what they made of them is what travels between processes."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[HuayuError], arguments: tuple[Any, ...], state: dict[str, Any]) -> HuayuError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class ImageError(HuayuError):
    """A picture cannot be read, or is over a cap."""


class PictureTooLarge(ImageError):
    """A picture is over the cap of bytes or pixels."""


class PromptError(HuayuError):
    """A question is empty, malformed or longer than the model's context."""


class CheckpointError(HuayuError):
    """Weights, configuration or vocabulary are missing, foreign, damaged or unsafe."""


class ModelError(HuayuError):
    """No such model, or a model that cannot do what is asked of it."""


class LabelError(HuayuError):
    """A picture's record or label is missing, damaged, or was edited."""


class Cancelled(HuayuError):
    """The caller stopped the work."""

    def __init__(self) -> None:
        super().__init__("Stopped.", "已停止。")


class OptionError(HuayuError, ValueError):
    """An option is out of range, or does not belong to the chosen search."""


class OutOfMemory(HuayuError):
    """The device has not enough memory for this. ``hint_en``, ``hint_zh``: what to try."""

    def __init__(
        self,
        hint_en: str = "try a smaller format (--dtype float16), fewer beams, a shorter answer, "
        "or CUDA_MEMORY_CPMBEE_MAX to keep part of the model in main memory",
        hint_zh: str = "可改用更小的数据格式（--dtype float16）、更少的束、更短的答案，"
        "或设置 CUDA_MEMORY_CPMBEE_MAX 让部分模型留在主内存",
    ) -> None:
        super().__init__(f"The device is out of memory; {hint_en}.", f"设备内存不足；{hint_zh}。")
