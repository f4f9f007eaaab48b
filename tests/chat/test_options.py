"""Options: which search they choose, what is refused, how they meet a model's defaults."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from huayu.chat.options import ChatOptions, from_generation_config, settle
from huayu.errors import HuayuError, OptionError

GREEDY = ChatOptions(search="greedy", max_new_tokens=64)
PUBLISHED = ChatOptions(
    search="beam", num_beams=3, temperature=0.7, repetition_penalty=1.1, length_penalty=3.0, max_new_tokens=512
)


@pytest.mark.parametrize(
    ("given", "defaults", "search"),
    [
        ({}, GREEDY, "greedy"),
        ({}, PUBLISHED, "beam"),
        ({"temperature": 0.5}, GREEDY, "sample"),
        ({"temperature": 0.5}, PUBLISHED, "beam"),
        ({"top_p": 0.9}, PUBLISHED, "sample"),
        ({"num_beams": 4}, GREEDY, "beam"),
        ({"num_beams": 1}, GREEDY, "greedy"),
        ({"num_beams": 1}, PUBLISHED, "beam"),
        ({"temperature": 0}, PUBLISHED, "greedy"),
        ({"temperature": 0, "top_p": 0.9}, GREEDY, "greedy"),
        ({"search": "sample", "temperature": 0}, GREEDY, "greedy"),
        ({"top_p": 1.0, "top_k": 0, "seed": 3}, GREEDY, "greedy"),
        ({"search": "sample"}, PUBLISHED, "sample"),
    ],
)
def test_choice_of_search(given: dict, defaults: ChatOptions, search: str) -> None:
    assert settle(ChatOptions(**given), defaults).search == search


def test_given_beats_default_beats_fallback() -> None:
    settings = settle(ChatOptions(temperature=0.2), PUBLISHED)
    assert (settings.temperature, settings.num_beams, settings.length_penalty) == (0.2, 3, 3.0)
    assert settle(ChatOptions(), ChatOptions()).max_new_tokens == 512
    assert settle(ChatOptions(max_new_tokens=3), PUBLISHED).max_new_tokens == 3
    assert settle(ChatOptions(stop="。"), GREEDY).stop == ("。",)
    assert settle(ChatOptions(answer_language="en"), GREEDY).answer_language == "en"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"search": "greedy", "temperature": 0.5}, "temperature"),
        ({"search": "beam", "top_p": 0.5}, "top_p"),
        ({"search": "sample", "num_beams": 3}, "num_beams"),
        ({"num_beams": 3, "top_k": 5}, "top_k|num_beams"),
        ({"temperature": 0, "num_beams": 2}, "num_beams"),
        ({"search": "beam", "temperature": 0}, "temperature"),
    ],
)
def test_a_field_the_search_would_not_use_is_refused(given: dict, named: str) -> None:
    with pytest.raises(OptionError, match=named):
        settle(ChatOptions(**given), GREEDY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("search", "contrastive"),
        ("num_beams", 0),
        ("num_beams", True),
        ("num_beams", 2.5),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_p", 1.5),
        ("min_p", -1),
        ("top_k", -1),
        ("repetition_penalty", 0),
        ("max_new_tokens", 0),
        ("max_new_tokens", "many"),
        ("max_length", 0),
        ("seed", -1),
        ("stop", ("",)),
        ("answer_language", "fr"),
    ],
)
def test_out_of_range(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=name) as caught:
        ChatOptions(**{name: value})
    assert isinstance(caught.value, HuayuError)
    assert isinstance(caught.value, ValueError)


def test_unknown_names_and_frozen() -> None:
    with pytest.raises(TypeError, match="beam_size"):
        ChatOptions(beam_size=3)
    with pytest.raises(FrozenInstanceError):
        ChatOptions().seed = 3


def test_defaults_of_a_generation_config() -> None:
    beams = {"num_beams": 3, "do_sample": False, "temperature": 0.7, "max_new_tokens": 9, "length_penalty": 3.0}
    assert from_generation_config(beams) == ChatOptions(
        search="beam", num_beams=3, temperature=0.7, max_new_tokens=9, length_penalty=3.0
    )
    assert from_generation_config({"do_sample": True, "top_p": 0.8}).search == "sample"
    assert from_generation_config({"num_beams": 1, "temperature": 0.3}) == ChatOptions(search="greedy")
