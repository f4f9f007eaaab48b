"""What a server says of itself."""

from __future__ import annotations

from fastapi import APIRouter, Request

router = APIRouter()


@router.get("/health")
async def health() -> dict[str, str]:
    """Always open; says that the server is up and nothing else."""
    return {"status": "ok"}


@router.get("/version")
async def version() -> dict[str, str]:
    """The package's version."""
    from huayu import __version__

    return {"version": __version__}


@router.get("/v1/models")
async def models(request: Request) -> dict[str, object]:
    """All models, those for chat first."""
    cards = request.app.state.shelf.listed()
    data = [{"id": c.id, "object": "model", "created": c.created, "owned_by": c.owned_by} for c in cards]
    return {"object": "list", "data": data}
