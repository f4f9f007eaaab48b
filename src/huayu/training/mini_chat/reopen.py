"""Take a finished chat model up again: ``python -m huayu.training.mini_chat.reopen RECIPE MODEL``.

``RECIPE``: of the stage "join", whose ``start`` is written, and ``vocabulary``, too; ``MODEL``: an embedded model's
name, or a folder; its run may be gone. The model stays as it is; what exists only in training is learned again around
it, in minutes.
"""

# N pictures, Q queries, S slots, C classes, D width, K unknown rows

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu import embedded
from huayu.training import recipe
from huayu.training.loop import Batch, LoopSettings
from huayu.training.mini_chat.architecture import NUM_BACKGROUNDS, NUM_CLASSES, NUM_QUERIES, NUM_SLOTS, NUM_STYLES
from huayu.training.mini_chat.families import VOCABULARIES
from huayu.training.mini_chat.join import JoinStage
from huayu.training.mini_chat.joined import Joined
from huayu.training.mini_chat.language import NAME_SCALE

RATE = 5e-3  # of the heads, which are single linears
FIT_BATCHES = 40
RIDGE = 0.1


def reopen(file: Path, model: Path, steps: int = 250, size: int = 24) -> Path:
    """Write the ``start`` of the recipe ``file`` from the folder ``model``; its heads learn for so many steps of
    ``size`` pictures. Raises ModelError as a recipe does, RuntimeError where the model has other sizes than here."""
    settings = {key: value for key, value in recipe.read(file).items() if key not in {"stage", *LoopSettings.names()}}
    start, vocabulary = Path(settings.pop("start")), Path(settings["vocabulary"])
    vocabulary.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model / VOCABULARIES[settings.get("family", "viscpm_chat")], vocabulary)
    stage = JoinStage(**settings)
    joined = Joined(stage.family).eval()  # statistics of what it has seen stay, too
    joined.chat.load_state_dict(type(joined.chat).from_pretrained(model, dtype=torch.float32).state_dict())
    joined.chat.requires_grad_(False)
    fit_words(joined, (stage.batch(-1 - i, size) for i in range(FIT_BATCHES)))
    learn_heads(joined, stage, steps, size)
    start.parent.mkdir(parents=True, exist_ok=True)
    torch.save(joined.state_dict(), start)
    return start


@torch.no_grad()
def fit_words(joined: Joined, batches: Iterable[Batch]) -> None:
    """Set the ideal words of slots to what this model's eye says for them: the ridge regression from what is shown."""
    shown, seen = [], []
    for batch in batches:
        shown.append(_shown(batch).flatten(0, 1))
        seen.append(joined.chat.projector(joined.family.see(joined.chat, batch["pixels"])[1]).flatten(0, 1))
    x, words = torch.cat(shown).double(), joined.words
    rows = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ torch.cat(seen).double()).float()
    things, grounds, styles, places = rows.split([NUM_CLASSES, NUM_BACKGROUNDS, NUM_STYLES, NUM_QUERIES])
    vectors = joined.family.word_vectors(joined.chat.language_model)
    words.classes.copy_(things - NAME_SCALE * (words.class_names @ vectors))
    words.backgrounds.copy_(grounds - NAME_SCALE * (words.background_names @ vectors))
    words.styles.copy_(styles - NAME_SCALE * (words.style_names @ vectors))
    words.places.copy_(places)


def _shown(pictures: Batch) -> Tensor:
    """What each query should say, (N, Q, K): shares of classes, background and style of the whole, and its place."""
    count = len(pictures["slots"])
    slots = torch.zeros(count, NUM_QUERIES, NUM_CLASSES)
    whole = torch.zeros(count, NUM_QUERIES, NUM_BACKGROUNDS + NUM_STYLES)
    slots[:, :NUM_SLOTS] = pictures["slots"]
    whole[:, -1, :NUM_BACKGROUNDS] = F.one_hot(pictures["background"], NUM_BACKGROUNDS).float()
    whole[:, -1, NUM_BACKGROUNDS:] = F.one_hot(pictures["style"], NUM_STYLES).float()
    return torch.cat([slots, whole, torch.eye(NUM_QUERIES).expand(count, -1, -1)], 2)


def learn_heads(joined: Joined, stage: JoinStage, steps: int, size: int) -> None:
    """Teach the heads of seeing and reading, while the model stays as it is."""
    heads = nn.ModuleList([joined.heads, joined.reading])
    optimizer = torch.optim.Adam(heads.parameters(), lr=RATE)
    for step in range(steps):
        loss, _ = stage.loss(joined, stage.batch(step, size))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = RATE * (1 - (step + 1) / steps)


if __name__ == "__main__":
    named = sys.argv[2]
    reopen(Path(sys.argv[1]), embedded.folder(named) if named in embedded.EMBEDDED else Path(named))
