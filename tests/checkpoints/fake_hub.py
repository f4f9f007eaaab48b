"""A small hub on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Answers what the hub's client asks for one repository; ``seen`` are its requests, ``tokens`` their tokens."""

    daemon_threads = True

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repo, self.files = repo, files
        self.status = 200
        self.seen: list[str] = []
        self.tokens: list[str] = []

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.seen.append(path)
        self.server.tokens.append(self.headers.get("Authorization", ""))
        repo, files = self.server.repo, self.server.files
        if self.server.status != 200:
            return self._answer(self.server.status, b"{}")
        if path in (f"/api/models/{repo}", f"/api/models/{repo}/revision/main"):
            siblings = [{"rfilename": name} for name in files]
            return self._answer(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode())
        if path == f"/api/models/{repo}/tree/{COMMIT}":
            tree = [{"type": "file", "path": n, "size": len(d), "oid": _etag(d)} for n, d in files.items()]
            return self._answer(200, json.dumps(tree).encode())
        name = path.removeprefix(f"/{repo}/resolve/{COMMIT}/")
        if name in files:
            headers = {"ETag": f'"{_etag(files[name])}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            return self._answer(200, files[name], headers)
        return self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Tests look at ``seen``."""


def _etag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def serving(repo: str, files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub that runs."""
    with Hub(repo, dict(files)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def with_empty_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, the network allowed, no endpoint set."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HUAYU_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
