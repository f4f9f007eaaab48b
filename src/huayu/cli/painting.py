"""``huayu paint``: a prompt, a file of prompts, or a picture's record; every finished picture is written at once."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import typer
from PIL import Image

from huayu.cli.chat import loading_bar
from huayu.data.pictures import open_picture
from huayu.errors import OptionError
from huayu.labelling import PaintRecord, read_record, save_png
from huayu.paint import Painted, Painter, PaintOptions, PaintResult, Progress, contact_sheet, load_paint
from huayu.paint.batch import Request, read_requests
from huayu.paint.options import require_words, with_pictures
from huayu.paint.replay import options_of, place_of, require_same_sources
from huayu.paint.result import numbered
from huayu.runtime.language import say
from huayu.types import Verdict

if TYPE_CHECKING:
    from huayu.ranking import Looker

_LOADING = ("device", "dtype", "quantize", "vocab", "vae", "ranker", "safety")


def run(asked: SimpleNamespace) -> None:
    """Everything that can be refused is refused before weights are read. Raises HuayuError, typer.Exit."""
    record = None if asked.again is None else read_record(asked.again)
    requests = read_asked(asked, record)
    with loading_bar(visible=not asked.quiet) as progress:
        model = asked.model if asked.model or record is None else record.model
        texts = {text for request in requests for text in (request.prompt, request.options.negative)}
        loading = {name: getattr(asked, name) for name in _LOADING}
        painter = load_paint(model, texts=sorted(texts) if asked.low_memory else None, progress=progress, **loading)
        check = open_check(asked)
    session = Session(painter, check, as_json=asked.as_json, quiet=asked.quiet)
    for request in requests:
        if asked.batch is not None and not request.missing():
            session.skip(request)
        else:
            session.paint(request, record)
    if record is not None and session.shown:
        same = open_picture(asked.again).tobytes() == session.shown[-1][1].tobytes()
        session.note(say("the same picture", "与原图相同") if same else say("a different picture", "与原图不同"))
    if asked.sheet is not None and session.shown:
        session.write_sheet(asked.sheet)
    if session.failed:
        raise typer.Exit(1)


def read_asked(asked: SimpleNamespace, record: PaintRecord | None) -> list[Request]:
    """What is to be painted, and where it goes. Raises HuayuError."""
    if sum(given is not None for given in (asked.prompt, asked.batch, asked.again)) != 1:
        raise OptionError("Give one of PROMPT, --batch and --again.", "请给出 PROMPT、--batch、--again 三者之一。")
    if asked.prompt is not None:
        require_words(asked.prompt)
    options = read_options(asked)
    if asked.rerank > 1 and asked.ranker is None:
        raise OptionError("--rerank needs --ranker, a (Chinese-)CLIP.", "--rerank 需要 --ranker（中文或英文 CLIP）。")
    if asked.batch is not None:
        return read_requests(asked.batch, asked.output or asked.batch.with_suffix(""), options)
    if asked.output is not None and not asked.output.is_dir() and asked.output.suffix.lower() != ".png":
        raise OptionError(
            f"Pictures are written as PNG, which keeps their labels; {asked.output} is none.",
            f"图片保存为 PNG（可保留标识）；{asked.output} 不是。",
        )
    count = options.n
    if record is not None:
        if replace(options, image=None, mask=None) != PaintOptions():
            raise OptionError("--again takes all settings from the record.", "--again 的设置全部来自记录。")
        options, count = options_of(record, options.image, options.mask), 1
    if asked.output is None or asked.output.is_dir():
        return [Request(1, record.prompt if record else asked.prompt, options, (asked.output or Path(),))]
    return [Request(1, record.prompt if record else asked.prompt, options, tuple(numbered(asked.output, count)))]


def read_options(asked: SimpleNamespace) -> PaintOptions:
    """The options, pictures read. Raises OptionError, ImageError."""
    names = ("n", "seed", "steps", "guidance", "negative", "scheduler", "exact", "image", "mask", "strength")
    given: dict[str, Any] = {name: getattr(asked, name) for name in (*names, "batch_size", "mark")}
    if asked.check is not None:
        given["repaints"] = asked.check
    return with_pictures(PaintOptions(size=read_size(asked.size), candidates=asked.rerank, **given))


def read_size(text: str | None) -> tuple[int, int] | None:
    """``512`` or ``512x384`` (width, height). Raises OptionError."""
    if text is None:
        return None
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise OptionError(f"--size is 512 or 512x384, not {text}.", f"--size 应如 512 或 512x384，而不是 {text}。")
    return int(sides[0]), int(sides[-1])


def open_check(asked: SimpleNamespace) -> Looker | None:
    """The chat model that looks at what was painted, for ``--check``."""
    if asked.check is None:
        if asked.check_model is not None:
            raise OptionError("--check-model is for --check.", "--check-model 须与 --check 同用。")
        return None
    from huayu.chat import load_chat
    from huayu.chat.looking import looker

    return looker(load_chat(asked.check_model, device=asked.device, dtype=asked.dtype))


class Session:
    """Paints requests one after the other, writes and tells; ``shown``: records, pictures and captions so far."""

    def __init__(self, painter: Painter, check: Looker | None, *, as_json: bool, quiet: bool) -> None:
        self.painter, self.check, self.as_json, self.quiet = painter, check, as_json, quiet
        self.shown: list[tuple[PaintRecord, Image.Image]] = []
        self.failed = False

    def paint(self, request: Request, replayed: PaintRecord | None = None) -> None:
        """Paint and write; Ctrl-C keeps and tells what was finished. A blocked prompt or picture is a failure."""
        stream = self.painter.stream(request.prompt, options=request.options, check=self.check)
        written: dict[int, Path] = {}
        wanted = None if replayed is None else place_of(replayed)

        def write(picture: Painted) -> None:
            if picture.index in written or wanted not in (None, picture.index):
                return
            if replayed is not None:
                require_same_sources(picture.record, replayed)
            path = _path(request, picture, 0 if wanted is not None else picture.index)
            picture.save(path)
            written[picture.index] = path

        try:
            with painting_bar(visible=not self.quiet) as show:
                for event in stream:
                    if isinstance(event, Progress):
                        show(event)
                    else:
                        write(event)
        except BaseException:
            stream.close()
            for picture in stream.result.pictures:
                write(picture)
            self._tell(request, stream.result, written)
            raise
        self._tell(request, stream.result, written)

    def skip(self, request: Request) -> None:
        """Tell of files that were finished before."""
        for path in request.paths:
            self.shown.append((read_record(path), open_picture(path)))
            self.note(say(f"{path} is finished already", f"{path} 已完成，跳过"))

    def _tell(self, request: Request, result: PaintResult, written: dict[int, Path]) -> None:
        if result.finish == "blocked":
            self.failed = True
            self._objections(request.prompt, result.prompt_verdicts)
            if self.as_json:
                said = [_as_dict(verdict) for verdict in result.prompt_verdicts]
                print(json.dumps({"file": None, "prompt": request.prompt, "verdicts": said}, ensure_ascii=False))
        for picture in result.pictures:
            if picture.index not in written:
                continue
            path = written[picture.index]
            self.shown.append((picture.record, picture.image))
            print(_as_json(picture, path) if self.as_json else path, flush=True)
            if self.painter.guard is not None and self.painter.guard.blocks(picture.verdicts):
                self.failed = True
            self._objections(str(path), picture.verdicts)
            if picture.look is not None and not picture.look.allowed:
                self.note(f"{path}: {say(picture.look.reason_en, picture.look.reason_zh)}")
        if result.finish == "cancelled":
            self.note(say(f"stopped; {len(written)} finished", f"已停止；完成 {len(written)} 张"))
        elif result.pictures:
            self.note(f"{self.painter.name} · {result.seconds:.1f} s")

    def _objections(self, subject: str, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if not verdict.allowed:
                print(f"huayu: {subject}: {say(verdict.reason_en, verdict.reason_zh)}", file=sys.stderr)

    def write_sheet(self, path: Path) -> None:
        """All pictures on one, each with its prompt, or its seed where the prompt is the same for all."""
        several = len({record.prompt for record, _ in self.shown}) > 1
        captions = [record.prompt if several else f"seed {record.seed}" for record, _ in self.shown]
        first = self.shown[0][0]
        seeds = [record.seed for record, _ in self.shown]
        sheet = contact_sheet([image for _, image in self.shown], captions)
        save_png(sheet, path, replace(first, settings={"sheet": seeds}))
        print(path, flush=True, file=sys.stderr if self.as_json else sys.stdout)

    def note(self, sentence: str) -> None:
        """A word on stderr, unless only file names are wanted."""
        if not self.quiet:
            print(f"({sentence})", file=sys.stderr)


def _path(request: Request, picture: Painted, place: int) -> Path:
    """Its file; in a folder named by its seed."""
    if len(request.paths) == 1 and request.paths[0].is_dir():
        return request.paths[0] / f"painting-{picture.seed}.png"
    return request.paths[place]


def _as_json(picture: Painted, path: Path) -> str:
    record = picture.record
    said = {
        "file": str(path),
        "prompt": record.prompt,
        "negative": record.negative_prompt,
        "seed": picture.seed,
        **record.settings,
        "model": record.model,
        "scores": list(picture.scores),
        "verdicts": [_as_dict(verdict) for verdict in picture.verdicts],
        "look": None if picture.look is None else _as_dict(picture.look),
    }
    return json.dumps(said, ensure_ascii=False)


def _as_dict(verdict: Verdict) -> dict[str, Any]:
    reason = say(verdict.reason_en, verdict.reason_zh)
    return {"label": verdict.label, "allowed": verdict.allowed, "score": verdict.score, "reason": reason}


@contextlib.contextmanager
def painting_bar(*, visible: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar of steps on a terminal's stderr; elsewhere nothing."""
    if not visible or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(say("Painting", "作画"), total=None)
        yield lambda event: bar.update(task, completed=event.done, total=event.total)
