"""Compiled blocks say what plain ones say."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch.testing import assert_close

from benchmarks.decode import GLM_TINY, TINY
from huayu.chat import load_chat
from huayu.errors import ModelError
from huayu.generation.cache import GrowingCache
from huayu.models import compiled

# The compiler itself imports what it will remove.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def read_and_go_on(model, inputs, language):
    """Logits of the prompt, and tokens of steps that outgrow the first buffers."""
    cache = GrowingCache()
    logits = model(**inputs, past_key_values=cache, use_cache=True).logits
    steps = language.greedy_steps(model, inputs)
    said = [steps() for _ in range(70)]
    return logits, cache.layers[1].keys, cache.get_seq_length(), said


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler")
@pytest.mark.parametrize("scale", [TINY, GLM_TINY], ids=["CPM-Bee", "ChatGLM"])
def test_compiled_blocks_say_the_same(scale, monkeypatch):
    language = scale.language
    model, inputs = language.build(), language.prompts(3, 24)
    entered = []
    real = compiled._compiled
    monkeypatch.setattr(compiled, "_compiled", lambda device: entered.append(device) or real(device))
    with torch.inference_mode():
        plain = read_and_go_on(model, inputs, language)
        assert not entered
        model.model.compile_blocks()
        fast = read_and_go_on(model, inputs, language)
        assert entered == ["cpu"] * (1 + 1 + 70)
        model(**inputs, output_hidden_states=True)
        assert len(entered) == 72, "states of each block are only there when they run one by one"
    for ours, theirs in zip(fast[:3], plain[:3], strict=True):
        assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    for ours, theirs in zip(fast[3], plain[3], strict=True):
        if ours is not None:
            assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    model(**inputs)
    assert len(entered) == 72, "gradients run plain blocks"


def test_what_cannot_be_compiled_is_said_when_it_is_opened(monkeypatch):
    with pytest.raises(ModelError, match="not quantised"):
        load_chat(compile=True, quantize="int8")

    def missing():
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", missing)
    with pytest.raises(ModelError, match="C\\+\\+ compiler"):
        load_chat(compile=True)
