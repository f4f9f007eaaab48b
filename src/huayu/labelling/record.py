"""What painted a picture, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from huayu.errors import LabelError


@dataclass(frozen=True)
class PaintRecord:
    """Prompt, seed and settings of one painted picture; enough to paint it again.

    ``created``: ISO 8601 with a time zone. ``version``: huayu's. ``producer``: name or code of whoever offers the
    painting as a service, for the machine-readable label.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    created: str = ""
    version: str = ""
    producer: str = "huayu"

    def to_json(self) -> str:
        """JSON text in one canonical form."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> PaintRecord:
        """Reads what :meth:`to_json` wrote. Raises LabelError for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as problem:
            raise LabelError(
                f"The picture's record is damaged: {problem}.", f"图片记录已损坏：{problem}。"
            ) from problem
