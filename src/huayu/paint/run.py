"""One request on its way: prompt checks, painting, picture checks, ranking, looking, labels."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from huayu.errors import Cancelled
from huayu.paint.backend import Backend, Job
from huayu.paint.options import SEEDS, Settings
from huayu.paint.replay import record_settings
from huayu.paint.result import Painted, PaintResult, Progress
from huayu.types import Verdict

if TYPE_CHECKING:
    from huayu.ranking import Looker, Ranker
    from huayu.safety import Guard


class Run:
    """Paints in a thread of its own; :meth:`events` gives what comes."""

    def __init__(
        self,
        backend: Backend,
        prompt: str,
        settings: Settings,
        guard: Guard | None = None,
        ranker: Ranker | None = None,
        check: Looker | None = None,
        generator: Any = None,
    ) -> None:
        self.backend, self.prompt, self.settings = backend, prompt, settings
        self.guard, self.ranker, self.check, self.generator = guard, ranker, check, generator
        self.cancel = threading.Event()
        self._closed = threading.Event()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._painted: dict[int, Painted] = {}
        self._prompt_verdicts: tuple[Verdict, ...] = ()
        self._finish: Literal["done", "blocked", "cancelled"] = "done"
        self._seconds = 0.0
        self._done = self._total = 0

    def events(self) -> Iterator[Progress | Painted]:
        """Until all is painted or ``cancel`` is set. Raises what the work raises, but for Cancelled."""
        from huayu.generation.streaming import in_thread

        begin = time.perf_counter()
        try:
            if self.cancel.is_set():
                raise Cancelled
            with closing(in_thread(self._work, self._events, self._closed, self.cancel)) as events:
                yield from events
        except Cancelled:
            self._finish = "cancelled"
        self._seconds = time.perf_counter() - begin

    def result(self) -> PaintResult:
        """What came, once the events have ended."""
        pictures = tuple(self._painted[index] for index in sorted(self._painted))
        finish = "done" if len(pictures) == self.settings.n else self._finish
        return PaintResult(pictures, self._prompt_verdicts, finish, self._seconds)

    def _work(self) -> None:
        if self.guard is not None:
            self._prompt_verdicts = tuple(self.guard.prompt(self.prompt))
            if self.guard.blocks(self._prompt_verdicts):
                self._finish = "blocked"
                return
        pending, best = list(range(self.settings.n)), dict[int, Painted]()
        for attempt in range(self.settings.repaints + 1 if self.check else 1):
            groups = list(_chunks(pending, self._pictures_per_group()))
            calls = sum(len(list(self._calls(self._seeds(group, attempt)))) for group in groups)
            self._total = self._done + calls * self.settings.steps
            pending = []
            for group in groups:
                for picture in self._paint(group, attempt):
                    before = best.get(picture.index)
                    if before is None or _look_score(picture) > _look_score(before):
                        best[picture.index] = picture
                    refused = picture.look is not None and not picture.look.allowed
                    if refused and attempt < self.settings.repaints:
                        pending.append(picture.index)
                    else:
                        self._finished(best.pop(picture.index))

    def _pictures_per_group(self) -> int:
        """All at once in exact mode, since they share one order of random draws."""
        settings = self.settings
        if settings.exact:
            return settings.n
        return max(1, (settings.batch_size or self.backend.facts.batch_size) // settings.candidates)

    def _calls(self, seeds: list[int]) -> Iterator[list[int]]:
        """Candidates are painted together unless the caller wants smaller batches."""
        one_call = self.settings.exact or self.settings.batch_size is None
        return _chunks(seeds, len(seeds) if one_call else self.settings.batch_size or 1)

    def _paint(self, group: Sequence[int], attempt: int) -> Iterator[Painted]:
        k = self.settings.candidates
        seeds, images = self._seeds(group, attempt), list[Image.Image]()
        for call in self._calls(seeds):
            images += self.backend.paint(Job(self.prompt, self.settings, call, self.generator), self._step)
            self._done += self.settings.steps
        for place, index in enumerate(group):
            mine = slice(place * k, (place + 1) * k)
            yield self._choose(index, images[mine], seeds[mine], drawn=len(images), first=place * k)

    def _seeds(self, group: Sequence[int], attempt: int) -> list[int]:
        """Of all candidates. Without candidates and repaints picture i has seed + i; no seed comes twice."""
        settings = self.settings
        k, first = (
            settings.candidates,
            settings.seed + attempt * (1 if settings.exact else settings.n * settings.candidates),
        )
        return [(first + (0 if settings.exact else index * k + j)) % SEEDS for index in group for j in range(k)]

    def _choose(self, index: int, images: list[Image.Image], seeds: Sequence[int], drawn: int, first: int) -> Painted:
        verdicts: list[tuple[Verdict, ...]] = [()] * len(images)
        if self.guard is not None:
            checked = [self.guard.picture(image) for image in images]
            images, verdicts = [shown for shown, _ in checked], [tuple(said) for _, said in checked]
        scores = tuple(self.ranker(self.prompt, images)) if self.ranker is not None and len(images) > 1 else ()
        # A picture that is not shown as it was painted is chosen only when there is no other.
        clean = [self.guard is None or not self.guard.blocks(said) for said in verdicts]
        at = max(range(len(images)), key=lambda j: (clean[j], scores[j] if scores else 0.0))
        look = _as_verdict(self.check(images[at], self.prompt)) if self.check and clean[at] else None
        image = images[at]
        if self.settings.mark:
            from huayu.labelling import corner_mark

            image = corner_mark(image, self.settings.mark)
        where = {"drawn": drawn, "place": first + at} if self.settings.exact else {}
        return Painted(index, image, seeds[at], self._record(seeds[at], where), scores, verdicts[at], look)

    def _record(self, seed: int, where: dict[str, int]) -> Any:
        from huayu import __version__
        from huayu.labelling import PaintRecord

        return PaintRecord(
            prompt=self.prompt,
            negative_prompt=self.settings.negative,
            seed=seed,
            settings=record_settings(self.settings) | where,
            model=self.backend.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            version=__version__,
        )

    def _finished(self, picture: Painted) -> None:
        self._painted[picture.index] = picture
        self._events.put(picture)

    def _step(self, done: int, steps: int, preview: Image.Image | None = None) -> None:
        if self.cancel.is_set() or self._closed.is_set():
            raise Cancelled
        self._events.put(Progress(self._done + self.settings.steps * done // steps, self._total, preview))


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _look_score(picture: Painted) -> float:
    return picture.look.score if picture.look else 1.0


def _as_verdict(said: bool | Verdict) -> Verdict:
    """What a check said; a plain yes or no becomes a verdict."""
    if isinstance(said, Verdict):
        return said
    word_zh, word_en = ("符合", "It shows the prompt.") if said else ("不符合", "It does not show the prompt.")
    return Verdict(bool(said), "look", float(bool(said)), f"画面{word_zh}提示词。", word_en)
