"""All that stands between a stranger and the routes, in its order."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from huayu.serving import auth, limits, logs
from huayu.serving.settings import ServeSettings


def guard(app: Starlette, settings: ServeSettings) -> None:
    """From the inside out: keys, limits, other sites' pages (none unless named), log.

    Call it once, after the routes; ``app.state.gate`` then says what is going on. Raises OptionError.
    """
    auth.install(app, settings)
    limits.install(app, settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    logs.install(app, settings)
