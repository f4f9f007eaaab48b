"""``huayu finetune``: a chat model learns rows of pictures, questions and answers; what changed is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from huayu.cli.common import Device, Dtype, Vocab
from huayu.runtime.language import say

_GROUPS = {
    "learnt": ("rows learnt", "学过的"),
    "held": ("rows held back", "未学的"),
    "kept": ("old skills", "原有能力"),
}


def finetune(
    model: Annotated[str, typer.Argument(help="Name, folder or file of a chat model · 对话模型")],
    data: Annotated[list[str], typer.Argument(help="FILE or FILE:WEIGHT; folders, shards, a .mix · 数据，可带权重")],
    lora: Annotated[bool, typer.Option("--lora", help="Pairs beside the weights (default) · 低秩适配（默认）")] = False,
    dora: Annotated[bool, typer.Option("--dora", help="LoRA with magnitudes · 带幅度的 LoRA")] = False,
    qlora: Annotated[bool, typer.Option("--qlora", help="LoRA over 4-bit weights · 4 比特权重上的 LoRA")] = False,
    ptuning: Annotated[bool, typer.Option("--ptuning", help="P-tuning v2 (VisualGLM) · 前缀微调")] = False,
    full: Annotated[bool, typer.Option("--full", help="All weights · 全部权重")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run · 结果文件夹")] = Path(
        "runs/finetune"
    ),
    check: Annotated[Path | None, typer.Option(help="Rows to check with; none: a fifth of DATA · 检验数据")] = None,
    rehearse: Annotated[Path | None, typer.Option(help="Rows of old skills to go on with · 复习旧能力的数据")] = None,
    keep: Annotated[Path | None, typer.Option(help="Rows that tell what is forgotten · 检验遗忘的数据")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of the pictures · 图片所在文件夹")] = None,
    steps: Annotated[int, typer.Option(min=1, help="At most · 最多步数")] = 300,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a step · 每步行数")] = 4,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches of a step · 梯度累积")] = 1,
    learning_rate: Annotated[float | None, typer.Option(help="Default: by the model's size · 学习率")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of LoRA · 秩")] = 10,
    layers: Annotated[str, typer.Option(help='Of the language model, "0 14"; all · 语言模型的层')] = "",
    prefix: Annotated[int, typer.Option(min=1, help="Tokens of P-tuning · 前缀长度")] = 8,
    tune_vision: Annotated[
        bool | None, typer.Option("--tune-vision/--no-tune-vision", help="The eye learns too · 视觉部分也学习")
    ] = None,
    patience: Annotated[int, typer.Option(min=0, help="Checks without gain before it ends · 早停")] = 5,
    learn: Annotated[str, typer.Option(help="answers, or all: questions, too · 只学回答，或连问题")] = "answers",
    pack: Annotated[int, typer.Option(min=0, help="Short rows share one of so many tokens; 0: off · 合并短行")] = 0,
    ema: Annotated[float, typer.Option(min=0, max=0.99999, help="Decay of averaged weights, 0: off · 权重平均")] = 0.0,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 · 计算精度")] = "auto",
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time · 以时间换内存")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Logs for it, too · 另写其日志")] = False,
    stop_at_bad_rows: Annotated[bool, typer.Option("--stop-at-bad-rows", help="Else skipped · 否则跳过")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Also write the whole model · 另存合并后的模型")] = False,
    seed: Annotated[int, typer.Option(help="Of the order and the start · 随机种子")] = 0,
    device: Device = None,
    dtype: Dtype = None,
    vocab: Vocab = None,
) -> None:
    """Teach a chat model your own pictures · 用自己的图片微调"""
    from huayu.errors import OptionError

    chosen = {"lora": lora, "dora": dora, "qlora": qlora, "ptuning": ptuning, "full": full}
    named = [name for name, on in chosen.items() if on] or ["lora"]
    if len(named) > 1:
        raise OptionError(f"Choose one of --{', --'.join(named)}.", f"--{'、--'.join(named)} 只能选一个。")
    stage: dict[str, Any] = {
        "model": model, "data": data, "evaluation": str(check or ""), "rehearse": str(rehearse or ""),
        "keep": str(keep or ""), "pictures": str(pictures or ""), "method": named[0], "rank": rank,
        "prefix": prefix, "merge": merge, "learn": learn, "pack": pack,
        "layers": [int(number) for number in layers.replace(",", " ").split()], "seed": seed,
        "bad_rows": "stop" if stop_at_bad_rows else "skip", "dtype": dtype or "", "vocab": str(vocab or ""),
    }  # fmt: skip
    loop: dict[str, Any] = {
        "output": str(output), "steps": steps, "batch_size": batch_size, "accumulate": accumulate,
        "warmup": max(1, steps // 50), "evaluate_every": max(1, steps // 15), "patience": patience,
        "log_every": 1, "device": "cpu" if device == "cpu" else "auto", "ema": ema, "precision": precision,
        "gradient_checkpointing": gradient_checkpointing, "tensorboard": tensorboard,
    }  # fmt: skip
    from huayu.training.finetune.run import run
    from huayu.training.sharding import is_first

    report = run(stage, loop, learning_rate=learning_rate, tune_vision=tune_vision)
    if is_first():
        show(report, output)


def show(report: dict[str, Any], output: Path) -> None:
    """Before and after, in words."""
    for name, (en, zh) in _GROUPS.items():
        if name in report["before"]:
            before, after = (100 * report[when][name]["exact"] for when in ("before", "after"))
            print(
                say(
                    f"{en}: exact answers {before:.0f} % → {after:.0f} %",
                    f"{zh}：答案完全正确 {before:.0f}% → {after:.0f}%",
                )
            )
    changed = report["after"].get("held") or report["after"]["learnt"]
    first = changed["answers"][0]
    print(f"  {first['question']} → {first['answer']}")
    print(say(f"The model: {output / 'model'}", f"模型：{output / 'model'}"))
