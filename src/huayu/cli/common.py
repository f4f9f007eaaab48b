"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from huayu.errors import OptionError
from huayu.runtime.packages import require

if TYPE_CHECKING:
    from huayu.serving.settings import ServeSettings

Model = Annotated[str | None, typer.Option(help="Name, folder, file or hub id · 模型名、文件夹、文件或 hub id")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps · 设备")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16, bfloat16 · 数据格式")]
Quantize = Annotated[str | None, typer.Option(help="int8, int4 · 量化")]
Vocab = Annotated[Path | None, typer.Option(help="Vocabulary of a published model · 已发布模型的词表")]
Ranker = Annotated[str | None, typer.Option(help="(Chinese-)CLIP, scores candidates: folder, hub id · 排序模型")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line · 每行一个 JSON 对象")]


def serve_settings(extra: str, packages: tuple[str, ...], given: dict[str, Any]) -> ServeSettings:
    """What was ``given`` (None, empty and False are not) over the environment and the defaults.

    Raises ModelError when one of the ``packages`` of the ``extra`` is missing, OptionError for a value that is wrong.
    """
    for package in packages:
        require(package, extra)
    from pydantic import ValidationError

    from huayu.serving.settings import ServeSettings

    try:
        return ServeSettings(**{name: value for name, value in given.items() if value not in (None, (), False)})
    except ValidationError as error:
        first = error.errors()[0]
        word = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise OptionError(word, word) from error
