"""There and back, whole or not at all; and the models that come out of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import synthetic
from huayu.checkpoints import checksums, sniff
from huayu.checkpoints.convert import convert
from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import blueprint, open_model
from huayu.checkpoints.reader import open_tensors
from huayu.errors import CheckpointError, ModelError
from huayu.models import viscpm_chat


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def folder(chat_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small published file as one of our folders, in shards."""
    target = tmp_path_factory.mktemp("ours") / "model"
    convert(chat_file, target, max_shard_size=40_000)
    return target


def _state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def test_the_folder_holds_everything(chat_file: Path, folder: Path) -> None:
    names = set(_names(folder))
    shards = sorted(name for name in names if name.startswith("model-"))
    assert len(shards) > 2
    assert shards[-1] == f"model-{len(shards):05d}-of-{len(shards):05d}.safetensors"
    assert names >= {"config.json", "vocab.txt", "LICENSE", "checksums.json", "processor_config.json",
                     "tokenizer_config.json", "generation_config.json", sniff.DROPPED_FILE}  # fmt: skip
    assert (folder / "LICENSE").read_text() == "the licence of the source"
    assert (folder / "vocab.txt").read_bytes() == (chat_file.parent / "vocab.txt").read_bytes()
    assert all((folder / name).stat().st_size < 40_000 + 20_000 for name in shards)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["VisCPMChatForConditionalGeneration"]
    assert (config["model_type"], config["dtype"]) == ("viscpm_chat", "float16")
    generation = json.loads((folder / "generation_config.json").read_text("utf-8"))
    assert generation["chat"] == {"search": "beam", **viscpm_chat.PUBLISHED_GENERATION}
    assert open_model(locate(folder)).model.generation_config.chat == generation["chat"]
    card = (folder / "README.md").read_text("utf-8")
    assert "pytorch_model.bin (viscpm_chat)" in card
    assert str(chat_file.parent) not in card
    assert checksums.differences(folder) == []
    assert set(load_file(folder / sniff.DROPPED_FILE)) == set(viscpm_chat.KEYMAP.dropped)


def test_there_and_back_is_the_same_file(chat_file: Path, folder: Path, tmp_path: Path) -> None:
    done = convert(folder, tmp_path / "back.pt")
    assert _same(_state(tmp_path / "back.pt"), _state(chat_file))
    assert done.notes == ()
    assert done.report.ok


def test_other_dtypes_there_and_back(chat_file: Path, folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    done = convert(folder, tmp_path / "wide", "float32", progress=lambda *step: steps.append(step))
    assert steps[-1] == (done.nbytes, done.nbytes)
    assert {t.dtype for t in open_tensors(tmp_path / "wide").values()} == {torch.float32}
    assert json.loads((tmp_path / "wide" / "config.json").read_text("utf-8"))["dtype"] == "float32"
    assert checksums.differences(tmp_path / "wide") == []
    convert(tmp_path / "wide", tmp_path / "back.bin", torch.float16)
    assert _same(_state(tmp_path / "back.bin"), _state(chat_file))
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in _state(tmp_path / "back.bin").values())
    assert _names(tmp_path) == ["back.bin", "wide"]


def test_a_state_dict_to_a_state_dict(chat_file: Path, tmp_path: Path) -> None:
    convert(chat_file, tmp_path / "b.pth", torch.bfloat16)
    assert _same(_state(tmp_path / "b.pth"), {k: t.bfloat16() for k, t in _state(chat_file).items()})


def test_without_the_dropped_tensors(chat_file: Path, tmp_path: Path) -> None:
    convert(chat_file, tmp_path / "m", keep_dropped=False)
    assert sniff.DROPPED_FILE not in _names(tmp_path / "m")
    done = convert(tmp_path / "m", tmp_path / "back.pt")
    assert set(_state(chat_file)) - set(_state(tmp_path / "back.pt")) == set(viscpm_chat.KEYMAP.dropped)
    assert "vpm.mim_head.weight" in done.notes[0][0]
    assert open_model(locate(tmp_path / "back.pt")).report.dropped == {}


def test_opened_from_either_it_is_the_same_model(chat_file: Path, folder: Path) -> None:
    first, second = open_model(locate(chat_file)), open_model(locate(folder))
    assert (first.family, second.family) == ("viscpm_chat", "viscpm_chat")
    assert set(first.report.dropped) == set(viscpm_chat.KEYMAP.dropped)
    assert second.report.dropped == {}
    assert first.model.dtype == second.model.config.dtype == torch.float16
    assert not first.model.training
    assert _same(first.model.state_dict(), second.model.state_dict())
    vision = first.model.config.vision_config
    assert (vision.image_size, vision.hidden_size, vision.num_hidden_layers) == (32, 24, 2)


def test_the_library_opens_our_folder(folder: Path, chat_file: Path) -> None:
    import transformers

    import huayu.hf  # noqa: F401

    transformers.logging.disable_progress_bar()
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    assert _same(model.state_dict(), open_model(locate(chat_file)).model.state_dict())
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert processor.num_query_tokens == synthetic.SMALL.queries
    assert len(processor.tokenizer) == synthetic.SMALL.vocab
    assert processor.image_processor.size == synthetic.SMALL.image


def test_sizes_from_a_json_beside_the_weights(chat_file: Path, tmp_path: Path) -> None:
    shutil.copy(chat_file, tmp_path)
    heads = {**synthetic.SMALL.published_config, "num_heads": 4, "eps": 1e-5}
    (tmp_path / "cpm-bee.json").write_text(json.dumps(heads), "utf-8")
    config = blueprint(locate(tmp_path)).model.config
    assert config.text_config.rms_norm_eps == 1e-5
    changed = open_model(locate(tmp_path), settings={**heads, "eps": 1e-4})
    assert changed.model.config.text_config.rms_norm_eps == 1e-4
    (tmp_path / "cpm-bee.json").write_text(json.dumps({**heads, "dim_ff": 81}), "utf-8")
    with pytest.raises(CheckpointError, match=r"6 of another shape \(llm.encoder.layers.0.ffn"):
        open_model(locate(tmp_path))


@pytest.mark.golden
@pytest.mark.parametrize("case", ["d_vlu_forward", "e_generation", "e2_generation_ext"])
def test_golden_cases_are_state_dicts(case: str) -> None:
    folder = Path(__file__).parents[3] / "shared" / "golden" / "viscpm" / case
    if not folder.is_dir():
        pytest.skip("the golden cases are not beside this checkout")
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    opened = open_model(locate(folder / "weights.safetensors"))
    assert opened.report.ok
    text, vision = opened.model.config.text_config, opened.model.config.vision_config
    assert (text.hidden_size, text.head_dim) == (settings["llm"]["dim_model"], settings["llm"]["dim_head"])
    assert vision.num_attention_heads == settings["beit3"]["encoder_attention_heads"]
    assert opened.model.config.num_query_tokens == settings["query_num"]


def test_foreign_files_are_named(tmp_path: Path, chat_file: Path) -> None:
    torch.save({"some.key": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"no model that huayu knows; its keys begin with some\.key"):
        open_model(locate(tmp_path / "w.pt"))
    state = _state(chat_file)
    torch.save({k: t for k, t in state.items() if "embed_positions" not in k}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"missing \(vpm\.beit3\.encoder\.embed_positions"):
        open_model(locate(tmp_path / "w.pt"))
    torch.save({**state, "extra": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"1 unexpected \(extra\)"):
        convert(tmp_path / "w.pt", tmp_path / "m")
    assert _names(tmp_path) == ["w.pt"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["Evil"]}, "names no class of viscpm_chat: Evil"),
        ({"architectures": None}, "names no class of viscpm_chat: none"),
        ({"architectures": ["KEYMAP"]}, "names no class of viscpm_chat: KEYMAP"),
        ({"num_query_tokens": "many"}, r"generation_config\.json is not right"),
        ({"num_query_tokens": 5}, r"1 of another shape \(query_tokens"),
    ],
)
def test_a_wrong_configuration_is_named(folder: Path, tmp_path: Path, changes: dict, words: str) -> None:
    shutil.copytree(folder, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")
    with pytest.raises(CheckpointError, match=words):
        open_model(locate(tmp_path / "m"))


def test_the_models_of_other_libraries_are_not_ours(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(ModelError, match="not one of huayu's own"):
        convert(tmp_path / "m", tmp_path / "n")


def test_what_is_there_is_not_written_over(chat_file: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "x").write_text("")
    (tmp_path / "w.pt").write_text("")
    for name in ("m", "w.pt"):
        with pytest.raises(CheckpointError, match="exists already"):
            convert(chat_file, tmp_path / name)
    with pytest.raises(CheckpointError, match="name a folder"):
        convert(chat_file, tmp_path / "w.safetensors")


def test_a_vocabulary_that_is_not_there_is_a_note(chat_file: Path, tmp_path: Path) -> None:
    shutil.copy(chat_file, tmp_path)
    done = convert(tmp_path / chat_file.name, tmp_path / "m")
    assert any("vocabulary" in en and "词表" in zh for en, zh in done.notes)
    with pytest.raises(CheckpointError, match="no vocabulary file"):
        convert(tmp_path / chat_file.name, tmp_path / "n", vocab=tmp_path / "nowhere")
    assert not (tmp_path / "n").exists()
    convert(tmp_path / chat_file.name, tmp_path / "o", vocab=chat_file.parent)
    assert (tmp_path / "o" / "vocab.txt").is_file()


_LIMITED = """
import os, resource, sys
from huayu.checkpoints.convert import convert
from huayu.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for name, dtype in (("m", None), ("m.pt", None), ("m.pt", "float32")):
    try:
        convert(sys.argv[1], os.path.join(sys.argv[2], name), dtype)
    except CheckpointError as error:
        print(error, os.listdir(sys.argv[2]))
"""


@pytest.mark.skipif(os.name == "nt", reason="no limits on the size of files there")
def test_a_disk_that_fills_up_leaves_nothing(chat_file: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HUAYU_LANG": "en"}
    arguments = [sys.executable, "-c", _LIMITED, str(chat_file), str(tmp_path)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("not written" in line and line.endswith("[]") for line in lines)
