"""Pairs of a picture and a caption, cleaned: each row judged in its shard, then duplicates among all that were good."""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from huayu.batch.inputs import Row
from huayu.batch.rows_job import RowsJob, Told, reader_of
from huayu.batch.tasks import Outcome, Worker
from huayu.batch.work import run
from huayu.checkpoints.atomic import write_text
from huayu.data.cleaning import REASONS, CleanOptions, Seen, judge
from huayu.data.pictures import Held, open_picture
from huayu.data.rows import Record
from huayu.data.writing import fields_of
from huayu.errors import HuayuError

_EXAMPLES = 6  # of each reason, on the page


@dataclass(frozen=True)
class CleanJob(RowsJob):
    """``rankers``: language → folder or hub id of a CLIP or Chinese-CLIP that scores its captions."""

    options: CleanOptions = field(default_factory=CleanOptions)
    rankers: dict[str, str] = field(default_factory=dict)

    def plan(self) -> dict[str, Any]:
        return {"task": "clean", **asdict(self.options), "rankers": self.rankers, "shard_size": self.shard_size}

    def open_worker(self) -> Worker:
        from huayu.ranking import open_ranker

        rankers = {name: open_ranker(source, **self.loading) for name, source in self.rankers.items()}

        def clean(rows: Iterable[Row], _: Path) -> Iterator[tuple[Row, Outcome]]:
            for row in rows:
                if row.problem is not None:
                    yield row, {"reason": "fault", "message": row.problem.en}
                    continue
                record: Record = row.fields["record"]
                found = judge(record, self.options, rankers)
                yield row, found | {"picture": _name(record), "said": fields_of(record.turns)}

        return clean


def clean(
    job: CleanJob, *, workers: int = 0, ray: bool = False, tell: Callable[[int, int], None] | None = None
) -> Told:
    """Runs or goes on with ``job``, writes ``kept``, ``report.json`` and ``report.html``; returns the report.

    The earliest of several that look alike is kept. The same picture, by name, with another caption is no duplicate.
    """
    run(job, workers=workers, ray=ray, tell=tell)
    shards, _ = job.split()
    seen, names = Seen(max(0, job.options.near)), dict[str, set[str]]()
    reasons, languages, examples = Counter[str](), Counter[str](), dict[str, list[tuple[Told, str]]]()

    def wanted(told: Told) -> dict[str, Any] | None:
        picture, twin = f"{told['file']}/{told.get('picture')}", None
        if not told["reason"] and "hash" in told:
            first = seen.add(told["hash"], picture)
            said = json.dumps(told["said"], sort_keys=True)
            known = names.setdefault(first or picture, set())
            if (first is not None and first != picture) or said in known:
                twin = first
            known.add(said)
        reason = told["reason"] or ("duplicate" if twin else "")
        reasons[reason] += 1
        if not reason:
            languages[told["language"]] += 1
        if len(some := examples.setdefault(reason, [])) < _EXAMPLES:
            some.append((told, twin or ""))
        return None if reason else told["said"]

    kept = job.put_together(shards, "kept", wanted)
    rows = sum(reasons.values())
    report: Told = {"rows": rows, "kept": kept, "languages": dict(languages.most_common())}
    report["left_out"] = {reason: reasons[reason] for reason in REASONS if reasons[reason]}
    write_text(job.target / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    write_text(job.target / "report.html", _page(job, report, examples))
    return report


def _name(record: Record) -> str | None:
    return record.picture.name if isinstance(record.picture, Held) else str(record.picture) if record.picture else None


def _page(job: CleanJob, report: Told, examples: dict[str, list[tuple[Told, str]]]) -> str:
    """A few rows of each reason, with their pictures. Everything in it is escaped."""
    parts = []
    for reason, (en, zh) in {"": ("kept", "保留"), **REASONS}.items():
        cards = "".join(_card(job, told, twin) for told, twin in examples.get(reason, ()))
        if cards:
            count = report["left_out"].get(reason, report["kept"])
            parts.append(f"<h2>{en} · {zh}: {count}</h2><main>{cards}</main>")
    return (
        '<!doctype html><html lang="zh"><meta charset="utf-8"><title>huayu data clean</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}"
        "main{display:grid;grid-template-columns:repeat(auto-fill,minmax(12rem,1fr));gap:1rem}"
        "article{border:1px solid #ccc;border-radius:.5rem;padding:.75rem;overflow-wrap:anywhere}"
        "img{max-width:100%;height:7rem}small{color:#555}</style>"
        f"<h1>{report['kept']} / {report['rows']}</h1>{''.join(parts)}</html>\n"
    )


def _card(job: CleanJob, told: Told, twin: str) -> str:
    picture = ""
    try:
        record = reader_of(told["file"], job.pictures)[told["row"]]
        image = open_picture(record.picture)  # type: ignore[union-attr, arg-type]
        image.thumbnail((160, 160))
        data = BytesIO()
        image.save(data, "PNG")
        picture = f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'
    except (HuayuError, AttributeError):
        """It has none that can be shown."""
    said = json.dumps(told.get("said", told.get("message", "")), ensure_ascii=False)
    notes = " · ".join(str(part) for part in (told["id"], told.get("size"), told.get("score"), twin) if part)
    return f"<article>{picture}<p>{html.escape(said)}</p><small>{html.escape(notes)}</small></article>"
