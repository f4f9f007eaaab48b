"""Whether a picture and its caption are worth learning from; near-duplicates among many pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from PIL import Image

from huayu.data.pictures import open_picture
from huayu.data.rows import Record
from huayu.errors import ImageError, OptionError
from huayu.runtime.packages import require

Scorer = Callable[[str, list[Image.Image]], list[float]]
# Why a row is left out, in the order in which it is asked.
REASONS = {
    "fault": ("cannot be read", "无法读取"),
    "no-picture": ("no picture", "没有图片"),
    "language": ("another language", "其他语言"),
    "short": ("caption too short", "文字过短"),
    "long": ("caption too long", "文字过长"),
    "small": ("picture too small", "图片过小"),
    "aspect": ("picture too long and narrow", "图片过于狭长"),
    "score": ("does not fit its caption", "图文不符"),
    "duplicate": ("near-duplicate", "近似重复"),
}
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_KANA_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3400-\u9fff\uf900-\ufaff]+")
_ENGLISH_OR = ("en", "fr", "de", "es", "pt", "it", "nl", "pl", "sv", "tr", "vi", "id")
_SURE, _ENOUGH = 0.7, 4  # of another language, words; what is less counts as English


@dataclass(frozen=True)
class CleanOptions:
    """What is kept. A caption's length is in words, of Chinese in characters; sides are in pixels.

    ``near``: pictures whose 64-bit perceptual hashes differ in no more bits are duplicates; -1 looks for none.
    ``min_score``: of the ranker for the caption's language, where one is given. Raises OptionError.
    """

    languages: tuple[str, ...] = ("zh", "en")
    min_length: int = 3
    max_length: int = 128
    min_side: int = 64
    max_aspect: float = 3.0
    near: int = 3
    min_score: float | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.languages) - {"zh", "en", "other"}:
            names = ", ".join(sorted(unknown))
            raise OptionError(f"Languages are zh, en, other; not {names}.", f"语言只有 zh、en、other；没有 {names}。")
        if not -1 <= self.near <= 15:
            raise OptionError("near is 0 to 15, or -1 for no look.", "near 应为 0 到 15；-1 表示不查重。")
        if self.max_aspect < 1 or not 0 <= self.min_length <= self.max_length:
            raise OptionError(
                "max_aspect ≥ 1, min_length ≤ max_length.", "max_aspect 应 ≥ 1，min_length 应 ≤ max_length。"
            )


def language(text: str) -> str:
    """``"zh"``, ``"en"`` or ``"other"``: by its script, and Latin letters by py3langid where it is sure."""
    letters = _LETTER.findall(text)
    han = len(_HAN.findall(text))
    if _KANA_HANGUL.search(text) or not letters:
        return "other"
    if han:  # one Han character says about as much as a short word
        return "zh" if 4 * han >= len(letters) - han else "en"
    if sum(letter < "\u0250" for letter in letters) < 0.9 * len(letters):
        return "other"
    if len(_WORD.findall(text)) < _ENOUGH:
        return "en"
    name, sure = _identifier().classify(text.lower())
    return "other" if name != "en" and sure > _SURE else "en"


@lru_cache(maxsize=1)
def _identifier() -> Any:
    require("py3langid", "data")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found.set_languages(list(_ENGLISH_OR))
    return found


def judge(record: Record, options: CleanOptions, scorers: Mapping[str, Scorer]) -> dict[str, Any]:
    """``reason`` (of :data:`REASONS`, or empty), ``language``, and as far as it came ``size``, ``hash``, ``score``.

    Of several turns the answers together are the caption. ``scorers``: by language. The picture is opened once.
    """
    caption = " ".join(answer for _, answer in record.turns)
    found: dict[str, Any] = {"reason": "", "language": language(caption)}
    length = len(_WORD.findall(caption))
    if record.picture is None:
        return found | {"reason": "no-picture"}
    if found["language"] not in options.languages:
        return found | {"reason": "language"}
    if not options.min_length <= length <= options.max_length:
        return found | {"reason": "short" if length < options.min_length else "long"}
    try:
        image = open_picture(record.picture)
    except ImageError as problem:
        return found | {"reason": "fault", "message": problem.en}
    found["size"] = list(image.size)
    if min(image.size) < options.min_side:
        return found | {"reason": "small"}
    if max(image.size) > options.max_aspect * min(image.size):
        return found | {"reason": "aspect"}
    if options.near >= 0:
        found["hash"] = picture_hash(image)
    if scorer := scorers.get(found["language"]):
        found["score"] = round(scorer(caption, [image])[0], 4)
        if options.min_score is not None and found["score"] < options.min_score:
            found["reason"] = "score"
    return found


def picture_hash(image: Image.Image) -> str:
    """The perceptual hash, 16 hex digits: alike for pictures that look alike, whatever their size and format.

    Source: https://github.com/JohannesBuchner/imagehash, phash.
    """
    require("imagehash", "data")
    import imagehash

    return str(imagehash.phash(image))


class Seen:
    """Perceptual hashes that were there; finds one that differs in ``near`` bits or fewer.

    The bits are cut into ``near + 1`` bands: of two hashes so near, one band at least is equal.
    """

    def __init__(self, near: int) -> None:
        self.near = near
        edges = [64 * band // (near + 1) for band in range(near + 2)]
        self.bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self.found: list[dict[int, dict[int, str]]] = [defaultdict(dict) for _ in self.bands]

    def add(self, digits: str, name: str) -> str | None:
        """The name of the first that looks like it; None when there was none, which then is remembered as ``name``."""
        value = int(digits, 16)
        places = [(table, value >> low & mask) for table, (low, mask) in zip(self.found, self.bands, strict=True)]
        for table, part in places:
            for other, owner in table.get(part, {}).items():
                if (other ^ value).bit_count() <= self.near:
                    return owner
        for table, part in places:
            table[part][value] = name
        return None
