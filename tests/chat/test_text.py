"""Stop strings: the cut does not depend on how the text was split into pieces."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from huayu.chat.text import StopFilter, TextPath


def _through(stop: list[str], pieces: list[str]) -> tuple[str, bool]:
    stream = StopFilter(stop)
    shown = "".join(map(stream.feed, pieces))
    return shown + stream.flush(), stream.hit


def test_cuts_before_the_stop_string() -> None:
    assert _through(["User:"], ["a dog.\nUs", "er", ": what"]) == ("a dog.\n", True)
    assert _through(["User:"], ["a dog.\nUs", "es"]) == ("a dog.\nUses", False)
    assert _through([], ["anything"]) == ("anything", False)


def test_nothing_doubtful_is_shown_early() -> None:
    stream = StopFilter(["END"])
    assert stream.feed("the E") == "the "
    assert stream.feed("N") == ""
    assert stream.feed("d") == "ENd"


@settings(deadline=None)
@given(st.text("ab。", max_size=12), st.lists(st.text("ab。", min_size=1, max_size=3), max_size=3), st.data())
def test_pieces_do_not_matter(text: str, stop: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert _through(stop, pieces) == _through(stop, [text])
    assert _through(stop, list(text)) == _through(stop, [text])


def test_traditional_then_stop() -> None:
    path = TextPath(["顏色"], traditional=True)
    shown = path.feed("天空的颜") + path.feed("色是蓝") + path.flush()
    assert shown == path.text == "天空的"
    assert path.stopped
