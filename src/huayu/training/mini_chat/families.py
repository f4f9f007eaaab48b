"""What the stages need to know of a model family: its words, its language model, its eye, and how they are joined."""

# B rows, N pictures, Q queries, S side in pixels, T tokens, P patches, D width, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from huayu.data.dialogues import Turn
from huayu.errors import ModelError
from huayu.training.loop import Batch

VOCABULARIES = {"viscpm_chat": "vocab.txt", "visualglm": "ice_text.model"}  # what their files are called
FAMILIES = tuple(VOCABULARIES)
LAYERS = 4  # of the language model


class Family(Protocol):
    """A family with the sizes of its embedded model and one vocabulary."""

    file: Path  # of the vocabulary
    linear_projector: bool  # what the language model reads is a linear image of the queries' states
    most_pictures: int  # that a row can be about

    def __init__(self, vocabulary: str, layers: int) -> None:
        """``vocabulary``: its file, made there when it is first needed and there is none; ``layers``: of the language
        model."""

    def __len__(self) -> int:
        """V."""

    def words(self) -> Sequence[str]:
        """Each token's text, by id."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text that stands within another; an English word begins with its space."""

    def row(self, turns: Sequence[Turn], last: int, pictures: int) -> Any:
        """A row about so many pictures that asks turn ``last`` after the turns before it; it has ``input_ids``."""

    def collate(self, rows: Sequence[Any]) -> Batch:
        """Rows padded on the right, as :meth:`read` takes them: ``input_ids``, ``attention_mask``, ``is_context``,
        ``image_token_index`` and ``labels``, for each token the one that comes next (-100: not learnt), (B, T) each."""

    def language_model(self) -> nn.Module:
        """A new one, which learns well from its first step."""

    def word_vectors(self, model: Any) -> Tensor:
        """Words as the language model reads them, (V, D)."""

    def embed(self, model: Any, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, D)."""

    def read(self, model: Any, embeds: Tensor, rows: Batch, loss_only: bool) -> Any:
        """The language model's output with ``loss`` (``loss_only``) or ``logits`` (B, T, V), and ``hidden_states``."""

    def eye(self) -> nn.Module:
        """A new eye; its parts have the names that they have in the chat model."""

    def see(self, eye: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, S, S, 3) → states of patches (N, P, D) and of queries (N, Q, D). ``eye``: also the chat model."""

    def chat(self) -> Any:
        """The whole model, new."""

    def fit_hidden(self, chat: Any, head: nn.Linear, /) -> nn.Module:
        """What comes before the projector's last linear, set up from ``head``, which tells what a slot shows."""

    def last_linear(self, chat: Any) -> nn.Linear:
        """The projector's last linear."""

    def save(self, chat: Any, folder: Path) -> None:
        """Write the model as users open it."""


def open_family(name: str, vocabulary: str = "", *, pictures: int = 1, layers: int = LAYERS) -> Family:
    """An eye needs no ``vocabulary``.

    Raises ModelError for a name that is not among :data:`FAMILIES`, and for one whose rows are about fewer pictures.
    """
    from huayu.training.mini_chat.viscpm import VisCPM
    from huayu.training.mini_chat.visualglm import VisualGLM

    makers: dict[str, type[Family]] = dict(zip(FAMILIES, (VisCPM, VisualGLM), strict=True))
    if name not in makers:
        known = ", ".join(FAMILIES)
        raise ModelError(f"No family {name!r}; there are: {known}.", f"没有名为 {name!r} 的模型族；现有：{known}。")
    family = makers[name](vocabulary, layers)
    if family.most_pictures < pictures:
        raise ModelError(
            f"{name} looks at one picture: it cannot compare any.", f"{name} 一次只看一张图片，无法比较多张。"
        )
    return family
