"""``huayu batch``: many rows at once, with a bar and a report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from huayu.cli.common import AsJson, Device, Dtype, Model, Quantize, Vocab
from huayu.errors import OptionError, PromptError
from huayu.runtime.language import say

if TYPE_CHECKING:
    from huayu.batch import Report


def batch(
    task: Annotated[str, typer.Argument(help="caption, ask, paint · 任务")],
    inputs: Annotated[list[Path], typer.Argument(help="JSONL, .tar, .parquet, folders · 输入文件或文件夹")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder · 输出文件夹")],
    model: Model = None,
    question: Annotated[str | None, typer.Option(help="Asked of every picture · 对每张图片的提问")] = None,
    questions: Annotated[Path | None, typer.Option(help="The same, a file, one a line · 问题文件，每行一个")] = None,
    options: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, as in Python · 选项")] = None,
    batch_size: Annotated[int, typer.Option(help="Questions answered together · 同时回答的问题数")] = 8,
    shard_size: Annotated[int, typer.Option(help="Rows written as one · 每个分片的行数")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Processes, each with a model · 工作进程数")] = 0,
    ray: Annotated[bool, typer.Option("--ray", help="Workers on a Ray cluster · 在 Ray 集群上运行")] = False,
    errors: Annotated[str, typer.Option(help="skip, stop: at a row that is wrong · 遇到错误行时")] = "skip",
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    vocab: Vocab = None,
    safety: Annotated[str | None, typer.Option(help="off, block, blur, allow · 安全策略")] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar, no report · 不显示进度与报告")] = False,
) -> None:
    """Captions, answers or paintings for many rows · 批量描述、问答、作画

    Goes on where it was stopped: run it again. `huayu batch caption photos/ -o captions`.
    """
    from huayu.batch import Job, run

    named = {"device": device, "dtype": dtype, "quantize": quantize, "vocab": vocab, "safety": safety}
    loading = {name: None if value == "off" else value for name, value in named.items() if value is not None}
    if errors not in ("skip", "stop"):
        raise OptionError(f"--errors is skip or stop, not {errors}.", f"--errors 应为 skip 或 stop，而不是 {errors}。")
    job = Job(
        task, tuple(map(str, inputs)), output, model, loading, _options(options or []),
        _questions(task, question, questions), batch_size, shard_size, errors == "stop",
    )  # fmt: skip
    with progress_bar(f"huayu batch {task}", visible=not quiet) as tell:
        report = run(job, workers=workers, ray=ray, tell=tell)
    if as_json:
        print(json.dumps(vars(report)))
    elif not quiet:
        print(_sentence(report, output), file=sys.stderr)


def _questions(task: str, question: str | None, file: Path | None) -> tuple[str, ...]:
    if question is not None and file is not None:
        raise OptionError("Give one of --question and --questions.", "--question 与 --questions 只能给一个。")
    if file is None:
        default = say("Describe this picture.", "请描述这张图片。") if task == "caption" else None
        return tuple(text for text in (question or default,) if text)
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise PromptError(f"{file} cannot be read: {problem}.", f"无法读取 {file}：{problem}。") from problem
    return tuple(line.strip() for line in lines if line.strip())


def _options(texts: Sequence[str]) -> dict[str, Any]:
    """``name=value``, the value JSON where it is JSON, else text."""
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"--set is NAME=VALUE, not {text}.", f"--set 应为 名称=值，而不是 {text}。")
        try:
            options[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            options[name.replace("-", "_")] = value
    return options


def _sentence(report: Report, output: Path) -> str:
    rates = [f"{report.rows_per_second:.2f} rows/s", f"{report.tokens_per_second:.1f} tokens/s"]
    if report.pictures:
        rates = [rates[0], f"{report.pictures_per_second:.2f} pictures/s"]
    how = f"{report.done_rows} · {report.seconds:.1f} s · {' · '.join(rates)}"
    said = say(f"{report.rows} rows in {output}; now {how}", f"{output} 中共 {report.rows} 行；本次 {how}")
    if not report.errors:
        return said
    where = f"{output}/shard-*/errors.jsonl"
    return say(f"{said}\n{report.errors} could not be done: {where}", f"{said}\n{report.errors} 行未能完成：{where}")


@contextmanager
def progress_bar(name: str, *, visible: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of rows on a terminal's stderr; elsewhere nothing."""
    if not visible or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(shown, completed=done, total=total)
