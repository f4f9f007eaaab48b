"""The arguments of ``huayu paint``; the work is in :mod:`huayu.cli.painting`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import typer

from huayu.cli.common import AsJson, Device, Dtype, Model, Quantize, Vocab


def paint(
    prompt: Annotated[str | None, typer.Argument(help="What to paint · 画什么")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PNG, or a folder · PNG 文件或文件夹")] = None,
    model: Model = None,
    n: Annotated[int, typer.Option("--n", "-n", help="How many pictures · 张数")] = 1,
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture · 随机种子")] = None,
    size: Annotated[str | None, typer.Option(help="512 or 512x384, multiples of 8 · 大小")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps · 去噪步数")] = None,
    guidance: Annotated[float | None, typer.Option(help="Closeness to the words · 引导强度")] = None,
    negative: Annotated[str, typer.Option(help="What should not be seen · 不想看到的内容")] = "",
    scheduler: Annotated[str | None, typer.Option(help="dpm++, unipc, euler, ddim, pndm, ddpm · 调度器")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="The published procedure · 已发布的过程")] = False,
    image: Annotated[str | None, typer.Option(help="Start from this picture · 起始图片")] = None,
    mask: Annotated[str | None, typer.Option(help="Repaint only where white · 只重画白色处")] = None,
    strength: Annotated[float | None, typer.Option(help="How far from --image, 0 … 1 · 改动程度")] = None,
    rerank: Annotated[int, typer.Option(help="Best of so many, by --ranker · 从多张中选优")] = 1,
    ranker: Annotated[str | None, typer.Option(help="A (Chinese-)CLIP: folder or hub id · 排序模型")] = None,
    check: Annotated[int | None, typer.Option(help="Look, repaint up to so often · 看图并重画的次数")] = None,
    check_model: Annotated[str | None, typer.Option(help="Chat model that looks · 看图的对话模型")] = None,
    mark: Annotated[str | None, typer.Option(help="zh, en: visible AI mark · 可见的 AI 标识")] = None,
    safety: Annotated[str, typer.Option(help="block, blur, allow · 安全策略")] = "block",
    batch: Annotated[Path | None, typer.Option(help="File of prompts, a line each · 提示词文件")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Painted together · 同时绘制的张数")] = None,
    sheet: Annotated[Path | None, typer.Option(help="All pictures on one PNG · 所有图片的总览图")] = None,
    again: Annotated[Path | None, typer.Option(help="Repaint by a PNG's record · 按 PNG 的记录重画")] = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    vocab: Vocab = None,
    vae: Annotated[Path | None, typer.Option(help="VAE of a published model · 已发布模型的 VAE")] = None,
    low_memory: Annotated[bool, typer.Option("--low-memory", help="Encode, free, paint · 先编码后作画")] = False,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="File names only · 只输出文件名")] = False,
) -> None:
    """Paint from words · 用文字作画

    `huayu paint "一个红苹果" -o apple.png`. With `--batch` a line is a prompt, or a JSON object with options.
    """
    asked = SimpleNamespace(**locals())
    from huayu.cli import painting

    painting.run(asked)
