"""Scripts for sat's VisualGLM, with one import line changed."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch

from huayu.checkpoints.convert import convert
from huayu.compat import FineTuneVisualGLMModel, VisualGLMModel, chat, quantize
from huayu.errors import ModelError, PromptError
from huayu.quantization import QuantizedLinear
from tests.models.visualglm import tiny

GREEDY = {"top_k": 1, "max_length": 60}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """SAT_HOME with a model called visualglm-6b."""
    root = tmp_path_factory.mktemp("sat")
    tiny.model().save_pretrained(root / "ours")
    convert(root / "ours", root / "visualglm-6b", to="sat")
    return root


@pytest.fixture
def opened(home, monkeypatch):
    monkeypatch.setenv("SAT_HOME", str(home))
    return VisualGLMModel.from_pretrained("visualglm-6b", Namespace(device="cpu", skip_init=True, mode="inference"))


def test_the_model_and_its_arguments(opened, home, tiny_chat_folder):
    model, args = opened
    assert (args.image_length, args.num_layers, args.skip_init) == (tiny.QUERIES, 2, True)
    assert args.eva_args["num_layers"] == 2
    assert model.dtype == torch.float32
    half, _ = FineTuneVisualGLMModel.from_pretrained(
        home / "visualglm-6b", Namespace(fp16=True), overwrite_args={"model_parallel_size": 2}
    )
    assert half.dtype == torch.float16
    with pytest.raises(TypeError, match="hidden_size"):
        VisualGLMModel.from_pretrained("visualglm-6b", overwrite_args={"hidden_size": 2})
    with pytest.raises(ModelError, match="not VisualGLM"):
        VisualGLMModel.from_pretrained(tiny_chat_folder)


def test_a_conversation_reads_its_picture_once(opened, tmp_path, monkeypatch):
    model, tokenizer = opened[0], tiny.processor().tokenizer
    tiny.pictures()[0].save(tmp_path / "a.png")
    answer, history, pixels = chat(str(tmp_path / "a.png"), model, tokenizer, "描述这张图片。", history=[], **GREEDY)
    assert history == [("描述这张图片。", answer)]
    assert torch.equal(pixels, tiny.processor().pixel_values(tiny.pictures()[:1]))
    (tmp_path / "a.png").unlink()
    again, longer, same = chat(None, model, tokenizer, "你好", history=history, image=pixels, top_k=1, max_length=99)
    assert longer == [*history, ("你好", again)]
    assert same is pixels
    picture = tiny.pictures()[0]
    assert chat("", model, tokenizer, "描述这张图片。", image=picture, **GREEDY)[0] == answer
    assert model.chat(tokenizer, picture, "描述这张图片。", mode="sat", do_sample=False, max_length=60)[0] == answer
    text, turns, nothing = chat("", model, tokenizer, "你好", **GREEDY)
    assert (turns, nothing) == ([("你好", text)], None)
    with pytest.raises(PromptError, match="either"):
        chat("a.png", model, tokenizer, "你好", image=picture)


def test_every_argument_counts(opened):
    model, tokenizer = opened[0], tiny.processor().tokenizer
    ask = (None, model, tokenizer, "你好吗 a")
    hot = {"temperature": 3.0, "top_k": 0, "top_p": 1.0, "seed": 1, "max_length": 40}
    plain = chat(*ask, **hot)[0]
    assert plain == chat(*ask, **hot)[0]
    assert chat(*ask, **hot, english=True)[0] != plain
    assert chat(*ask, **GREEDY, repetition_penalty=1.0)[0] != chat(*ask, **GREEDY, repetition_penalty=30.0)[0]
    assert chat(*ask, **{**hot, "seed": 2})[0] != plain
    assert len(chat(*ask, **{**hot, "max_length": 20})[0]) < len(plain)
    said = chat(*ask, **GREEDY)[0]
    banned = [slice(token, token + 1) for token in tokenizer.encode(said, add_special_tokens=False)]
    assert chat(*ask, **GREEDY, invalid_slices=banned)[0][0] != said[0]
    assert (
        chat(None, model, tokenizer, "<sop>你好", strict=True, **hot)[0]
        != chat(None, model, tokenizer, "<sop>你好", **hot)[0]
    )


def test_quantize_packs_the_blocks(opened):
    model = opened[0]
    assert quantize(model.transformer, 4) is model.transformer
    packed = [name for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    assert len(packed) == 8
    assert all(name.startswith("language_model.model.layers.") for name in packed)
    assert chat(None, model, tiny.processor().tokenizer, "你好", **GREEDY)[0]
