"""The stages of the embedded painter on made-up pictures: each learns something, and each hands on to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from huayu.data import art_styles, paintings, world
from huayu.data.paint_captions import Order
from huayu.models.cpm_bee import BeeVocabulary
from huayu.models.viscpm_paint import CanvasHead, VisCPMPaintPipeline
from huayu.training.loop import Stage
from huayu.training.mini_paint import architecture, autoencoder, canvas, denoiser, grow, polish


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A disc of its own colour and size for each thing, in place of the downloaded drawings."""
    rng = np.random.default_rng(0)
    grounds = np.array([colour for _, _, colour in world.BACKGROUNDS], np.uint8)
    shape = (len(world.CONCEPTS), len(art_styles.STYLES), len(grounds), paintings.VARIANTS, 64, 64, 3)
    found = np.broadcast_to(grounds[:, None, None, None], shape).copy()
    away = np.hypot(*np.mgrid[-31.5:32, -31.5:32])
    for concept in range(shape[0]):
        found[concept, :, :, :, away < rng.uniform(12, 30)] = rng.integers(256, size=3)
    monkeypatch.setattr(paintings, "load", lambda folder: found)
    return found


@pytest.fixture
def settings(pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Where the stages find each other's files; latents are made up, as only their shape matters here."""
    architecture.autoencoder().save_pretrained(tmp_path / "vae")
    made_up = torch.randn(*pictures.shape[:4], 1, 1, 1).expand(-1, -1, -1, -1, architecture.CHANNELS, 8, 8)
    monkeypatch.setattr(canvas.Drawn, "_encoded", lambda self, pictures: made_up)
    return {"vocabulary": str(tmp_path / "vocab.txt"), "autoencoder": str(tmp_path / "vae")}


def learns(stage: Stage, rate: float) -> None:
    """One batch again and again gives an ever smaller loss."""
    module, batch = stage.module(), stage.batch(0, 4)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=rate)
    losses = []
    for _ in range(8):
        loss, _ = stage.loss(module, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_batches_depend_on_seed_and_index_only(settings: dict[str, str]) -> None:
    stage = canvas.CanvasStage(**settings)
    batch, again, other = stage.batch(3, 6), stage.batch(3, 6), stage.batch(4, 6)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["latents"], other["latents"])


def test_autoencoder_learns_and_its_latents_become_standard(pictures: np.ndarray, tmp_path: Path) -> None:
    stage = autoencoder.AutoencoderStage()
    learns(stage, 1e-3)
    module = stage.module()
    values = architecture.to_values(pictures[:8, 0, 3, 0])
    with torch.no_grad():
        before = module(values)[0]
        autoencoder.standardise(module.vae, module(values)[1])
        after, latents = module(values)
    assert torch.allclose(before, after, atol=1e-3)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert abs(latents.square().mean() - 1) < 1e-3


@pytest.mark.parametrize("variants", [0, 4, 8])
def test_canvas_learns(settings: dict[str, str], variants: int) -> None:
    stage = canvas.CanvasStage(variants=variants, **settings)
    learns(stage, 3e-3)
    assert stage.module().canvas.config.variants == variants


def test_denoiser_learns_and_exports_a_pipeline(settings: dict[str, str], tmp_path: Path) -> None:
    stage = denoiser.DenoiserStage(words="", **settings)
    learns(stage, 1e-3)
    module = stage.module()
    module.update()
    stage.export(module, tmp_path)
    pipeline = VisCPMPaintPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tensors = load_file(tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert pipeline.config.paint_defaults["scheduler"] == "ddim"

    last = polish.PolishStage(model=str(tmp_path / "model"), steps_painted=1, every=900)
    before = last.pipeline.vae.encoder.conv_in.weight.clone()
    learns(last, 1e-3)
    assert torch.equal(last.pipeline.vae.encoder.conv_in.weight, before), "latents keep their meaning"
    last.export(last.module(), tmp_path / "polished")
    assert (tmp_path / "polished" / "model" / "model_index.json").is_file()


def test_the_average_follows_what_is_trained(settings: dict[str, str]) -> None:
    module = denoiser.Averaged(denoiser.Painter(canvas.Words(2300)), decay=0.5)
    torch.nn.init.ones_(module.painter.unet.conv_out.weight)
    for _ in range(20):
        module.update()
    assert torch.allclose(module.average.unet.conv_out.weight, torch.ones(()), atol=1e-3)


def test_the_nearest_picture_tells_the_thing(pictures: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    orders = [Order(concept, 0, 4) for concept in range(0, 120, 17)]
    seen = np.stack([pictures[order.shown][5] for order in orders]).astype(int) + rng.integers(-9, 10, (8, 64, 64, 3))
    ranks = paintings.nearest(seen.clip(0, 255).astype(np.uint8), pictures, [order.shown[2] for order in orders])
    assert [rank[0] for rank in ranks] == [order.concept for order in orders]
    assert all(sorted(rank) == list(range(len(world.CONCEPTS))) for rank in ranks)


def test_a_grown_painter_draws_what_it_drew(settings: dict[str, str], tmp_path: Path) -> None:
    now = architecture.vocabulary_of(settings["vocabulary"])
    lines = [line for line in now.lines() if line != "狗"]
    (tmp_path / "old.txt").write_bytes("\n".join(lines).encode())
    before = BeeVocabulary.from_file(tmp_path / "old.txt")
    old = canvas.Words(len(before), variants=2)
    old.canvas = CanvasHead(architecture.WIDTH, architecture.CHANNELS, architecture.GRID, 96, variants=2)
    new = canvas.Words(len(now), variants=2)
    new.load_state_dict(grow.grown(new, old.state_dict(), before, now))
    noise, captions = torch.randn(2, 16), ["a red apple", "一只猫"]
    drawn, again = (words(noise, **canvas.read(captions, known))[1] for words, known in ((old, before), (new, now)))
    assert len(now) == len(before) + 1
    assert torch.allclose(drawn, again, atol=1e-5)


def test_a_painter_goes_on_from_words_and_unet_of_others(settings: dict[str, str], tmp_path: Path) -> None:
    stage = denoiser.DenoiserStage(words="", **settings)
    first = stage.module().painter
    torch.nn.init.ones_(first.unet.conv_out.weight)
    torch.save(first.state_dict(), tmp_path / "painter.pt")
    other = canvas.Words(len(stage.drawn.vocabulary), variants=2)
    torch.save(other.state_dict(), tmp_path / "words.pt")
    settings = {**settings, "start": str(tmp_path / "painter.pt"), "words": str(tmp_path / "words.pt")}
    second = denoiser.DenoiserStage(**settings).module().painter
    assert torch.equal(second.unet.conv_out.weight, first.unet.conv_out.weight)
    assert all(torch.equal(a, b) for a, b in zip(second.words.parameters(), other.parameters(), strict=True))
    assert set(canvas.words_of(settings["start"])) == set(first.words.state_dict())
