"""``huayu data check``: what is in a data file, and every row that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from huayu.cli.common import AsJson
from huayu.runtime.language import say

data = typer.Typer(help="Data files to train on · 训练数据文件", no_args_is_help=True)


@data.callback()
def _root() -> None:
    """A group, though it has one command so far."""


@data.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON, JSONL or TSV, or a folder with dataset.json · 数据文件")],
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
