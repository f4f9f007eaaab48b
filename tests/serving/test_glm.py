"""VisualGLM's old clients: ``POST /``."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import httpx2 as httpx
import pytest

from huayu.serving.shelf import Shelf
from tests.serving.conftest import CHAT, EXAMPLES

IMAGE = base64.b64encode((EXAMPLES / "table.png").read_bytes()).decode()
QUESTION = "图里有什么？"


def test_an_old_client_gets_what_it_got(server: str, shelf: Shelf) -> None:
    body = {"text": QUESTION, "image": IMAGE, "history": []}
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d and requests.post(data=) send it
    answer = httpx.post(server, content=json.dumps(body), headers=form).json()
    with shelf.use(CHAT, "chat") as chat:
        reply = chat.ask(EXAMPLES / "table.png", QUESTION)
        second = chat.ask(None, "有几样东西？", conversation=reply.conversation)
    assert answer["result"] == answer["response"] == reply.text
    assert answer["history"] == [[QUESTION, reply.text]]
    assert answer["status"] == 200
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", answer["time"])
    body |= {"text": "有几样东西？", "history": answer["history"]}
    again = httpx.post(server, json=body).json()
    assert again["result"] == second.text
    assert len(again["history"]) == 2


def test_old_parameters_are_used(server: str) -> None:
    body = {"text": QUESTION, "image": IMAGE, "history": [], "temperature": 0.8, "top_p": 0.4, "top_k": 1}
    whole = httpx.post(server, json={**body, "max_length": 2048}).json()["result"]
    short = httpx.post(server, json={**body, "max_length": 48}).json()["result"]
    assert whole.startswith(short)
    assert len(short) < len(whole)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"text": None}, "text"),
        ({"image": "not base64!"}, "base64"),
        ({"image": "AAAA"}, "picture"),
        ({"history": [["one"]]}, "history"),
        ({"top_p": 7}, "top_p"),
        ({"max_length": 10}, "max_length"),
        ({"other": 1}, "other"),
    ],
)
def test_mended_errors(server: str, change: dict[str, Any], word: str) -> None:
    answer = httpx.post(server, json={"text": QUESTION, "image": IMAGE, "history": []} | change)
    assert answer.status_code == 400, answer.text
    assert word in answer.json()["error"]["message"]


def test_no_json_at_all(server: str) -> None:
    assert httpx.post(server, content=b"\xff\xfe").status_code == 400
    assert httpx.get(server).status_code == 405
