"""Opening folders and published files: every key accounted for, nothing executed, and the same paintings."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from huayu.checkpoints import hub
from huayu.checkpoints.checksums import write_checksums
from huayu.checkpoints.convert import convert
from huayu.checkpoints.opening import build
from huayu.checkpoints.report import account
from huayu.errors import CheckpointError, ModelError, PromptError
from huayu.models import viscpm_paint
from huayu.models.viscpm_paint import KEYMAP, VAE_KEYMAP, VisCPMPaintPipeline, open_pipeline, vae
from huayu.models.viscpm_paint.checkpoint import PUBLISHED_DEFAULTS
from huayu.models.viscpm_paint.memory import memory_plan
from huayu.models.viscpm_paint.published import configure, published_vae
from huayu.paint import load_paint
from tests.golden.support import failed
from tests.models.viscpm_paint import tiny
from tests.models.viscpm_paint.tiny import close, same_weights

FIXTURE = Path(__file__).parents[2] / "fixtures" / "viscpm-paint.keys.json.gz"
PUBLISHED_WAY = {"exact": True, "num_inference_steps": 2, "output_type": "pt", "width": 16, "height": 16}


@pytest.fixture(scope="module")
def inventory():
    """Published name → shape. Source: spec viscpm §7.2."""
    with gzip.open(FIXTURE, "rt", encoding="utf-8") as file:
        return {name: tuple(shape) for name, shape in json.load(file).items()}


@pytest.fixture(scope="module")
def published(inventory):
    """The published 10B model, without memory for it."""
    return build(viscpm_paint, "VisCPMPaintModel", configure(inventory))


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def test_every_published_key_is_accounted_for(inventory, published):
    assert len(inventory) == 1124
    assert sum(map(math.prod, inventory.values())) == 10_486_187_972
    assert sum(p.numel() for p in published.unet.parameters()) == 865_910_724
    report = account(shapes(published), inventory, KEYMAP)
    assert report.ok, str(report)
    assert not report.dropped
    assert len(report.loaded) == 1124
    assert {KEYMAP.to_published(name): shape for name, shape in shapes(published).items()} == inventory


def test_keys_outside_the_model_are_dropped_with_a_reason_and_unknown_ones_inside_are_not(inventory, published):
    foreign = {"vae.decoder.conv_in.weight": (1,), "sd.unet.conv_in.weight": (1,), "query": (1,)}
    report = account(shapes(published), {**inventory, **foreign}, KEYMAP)
    assert report.ok
    assert set(report.dropped) == set(foreign)
    assert all("not part of the model" in reason for reason in report.dropped.values())
    wrong = account(shapes(published), {**inventory, "llm.lm_head.weight": (1,), "unet.extra": (1,)}, KEYMAP)
    assert set(wrong.unexpected) == {"llm.lm_head.weight", "unet.extra"}


def test_old_and_new_names_of_a_vae(inventory):
    ours = shapes(published_vae())
    assert len(ours) == 248
    assert sum(map(math.prod, ours.values())) == 83_653_863
    old = {VAE_KEYMAP.to_published(name): shape for name, shape in ours.items()}
    renamed = set(old) - set(ours)
    assert len(renamed) == 16
    assert all(name.split(".")[-2] in ("query", "key", "value", "proj_attn") for name in renamed)
    for names in (ours, old):
        assert account(ours, names, VAE_KEYMAP).ok
    both = account(ours, {**ours, **old}, VAE_KEYMAP)
    assert len(both.unexpected) == 16


def test_memory_is_reckoned_before_anything_is_read(published):
    models = {name: getattr(published, name) for name in ("text_encoder", "conditioning_head", "unet")}
    models["vae"] = published_vae()
    half = memory_plan(models, {"": torch.float16})
    mixed = memory_plan(models, {"text_encoder": torch.float16, "": torch.float32})
    assert half["in turn"] < half["together"]
    assert half["texts first"] < half["together"]
    assert 22.9e9 < mixed["together"] < 25e9  # the published 22 GB of weights, and work
    assert 19.2e9 < half["in turn"] < 20e9  # the text encoder alone
    many = memory_plan(models, {"": torch.float16}, pictures=32, size=(768, 768))
    sliced = memory_plan(models, {"": torch.float16}, pictures=32, size=(768, 768), sliced=True)
    assert sliced["texts first"] < many["texts first"]


def write_published(pipeline, folder, old_vae_names=True):
    """The flat file of a tiny model, its vocabulary and sizes, and a VAE folder beside it."""
    parts = {"text_encoder": pipeline.text_encoder, "conditioning_head": pipeline.conditioning_head}
    state = {}
    for part, module in {**parts, "unet": pipeline.unet}.items():
        state |= {KEYMAP.to_published(f"{part}.{key}"): value for key, value in module.state_dict().items()}
    assert None not in state
    torch.save({**state, "sd.extra": torch.zeros(2)}, folder / "pytorch_model.bin")
    (folder / "vae").mkdir()
    own = pipeline.vae.state_dict()
    names = {VAE_KEYMAP.to_published(key) if old_vae_names else key: value for key, value in own.items()}
    save_file(names, folder / "vae" / "diffusion_pytorch_model.safetensors")
    tiny.save_vocabulary(folder)
    return folder / "pytorch_model.bin"


def sizes(pipeline):
    return {
        "unet": {key: value for key, value in pipeline.unet.config.items() if not key.startswith("_")},
        "vae": {key: value for key, value in pipeline.vae.config.items() if not key.startswith("_")},
    }


@pytest.fixture
def file(painter, tmp_path):
    return write_published(painter, tmp_path)


def paint(pipeline, prompt="红苹果", **options):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    return pipeline(prompt, generator=generator, **{**PUBLISHED_WAY, **options}).images


def test_a_published_file_paints_as_the_model_it_was_written_from(painter, file):
    told = []
    opened = open_pipeline(file, settings=sizes(painter), progress=lambda done, total: told.append((done, total)))
    painter_trained, painter._trained = painter._trained, opened._trained
    expected = paint(painter)
    painter._trained = painter_trained
    assert same_weights(opened, painter)
    assert close(paint(opened), expected)
    assert opened.config.paint_defaults == PUBLISHED_DEFAULTS
    assert type(opened.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    assert not any(p.requires_grad for p in opened.unet.parameters())


def test_texts_first_never_holds_both(painter, file, monkeypatch):
    from huayu.models.viscpm_paint import opening

    alive = []
    monkeypatch.setattr(
        opening.PromptEncoder,
        "encode_typed",
        lambda self, *args, plain=opening.PromptEncoder.encode_typed: (alive.append("texts"), plain(self, *args)),
    )
    monkeypatch.setattr(
        opening, "load_into",
        lambda model, *args, plain=opening.load_into, **kw: (alive.append(type(model).__name__),
                                                             plain(model, *args, **kw))[1],
    )  # fmt: skip
    opened = open_pipeline(file, settings=sizes(painter), texts=["红苹果", "a<b"])
    assert alive == ["CpmBeeModel", "ConditioningHead", "texts", "UNet2DConditionModel", "AutoencoderKL"]
    assert opened.text_encoder is None
    assert close(paint(opened), paint(open_pipeline(file, settings=sizes(painter))))
    paint(opened, "a<b", exact=False)
    with pytest.raises(PromptError):
        paint(opened, "狗")


def test_each_part_in_its_own_dtype(painter, file):
    opened = open_pipeline(file, {"text_encoder": torch.float16, "": torch.float32}, settings=sizes(painter))
    assert opened.text_encoder.dtype == torch.float16
    assert opened.unet.dtype == opened.conditioning_head.dtype == torch.float32
    assert torch.allclose(paint(opened), paint(open_pipeline(file, settings=sizes(painter))), atol=0.2)


def test_a_folder_opens_strictly_and_paints_the_same(either, tmp_path):
    either.save_pretrained(tmp_path / "model")
    opened = open_pipeline(tmp_path / "model")
    assert isinstance(opened, VisCPMPaintPipeline)
    assert same_weights(opened, either)
    assert close(paint(opened, exact=False), paint(either, exact=False))
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_in.surplus"] = tensors.pop("conv_in.bias")
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match=r"conv_in\.bias.*conv_in\.surplus"):
        open_pipeline(tmp_path / "model")


def test_a_folder_cannot_name_code_to_run(painter, tmp_path):
    folder = tmp_path / "model"
    painter.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["unet"] = ["trap", "UNet2DConditionModel"]
    (folder / "unet" / "trap.py").write_text("raise SystemExit\n")
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    open_pipeline(folder)
    index["scheduler"] = ["os", "system"]
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(CheckpointError, match="its scheduler is system"):
        open_pipeline(folder)


def test_another_pipeline_is_not_ours(painter, tmp_path):
    painter.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "model_index.json"
    path.write_text(path.read_text("utf-8").replace("VisCPMPaintPipeline", "StableDiffusionPipeline"), "utf-8")
    with pytest.raises(ModelError, match="not a VisCPM-Paint"):
        open_pipeline(tmp_path / "model")


def test_a_published_file_of_other_sizes_is_refused_by_name(painter, file):
    other = {**sizes(painter), "unet": {**sizes(painter)["unet"], "cross_attention_dim": 24}}
    with pytest.raises(CheckpointError, match="of another shape .*unet"):
        open_pipeline(file, settings=other)


def test_a_vocabulary_of_another_size_is_refused(painter, file):
    (file.parent / "vocab.txt").write_text("\n".join(tiny.LINES[:-1]), "utf-8")
    with pytest.raises(CheckpointError, match="vocabulary has"):
        open_pipeline(file, settings=sizes(painter))


def test_the_vae_may_lie_elsewhere(painter, file, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    away = tmp_path / "sd"
    away.mkdir()
    shutil.move(file.parent / "vae", away / "vae")
    for given in (away, away / "vae", away / "vae" / "diffusion_pytorch_model.safetensors"):
        open_pipeline(file, settings=sizes(painter), vae=given)
    with pytest.raises(CheckpointError, match="no VAE in"):
        open_pipeline(file, settings=sizes(painter), vae=tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"sd2-community.*Manojb.*sd-vae-ft-mse"):
        open_pipeline(file, settings=sizes(painter))


def test_mirrors_are_asked_in_order_and_their_hash_counts(painter, file, tmp_path, monkeypatch):
    shutil.rmtree(file.parent / "vae")
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        path = folder / "vae" / "diffusion_pytorch_model.safetensors"
        path.parent.mkdir(parents=True)
        save_file(painter.vae.state_dict(), path)
    good_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    (bad / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"other")
    answers = iter([CheckpointError("gone", "没有"), hub.Fetched(bad, "1"), hub.Fetched(good, "2")])
    asked = []

    def fetch(repository, files):
        asked.append(repository)
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(vae.hub, "fetch", fetch)
    monkeypatch.setattr(vae, "VAE_SHA256", good_hash)
    monkeypatch.setattr(vae, "VAE_PLACES", [vae.Place(place.repository, vae.VAE_PLACES[0].file)
                                            for place in vae.VAE_PLACES])  # fmt: skip
    open_pipeline(file, settings=sizes(painter))
    assert asked == [place.repository for place in vae.VAE_PLACES]


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_converted_there_and_back(painter, file, tmp_path):
    config = painter.text_encoder.config
    llm = {"vocab_size": config.vocab_size, "dim_model": config.hidden_size, "num_heads": config.num_attention_heads,
           "dim_head": config.head_dim, "dim_ff": config.intermediate_size,
           "num_layers": config.num_hidden_layers}  # fmt: skip
    (file.parent / "sizes.json").write_text(json.dumps({"llm": llm, **sizes(painter)}), "utf-8")
    (file.parent / "LICENSE").write_text("theirs", "utf-8")
    done = convert(file, tmp_path / "model")
    assert set(done.report.dropped) == {"sd.extra"}
    assert {"checksums.json", "LICENSE", "model_index.json", "tokenizer/vocab.txt"} <= files_of(done.path)
    assert failed(done.path) == set()
    there, here = open_pipeline(done.path), open_pipeline(file)
    assert same_weights(there, here)
    assert close(paint(there), paint(here))
    back = convert(done.path, tmp_path / "back.pt")
    assert "vae" in back.notes[0][0]
    before, after = (torch.load(path, weights_only=True) for path in (file, back.path))
    assert before.keys() - after.keys() == {"sd.extra"}
    assert all(torch.equal(before[key], value) for key, value in after.items())
    half = convert(file, tmp_path / "half.pt", "float16")
    assert {value.dtype for value in torch.load(half.path, weights_only=True).values()} == {torch.float16}


def test_a_canvas_has_no_published_form(canvas_painter, tmp_path):
    canvas_painter.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="canvas"):
        convert(tmp_path / "model", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


@pytest.fixture
def whole(painter, tmp_path):
    """A folder with checksums and a recorded painting."""
    folder = tmp_path / "whole"
    painter.save_pretrained(folder)
    painted = load_paint(folder, device="cpu", safety=None).paint("红苹果", seed=7)
    painted.images[0].save(folder / "selftest.png")
    (folder / "selftest.json").write_text(json.dumps({"prompt": "红苹果", "seed": 7, "picture": "selftest.png"}))
    write_checksums(folder)
    return folder


def test_a_whole_folder_is_verified(whole, capsys):
    assert failed(whole) == set()


def test_a_spoilt_folder_is_seen(whole):
    weights = whole / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["decoder.conv_out.bias"] += 0.5
    save_file(tensors, weights)
    assert failed(whole) == {"checksums.json", "selftest.json"}
    tensors["decoder.more"] = tensors.pop("decoder.conv_out.bias")
    save_file(tensors, weights)
    assert failed(whole) == {"checksums.json", "keys.missing", "keys.unexpected"}
