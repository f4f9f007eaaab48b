"""Opening a model to talk with: every form, the vocabulary, the search it brings along, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import huayu
from huayu.chat import ChatModel, ChatOptions, load_chat
from huayu.errors import CheckpointError, ModelError
from huayu.runtime import memory

RED = Image.new("RGB", (40, 30), "red")
ASK = {"search": "greedy", "max_new_tokens": 12}


@pytest.fixture(scope="module")
def published(tiny_chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as one file with the published names, without a vocabulary."""
    from huayu.checkpoints.convert import convert

    file = tmp_path_factory.mktemp("published") / "pytorch_model.bin"
    convert(tiny_chat_folder, file)
    return file


def test_a_folder(tiny_chat: ChatModel, tiny_chat_folder: Path) -> None:
    assert tiny_chat.name == str(tiny_chat_folder)
    assert tiny_chat.backend.defaults == ChatOptions(search="greedy", max_new_tokens=12)
    assert huayu.load_chat is load_chat


def test_progress_counts_to_the_end(tiny_chat_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    load_chat(tiny_chat_folder, progress=lambda done, total: told.append((done, total)))
    assert len(told) > 10
    assert told[-1][0] == told[-1][1] > 0


def test_a_published_file_and_its_vocabulary(published: Path, tiny_chat_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="vocabulary"):
        load_chat(published)
    chat = load_chat(published, vocab=tiny_chat_folder / "vocab.txt")
    assert chat.backend.defaults.search == "beam"
    assert chat.backend.defaults.num_beams == 3
    assert chat.ask(RED, "红？", **ASK).text
    assert chat.ask(RED, "红？", max_new_tokens=5).usage.completion_tokens <= 7


def test_converted_it_answers_alike_and_keeps_its_search(
    published: Path, tiny_chat_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText

    from huayu.checkpoints.convert import convert

    vocab = tiny_chat_folder / "vocab.txt"
    convert(published, tmp_path / "ours", vocab=vocab)
    before, after = load_chat(published, vocab=vocab), load_chat(tmp_path / "ours")
    assert after.backend.defaults == before.backend.defaults
    assert after.ask(RED, "红？", **ASK).text == before.ask(RED, "红？", **ASK).text
    AutoModelForImageTextToText.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert saved["chat"]["search"] == "beam"


def test_a_vocabulary_of_another_size(tiny_chat_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_chat_folder, folder)
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    (folder / "vocab.txt").write_text("\n".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{len(lines) - 1} tokens.*{len(lines)}"):
        load_chat(folder)


@pytest.mark.parametrize(
    "settings", ['{"chat": {"serch": "beam"}}', '{"chat": {"top_p": 7}}', "[1", '{"chat": 3}', "[]"]
)
def test_damaged_generation_settings(tiny_chat_folder: Path, tmp_path: Path, settings: str) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_chat_folder, folder)
    (folder / "generation_config.json").write_text(settings)
    with pytest.raises(CheckpointError, match="generation_config.json is not right"):
        load_chat(folder)


def test_a_language_model_alone_cannot_look(tmp_path: Path, tiny_chat: ChatModel) -> None:
    tiny_chat.backend.model.language_model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot talk about pictures"):
        load_chat(tmp_path)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_it_is_smaller_and_answers(tiny_chat_folder: Path, bits: int) -> None:
    import torch

    from huayu.quantization import QuantizedLinear, is_quantized

    model: Any = load_chat(tiny_chat_folder, quantize=f"int{bits}").backend.model
    plain: Any = load_chat(tiny_chat_folder).backend.model
    assert is_quantized(model)
    layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    count = model.config.text_config.num_hidden_layers
    assert len(layers) == 7 * count
    assert {layer.bits for layer in layers} == {bits}
    name = "language_model.model.layers.0.mlp.up_proj"
    weight, packed = plain.get_submodule(name).weight, model.get_submodule(name)
    step = weight.abs().amax() / (2 ** (bits - 1) - 1)
    assert (packed.dequantized(torch.float32) - weight).abs().max() <= 0.51 * step
    assert packed.weight.nbytes == weight.numel() * bits // 8
    assert load_chat(tiny_chat_folder, quantize=f"int{bits}").ask(None, "你好").usage.completion_tokens > 0


def test_another_number_of_bits_is_refused(tiny_chat_folder: Path) -> None:
    with pytest.raises(ModelError, match="int8 and int4"):
        load_chat(tiny_chat_folder, quantize="int3")


def test_half_precision(tiny_chat_folder: Path) -> None:
    import torch

    chat = load_chat(tiny_chat_folder, dtype="bfloat16")
    assert chat.backend.model.dtype == torch.bfloat16
    assert chat.ask(RED, "红？", **ASK).usage.completion_tokens == 12


def test_offloaded_it_answers_alike(tiny_chat: ChatModel, tiny_chat_folder: Path) -> None:
    import torch

    chat = load_chat(tiny_chat_folder, device="cpu")
    model = chat.backend.model
    waiting = memory.waiting_layers(model, memory.Placement(offload_all=True))
    assert len(waiting) == 3
    memory.offload(model, waiting, torch.device("cpu"))
    assert model.language_model.model.layers[0].mlp.up_proj.weight.is_meta
    for search in ({"search": "greedy"}, {"search": "beam"}):
        asked = {**ASK, **search}
        assert chat.ask(RED, "图里有什么？", **asked).text == tiny_chat.ask(RED, "图里有什么？", **asked).text
