"""VisCPM's own class: the published scripts, the published search, the recorded answers."""

from __future__ import annotations

import json
import logging
import runpy
from pathlib import Path

import pytest
from PIL import Image

from huayu.chat import load_chat
from huayu.compat import VisCPMChat
from huayu.errors import CheckpointError, PromptError

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "viscpm" / "e_generation"
RED = Image.new("RGB", (40, 30), "red")

# The two scripts of the published README, but for the import line, the path and shorter questions.
ONE_TURN = """
from huayu.compat import VisCPMChat
from PIL import Image

viscpm_chat = VisCPMChat(model_path, image_safety_checker=True)
image_path = 'figures/vlu_case1.png'
image = Image.open(image_path).convert("RGB")
question = '图里有什么？'
answer, _, _ = viscpm_chat.chat(image, question)
print(answer)
"""
TWO_TURNS = """
from huayu.compat import VisCPMChat
from PIL import Image

viscpm_chat = VisCPMChat(model_path, image_safety_checker=True)
image_path = 'figures/vlu_case2.png'
image = Image.open(image_path).convert("RGB")
question = '图里有什么？'
answer, context, vision_hidden_states = viscpm_chat.chat(image, question)
question = '天空是什么颜色？'
answer, context, _ = viscpm_chat.chat(image, question, context, vision_hidden_states=vision_hidden_states)
print(context)
"""


@pytest.fixture(scope="module")
def published(tiny_chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as one file with the published names, the vocabulary beside it."""
    from huayu.checkpoints.convert import convert

    file = tmp_path_factory.mktemp("published") / "pytorch_model.bin"
    convert(tiny_chat_folder, file)
    (file.parent / "vocab.txt").write_bytes((tiny_chat_folder / "vocab.txt").read_bytes())
    return file


@pytest.fixture(scope="module")
def viscpm(published: Path) -> VisCPMChat:
    return VisCPMChat(published)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 tokens of a random model say no more than 20."""
    from huayu.models.viscpm_chat.checkpoint import PUBLISHED_GENERATION

    monkeypatch.setitem(PUBLISHED_GENERATION, "max_new_tokens", 20)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("script", [ONE_TURN, TWO_TURNS], ids=["one", "two"])
def test_the_published_scripts_run(
    script: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("vlu_case1.png", "vlu_case2.png"):
        RED.save(tmp_path / "figures" / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    namespace = runpy.run_path(str(tmp_path / "script.py"), {"model_path": str(published)})
    printed = capsys.readouterr().out
    assert printed.strip() == (namespace.get("context") or namespace["answer"]).strip()
    if script is TWO_TURNS:
        assert namespace["context"].startswith("User: 图里有什么？\nAI: ")
        assert "\nUser: 天空是什么颜色？\nAI: " in namespace["context"]
        assert tuple(namespace["vision_hidden_states"].shape) == (1, 4, 32)


@pytest.mark.usefixtures("short")
def test_the_picture_is_not_read_again(viscpm: VisCPMChat, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, context, seen = viscpm.chat(RED, "图里有什么？")

    def read(pixel_values: object) -> None:
        raise AssertionError("the picture was read again")

    monkeypatch.setattr(viscpm.backend.model, "get_image_features", read)
    again, longer, same = viscpm.chat(None, "图里有什么？", vision_hidden_states=seen)
    assert (again, longer) == (answer, context)
    assert same is seen
    assert viscpm.chat(None, "图里有什么？", context, seen)[1].startswith(context)


@pytest.mark.usefixtures("short")
def test_it_is_the_published_search(viscpm: VisCPMChat, published: Path) -> None:
    chat = load_chat(published)
    answer = viscpm.chat(RED, "这是什么？")[0]
    for special in chat.backend.vocabulary.special_ids:  # shown by the published code only
        answer = answer.replace(special, "")
    assert chat.backend.defaults.search == "beam"
    assert chat.ask(RED, "这是什么？").text == answer.replace("<<", "<")


@pytest.mark.usefixtures("short")
def test_texts_are_taken_as_they_are(viscpm: VisCPMChat) -> None:
    with pytest.raises(PromptError, match="unclosed"):
        viscpm.chat(RED, "1 < 2")
    assert viscpm.chat(RED, "1 << 2")[1].startswith("User: 1 << 2\n")
    with pytest.raises(PromptError, match="empty"):
        viscpm.chat(RED, "")


def test_the_config_file_is_read(published: Path, tmp_path: Path) -> None:
    from tests.chat.tiny import LINES

    sizes = {"vocab_size": len(LINES), "dim_model": 32, "num_heads": 2, "dim_head": 16, "dim_ff": 48, "num_layers": 2}
    file = tmp_path / "cpm-bee.json"
    file.write_text(json.dumps({**sizes, "eps": 0.5}))
    assert VisCPMChat(published, config_path=str(file)).backend.model.config.text_config.rms_norm_eps == 0.5
    file.write_text(json.dumps({**sizes, "num_layers": 3}))
    with pytest.raises(CheckpointError, match="missing"):
        VisCPMChat(published, config_path=file)
    file.write_text("{}")
    with pytest.raises(CheckpointError, match="dim_model"):
        VisCPMChat(published, config_path=file)


def test_memory_settings_without_a_gpu_are_told(
    published: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_MEMORY_CPMBEE_MAX", "1g")
    with caplog.at_level(logging.WARNING, "huayu"):
        VisCPMChat(published)
    assert "no effect on cpu" in caplog.text


@pytest.mark.usefixtures("short")
def test_the_picture_checker_really_checks(published: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import shutil

    from tests.safety.tiny import save_tiny_checks

    folder = save_tiny_checks(shutil.copytree(published.parent, tmp_path / "model"))
    viscpm = VisCPMChat(folder / published.name, image_safety_checker=True)
    assert "not checked" not in caplog.text
    weights = viscpm.guard.picture_checks[0].model.concept_embeds_weights.data
    viscpm.guard.picture_checks[0].model.special_care_embeds_weights.data.fill_(2.0)
    weights.fill_(2.0)
    assert viscpm.chat(RED, "图里有什么？")[0] == VisCPMChat(published).chat(RED, "图里有什么？")[0]
    weights.fill_(-2.0)
    assert viscpm.chat(RED, "图里有什么？", "before") == ("图片可能含有不宜内容。", "before", None)
    assert viscpm.chat(RED, "What is it?")[0] == "The picture may be unsafe to show."


@pytest.mark.golden
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recorded cases are not beside this checkout")
def test_recorded_conversation(caplog: pytest.LogCaptureFixture) -> None:
    viscpm = VisCPMChat(GOLDEN / "weights.safetensors", image_safety_checker=True)
    assert ("not checked" in caplog.text) is (not viscpm.guard.picture_checks)
    with Image.open(GOLDEN / "img0.png") as file:
        image = file.convert("RGB")
    context, seen = "", None
    for turn in json.loads((GOLDEN / "chat.json").read_text("utf-8")):
        answer, context, seen = viscpm.chat(image, turn["question"], context, vision_hidden_states=seen)
        assert answer == turn["answer"]
        assert context == turn["context_out"]
