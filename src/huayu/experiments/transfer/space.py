"""Why it carries over, or not: are the two languages one space, and whose words does a picture look like?"""

# C concepts, D width

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from huayu.data import world
from huayu.experiments.transfer.pool import Pool
from huayu.experiments.transfer.scenes import MIDDLE, SmallWorld
from huayu.experiments.transfer.talk import LANGUAGES
from huayu.experiments.transfer.teller import Teller
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeForCausalLM, collate, pack


@torch.no_grad()
def translations(model: CpmBeeForCausalLM, vocabulary: BeeVocabulary, small: SmallWorld) -> list[float]:
    """For the embeddings and each block: the share of things whose name in one language is nearest to its own in the
    other (both ways, centred cosine). Chance is one by the number of things."""
    states = {}
    for language in LANGUAGES:
        names = [world.CONCEPTS[c].en if language == "en" else world.CONCEPTS[c].zh for c in small.concepts]
        layers = []
        for name in names:
            inputs = collate([pack({"input": name}, vocabulary)], vocabulary)
            hidden = model.model(**inputs, use_cache=False, output_hidden_states=True).hidden_states
            layers.append(torch.stack([state[0, -1 - _length(name, vocabulary) : -1].mean(0) for state in hidden]))
        states[language] = torch.stack(layers, 1)  # (layers, C, D)
    return [_found(en, zh) for en, zh in zip(states["en"], states["zh"], strict=True)]


def _length(name: str, vocabulary: BeeVocabulary) -> int:
    return len(vocabulary.encode(name)[0])


def _found(a: Tensor, b: Tensor) -> float:
    """Share of rows of a (C, D) whose nearest of b (C, D) is their own, and back, after centring."""
    near = F.normalize(a - a.mean(0), dim=1) @ F.normalize(b - b.mean(0), dim=1).T
    own = torch.arange(len(a))
    return float(((near.argmax(1) == own).float().mean() + (near.argmax(0) == own).float().mean()) / 2)


@torch.no_grad()
def looks_like(teller: Teller, vocabulary: BeeVocabulary, pool: Pool, small: SmallWorld) -> dict[str, float]:
    """language → share of things whose picture, as the language model reads it, is nearest to their own name."""
    embedding = teller.chat.get_input_embeddings().weight
    pictures = []
    for concept in small.concepts:
        rows = [i for i, facts in enumerate(pool.scenes) if facts.things == ((concept, MIDDLE),)]
        seen = teller.see(pool.patches[rows[:8]]) if rows else torch.zeros(1, 2 * MIDDLE + 2, embedding.shape[1])
        pictures.append(seen[:, 2 * MIDDLE : 2 * MIDDLE + 2].mean((0, 1)))
    found = {}
    for language in LANGUAGES:
        names = []
        for concept in small.concepts:
            entry = world.CONCEPTS[concept]
            ids = vocabulary.encode(" " + entry.en if language == "en" else entry.zh)[0]
            names.append(embedding[ids].mean(0))
        found[language] = _nearest(torch.stack(pictures), torch.stack(names))
    return found


def _nearest(a: Tensor, b: Tensor) -> float:
    near = F.normalize(a - a.mean(0), dim=1) @ F.normalize(b - b.mean(0), dim=1).T
    return float(np.mean(near.argmax(1).numpy() == np.arange(len(a))))
