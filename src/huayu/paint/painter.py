"""Paint, stream: one path from words to labelled pictures, whatever the pipeline behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from huayu.errors import OptionError
from huayu.paint.backend import Backend
from huayu.paint.options import PaintOptions, require_words, settle
from huayu.paint.result import Painted, PaintResult, Progress
from huayu.paint.run import Run

if TYPE_CHECKING:
    from huayu.ranking import Looker, Ranker
    from huayu.safety import Guard


class PaintStream:
    """Progress and finished pictures of one request. After the last event, ``result`` is there.

    ``cancel()`` may be called from any thread: the work ends at its next step, and the result holds the pictures that
    were finished. Closing or leaving the iterator early stops the work too.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._events = run.events()
        self._ended = False

    def __iter__(self) -> Iterator[Progress | Painted]:
        return self

    def __next__(self) -> Progress | Painted:
        try:
            return next(self._events)
        except StopIteration:
            self._ended = True
            raise

    def cancel(self) -> None:
        """Stop at the next step; finished pictures stay."""
        self._run.cancel.set()

    def close(self) -> None:
        """Stop, and take what is finished as the result."""
        self.cancel()
        for _ in self:
            """The run ends at its next step."""

    @property
    def result(self) -> PaintResult:
        """The whole. Raises RuntimeError before the last event was taken."""
        if not self._ended:
            raise RuntimeError("the painting is not complete: take all events, or close the stream, before the result")
        return self._run.result()


class Painter:
    """A model that paints; :func:`huayu.load_paint` makes one.

    ``pipeline``: a :class:`VisCPMPaintPipeline`, any text-to-image pipeline of diffusers, or a :class:`Backend`.
    ``guard`` checks prompts and pictures (None: nothing is checked). ``ranker`` chooses among candidates; a CLIP only
    for English prompts, a Chinese-CLIP only for Chinese ones: other prompts get one candidate, and a word in the log.
    """

    def __init__(self, pipeline: Any, name: str, guard: Guard | None = None, ranker: Ranker | None = None) -> None:
        from huayu.paint.pipelines import as_backend

        self.backend: Backend = as_backend(pipeline, name)
        self.name, self.guard, self.ranker = name, guard, ranker

    def paint(
        self, prompt: str, *, options: PaintOptions | None = None, check: Looker | None = None, **changes: Any
    ) -> PaintResult:
        """All pictures; arguments and errors as :meth:`stream`. Never raises Cancelled."""
        stream = self.stream(prompt, options=options, check=check, **changes)
        for _ in stream:
            """All events."""
        return stream.result

    def stream(
        self, prompt: str, *, options: PaintOptions | None = None, check: Looker | None = None, **changes: Any
    ) -> PaintStream:
        """Events as they come: :class:`Progress` after each step, :class:`Painted` for each finished picture.

        ``check(picture, prompt)`` is asked of each picture whether it shows the prompt; one that it refuses is painted
        again with another seed, at most ``repaints`` times. ``changes`` are fields of :class:`PaintOptions`, laid over
        ``options``. Raises, before anything runs: PromptError for an empty prompt or one over the model's context;
        OptionError, ImageError for options that do not fit; TypeError for an unknown option. A prompt that the guard
        blocks is no error: the result has no pictures and says why.
        """
        options = replace(options or PaintOptions(), **changes)
        require_words(prompt)
        if options.candidates > 1 and self.ranker is None:
            raise OptionError(
                "To choose among candidates a ranker is needed (ranker=, --ranker).",
                "在多个候选中挑选需要排序模型（ranker=、--ranker）。",
            )
        settings = settle(options, self.backend.facts)
        self.backend.check(prompt, settings)
        ranker = self._ranker_for(prompt) if settings.candidates > 1 else None
        if ranker is None:
            settings = replace(settings, candidates=1)
        return PaintStream(Run(self.backend, prompt, settings, self.guard, ranker, check))

    def ranks(self, prompt: str) -> bool:
        """Whether there is a ranker, and it reads the prompt's language."""
        return self.ranker is not None and self._ranker_for(prompt) is not None

    def _ranker_for(self, prompt: str) -> Ranker | None:
        """None, with a word in the log, when the ranker does not read the prompt's language."""
        from huayu.ranking import choose_ranker

        kind = getattr(self.ranker, "model_type", "")
        zh = None if kind == "clip" else self.ranker
        return choose_ranker(prompt, zh, None if kind == "chinese_clip" else self.ranker)
