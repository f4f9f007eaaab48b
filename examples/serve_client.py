"""Talk to `huayu serve` with OpenAI's own client: chat about a picture, stream, JSON, paint, change a picture.

huayu serve --api-key sk-demo
python examples/serve_client.py http://127.0.0.1:8080/v1 sk-demo
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

from openai import OpenAI

HERE = Path(__file__).parent


def main(base_url: str, api_key: str) -> None:
    client = OpenAI(base_url=base_url, api_key=api_key)
    print([model.id for model in client.models.list()])

    url = "data:image/png;base64," + base64.b64encode((HERE / "table.png").read_bytes()).decode()
    picture = {"type": "image_url", "image_url": {"url": url}}
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "图里有什么？"}, picture]}]
    answer = client.chat.completions.create(model="huayu-chat-mini", messages=messages)
    print(answer.choices[0].message.content, answer.usage.total_tokens if answer.usage else "")

    messages += [answer.choices[0].message, {"role": "user", "content": "Is there a banana?"}]
    for chunk in client.chat.completions.create(model="huayu-chat-mini", messages=messages, stream=True):
        print(chunk.choices[0].delta.content or "", end="|")
    print()

    schema = {"type": "object", "properties": {"animals": {"type": "boolean"}}, "required": ["animals"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "seen", "schema": schema}}
    answer = client.chat.completions.create(model="huayu-chat-mini", messages=messages[:1], response_format=form)
    print(answer.choices[0].message.content)

    painted = client.images.generate(model="huayu-paint-mini", prompt="一个红苹果", n=2, extra_body={"seed": 7})
    for item in painted.data or []:
        print(item.model_extra["huayu"]["seed"] if item.model_extra else "", len(base64.b64decode(item.b64_json or "")))
    apple = base64.b64decode((painted.data or [])[0].b64_json or "")
    edited = client.images.edit(
        model="huayu-paint-mini", image=("a.png", apple), prompt="一个绿苹果", extra_body={"strength": 0.7, "seed": 7}
    )
    print(edited.size, edited.model_extra)


if __name__ == "__main__":
    main(*sys.argv[1:3])
