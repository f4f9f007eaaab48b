"""Data files put into the other language, shard by shard; what was said before stays beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from huayu.batch.inputs import Row
from huayu.batch.rows_job import RowsJob, Told
from huayu.batch.tasks import ROW_ERRORS, Outcome, Worker
from huayu.batch.work import run
from huayu.data.translation import Translator, open_translator
from huayu.data.writing import fields_of
from huayu.errors import OptionError
from huayu.runtime.language import language_of


@dataclass(frozen=True)
class TranslateJob(RowsJob):
    """``to``: "zh" or "en". ``translator``, ``model``: see :func:`huayu.data.translation.open_translator`.

    Texts of ``batch_size`` rows are translated together; those that are in that language already stay.
    """

    to: str = "zh"
    translator: str = ""
    model: str | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.to not in ("zh", "en"):
            raise OptionError(f"to is zh or en, not {self.to}.", f"to 应为 zh 或 en，而不是 {self.to}。")

    def plan(self) -> dict[str, Any]:
        named = ("to", "translator", "model", "batch_size", "shard_size")
        return {"task": "translate"} | {name: getattr(self, name) for name in named}

    def open_worker(self) -> Worker:
        translator = open_translator(self.translator, model=self.model, **self.loading)

        def translate(rows: Iterable[Row], _: Path) -> Iterator[tuple[Row, Outcome]]:
            feed = iter(rows)
            while group := list(islice(feed, self.batch_size)):
                yield from zip(group, self._group(translator, group), strict=True)

        return translate

    def _group(self, translator: Translator, rows: list[Row]) -> list[Outcome]:
        """What one row has that cannot be translated must not cost the others."""
        texts = {
            text: text for row in rows if row.problem is None for text in _texts(row) if language_of(text) != self.to
        }
        try:
            said = dict(zip(texts, translator(list(texts), self.to), strict=True)) if texts else {}
        except ROW_ERRORS as problem:
            return [problem] if len(rows) == 1 else [self._group(translator, [row])[0] for row in rows]
        return [self._outcome(row, said, translator.name) for row in rows]

    def _outcome(self, row: Row, said: dict[str, str], name: str) -> Outcome:
        if row.problem is not None:
            return row.problem
        turns = row.fields["record"].turns
        before = fields_of(turns)
        if not any(text in said for text in _texts(row)):
            return {"said": before}
        if "caption" in before:
            made: dict[str, Any] = {"caption": said[before["caption"]]}
        else:
            made = fields_of((said.get(question, question), said.get(answer, answer)) for question, answer in turns)
        return {"said": made | {"translated_by": name, "original": before}}


def _texts(row: Row) -> list[str]:
    """All that is said; what a caption answers comes with its language."""
    record = row.fields["record"]
    return [record.caption] if record.caption is not None else [text for turn in record.turns for text in turn]


def translate(
    job: TranslateJob, *, workers: int = 0, ray: bool = False, tell: Callable[[int, int], None] | None = None
) -> Told:
    """Runs or goes on with ``job`` and writes ``translated``; returns counts of rows, translated ones, errors."""
    report = run(job, workers=workers, ray=ray, tell=tell)
    shards, _ = job.split()
    count = 0

    def wanted(told: Told) -> dict[str, Any]:
        nonlocal count
        count += "translated_by" in told["said"]
        said: dict[str, Any] = told["said"]
        return said

    written = job.put_together(shards, "translated", wanted)
    return {"rows": report.rows, "written": written, "translated": count, "errors": report.errors}
