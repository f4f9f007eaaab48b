"""What happens to text between a model and a reader: stop strings, Traditional Chinese."""

from __future__ import annotations

from collections.abc import Sequence

from huayu.chat.language import TraditionalStream


class StopFilter:
    """Cuts a stream before the first stop string, however the string was split over pieces."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.hit = False

    def feed(self, piece: str) -> str:
        """What can be shown now; an end that may yet become a stop string is held back."""
        if self.hit:
            return ""
        text = self._held + piece
        # The one that ends first, not the one that begins first: so the cut does not depend on the pieces.
        found = min(((at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0), default=None)
        if found is not None:
            self.hit, self._held = True, ""
            return text[: found[1]]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The rest."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class TextPath:
    """One answer's way: Traditional Chinese when the question was, then stop strings; ``text`` is what came out."""

    def __init__(self, stop: Sequence[str], traditional: bool) -> None:
        self._filter = StopFilter(stop)
        self._traditional = TraditionalStream() if traditional else None
        self.text = ""

    @property
    def stopped(self) -> bool:
        """A stop string came; nothing follows."""
        return self._filter.hit

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        return self._show(self._traditional.feed(piece) if self._traditional else piece)

    def flush(self) -> str:
        """The rest."""
        last = self._show(self._traditional.flush()) if self._traditional else ""
        rest = self._filter.flush()
        self.text += rest
        return last + rest

    def _show(self, piece: str) -> str:
        shown = self._filter.feed(piece)
        self.text += shown
        return shown
