"""What was fine-tuned is served by its name, beside the model it was learnt on."""

from __future__ import annotations

import json
from pathlib import Path

from fastapi.testclient import TestClient

from huayu.chat import load_chat
from huayu.serving.app import create_app
from huayu.serving.settings import ServeSettings
from huayu.training.finetune.stage import FinetuneStage
from huayu.training.loop import train
from huayu.training.settings import LoopSettings
from tests.serving.conftest import CHAT, EXAMPLES, data_url

ROWS = EXAMPLES / "backgrounds"
QUESTION = "这张图片的背景里有什么内容？"


def test_an_adapter_is_served_by_its_name(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps(json.loads((ROWS / "dataset.json").read_text("utf-8"))[:2]), "utf-8")
    stage = FinetuneStage(model=CHAT, data=str(rows), evaluation=str(rows), pictures=str(ROWS))
    folder = train(stage, LoopSettings(str(tmp_path / "stars"), 30, 2, 3e-3, warmup=1, device="cpu"))
    settings = ServeSettings(chat_models=(CHAT, str(folder / "model")), paint_models=())
    with TestClient(create_app(settings)) as client:
        names = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert names == [CHAT, "stars"]
        said = {}
        for name in names:
            content = [
                {"type": "image_url", "image_url": {"url": data_url("backgrounds/stars5.png")}},
                {"type": "text", "text": QUESTION},
            ]
            body = {"model": name, "messages": [{"role": "user", "content": content}]}
            said[name] = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert said["stars"] == load_chat(folder / "model").ask(ROWS / "stars5.png", QUESTION).text
    assert said["stars"] != said[CHAT]
