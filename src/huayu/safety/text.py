"""One plain form for the many ways to write the same words."""

from __future__ import annotations

import re
import unicodedata

from huayu.runtime.language import language_of, to_simplified

_HAN = "\u3400-\u9fff\uf900-\ufaff"
# Between two Han characters these only hide a word; sentence marks (，。！？：；、) stay, they end one.
_HIDING = re.compile(rf"(?<=[{_HAN}])[\s*._|/\\+~^#@&·•…'\"-]+(?=[{_HAN}])")
_SPELLED = re.compile(r"(?<![a-z])[a-z](?:[ .*_-]{1,2}[a-z](?![a-z])){2,}")
_LETTER = re.compile(r"[a-z]")
_LOOKS_LIKE = str.maketrans("0134579@$!|аеорсухіѕкмтвн", "oieastgasiiaeopcyxiskmtbh")


def normalise(text: str) -> str:
    """Lower case, one width (NFKC), no marks and no unseen characters, Simplified, words in one piece."""
    decomposed = unicodedata.normalize("NFKD", text)
    kept = (char for char in decomposed if unicodedata.category(char) not in ("Mn", "Me", "Cf", "Co"))
    plain = unicodedata.normalize("NFKC", "".join(kept)).casefold()
    plain = re.sub(r"\s+", " ", plain).strip()
    return _HIDING.sub("", to_simplified(plain)) if language_of(plain) == "zh" else plain


def unmasked(text: str) -> str:
    """A normalised text with letters where digits and signs look like them, and with s p e l l e d words joined."""
    tokens = (token.translate(_LOOKS_LIKE) if _LETTER.search(token) else token for token in text.split(" "))
    letters = " ".join(tokens)
    return _SPELLED.sub(lambda match: re.sub(r"[^a-z]", "", match[0]), letters)
