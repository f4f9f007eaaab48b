"""What each arm is trained on. The arms differ in data and in nothing else, but for the control's language model."""

from __future__ import annotations

from dataclasses import dataclass

LITTLE = 0.05  # share of the instructions that a little Chinese is


@dataclass(frozen=True)
class Arm:
    """Shares in Chinese: of the pairs, and of the instructions (None: the arm has none).

    ``across``: whether the language model has read texts that join the two languages. ``thorough``: twice as many
    steps of instructions, and the language model learns at the full rate.
    """

    key: str
    en: str
    zh: str
    pairs: float
    instructions: float | None
    across: bool = True
    thorough: bool = False

    @property
    def pairs_job(self) -> str:
        """The name of the pairs stage that the arm starts from; arms with the same pairs share it."""
        return f"pairs-{'en' if self.pairs == 0 else 'both'}" if self.across else "pairs-apart"


# The last three ask why: "b+" was added after a first look at b on one seed, "c+" after a first look at b+; "apart"
# was there from the start.
ARMS = (
    Arm("a", "English pairs", "英文图文对", 0.0, None),
    Arm("b", "a + English instructions", "a + 英文指令", 0.0, 0.0),
    Arm("c", f"b with {LITTLE:.0%} translated", f"b，其中 {LITTLE:.0%} 译成中文", 0.0, LITTLE),
    Arm("d", "a + balanced instructions", "a + 中英各半的指令", 0.0, 0.5),
    Arm("e", "pairs and instructions balanced (zhplus)", "图文对与指令均中英各半（zhplus）", 0.5, 0.5),
    Arm(
        "b+",
        "b, twice as long, language model at the full rate",
        "b，两倍步数，语言模型用全学习率",
        0.0,
        0.0,
        thorough=True,
    ),
    Arm("c+", "c, as b+", "c，做法同 b+", 0.0, LITTLE, thorough=True),
    Arm("apart", "a, languages never joined in text", "a，但文本从不连接两种语言", 0.0, None, across=False),
)
REFERENCES = {
    "words": ("the scene told in words", "以文字讲述的场景"),
    "blind": ("before any pair", "尚未见过图文对"),
}


def arm(key: str) -> Arm:
    """The arm of this name."""
    return next(found for found in ARMS if found.key == key)
