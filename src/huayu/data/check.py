"""A data file looked over before it is trained on: what is in it, and every row that cannot be used."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from huayu.data.pictures import open_picture
from huayu.data.records import Fault, Record, read_records
from huayu.runtime.language import language_of

_THUMBNAIL = 160  # pixels


@dataclass(frozen=True)
class DataReport:
    """Rows that can be used, and the faults of the others."""

    file: Path
    records: tuple[Record, ...]
    faults: tuple[Fault, ...]

    def figures(self) -> dict[str, Any]:
        """Counts; lengths in characters as least, median and most; questions that are asked most."""
        turns = [turn for record in self.records for turn in record.turns]
        questions = Counter(question for question, _ in turns)
        return {
            "rows": len(self.records) + len(self.faults),
            "usable": len(self.records),
            "faulty": len(self.faults),
            "pictures": len({record.picture for record in self.records if record.picture}),
            "turns": len(turns),
            "answers_by_language": dict(Counter(language_of(answer) for _, answer in turns)),
            "question_characters": _spread([len(question) for question, _ in turns]),
            "answer_characters": _spread([len(answer) for _, answer in turns]),
            "repeated_rows": len(self.records) - len({(record.picture, record.turns) for record in self.records}),
            "questions": questions.most_common(3),
        }

    def page(self, rows: int = 24) -> str:
        """A page of HTML with the first rows and their pictures, and all faults. Everything in it is escaped."""
        cards = "".join(_card(record) for record in self.records[:rows])
        faults = "".join(f"<li>{html.escape(str(fault))} · {html.escape(fault.zh)}</li>" for fault in self.faults)
        title = html.escape(self.file.name)
        return (
            f'<!doctype html><html lang="zh"><meta charset="utf-8"><title>{title}</title>'
            "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}"
            "main{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}"
            "article{border:1px solid #ccc;border-radius:.5rem;padding:.75rem}img{max-width:100%;height:8rem}"
            "dt{color:#555}dd{margin:0 0 .5rem}</style>"
            f"<h1>{title}</h1><p>{len(self.records)} ✓ · {len(self.faults)} ✗</p><ul>{faults}</ul>"
            f"<main>{cards}</main></html>\n"
        )


def check(file: str | Path, *, pictures: str | Path | None = None) -> DataReport:
    """Read every row and open every picture. Raises ModelError for a file that cannot be read at all."""
    rows = list(read_records(file, pictures=pictures))
    return DataReport(
        Path(file),
        tuple(row for row in rows if isinstance(row, Record)),
        tuple(row for row in rows if isinstance(row, Fault)),
    )


def _spread(lengths: Sequence[int]) -> list[float]:
    return [min(lengths), median(lengths), max(lengths)] if lengths else []


def _card(record: Record) -> str:
    words = "".join(f"<dt>{html.escape(q)}</dt><dd>{html.escape(a)}</dd>" for q, a in record.turns)
    picture = ""
    if record.picture:
        image = open_picture(record.picture)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        data = BytesIO()
        image.save(data, "PNG")
        picture = f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'
    return f"<article>{picture}<dl>{words}</dl>#{record.row}</article>"
