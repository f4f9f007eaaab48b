"""The official client, unchanged, against a real server: chat, pictures, streams, JSON, painting, errors."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
from PIL import Image, ImageDraw

from huayu.chat import ChatModel
from huayu.labelling import read_record
from huayu.serving.shelf import Shelf
from tests.serving.conftest import CHAT, EXAMPLES, PAINT, data_url

QUESTION = "图里有什么？"


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def chat(shelf: Shelf) -> ChatModel:
    with shelf.use(CHAT, "chat") as model:
        return model


def user(question: str, *pictures: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": data_url(name), "detail": "low"}} for name in pictures]
    return {"role": "user", "content": [{"type": "text", "text": question}, *parts]}


def test_models_chat_first(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [CHAT, PAINT]
    assert client.models.retrieve(CHAT).owned_by == "huayu"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_an_answer_is_that_of_the_model_and_goes_on(client: openai.OpenAI, chat: ChatModel) -> None:
    messages: list[Any] = [user(QUESTION, "table.png")]
    answer = client.chat.completions.create(model=CHAT, messages=messages)
    reply = chat.ask(EXAMPLES / "table.png", QUESTION)
    assert answer.choices[0].message.content == reply.text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == reply.usage.prompt_tokens
    assert answer.usage.completion_tokens == reply.usage.completion_tokens
    messages += [answer.choices[0].message, {"role": "user", "content": "有几样东西？"}]
    second = client.chat.completions.create(model=CHAT, messages=messages)
    assert second.choices[0].message.content == chat.ask(None, "有几样东西？", conversation=reply.conversation).text


def test_a_system_text_several_pictures_and_no_picture(client: openai.OpenAI, chat: ChatModel) -> None:
    from huayu.chat import Conversation

    system = {"role": "system", "content": "你只说实话。"}
    messages: list[Any] = [system, user("两张图里有什么？", "table.png", "dog.png")]
    answer = client.chat.completions.create(model=CHAT, messages=messages).choices[0].message.content
    pictures = [EXAMPLES / "table.png", EXAMPLES / "dog.png"]
    told = Conversation(system="你只说实话。")
    assert answer == chat.ask(pictures, "两张图里有什么？", conversation=told).text
    plain = client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "你是谁？"}])
    assert plain.choices[0].message.content == chat.ask(None, "你是谁？").text


def test_a_stream_is_the_answer_in_pieces_with_usage(client: openai.OpenAI, chat: ChatModel) -> None:
    stream = client.chat.completions.create(
        model=CHAT,
        messages=[user(QUESTION, "table.png")],  # type: ignore[list-item]
        stream=True,
        stream_options={"include_usage": True},
        n=2,
    )
    texts, finishes, usage = ["", ""], {}, None
    pieces = 0
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            pieces += bool(choice.delta.content)
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    reply = chat.ask(EXAMPLES / "table.png", QUESTION)
    assert texts == [reply.text] * 2
    assert pieces > 4
    assert finishes == {0: "stop", 1: "stop"}
    assert usage is not None
    assert usage.completion_tokens == 2 * reply.usage.completion_tokens
    assert usage.prompt_tokens == reply.usage.prompt_tokens


def test_a_stream_ends_with_done(server: str) -> None:
    body = {"model": CHAT, "stream": True, "messages": [{"role": "user", "content": "你是谁？"}]}
    answer = httpx.post(f"{server}/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"usage"' not in answer.text


def test_options_are_used(client: openai.OpenAI, chat: ChatModel) -> None:
    def ask(**options: Any) -> Any:
        messages: list[Any] = [user(QUESTION, "table.png")]
        return client.chat.completions.create(model=CHAT, messages=messages, **options).choices

    whole = chat.ask(EXAMPLES / "table.png", QUESTION).text
    assert ask(stop="和")[0].message.content == whole.partition("和")[0]
    assert ask(stop=["块", "和"])[0].message.content == whole.partition("和")[0]
    short = ask(max_tokens=3)[0]
    assert (short.message.content, short.finish_reason) == (whole[:3], "length")
    assert ask(max_completion_tokens=2)[0].message.content == whole[:2]
    assert ask(temperature=0)[0].message.content == whole
    drawn = [[choice.message.content for choice in ask(temperature=2, seed=seed, n=2)] for seed in (4, 4, 5)]
    assert drawn[0] == drawn[1]
    assert drawn[0][1] == drawn[2][0]  # choice i has seed + i
    assert ask(temperature=2, top_p=0.01, seed=9)[0].message.content == whole


SCHEMA = {
    "type": "object",
    "properties": {"count": {"type": "integer"}, "颜色": {"enum": ["红", "绿"]}, "there": {"type": "boolean"}},
    "required": ["count", "颜色", "there"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 1}])
def test_a_json_schema_is_kept(client: openai.OpenAI, options: dict[str, Any]) -> None:
    answer = client.chat.completions.create(
        model=CHAT,
        messages=[user(QUESTION, "table.png")],  # type: ignore[list-item]
        response_format={"type": "json_schema", "json_schema": {"name": "seen", "schema": SCHEMA, "strict": True}},
        **options,
    ).choices[0]
    assert answer.finish_reason == "stop"
    found = json.loads(answer.message.content or "")
    assert set(found) == {"count", "颜色", "there"}
    assert isinstance(found["count"], int)
    assert found["颜色"] in ("红", "绿")


def test_a_json_object_or_the_length_ends_it(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "你是谁？"}],
        response_format={"type": "json_object"},
        max_tokens=60,
    ).choices[0]
    text = answer.message.content or ""
    assert text.startswith("{")
    assert answer.finish_reason == "length" or isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("schema", "word"),
    [({"type": "nothing"}, "nothing"), ({"properties": {"龘": {}}}, "龘"), ({"$ref": "http://x/y"}, "schema")],
)
def test_a_schema_that_cannot_be_kept_is_a_400(client: openai.OpenAI, schema: dict[str, Any], word: str) -> None:
    with pytest.raises(openai.BadRequestError, match=word):
        client.chat.completions.create(
            model=CHAT,
            messages=[{"role": "user", "content": "你是谁？"}],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "nobody"}, 404, "model"),
        ({"model": PAINT}, 404, "model"),
        ({"logprobs": True}, 400, "logprobs"),
        ({"presence_penalty": 3.0}, 400, "presence_penalty"),
        ({"tools": []}, 400, "tools"),
        ({"n": 9}, 400, "n"),
        ({"max_tokens": 5000}, 400, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 400, "max_completion_tokens"),
        ({"temperature": 3}, 400, "temperature"),
        ({"seed": "1"}, 400, "seed"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, None),
    ],
)
def test_what_cannot_be_done_is_said(server: str, change: dict[str, Any], status: int, param: str | None) -> None:
    body = {"model": CHAT, "messages": [{"role": "user", "content": "你是谁？"}], **change}
    for stream in (False,) if "stream_options" in change else (False, True):
        answer = httpx.post(f"{server}/v1/chat/completions", json={**body, "stream": stream})
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error["param"] == param
        assert error["message"]
        assert error["type"] == "invalid_request_error"
    zh = httpx.post(f"{server}/v1/chat/completions", json=body, headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert zh.json()["error"]["message"] != error["message"]


@pytest.mark.parametrize("body", [b'{"\\ud800": 1}', b'{"model": "\\ud800", "messages": [1]}', b"[" * 5000, b"\xff"])
def test_half_a_character_and_worse(server: str, body: bytes) -> None:
    answer = httpx.post(f"{server}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("url", ["http://example.org/a.png", "data:image/png;base64,AAAA", "file:///etc/passwd", ""])
def test_a_picture_that_cannot_be_had_is_a_400(server: str, url: str) -> None:
    content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": CHAT, "messages": [{"role": "user", "content": content}]}
    answer = httpx.post(f"{server}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")


def test_an_unsafe_question_is_refused_in_words(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "画一个裸体女人"}])
    choice: Any = answer.choices[0]
    assert choice.finish_reason == "content_filter"
    assert choice.message.content.startswith("抱歉")
    assert not choice.huayu["verdicts"][0]["allowed"]


def test_many_asynchronous_clients(server: str, chat: ChatModel) -> None:
    async def work() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="any", max_retries=0) as client:

            async def ask(index: int) -> str | None:
                messages: list[Any] = [user(QUESTION, "table.png" if index % 2 else "dog.png")]
                if index % 3:
                    answer = await client.chat.completions.create(model=CHAT, messages=messages)
                    return answer.choices[0].message.content
                stream = await client.chat.completions.create(model=CHAT, messages=messages, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*map(ask, range(8)))

    wanted = [chat.ask(EXAMPLES / name, QUESTION).text for name in ("dog.png", "table.png")]
    assert asyncio.run(work()) == wanted * 4


def test_a_client_that_leaves_frees_the_queue(server: str) -> None:
    body = {"model": CHAT, "stream": True, "temperature": 2, "max_tokens": 1000}
    content = [{"role": "user", "content": "写一个很长的故事。" * 20}]
    for _ in range(3):
        with httpx.stream("POST", f"{server}/v1/chat/completions", json={**body, "messages": content}) as answer:
            assert next(answer.iter_lines()).startswith("data: ")
    until = time.monotonic() + 20
    while "huayu_jobs_running 0.0" not in (text := httpx.get(f"{server}/metrics").text):
        assert time.monotonic() < until, text
        time.sleep(0.05)
    assert "huayu_jobs_queued 0.0" in text


def painted(answer: Any, tmp_path: Path) -> list[Any]:
    records = []
    for number, picture in enumerate(answer.data):
        path = tmp_path / f"{number}.png"
        path.write_bytes(base64.b64decode(picture.b64_json))
        records.append(read_record(path))
        assert records[-1].seed == picture.huayu["seed"]
    return records


def test_paintings_are_labelled_and_can_be_painted_again(client: openai.OpenAI, tmp_path: Path) -> None:
    wishes: Any = {"seed": 7, "steps": 4, "negative_prompt": "树", "guidance": 3.0, "scheduler": "ddim"}
    answer = client.images.generate(model=PAINT, prompt="一个红苹果", n=2, size="64x64", extra_body=wishes)
    records = painted(answer, tmp_path)
    assert [record.seed for record in records] == [7, 8]
    assert records[0].negative_prompt == "树"
    assert records[0].settings["steps"] == 4
    assert answer.size == "64x64"
    again = client.images.generate(prompt="一个红苹果", extra_body={**wishes, "seed": 8})
    pixels = [
        Image.open(io.BytesIO(base64.b64decode(p.b64_json or ""))) for p in (answer.data or []) + (again.data or [])
    ]
    assert pixels[1].tobytes() == pixels[2].tobytes() != pixels[0].tobytes()


def test_an_edit_changes_only_what_is_transparent(client: openai.OpenAI, tmp_path: Path) -> None:
    before = Image.new("RGB", (64, 64), "blue")
    mask = Image.new("RGBA", (64, 64), (9, 9, 9, 255))
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 63), fill=(0, 0, 0, 0))
    holed = before.convert("RGBA")
    holed.putalpha(mask.getchannel("A"))

    def edit(image: Image.Image, **more: Any) -> Image.Image:
        answer = client.images.edit(model=PAINT, image=("a.png", png(image)), prompt="一个红苹果", **more)
        painted(answer, tmp_path)
        assert answer.data is not None
        return Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json or "")))

    for after in (edit(before, mask=("m.png", png(mask)), extra_body={"seed": 1}), edit(holed, extra_body={"seed": 1})):
        assert blueness(after, (40, 0, 64, 64)) > 0.9
        assert blueness(after, (0, 0, 24, 64)) < 0.5
    little, much = (edit(before, extra_body={"strength": far, "seed": 1}) for far in (0.05, 1.0))
    assert blueness(little, (0, 0, 64, 64)) > blueness(much, (0, 0, 64, 64)) + 0.3


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def blueness(image: Image.Image, box: tuple[int, int, int, int]) -> float:
    """The share of blue pixels."""
    pixels = list(image.convert("RGB").crop(box).get_flattened_data())
    return sum(b > 150 and r < 120 and g < 120 for r, g, b in pixels) / len(pixels)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": ""}, None),
        ({"size": "63x64"}, None),
        ({"size": "9000x9000"}, "size"),
        ({"size": "big"}, "size"),
        ({"n": 100}, "n"),
        ({"response_format": "url"}, "response_format"),
        ({"quality": "high"}, "quality"),
        ({"candidates": 3}, None),  # nothing here could score them
    ],
)
def test_a_painting_that_cannot_be_is_a_400(server: str, change: dict[str, Any], param: str | None) -> None:
    answer = httpx.post(f"{server}/v1/images/generations", json={"prompt": "一个红苹果", **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_an_unsafe_prompt_is_refused_in_its_language(client: openai.OpenAI) -> None:
    for prompt, word in (("裸体女人", "色情"), ("a naked woman", "sexual")):
        with pytest.raises(openai.BadRequestError, match=word) as refused:
            client.images.generate(model=PAINT, prompt=prompt)
        assert refused.value.code == "content_policy_violation"
