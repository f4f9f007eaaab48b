"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str | None, typer.Option(help="Name, folder, file or hub id · 模型名、文件夹、文件或 hub id")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps · 设备")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16, bfloat16 · 数据格式")]
Quantize = Annotated[str | None, typer.Option(help="int8, int4 · 量化")]
Vocab = Annotated[Path | None, typer.Option(help="Vocabulary of a published model · 已发布模型的词表")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line · 每行一个 JSON 对象")]
