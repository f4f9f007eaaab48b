"""``huayu train RECIPE`` and, for a model of two models of one's own, ``huayu train align``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from huayu.cli.common import Device, Dtype
from huayu.runtime.language import say


class _RecipeByDefault(TyperGroup):
    """What is no command is the recipe to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["recipe", *args]
        return super().parse_args(ctx, args)


train = typer.Typer(cls=_RecipeByDefault, no_args_is_help=True, help="Train by a recipe, or join models · 训练")


@train.command()
def recipe(
    recipe: Annotated[str, typer.Argument(help="Recipe's name or file · 训练配方")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes · 修改项")] = None,
) -> None:
    """Train by a recipe; the word may be left out · 按配方训练，此词可省"""
    from huayu import training

    raise typer.Exit(training.main(recipe, overrides or []))


@train.command()
def align(
    data: Annotated[Path, typer.Argument(help="Captions or LLaVA rows: JSON, JSONL, TSV · 图文数据")],
    vision: Annotated[str, typer.Option(help="Any vision encoder of Hugging Face · 视觉编码器")] = "",
    language: Annotated[str, typer.Option(help="Any causal language model of it · 语言模型")] = "",
    model: Annotated[str, typer.Option(help="Instead of both: one aligned before · 先前对齐过的模型")] = "",
    connector: Annotated[str, typer.Option(help="queries, mlp · 连接方式")] = "queries",
    queries: Annotated[int, typer.Option(min=1, help="Embeddings of a picture · 每张图片的嵌入数")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="Of the queries' transformer · 查询部分的层数")] = 2,
    lora: Annotated[bool, typer.Option("--lora", help="Then the language model learns · 随后语言模型也学习")] = False,
    instructions: Annotated[Path | None, typer.Option(help="Rows for that; none: DATA · 该阶段的数据")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of LoRA · 秩")] = 16,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run · 结果文件夹")] = Path("runs/align"),
    check: Annotated[Path | None, typer.Option(help="Rows to check with; none: some of DATA · 检验数据")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of the pictures · 图片所在文件夹")] = None,
    trust_pictures: Annotated[bool, typer.Option("--trust-pictures", help="Looked over before · 已检查过")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Of each part · 每阶段步数")] = 2000,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step · 每步行数")] = 8,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches of a step · 梯度累积")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Of the connector · 连接部分的学习率")] = 1e-3,
    lora_rate: Annotated[float, typer.Option(help="Of LoRA · 低秩适配的学习率")] = 2e-4,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures · 读图进程数")] = 0,
    seed: Annotated[int, typer.Option(help="Of the order and the start · 随机种子")] = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Join a vision encoder and a language model of your choice · 连接自选的视觉编码器与语言模型"""
    from huayu.errors import OptionError

    if connector not in ("queries", "mlp"):
        raise OptionError("--connector is queries or mlp.", "--connector 只能是 queries 或 mlp。")
    from huayu.training.align.run import run
    from huayu.training.loop import LoopSettings

    stage: dict[str, Any] = {
        "vision": vision, "language": language, "model": model, "data": str(data), "evaluation": str(check or ""),
        "pictures": str(pictures or ""), "connector": connector, "queries": queries, "layers": layers, "rank": rank,
        "dtype": dtype or "", "seed": seed, "check_pictures": not trust_pictures,
    }  # fmt: skip
    loop = LoopSettings(
        output=str(output), steps=steps, batch_size=batch_size, accumulate=accumulate, learning_rate=learning_rate,
        warmup=max(1, steps // 33), evaluate_every=max(50, steps // 10), log_every=max(1, steps // 100),
        workers=workers, device="cpu" if device == "cpu" else "auto",
    )  # fmt: skip
    report = run(stage, loop, lora=lora, instructions=str(instructions or ""), learning_rate=lora_rate)
    for row in report["answers"][:3]:
        print(f"  {row['question']} → {row['answer']}")
    print(say(f"The model: {output / 'model'}", f"模型：{output / 'model'}"))
