"""The commands, their arguments and exit codes: 0 done, 1 refused or failed, 130 interrupted."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from huayu.cli.asking import chat
from huayu.cli.batch import batch
from huayu.cli.common import AsJson, Dtype, Model, Vocab
from huayu.cli.data import data
from huayu.cli.finetune import finetune
from huayu.cli.paint import paint
from huayu.cli.quantize import Fingerprint, From, Quiet, ShardSize, To, quantize
from huayu.cli.serve import serve
from huayu.cli.train import train
from huayu.cli.web import web

app = typer.Typer(
    name="huayu",
    help="Talk about pictures and paint them, in Chinese and English · 中英双语看图说话与作画",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),  # --top_p, as many scripts have it, is --top-p
    },
)


app.command()(chat)
app.command()(paint)
app.command()(serve)
app.command()(web)
app.command()(batch)
app.command()(quantize)
app.add_typer(data, name="data")
app.command()(finetune)
app.add_typer(train, name="train")


@app.command()
def models(as_json: AsJson = False) -> None:
    """Models that can be named, with size and licence · 可用模型、大小与许可"""
    from huayu.cli import models as command

    command.run(as_json=as_json)


@app.command()
def doctor(
    model: Annotated[Path | None, typer.Argument(help="A VisualGLM folder · VisualGLM 文件夹")] = None,
    record: Annotated[bool, typer.Option("--record", help="Record its fingerprint first · 先记录其指纹")] = False,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Check this installation, and a model's fingerprint · 检查安装与模型指纹"""
    from huayu.cli import doctor as command

    raise typer.Exit(command.run(model, record=record, dtype=dtype, as_json=as_json))


@app.command()
def verify(
    paths: Annotated[list[str], typer.Argument(help="Recorded cases or model folders · 用例或模型文件夹")],
    as_json: AsJson = False,
) -> None:
    """Check recorded cases or model folders · 校验用例或模型文件夹"""
    from huayu.evaluation import verify as command

    raise typer.Exit(command.main(paths, as_json=as_json))


@app.command()
def convert(
    source: From,
    target: To,
    dtype: Dtype = None,
    max_shard_size: ShardSize = "2GB",
    vocab: Vocab = None,
    to: Annotated[str | None, typer.Option(help="hf, sat: a folder as published · 写成已发布的格式")] = None,
    keep_lora: Annotated[
        bool, typer.Option("--keep-lora", help="As a PEFT adapter, not merged · 保留为适配器")
    ] = False,
    fingerprint: Fingerprint = True,
    quiet: Quiet = False,
) -> None:
    """Published weights to a Hugging Face folder · 转换为 Hugging Face 格式"""
    from huayu.cli import convert as command

    command.run(
        source, target, dtype=dtype, max_shard_size=max_shard_size, vocab=vocab, to=to, keep_lora=keep_lora,
        fingerprint=fingerprint, quiet=quiet,
    )  # fmt: skip


@app.command()
def evaluate(
    task: Annotated[str, typer.Argument(help="Name of the task · 任务名")],
    model: Model = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First so many items · 只取前若干条")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the results · 结果文件夹")] = None,
) -> None:
    """Measure a model · 评测模型"""
    from huayu import evaluation

    evaluation.run(task, model=model, limit=limit, output=output)


@app.command()
def experiment(
    name: Annotated[str | None, typer.Argument(help="Its name; without one, a list · 实验名；不给则列出")] = None,
    setting: Annotated[str, typer.Option(help="tiny, small or full · 规模")] = "small",
    output: Annotated[Path | None, typer.Option(help="Folder to go on in · 结果文件夹，可续跑")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Random seeds · 随机种子数")] = 3,
    processes: Annotated[int, typer.Option(min=0, help="Of one thread each · 进程数，各一线程")] = 2,
) -> None:
    """Repeat a published finding on a small world · 在小世界里重做已发表的实验"""
    from huayu import experiments

    if name is None:
        print(experiments.listing())
    else:
        experiments.run(name, setting=setting, output=output, seeds=seeds, processes=processes)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version · 显示版本")] = False,
) -> None:
    if version:
        from huayu import __version__

        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends in SystemExit, and where several processes trained, at once."""
    code = _run(arguments)
    sharding = sys.modules.get("huayu.training.sharding")
    if sharding and sharding.world_size() > 1:
        sharding.end(code)
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    """The exit code; every expected failure is one plain sentence on stderr."""
    from huayu.errors import HuayuError
    from huayu.runtime.allocator import keep_freed_memory
    from huayu.runtime.language import say

    keep_freed_memory()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice is for programmers
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a locale without Chinese must cost characters, not the answer
            stream.reconfigure(errors="replace")
    try:
        return app(arguments, prog_name="huayu", standalone_mode=False) or 0
    except HuayuError as error:
        return _refuse(say(error.en, error.zh))
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except OSError as error:
        return _refuse(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of typer's: a fault of ours, to be shown whole
            raise
        return _refuse(error.format_message())


def _refuse(sentence: str) -> int:
    print(f"huayu: {sentence}", file=sys.stderr)
    return 1
