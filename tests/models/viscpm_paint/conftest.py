"""Tiny pipelines, made once."""

from __future__ import annotations

import pytest

from tests.models.viscpm_paint import tiny


@pytest.fixture(scope="session")
def painter(tmp_path_factory):
    return tiny.pipeline(tmp_path_factory.mktemp("paint"))


@pytest.fixture(scope="session")
def canvas_painter(tmp_path_factory):
    return tiny.pipeline(tmp_path_factory.mktemp("canvas"), canvas=True)


@pytest.fixture(scope="session", params=["published kind", "with a canvas"])
def either(request):
    return request.getfixturevalue("painter" if request.param == "published kind" else "canvas_painter")
