"""What lies behind the page, without a browser: words, history, language, policy, the command's refusals."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from huayu.chat import Conversation
from huayu.chat.conversation import Picture, Turn
from huayu.cli.main import main
from huayu.webui.front import chosen_language
from huayu.webui.history import History, Item, data_folder, export
from huayu.webui.words import _WORDS, notice, words


def test_every_sentence_is_there_in_both_languages() -> None:
    for key, (en, zh) in _WORDS.items():
        assert en, key
        assert zh, key
        assert en.count("{}") == zh.count("{}"), key
    assert words("zh")("done", 2, "0.4") == "画了 2 张，用时 0.4 秒。"
    assert notice("<b>", bad=True) == '<p class="notice bad" role="alert">&lt;b&gt;</p>'
    assert notice("") == ""


@pytest.mark.parametrize(
    ("accepted", "cookie", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "", "en"),
        ("de-DE,zh;q=0.3,en;q=0.7", "", "en"),
        ("fr", "", "en"),
        ("", "", "en"),
        ("zh;q=nonsense", "", "zh"),
        ("zh-TW", "a=b; huayu_language=en", "en"),
        ("en", "huayu_language=zh", "zh"),
    ],
)
def test_the_language_is_the_switch_then_the_browsers(accepted: str, cookie: str, language: str) -> None:
    assert chosen_language({b"accept-language": accepted.encode(), b"cookie": cookie.encode()}) == language


def conversation() -> Conversation:
    picture = Picture(Image.new("RGB", (4, 4), "red"))
    return Conversation((Turn("这是什么？", "红色。", "zh", 1), Turn("What else?", "Nothing.", "en")), (picture,))


def test_history_belongs_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.sqlite"
    history = History(path)
    assert os.name == "nt" or path.stat().st_mode & 0o077 == 0
    item = Item("1", "chat", "这是什么？", 0.0, conversation().to_json())
    history.save("browser:me", item)
    history.save("browser:me", Item("2", "paint", "a cat", 0.0, '{"pictures": []}'))
    history.save("browser:you", Item("1", "chat", "mine", 0.0, "{}"))
    assert [one.id for one in history.listed("browser:me")] == ["2", "1"]
    history.save("browser:me", item)
    assert [one.id for one in history.listed("browser:me")] == ["1", "2"]
    assert history.get("browser:you", ["2"]) == []
    history.delete("browser:me", "1")
    assert [one.id for one in History(path).listed("browser:me")] == ["2"]
    history.delete("browser:me")
    assert history.listed("browser:me") == []
    assert [one.title for one in history.listed("browser:you")] == ["mine"]
    assert "红色".encode() not in path.read_bytes()
    path.write_bytes(b"not a database, but long enough to be looked at" * 10)
    with pytest.raises(sqlite3.DatabaseError):
        history.listed("browser:me")


def test_a_talk_comes_back_from_the_history_as_it_was() -> None:
    pytest.importorskip("gradio")
    from huayu.webui.said import Talk

    whole = conversation()
    talk = Talk.of(Item("7", "chat", "", 0.0, whole.to_json()))
    assert [(said.question, said.answer, len(said.pictures)) for said in talk.said] == [
        ("这是什么？", "红色。", 1),
        ("What else?", "Nothing.", 0),
    ]
    assert talk.conversation == whole
    assert talk.upto(1).conversation == Conversation(whole.turns[:1], whole.pictures)
    assert talk.upto(0).conversation is None
    assert Conversation.from_json(talk.item().body) == whole
    assert talk.item().title == "这是什么？"


def test_export(tmp_path: Path) -> None:
    """One talk is its JSON; more is a zip whose names cannot leave it."""
    talk = Item("1", "chat", "../../etc/这是什么？", 0.0, conversation().to_json())
    alone = export([talk], tmp_path / "a")
    assert alone.parent == tmp_path / "a"
    assert Conversation.load(alone) == conversation()
    body = json.dumps({"prompt": "x", "pictures": [{"png": "iVBORw0KGgo=", "seed": 1}]})
    both = export([talk, Item("2", "paint", "x", 0.0, body)], tmp_path / "b")
    with zipfile.ZipFile(both) as archive:
        names = archive.namelist()
        assert sorted(Path(name).suffix for name in names) == [".json", ".json", ".png"]
        assert not any("/" in name for name in names)
        assert "png" not in json.loads(archive.read(names[-1]))["pictures"][0]


def test_data_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    for platform in ("linux", "win32"):
        monkeypatch.setattr("sys.platform", platform)
        assert data_folder() == tmp_path / "huayu"
    monkeypatch.setattr("sys.platform", "darwin")
    assert data_folder().parts[-2:] == ("Application Support", "huayu")


@pytest.mark.parametrize(
    ("arguments", "words_en"),
    [
        (["--auth", "nobody"], "USER:PASSWORD"),
        (["--host", "0.0.0.0"], "--auth"),
        (["--quantize", "int3"], "quantize"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    arguments: list[str], words_en: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setenv("HUAYU_LANG", "en")
    monkeypatch.delenv("HUAYU_ALLOW_OPEN", raising=False)
    with pytest.raises(SystemExit) as stop:
        main(["web", *arguments])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert words_en in said
    assert said.count("\n") == 1


def test_mounted_under_a_path() -> None:
    """Inside another application: the language's page, a policy that lets nothing come from afar, no files given."""
    gradio = pytest.importorskip("gradio")
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from huayu.serving.engine import BatchingEngine
    from huayu.serving.settings import ServeSettings
    from huayu.serving.shelf import Shelf
    from huayu.webui import mount

    assert gradio.__version__
    settings = ServeSettings(page_path="/page")
    shelf = Shelf(settings)

    async def mounted() -> FastAPI:  # in a running loop, else Gradio makes loops that it does not close
        return mount(FastAPI(), BatchingEngine(shelf), shelf, settings)

    app = asyncio.run(mounted())
    client = TestClient(app, follow_redirects=True)
    for accepted, tag, ending in (("zh-CN", "zh-CN", "/page/zh"), ("en", "en", "/page/")):
        answer = client.get("/page/", headers={"accept": "text/html", "accept-language": accepted})
        assert answer.url.path == ending
        assert f'lang="{tag}"' in answer.text
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert client.get("/page/zh", headers={"accept": "text/html"}).text.count("<script>window.huayu_language") == 1
    for path in (Path(__file__), Path("pyproject.toml"), Path(__file__).parent / ".." / ".." / "README.md"):
        assert client.get(f"/page/gradio_api/file={path}").status_code in (403, 404)


def test_without_a_ranker_all_candidates_are_painted() -> None:
    gradio = pytest.importorskip("gradio")
    from huayu.serving.engine import BatchingEngine
    from huayu.serving.settings import ServeSettings
    from huayu.serving.shelf import Shelf
    from huayu.webui.common import House, Room
    from huayu.webui.painting import PaintTab

    settings = ServeSettings(device="cpu", max_n=5)
    shelf = Shelf(settings)
    house = House(BatchingEngine(shelf), shelf, settings, None)

    async def built() -> PaintTab:  # in a running loop, else Gradio makes loops that it does not close
        with gradio.Blocks():
            return PaintTab(Room(house, "zh"))

    tab = asyncio.run(built())
    wishes = ("huayu-paint-mini", "", 1, None, "", None, None, "", 3, False, 2)
    job, remark = tab._job("一只猫", wishes)
    assert (job.options.n, job.options.candidates) == (3, 1)
    assert "--ranker" in remark
    assert tab._job("一只猫", (*wishes[:2], 4, *wishes[3:]))[0].options.n == 5
    assert tab._job("一只猫", (*wishes[:8], 1, *wishes[9:]))[1] == ""
    house.scratch.close()
