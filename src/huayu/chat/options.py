"""What a caller may ask of an answer, and how that meets the model's own defaults. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from huayu.errors import OptionError, PromptError

Search = Literal["beam", "greedy", "sample"]
SEARCHES: tuple[Search, ...] = ("beam", "greedy", "sample")
ANSWER_LANGUAGES = ("auto", "zh", "en")

# The fields that mean something to one search; all others mean something to each.
_USED_BY: dict[Search, frozenset[str]] = {
    "beam": frozenset({"num_beams", "temperature", "repetition_penalty", "length_penalty"}),
    "greedy": frozenset({"repetition_penalty", "frequency_penalty", "presence_penalty"}),
    "sample": frozenset(
        {"temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty"}
    ),
}
_SEARCH_FIELDS = frozenset().union(*_USED_BY.values())
# Values that leave a search as it is: they fit every search.
_NEUTRAL: dict[str, float] = {
    "num_beams": 1, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "length_penalty": 1.0, "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class ChatOptions:
    """Wishes for an answer; None leaves a field to the model.

    ``search``: ``"beam"``, ``"greedy"`` or ``"sample"``; None takes the model's own, or the one that the other fields
    speak of (``top_k``, ``top_p``, ``min_p`` → sample, ``num_beams`` > 1 → beam). ``num_beams`` ≥ 1.
    ``temperature`` ≥ 0, where 0 is greedy. ``top_k`` ≥ 0 (0: all tokens), ``top_p`` in (0, 1], ``min_p`` in [0, 1].
    ``repetition_penalty`` > 0. ``length_penalty``: power of the length a beam's score is divided by.
    ``frequency_penalty``, ``presence_penalty`` −2 … 2: off the logit of what the answer has, each time and once; not
    with beams.
    ``max_new_tokens`` ≥ 1; ``max_length`` ≥ 1 counts what the model reads as well, pictures included (in a batch: its
    longest prompt). ``seed``: the same seed samples the same answer (beam and greedy need none).
    ``stop``: the answer ends before the first of these strings. ``answer_language``: ``"zh"``, ``"en"``, or ``"auto"``,
    the question's own. ``json_schema``: a JSON schema (JSON text); the answer is JSON that fits it, unless it is cut
    short. Not with beams.

    Beyond one look at a picture, with any model: ``tiles`` 2 … 6 (True: 2) also asks about overlapping parts, so many
    along its shorter side, and joins what they say; ``ocr`` reads the text in it and quotes that to the model;
    ``second_look`` asks about each thing that an answer names, and takes out what is denied.

    Raises OptionError for a value out of range, and TypeError for an unknown name.
    """

    search: Search | None = None
    num_beams: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    length_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    stop: str | Iterable[str] = ()
    answer_language: Literal["auto", "zh", "en"] = "auto"
    max_length: int | None = None
    json_schema: str | None = None
    tiles: int | bool | None = None
    ocr: bool = False
    second_look: bool = False

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        if isinstance(self.tiles, bool):
            object.__setattr__(self, "tiles", 2 if self.tiles else None)
        _check("search", self.search, self.search in (None, *SEARCHES), "beam, greedy, sample")
        _check("answer_language", self.answer_language, self.answer_language in ANSWER_LANGUAGES, "auto, zh, en")
        _check("stop", stop, all(isinstance(text, str) and text for text in stop), "non-empty strings")
        self._number("num_beams", int, "≥ 1", lambda value: value >= 1)
        self._number("temperature", float, "≥ 0", lambda value: value >= 0)
        self._number("top_k", int, "≥ 0", lambda value: value >= 0)
        self._number("top_p", float, "0 < top_p ≤ 1", lambda value: 0 < value <= 1)
        self._number("min_p", float, "0 ≤ min_p ≤ 1", lambda value: 0 <= value <= 1)
        self._number("repetition_penalty", float, "> 0", lambda value: value > 0)
        self._number("length_penalty", float, "a number", lambda _: True)
        for name in ("frequency_penalty", "presence_penalty"):
            self._number(name, float, "−2 … 2", lambda value: -2 <= value <= 2)
        self._number("max_new_tokens", int, "≥ 1", lambda value: value >= 1)
        self._number("max_length", int, "≥ 1", lambda value: value >= 1)
        once = self.json_schema is None or not (self.tiles or self.second_look)
        _check("json_schema", self.json_schema, once, "None with tiles or a second look")
        self._number("tiles", int, "2 … 6", lambda value: 2 <= value <= 6)
        self._number("seed", int, "0 … 2⁶³−1", lambda value: 0 <= value < 2**63)

    def _number(self, name: str, kind: type, wanted: str, fits: Any) -> None:
        value = getattr(self, name)
        if value is None:
            return
        is_kind = isinstance(value, kind) or (kind is float and isinstance(value, int))
        is_finite = is_kind and not isinstance(value, bool) and abs(value) != float("inf") and value == value
        _check(name, value, bool(is_finite and fits(value)), wanted)


@dataclass(frozen=True)
class Settings:
    """Complete settings of one answer: options met with the model's defaults. Fields as in :class:`ChatOptions`."""

    search: Search = "greedy"
    num_beams: int = 3
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    max_new_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()
    answer_language: Literal["auto", "zh", "en"] = "auto"
    max_length: int | None = None
    json_schema: str | None = None

    def after(self, num_tokens: int) -> Settings:
        """The same for a prompt of so many tokens: an answer within ``max_length``. Raises PromptError."""
        if self.max_length is None:
            return self
        if num_tokens >= self.max_length:
            raise PromptError(
                f"The prompt has {num_tokens} tokens; max_length is {self.max_length}, answer included.",
                f"提示共 {num_tokens} 个词元；max_length 为 {self.max_length}，其中包括答案。",
            )
        return replace(self, max_new_tokens=min(self.max_new_tokens, self.max_length - num_tokens))


def settle(options: ChatOptions, defaults: ChatOptions) -> Settings:
    """``options`` where given, else ``defaults``, else those of :class:`Settings`.

    Raises OptionError when a field was given that the chosen search would not use.
    """
    search = _choose_search(options, defaults)
    values: dict[str, Any] = {}
    for field in fields(Settings):
        value = getattr(options, field.name)
        if value is None or value == ():
            value = getattr(defaults, field.name)
        if value is not None:
            values[field.name] = value
    if options.max_length is not None and options.max_new_tokens is None:
        values["max_new_tokens"] = options.max_length  # a wish for the whole also lifts the model's own limit
    if search == "sample" and values.get("temperature") == 0:
        search = "greedy"
    _check("temperature", values.get("temperature"), search != "beam" or values.get("temperature") != 0, "> 0 for beam")
    return Settings(**{**values, "search": search})


def from_generation_config(settings: Mapping[str, Any]) -> ChatOptions:
    """A model's generation settings as defaults: several beams → beam, ``do_sample`` → sample, else greedy."""
    beams, sampled = settings.get("num_beams"), settings.get("do_sample")
    search: Search = "beam" if (beams or 1) > 1 else "sample" if sampled else "greedy"
    own: dict[str, Any] = {name: settings.get(name) for name in (*_USED_BY[search], "max_new_tokens")}
    return ChatOptions(search=search, **own)


def _choose_search(options: ChatOptions, defaults: ChatOptions) -> Search:
    given = {
        name
        for name in _SEARCH_FIELDS
        if getattr(options, name) is not None and getattr(options, name) != _NEUTRAL.get(name)
    }
    if options.temperature == 0 and options.search in (None, "greedy", "sample"):
        return _fitting(given - {"temperature"} - _USED_BY["sample"], "greedy")
    own = defaults.search or "greedy"
    if options.json_schema is not None:
        _check("search", "beam", options.search != "beam" and "num_beams" not in given, "greedy or sample for JSON")
        own = "greedy" if own == "beam" else own
    if options.search is not None:
        return _fitting(given, options.search)
    for search in (own, "sample", "beam"):
        if given <= _USED_BY[search]:
            return search
    return _fitting(given, own)


def _fitting(given: set[str], search: Search) -> Search:
    foreign = ", ".join(sorted(given - _USED_BY[search]))
    if foreign:
        raise OptionError(
            f"The {search} search does not use {foreign}; leave it out or choose another search.",
            f"{search} 搜索用不到 {foreign}；请去掉，或换一种搜索方式。",
        )
    return search


def _check(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        raise OptionError(f"{name} must be {wanted}, not {value!r}.", f"{name} 应为 {wanted}，而不是 {value!r}。")
