"""VisualGLM-6B by its published names: fetched once, opened without its code, by us and by the library."""

from __future__ import annotations

import json

import pytest

from huayu.chat import load_chat
from huayu.checkpoints.convert import convert
from tests.checkpoints.fake_hub import serving, with_empty_cache
from tests.models.visualglm import tiny

REPO = "THUDM/visualglm-6b"
EVIL = "raise SystemExit('code of a repository ran')"
AUTO = "ChatGLMForConditionalGenerationWithImage"
ASKED = {"search": "greedy", "max_new_tokens": 8, "repetition_penalty": 1.0}
CALLED = {"do_sample": False, "max_length": 34, "repetition_penalty": 1.0}


@pytest.fixture(scope="module")
def model():
    return tiny.model().half().float()


@pytest.fixture(scope="module")
def repository(tmp_path_factory, model):
    """A folder with all that lies in the published one: five shards, code and its ``auto_map``."""
    root = tmp_path_factory.mktemp("published")
    model.save_pretrained(root / "ours")
    folder = convert(root / "ours", root / "hub", "float16", 25_000, to="hf", vocab=tiny.VOCABULARY).path
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["auto_map"] = {"AutoConfig": "configuration_chatglm.ChatGLMConfig", "AutoModel": f"modeling_chatglm.{AUTO}"}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    tokenizer = {
        "tokenizer_class": "ChatGLMTokenizer",
        "num_image_tokens": 0,
        "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), "utf-8")
    for name in ("configuration", "modeling", "tokenization"):
        (folder / f"{name}_chatglm.py").write_text(EVIL, "utf-8")
    (folder / "MODEL_LICENSE").write_text("the licence of the weights", "utf-8")
    (folder / "README.md").unlink()
    assert len(list(folder.glob("pytorch_model-0000?-of-00005.bin"))) == 5
    return folder


def test_fetched_by_name_once_and_converted_offline(repository, model, tmp_path, monkeypatch):
    with_empty_cache(tmp_path / "hub", monkeypatch)
    expected = model.chat(tiny.processor().tokenizer, tiny.pictures()[0], "你好", **CALLED)[0]
    files = {path.name: path.read_bytes() for path in repository.iterdir()}
    with serving(REPO, files) as server:
        monkeypatch.setenv("HUAYU_MIRRORS", f"http://127.0.0.1:9,{server.url}")
        chat = load_chat("VisualGLM-6B")
        assert not any(path.endswith(".py") for path in server.seen)
        server.seen.clear()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        for name in (REPO, "visualglm-6b"):
            assert load_chat(name).name == name
        assert server.seen == []
    reply = chat.ask(tiny.pictures()[0], "你好", **ASKED).text
    assert reply == expected != ""
    folder = convert(REPO, tmp_path / "glm").path
    assert load_chat(folder).ask(tiny.pictures()[0], "你好", **ASKED).text == reply
    assert (folder / "MODEL_LICENSE").read_text("utf-8") == "the licence of the weights"
    assert "non-commercial" in (folder / "README.md").read_text("utf-8")


def test_the_librarys_auto_classes_open_it_as_published(repository, model):
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    import huayu.hf  # noqa: F401

    name = str(repository)
    assert AutoConfig.from_pretrained(name, trust_remote_code=True).text_config.num_hidden_layers == 2
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
    opened = AutoModel.from_pretrained(name, trust_remote_code=True)
    assert opened.dtype == torch.float16
    settings = {"do_sample": False, "max_length": 40}
    asked = (tokenizer, tiny.pictures()[0], "描述这张图片。")
    assert opened.float().chat(*asked, history=[], **settings) == model.chat(*asked, **settings)
    packed = AutoModel.from_pretrained(name, trust_remote_code=True, dtype="float32").quantize(8).half()
    packed = packed.cuda() if torch.cuda.is_available() else packed
    assert packed.chat(*asked, history=[], **settings)[0]
    with pytest.raises(TypeError, match="device_map"):
        AutoModel.from_pretrained(name, trust_remote_code=True, device_map={"": "cpu"})


def test_the_tokenizer_of_the_language_model_alone(repository, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    import huayu.hf  # noqa: F401

    for path in repository.iterdir():
        if not path.name.startswith("pytorch_model"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config = {key: value for key, value in config.items() if key not in ("eva_config", "qformer_config", "auto_map")}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True)
    assert tokenizer.encode("你好") == tiny.processor().tokenizer.encode("你好")
    with pytest.raises(ValueError, match="Unrecognized configuration"):  # and never a model of random numbers
        AutoModel.from_pretrained(tmp_path)
