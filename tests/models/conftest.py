"""Tiny models, made once."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

import huayu.hf  # noqa: F401
from huayu.models.cpm_bee import CpmBeeTokenizer
from huayu.models.viscpm_chat import VisCPMChatProcessor, VisCPMImageProcessor
from tests.models import tiny


@pytest.fixture(scope="session")
def vocabulary():
    return tiny.vocabulary()


@pytest.fixture(scope="session")
def chat():
    return tiny.chat()


@pytest.fixture(scope="session")
def language(chat):
    return chat.language_model


@pytest.fixture(scope="session")
def processor(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(tiny.LINES), encoding="utf-8", newline="\n")
    return VisCPMChatProcessor(VisCPMImageProcessor(tiny.SIDE), CpmBeeTokenizer(str(path)), tiny.QUERIES)


@pytest.fixture(scope="session")
def prompts(processor):
    """One packed prompt for each of ``tiny.ROWS``."""
    return [processor.pack_chat(*row) for row in tiny.ROWS]


@pytest.fixture(scope="session")
def batch(processor, prompts):
    """The prompts as one batch, left-padded, with pictures; what pads a row of pictures is poison."""
    inputs = processor.collate(prompts, padding="left", start_answer=True)
    pictures = tiny.pictures(3, 2)
    pictures[0] = pictures[1, 1] = torch.nan
    return {**inputs, "pixel_values": pictures}


@pytest.fixture(scope="session")
def singles(processor, prompts, batch):
    """The same prompts one by one, without padding."""
    found = []
    for row, (prompt, (count, *_)) in enumerate(zip(prompts, tiny.ROWS, strict=True)):
        inputs = processor.collate([prompt], padding="left", start_answer=True)
        found.append({**inputs, "pixel_values": batch["pixel_values"][row : row + 1, :count]} if count else inputs)
    return found


@pytest.fixture(scope="session")
def texts(processor):
    """Prompts without pictures, with words of their own, for the language model alone."""
    packed = [processor.pack_chat(0, context, question) for _, context, question in tiny.ROWS]
    return processor.collate(packed, padding="left", start_answer=True)


@pytest.fixture(scope="session")
def photographs():
    return [Image.new("RGB", (40, 30), "red"), Image.new("RGB", (20, 50), "blue")]
