"""``huayu data``: files to train on, looked over, cleaned and translated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from huayu.cli.batch import progress_bar
from huayu.cli.common import AsJson, Device
from huayu.runtime.language import say

data = typer.Typer(help="Data files to train on · 训练数据文件", no_args_is_help=True)


@data.command()
def check(
    file: Annotated[Path, typer.Argument(help="A data file or folder: docs/data-formats.md · 数据文件或文件夹")],
    pictures: Annotated[Path | None, typer.Option(help="Folder of the pictures · 图片所在文件夹")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page of samples · 写出样例网页")] = None,
    as_json: AsJson = False,
) -> None:
    """Look over a data file; exit code 1 when a row cannot be used · 检查数据文件"""
    from huayu.data.check import check as look_over

    report = look_over(file, pictures=pictures)
    if page:
        page.write_text(report.page(), "utf-8")
    figures = report.figures()
    if as_json:
        faults = [
            {"file": str(f.file), "row": f.row, "field": f.field, "problem": say(f.en, f.zh)} for f in report.faults
        ]
        print(json.dumps({"file": str(file), **figures, "faults": faults}, ensure_ascii=False))
    else:
        for fault in report.faults:
            print(say(str(fault), f"{fault.file}：第 {fault.row} 行：{fault.field}：{fault.zh}"))
        usable, rows, turns, seen = (figures[name] for name in ("usable", "rows", "turns", "pictures"))
        print(
            say(
                f"{usable} of {rows} rows can be used: {turns} turns about {seen} pictures.",
                f"{rows} 行中有 {usable} 行可用：{seen} 张图片，{turns} 轮问答。",
            )
        )
        if figures["repeated_rows"]:
            repeated = figures["repeated_rows"]
            print(say(f"{repeated} rows repeat an earlier one.", f"有 {repeated} 行与前面的重复。"))
    if report.faults or not report.records:
        raise typer.Exit(1)


_Inputs = Annotated[list[str], typer.Argument(help="Data files or folders, then DST · 数据文件或文件夹，最后是 DST")]
_Pictures = Annotated[Path | None, typer.Option(help="Folder of the pictures · 图片所在文件夹")]
_Workers = Annotated[int, typer.Option(min=0, help="Processes · 工作进程数")]
_Ray = Annotated[bool, typer.Option("--ray", help="Workers on a Ray cluster · 在 Ray 集群上运行")]
_ShardSize = Annotated[int, typer.Option(min=1, help="Rows done as one · 每个分片的行数")]


@data.command()
def clean(
    paths: _Inputs,
    pictures: _Pictures = None,
    languages: Annotated[str, typer.Option(help="Kept: zh, en, other · 保留的语言")] = "zh,en",
    min_length: Annotated[int, typer.Option(help="Words; of Chinese, characters · 最短（词；中文为字）")] = 3,
    max_length: Annotated[int, typer.Option(help="The same · 最长")] = 128,
    min_side: Annotated[int, typer.Option(help="Of the shorter side, pixels · 短边最小像素")] = 64,
    max_aspect: Annotated[float, typer.Option(help="Longer over shorter side · 最大长宽比")] = 3.0,
    near: Annotated[int, typer.Option(help="Bits of 64 by which duplicates differ; -1: no look · 查重的位差")] = 3,
    ranker_zh: Annotated[str | None, typer.Option(help="Chinese-CLIP: folder, hub id · 中文图文匹配模型")] = None,
    ranker_en: Annotated[str | None, typer.Option(help="CLIP: folder, hub id · 英文图文匹配模型")] = None,
    min_score: Annotated[float | None, typer.Option(help="Of the ranker · 最低图文分")] = None,
    workers: _Workers = 0,
    ray: _Ray = False,
    shard_size: _ShardSize = 1000,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Keep the pairs that are worth learning from · 清洗图文数据：huayu data clean SRC… DST

    Goes on where it was stopped. DST gets kept.jsonl or kept/*.tar, report.json and report.html.
    """
    from huayu.batch.cleaning import CleanJob
    from huayu.batch.cleaning import clean as run_clean
    from huayu.data.cleaning import REASONS, CleanOptions

    sources, target = _source_and_target(paths)
    kept = tuple(languages.replace(",", " ").split())
    options = CleanOptions(kept, min_length, max_length, min_side, max_aspect, near, min_score)
    rankers = {name: source for name, source in (("zh", ranker_zh), ("en", ranker_en)) if source}
    job = CleanJob(
        sources, target, str(pictures) if pictures else None, shard_size, _loading(device), options=options,
        rankers=rankers,
    )  # fmt: skip
    with progress_bar("huayu data clean", visible=not as_json) as tell:
        report = run_clean(job, workers=workers, ray=ray, tell=tell)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
        return
    by_language = " · ".join(f"{name} {count}" for name, count in report["languages"].items())
    print(
        say(
            f"{report['kept']} of {report['rows']} rows kept ({by_language}): {target}",
            f"{report['rows']} 行中保留 {report['kept']} 行（{by_language}）：{target}",
        )
    )
    for reason, count in report["left_out"].items():
        print(say(f"  {count}: {REASONS[reason][0]}", f"  {count} 行：{REASONS[reason][1]}"))


def _source_and_target(paths: list[str]) -> tuple[tuple[str, ...], Path]:
    from huayu.errors import OptionError

    if len(paths) < 2:
        raise OptionError("Give SRC and DST.", "请给出 SRC 与 DST。")
    return tuple(paths[:-1]), Path(paths[-1])


def _loading(device: str | None) -> dict[str, str]:
    return {"device": device} if device else {}


@data.command()
def translate(
    paths: _Inputs,
    to: Annotated[str, typer.Option(help="zh, en · 目标语言")],
    translator: Annotated[str, typer.Option("--with", help="Model, URL of an endpoint, .tsv · 模型、接口网址或短语表")],
    model: Annotated[str | None, typer.Option(help="Its name at the endpoint · 接口上的模型名")] = None,
    pictures: _Pictures = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows translated together · 同时翻译的行数")] = 16,
    workers: _Workers = 0,
    ray: _Ray = False,
    shard_size: _ShardSize = 1000,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Put captions and turns into the other language · 翻译数据中的文字：huayu data translate SRC… DST --to zh

    Goes on where it was stopped. DST gets translated.jsonl or translated/*.tar; the words before stay in each row.
    """
    from huayu.batch.translating import TranslateJob
    from huayu.batch.translating import translate as run_translate

    sources, target = _source_and_target(paths)
    job = TranslateJob(
        sources, target, str(pictures) if pictures else None, shard_size, _loading(device), to=to,
        translator=translator, model=model, batch_size=batch_size,
    )  # fmt: skip
    with progress_bar("huayu data translate", visible=not as_json) as tell:
        report = run_translate(job, workers=workers, ray=ray, tell=tell)
    if as_json:
        print(json.dumps(report))
    else:
        translated, rows, errors = (report[name] for name in ("translated", "rows", "errors"))
        print(say(f"{translated} of {rows} rows translated: {target}", f"{rows} 行中翻译了 {translated} 行：{target}"))
        if errors:
            where = f"{target}/shards/shard-*/errors.jsonl"
            print(say(f"{errors} could not be: {where}", f"{errors} 行未能翻译：{where}"))
    if not report["written"]:
        raise typer.Exit(1)
