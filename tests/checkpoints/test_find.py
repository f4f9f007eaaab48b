"""From a name to files: what exists goes first, what is meant is said, what is not there is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from huayu import embedded
from huayu.checkpoints import hub, published
from huayu.checkpoints.find import locate
from huayu.errors import CheckpointError, ModelError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def _config(folder: Path, **values: object) -> None:
    (folder / "config.json").write_text(json.dumps(values), "utf-8")


def test_a_state_dict_by_file_and_by_folder(chat_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (chat_file, str(chat_file), chat_file.parent):
        source = locate(name)
        assert (source.path, source.form, source.folder) == (chat_file, "state_dict", chat_file.parent)
    monkeypatch.chdir(chat_file.parent)
    assert locate("pytorch_model.bin").path.samefile(chat_file)
    assert locate(".").form == "state_dict"


def test_a_repository_of_the_published_code_is_a_state_dict(chat_file: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(chat_file.parent, tmp_path / "VisCPM-Chat"))
    _config(folder, model_type="viscpmchatbee", auto_map={"AutoModel": "modeling_cpmbee.x"})
    assert locate(folder).family == locate(folder / chat_file.name).family == "viscpm_chat"
    assert locate(folder).form == "state_dict"


@pytest.mark.parametrize(("model_type", "family"), [("viscpm_chat", "viscpm_chat"), ("qwen2_vl", None)])
def test_a_folder_with_a_configuration(chat_file: Path, tmp_path: Path, model_type: str, family: str | None) -> None:
    _config(tmp_path, model_type=model_type)
    shutil.copy(chat_file, tmp_path)
    source = locate(tmp_path)
    assert (source.path, source.form, source.family) == (tmp_path, "folder", family)


def test_a_folder_of_ours_without_weights_is_named(tmp_path: Path) -> None:
    _config(tmp_path, model_type="viscpm_chat")
    with pytest.raises(CheckpointError, match="holds no weights"):
        locate(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is damaged"):
        locate(tmp_path)


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here", "~/nothing-here", "nothing.pt", "a/nothing.bin"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(CheckpointError, match="There is no file or folder"):
        locate(name)
    with pytest.raises(CheckpointError, match="There is no file or folder"):
        locate(Path(name))


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        locate(tmp_path / "photo.jpg")


def test_names_that_are_none_help(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"no model called viscpm-chat-balnce.*VisCPM-Chat-balance") as caught:
        locate("viscpm-chat-balnce")
    assert "没有名为" in caught.value.zh
    with pytest.raises(ModelError, match="huayu-chat-mini"):
        locate("zzz")


def test_models_of_another_kind() -> None:
    with pytest.raises(ModelError, match="VisCPM-Paint-zhplus is not a model for chat"):
        locate("openbmb/VisCPM-Paint")
    with pytest.raises(ModelError, match="huayu-chat-mini is not a model for paint"):
        locate("huayu-chat-mini", kind="paint")
    with pytest.raises(ModelError, match="No model for music"):
        locate(kind="music")


@pytest.mark.parametrize("name", [None, "huayu-chat-mini"])
def test_the_embedded_model(name: str | None, chat_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "folder", lambda name: tmp_path / name)
    with pytest.raises(ModelError, match="not in this installation"):
        locate(name)
    folder = tmp_path / "huayu-chat-mini"
    folder.mkdir()
    shutil.copy(chat_file, folder)
    _config(folder, model_type="viscpm_chat")
    source = locate(name)
    assert (source.path, source.form, source.family, source.name) == (
        folder,
        "folder",
        "viscpm_chat",
        "huayu-chat-mini",
    )


def test_embedded_folders_are_in_the_package() -> None:
    for name in embedded.EMBEDDED:
        assert embedded.folder(name).parent == Path(embedded.__file__).parent
    with pytest.raises(KeyError):
        embedded.folder("../../etc")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("VisCPM-Chat-zhplus", ("openbmb/VisCPM-Chat", None, ("pytorch_model.zhplus.bin",))),
        ("viscpm-chat-V1.1", ("openbmb/VisCPM-Chat", None, ("pytorch_model.v1.bin",))),
        ("openbmb/VisCPM-Chat", ("openbmb/VisCPM-Chat", None, ("pytorch_model.bin",))),
        ("openbmb/VisCPM-Chat@abc", ("openbmb/VisCPM-Chat", "abc", ("pytorch_model.bin",))),
        ("openbmb/VisCPM-Chat/other.bin@abc", ("openbmb/VisCPM-Chat", "abc", ("other.bin",))),
        ("Some.Body/a-model_2", ("Some.Body/a-model_2", None, ())),
        ("VisualGLM-6B", ("THUDM/visualglm-6b", None, ())),
        ("THUDM/visualglm-6b@abc", ("THUDM/visualglm-6b", "abc", ())),
    ],
)
def test_hub_ids(
    name: str, asked: tuple[object, ...], chat_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fetch(*arguments: object) -> hub.Fetched:
        calls.append(arguments)
        for file in arguments[2] or ("x.pt",):
            shutil.copy(chat_file, tmp_path / file)
        return hub.Fetched(tmp_path, "c0ffee")

    monkeypatch.setattr(hub, "fetch", fetch)
    source = locate(name)
    assert calls == [asked]
    assert (source.form, source.revision, source.name) == ("state_dict", "c0ffee", name)


@pytest.mark.parametrize("name", ["a/../b", "../a", "a//b", "a/b/c/d", "http://x/y", "a b/c", "-a/b"])
def test_what_is_no_hub_id_never_reaches_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda *arguments: pytest.fail(f"asked the hub for {arguments}"))
    with pytest.raises((CheckpointError, ModelError)):
        locate(name)


def test_the_published_list_is_complete() -> None:
    for entry in published.PUBLISHED:
        assert entry.licence_en
        assert entry.licence_zh
        assert entry.what_en != entry.what_zh
        assert published.by_name(entry.name) is entry
    assert published.names()[0] == "huayu-chat-mini"
    assert published.by_name("") is None


def test_looking_for_models_needs_no_torch() -> None:
    code = "import sys, huayu.checkpoints.find, huayu.checkpoints.vocabulary; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
