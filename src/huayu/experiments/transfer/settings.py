"""How large the experiment is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from huayu.errors import ModelError
from huayu.experiments.transfer.scenes import CELLS, SIZE
from huayu.models.beit3 import Beit3Config
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeConfig
from huayu.models.viscpm_chat import VisCPMChatConfig

NUM_QUERIES = 2 * CELLS + 1  # two for each cell, and the ground
GRID = 8  # patches a side


@dataclass(frozen=True)
class Setting:
    """Sizes and steps. ``questions``: of each skill and language, for each arm and seed."""

    name: str
    things: int
    pool: int  # training pictures
    width: int
    layers: int
    sight_width: int
    eye_steps: int
    text_steps: int
    pair_steps: int
    instruct_steps: int
    paint_steps: int
    questions: int
    batch: int = 64

    def text_config(self, vocab_size: int) -> CpmBeeConfig:
        """The language model; scaled linears start at unit variance."""
        return CpmBeeConfig(
            vocab_size=vocab_size,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=max(1, self.width // 32),
            head_dim=32,
            intermediate_size=self.width * 5 // 2,
            initializer_range=1.0,
        )

    def vision_config(self) -> Beit3Config:
        """The eye."""
        return Beit3Config(
            image_size=SIZE,
            patch_size=SIZE // GRID,
            stem_channels=[self.sight_width // 4, self.sight_width // 2, self.sight_width],
            stem_depth=1,
            hidden_size=self.sight_width,
            num_hidden_layers=2,
            num_attention_heads=self.sight_width // 32,
            intermediate_size=2 * self.sight_width,
            max_query_positions=NUM_QUERIES + 2,
            text_vocab_size=1,
        )

    def chat_config(self, vocab_size: int) -> VisCPMChatConfig:
        """The whole model."""
        return VisCPMChatConfig(
            text_config=self.text_config(vocab_size), vision_config=self.vision_config(), num_query_tokens=NUM_QUERIES
        )


SMALL = Setting(
    "small",
    things=32,
    pool=6000,
    width=128,
    layers=3,
    sight_width=96,
    eye_steps=1400,
    text_steps=1100,
    pair_steps=400,
    instruct_steps=240,
    paint_steps=1000,
    questions=60,
)
SETTINGS = {
    "tiny": replace(
        SMALL, name="tiny", things=8, pool=24, width=32, layers=2, sight_width=32, eye_steps=2, text_steps=2,
        pair_steps=2, instruct_steps=2, paint_steps=2, questions=3, batch=8,
    ),
    "small": SMALL,
    "full": replace(
        SMALL, name="full", things=64, pool=40000, width=256, layers=4, sight_width=128, eye_steps=12000,
        text_steps=16000, pair_steps=8000, instruct_steps=4000, paint_steps=4000, questions=300,
    ),
}  # fmt: skip


def setting_of(name: str) -> Setting:
    """Raises ModelError for an unknown name."""
    if name not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise ModelError(f"No setting {name!r}; there are: {known}.", f"没有名为 {name!r} 的规模；现有：{known}。")
    return SETTINGS[name]


def vocabulary_of(path: Path) -> BeeVocabulary:
    """The vocabulary at ``path``; made there first when there is none."""
    from huayu.data import mini_vocabulary

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        mini_vocabulary.build(path)
    return BeeVocabulary.from_file(path)
