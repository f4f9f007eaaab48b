"""CPM-Bee's vocabulary: greedy longest match over a plain list of tokens; unknown text becomes a word of the request.

Pure Python: needs neither torch nor transformers. Source: spec viscpm §2.1–2.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

MAX_TOKEN_LENGTH = 32
_RENAMED = {"</n>": "\n", "</_>": " "}


class Piece(NamedTuple):
    """A stretch of text: a token, a special token ``<…>``, or text that no token covers."""

    text: str
    is_unknown: bool
    is_special: bool


def escape(text: str) -> str:
    """User text made safe: every ``<`` doubled, so that it can never open a special token."""
    return text.replace("<", "<<")


def unescape(text: str) -> str:
    """The inverse of :func:`escape`."""
    return text.replace("<<", "<")


def _split_special(text: str) -> Iterable[tuple[str, bool]]:
    """Yield (part, is special). Raises ValueError for a ``<`` that is neither doubled nor closed."""
    literal, special, opening = "", None, False
    for char in text:
        if special is not None:
            if char == "<":
                raise ValueError(f"'<' inside the special token {special!r} of {text!r}")
            special += char
            if char == ">":
                yield special, True
                special = None
        elif opening:
            opening = False
            if char == "<":
                literal += "<"
                continue
            if literal:
                yield literal, False
            literal, special = "", "<" + char  # even '>' opens: published behaviour
        elif char == "<":
            opening = True
        else:
            literal += char
    if opening or special is not None:
        raise ValueError(f"unclosed '<' in {text!r}; double it to mean the character itself")
    if literal:
        yield literal, False


class BeeVocabulary:
    """Tokens by id, from a file with one token a line (id = line number from 0)."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.tokens = [_RENAMED.get(line, line) for line in lines]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        special = (token for token in self.tokens if token.startswith("<") and token.endswith(">"))
        self.special_ids = {token: self.ids[token] for token in special}
        self._longest: dict[str, int] = {}  # by first character: length of the longest token that starts with it
        for token in self.ids:
            if token and token not in self.special_ids:
                length = min(len(token), MAX_TOKEN_LENGTH)
                self._longest[token[0]] = max(length, self._longest.get(token[0], 0))

    @classmethod
    def from_file(cls, path: str | Path) -> BeeVocabulary:
        """Read UTF-8 lines; spaces belong to the tokens."""
        text = Path(path).read_bytes().decode("utf-8")
        lines = text.split("\n")
        return cls(lines[:-1] if text.endswith("\n") else lines)

    def __len__(self) -> int:
        return len(self.tokens)

    def lines(self) -> list[str]:
        """The lines of the file again."""
        names = {value: key for key, value in _RENAMED.items()}
        return [names.get(token, token) for token in self.tokens]

    def pieces(self, text: str) -> list[Piece]:
        """Split ``text``. Raises ValueError for a single ``<``."""
        found: list[Piece] = []
        for part, is_special in _split_special(text):
            if is_special:
                found.append(Piece(part, False, True))
            else:
                found.extend(self._match(part))
        return found

    def _match(self, part: str) -> Iterable[Piece]:
        unknown, start = "", 0
        while start < len(part):
            token = self._token_at(part, start)
            if token is None:
                unknown += part[start]
                start += 1
                continue
            if unknown:
                yield Piece(unknown, True, False)
                unknown = ""
            yield Piece(token, False, False)
            start += len(token)
        if unknown:
            yield Piece(unknown, True, False)

    def _token_at(self, part: str, start: int) -> str | None:
        for length in range(min(self._longest.get(part[start], 0), len(part) - start), 0, -1):
            token = part[start : start + length]
            if token in self.ids and token not in self.special_ids:
                return token
        return None

    def encode(self, text: str, past_table: Mapping[int, str] | None = None) -> tuple[list[int], dict[int, str]]:
        """Ids and the table of extension ids (``len(self) + k``) → text, continued from ``past_table``."""
        table = dict(past_table or {})
        known = {word: i for i, word in table.items()}
        ids = []
        for piece in self.pieces(text):
            token = None if piece.is_unknown else self.ids.get(piece.text)
            if token is None:
                token = known.setdefault(piece.text, len(self) + len(known))
                table[token] = piece.text
            ids.append(token)
        return ids, table

    def decode(self, ids: Iterable[int], table: Mapping[int, str] | None = None) -> str:
        """Text of ids; ordinary tokens come out escaped, ids in ``table`` as their text, negative ids are skipped."""
        table = table or {}
        return "".join(self._text_of(int(i), table) for i in ids if i >= 0)

    def _text_of(self, token: int, table: Mapping[int, str]) -> str:
        if token in table:
            return table[token]
        text = self.tokens[token]
        return text if text in self.special_ids else escape(text)
