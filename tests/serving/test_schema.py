"""The OpenAPI document tells the truth: no request brings a 500, and what is answered is as it says."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation.modes import GenerationMode

from tests.serving.conftest import CHAT, PAINT

load_all_checks()
# Whether what fits is also accepted is not the form's to say: a picture may be none, a model unknown.
LEFT_OUT = [CHECKS.get_one("positive_data_acceptance")]
FEW = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # to find the smallest failure would take minutes of painting
)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_document_is_true(server: str, mode: GenerationMode) -> None:
    seen = set()
    for found in schemathesis.openapi.from_url(f"{server}/openapi.json").get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue
        seen.add(operation.label)

        @FEW
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: Any) -> None:
            if mode is GenerationMode.POSITIVE:
                _ask_little_of_known_models(case.body)
            case.call_and_validate(excluded_checks=LEFT_OUT)

        holds()
    assert {"POST /v1/chat/completions", "POST /v1/images/edits", "POST /"} <= seen


def _ask_little_of_known_models(body: Any) -> None:
    if isinstance(body, dict) and "messages" in body:
        body |= {"model": CHAT, "n": 1, "max_tokens": 4, "max_completion_tokens": 4}
    elif isinstance(body, dict) and "prompt" in body:
        body |= {"model": PAINT, "n": 1, "steps": 2}
