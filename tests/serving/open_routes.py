"""Which paths of an application answer without a key. As a program: of everything there is, the page too."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount

from tests.serving.asgi import ask

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Not routes, but what a guard may let through by mistake.
MORE = {"/", "/docs", "/redoc", "/openapi.json", "/nothing", "/health/", "//health", "/web/../health"}


def paths(routes: list[Any], prefix: str = "") -> Iterator[str]:
    """Every path of every route, in mounts and included routers as well."""
    for route in routes:
        path = prefix + getattr(route, "path", "")
        included = getattr(route, "original_router", route)  # FastAPI keeps an included router whole
        yield from paths(list(getattr(included, "routes", None) or []), path)
        yield path + "/anything" if isinstance(route, Mount) else path


def open_routes(app: FastAPI) -> tuple[set[str], list[str]]:
    """All paths that the application lists, and those that say anything but 401 to any method."""
    known = {path.replace("{", "").replace("}", "") for path in paths(app.routes)} | set(app.openapi()["paths"])

    async def refused(path: str) -> bool:
        return all([(await ask(app, method, path)).status == 401 for method in METHODS])

    async def every() -> list[str]:
        return [path for path in sorted((known | MORE) - {""}) if not await refused(path)]

    return known, asyncio.run(every())


if __name__ == "__main__":
    from huayu import webui
    from huayu.serving.app import create_app
    from huayu.serving.settings import ServeSettings

    settings = ServeSettings()
    served = create_app(settings)
    webui.mount(served, served.state.engine, served.state.shelf, settings, history=Path(sys.argv[1]))
    found, open_ones = open_routes(served)
    print(json.dumps([sorted(found), open_ones]))
