"""The arguments of ``huayu quantize``, and those it shares with ``huayu convert``, which does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huayu.cli.common import Dtype, Vocab

From = Annotated[str, typer.Argument(metavar="SRC", help="Name, folder, file or hub id · 来源")]
To = Annotated[Path, typer.Argument(metavar="DST", help="New folder · 目标文件夹")]
ShardSize = Annotated[str, typer.Option(help="Largest file of weights · 单个权重文件上限")]
Fingerprint = Annotated[bool, typer.Option(help="Record a VisualGLM's fingerprint · 记录 VisualGLM 的指纹")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar · 不显示进度")]


def quantize(
    source: From,
    target: To,
    bits: Annotated[str, typer.Option("--bits", "--quantize", "--quant", help="8 (int8), 4 (int4) · 位数")],
    scope: Annotated[str, typer.Option(help="published; lean: tables and vision, too · 范围")] = "published",
    dtype: Dtype = None,
    max_shard_size: ShardSize = "2GB",
    vocab: Vocab = None,
    to: Annotated[str | None, typer.Option(help="hf: a folder as published · 写成已发布的格式")] = None,
    fingerprint: Fingerprint = True,
    quiet: Quiet = False,
) -> None:
    """A chat model in 8 or 4 bits, as a folder · 写成 8 位或 4 位的模型"""
    from huayu.cli import convert as command

    command.run(
        source, target, dtype=dtype, max_shard_size=max_shard_size, vocab=vocab, to=to, bits=bits, scope=scope,
        fingerprint=fingerprint, quiet=quiet,
    )  # fmt: skip
