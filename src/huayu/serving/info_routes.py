"""What a server says of itself."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

import huayu
from huayu.errors import ModelError
from huayu.serving import schemas

router = APIRouter(responses=schemas.ERRORS)


class Health(schemas.Answered):
    status: Literal["ok"] = "ok"


class Version(schemas.Answered):
    version: str


@router.get("/health")
async def health() -> Health:
    """Always open; says that the server is up and nothing else."""
    return Health()


@router.get("/version")
async def version() -> Version:
    """The package's version."""
    return Version(version=huayu.__version__)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/models")
async def models(request: Request) -> schemas.ModelList:
    """All models, those for chat first."""
    return schemas.ModelList(data=_models(request))


@router.get("/v1/models/{model:path}", response_model=schemas.ModelOut)
async def model(model: str, request: Request) -> schemas.ModelOut:
    """One model."""
    for known in _models(request):
        if known.id == model:
            return known
    raise ModelError("There is no such model here.", "此处没有这个模型。")


def _models(request: Request) -> list[schemas.ModelOut]:
    cards = request.app.state.shelf.listed()
    return [schemas.ModelOut(id=c.id, created=c.created, owned_by=c.owned_by) for c in cards]
