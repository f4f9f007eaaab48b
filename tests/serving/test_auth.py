"""Keys guard everything that can be asked, whatever mounts or documents the application has."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.staticfiles import StaticFiles

from huayu.errors import OptionError
from huayu.serving import auth
from huayu.serving.app import create_app
from huayu.serving.guard import guard
from huayu.serving.settings import ServeSettings
from tests.serving.asgi import Answer, ask, get
from tests.serving.open_routes import open_routes

SETTINGS = ServeSettings(api_keys=("first-key", "第二把钥匙"))


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(SETTINGS)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """With documents, mounts in mounts and a websocket."""
    app, inner = FastAPI(), FastAPI()
    inner.get("/deep/{name}")(lambda name: name)
    inner.mount("/static", StaticFiles(directory=tmp_path_factory.mktemp("static")))
    app.mount("/web", inner)
    app.get("/health")(lambda: "up")

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()

    guard(app, SETTINGS)
    return app


def test_no_route_but_health_is_open(app: FastAPI, crowded: FastAPI) -> None:
    for application in (app, crowded):
        listed, open_ones = open_routes(application)
        assert set(open_ones) == {"/health"}
        assert {"/health", "/openapi.json"} <= listed
    assert {"/", "/version", "/metrics", "/v1/models", "/v1/chat/completions", "/v1/images/edits"} <= open_routes(app)[
        0
    ]
    assert {"/web/deep/name", "/web/static/anything"} <= listed


def test_the_document_says_so(app: FastAPI) -> None:
    document = get(app, "/openapi.json", authorization="Bearer first-key").json()
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    wanted = {path: [one["security"] for one in each.values()] for path, each in document["paths"].items()}
    assert wanted.pop("/health") == [[]]
    assert set(map(str, wanted.values())) == {"[[{'key': []}]]"}
    assert "securitySchemes" not in get(create_app(ServeSettings()), "/openapi.json").json()["components"]


def test_nor_is_the_page(tmp_path: Path) -> None:
    """In a process of its own: Gradio leaves event loops unclosed when it is imported."""
    command = [sys.executable, "-m", "tests.serving.open_routes", str(tmp_path / "history.sqlite")]
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root / "src"), "HUAYU_API_KEYS": "key"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed, open_ones = json.loads(done.stdout.splitlines()[-1])
    assert open_ones == ["/health"]
    assert {"/v1/models", "/web/config", "/web/gradio_api/info"} <= set(listed)


def test_a_websocket_is_guarded(crowded: FastAPI) -> None:
    sent: list[dict[str, Any]] = []

    async def connect(headers: list[tuple[bytes, bytes]]) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/socket", "headers": headers, "query_string": b"", "subprotocols": []}
        await crowded({**scope, "root_path": "", "extensions": {}}, receive, send)

    asyncio.run(connect([]))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    sent.clear()
    asyncio.run(connect([(b"authorization", b"Bearer first-key")]))
    assert sent[0]["type"] == "websocket.accept"


WRONG = ["", "first-key", "Bearer", "Bearer ", "Bearer first-ke", "Bearer first-key2", "Bearer FIRST-KEY"]
WRONG += ["Bearer first-key,second", "Basic first-key", "Basic " + base64.b64encode(b"a:first-key").decode()]


@pytest.mark.parametrize("given", WRONG)
def test_a_wrong_key_is_refused(app: FastAPI, given: str) -> None:
    answer = get(app, "/version", authorization=given)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.error["code"] == "invalid_api_key"


def test_each_key_opens(app: FastAPI) -> None:
    for key in ("first-key", "第二把钥匙"):
        assert get(app, "/version", authorization=f"Bearer {key}".encode().decode("latin-1")).status == 200
    assert get(app, "/version", authorization="bearer  first-key").status == 200


def test_the_answer_speaks_the_askers_language(app: FastAPI) -> None:
    assert "密钥" in get(app, "/version", accept_language="zh-CN,en;q=0.5").error["message"]
    assert "key" in get(app, "/version", accept_language="en").error["message"]


def test_every_key_is_compared_whole(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = auth.hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or real(a, b))
    assert get(app, "/version", authorization="Bearer first-key").status == 200
    assert compared == [(32, 32)] * 2


def test_a_browser_logs_in_to_the_page_and_only_there(crowded: FastAPI) -> None:
    def basic(path: str, password: str) -> Answer:
        secret = base64.b64encode(f"me:{password}".encode()).decode()
        return get(crowded, path, authorization=f"Basic {secret}")

    assert get(crowded, "/web/deep/x").headers["www-authenticate"].startswith("Basic ")
    assert basic("/web/deep/x", "first-key").body == b'"x"'
    assert basic("/web/deep/x", "第二把钥匙").status == 200
    assert basic("/web/deep/x", "wrong").status == 401
    assert basic("/webhook", "first-key").status == 401
    assert get(crowded, "/web/deep/x", authorization="Basic §").status == 401


def test_keys_come_from_the_environment_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("# two of them\nalpha  # Ann's\n\n beta\n", encoding="utf-8")
    monkeypatch.setenv("HUAYU_API_KEYS", "gamma, delta")
    monkeypatch.setenv("HUAYU_API_KEYS_FILE", str(file))
    settings = ServeSettings()
    assert settings.keys == ("gamma", "delta", "alpha", "beta")
    assert "gamma" not in repr(settings)
    file.write_text("# none left\n", encoding="utf-8")
    for problem in (file, tmp_path / "missing"):
        with pytest.raises(OptionError):
            create_app(ServeSettings(api_keys_file=problem))


def test_without_keys_it_is_open() -> None:
    assert get(create_app(ServeSettings()), "/version").status == 200


def test_other_sites_may_not_ask_unless_named() -> None:
    preflight = {"origin": "https://site.example", "access-control-request-method": "POST"}

    def allowed(settings: ServeSettings) -> str | None:
        answer = asyncio.run(ask(create_app(settings), "OPTIONS", "/v1/models", headers=preflight))
        return answer.headers.get("access-control-allow-origin")

    assert allowed(ServeSettings()) is None
    assert allowed(ServeSettings(cors_origins=("https://other.example",))) is None
    assert allowed(ServeSettings(cors_origins=("https://site.example",), api_keys=("k",))) == "https://site.example"
