"""What nobody drew is imagined from what was drawn, and the painter's stages learn it in the place of the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from huayu.data import paint_captions, paintings, pictograms, world
from huayu.data.sprites import Sprites
from huayu.training.mini_paint import restyle
from tests.data.sprites_fixture import drawing


@pytest.fixture(scope="module")
def sprites() -> Sprites:
    """A drawing of each thing by each artist: the coloured ones alike but for a tint, those in ink rings."""
    count, inked = len(world.CONCEPTS), [name.endswith(("contrast", "monotone")) for name in restyle.ARTISTS]
    pixels = []
    for style, ink in enumerate(inked):
        for number in range(count):
            pixels.append(drawing(number, ink))
            pixels[-1][..., :3] //= 1 + style % 3
    concept, style_of = np.tile(np.arange(count), len(inked)), np.repeat(np.arange(len(inked)), count)
    reserved = np.zeros(len(pixels), bool)
    roles = ["train"] * len(inked)
    return Sprites.build(np.stack(pixels), concept, style_of, reserved, list(restyle.ARTISTS), roles, inked)


@pytest.fixture
def stage(sprites: Sprites, monkeypatch: pytest.MonkeyPatch) -> restyle.RestyleStage:
    monkeypatch.setattr(pictograms, "pack", lambda folder: folder)
    monkeypatch.setattr(Sprites, "load", lambda path, styles: sprites)
    return restyle.RestyleStage()


def test_what_is_asked_for_is_not_shown_and_what_is_held_neither(stage: restyle.RestyleStage) -> None:
    held = torch.nonzero(stage.held)
    assert len(held) > 30
    stage.drawings[stage.held[:, restyle.STYLE_OF]] = torch.nan  # who looks at them spoils the loss
    batch = stage.batch(0, 200)
    styles = restyle.STYLE_OF[restyle.COLUMNS]
    for shown, asked in zip(batch["shown"], batch["asked"], strict=True):
        assert asked.any()
        assert shown.any()
        assert not set(restyle.STYLE_OF[shown].tolist()) & set(styles[asked].tolist())
    some = {name: value[:24] for name, value in batch.items()}
    drawings = some["drawings"]
    some["drawings"] = torch.where(some["shown"][:, :, None, None, None], drawings, drawings.nan_to_num())
    loss, parts = stage.loss(stage.module(), some)
    assert torch.isfinite(loss)
    assert set(parts) == {"colour", "ink"}
    again, other = stage.batch(0, 200), stage.batch(1, 200)
    assert torch.equal(batch["shown"], again["shown"])
    assert not torch.equal(batch["shown"], other["shown"])


def test_an_unlearned_one_copies_the_most_alike_drawing(stage: restyle.RestyleStage) -> None:
    module = stage.module().eval()
    flat, shaded, _ = restyle.COLUMNS
    shown = torch.zeros(2, len(restyle.ARTISTS), dtype=torch.bool)
    shown[0, [0, shaded]], shown[1, [0, 1]] = True, True
    with torch.no_grad():
        made = module(stage.drawings[2:4], shown)
    assert torch.allclose(made[0, 0], stage.drawings[2, shaded], atol=1e-5)
    assert torch.allclose(made[1, 0], stage.drawings[3, 0], atol=1e-5)
    assert not torch.allclose(made[0, 0], stage.drawings[2, flat], atol=1e-2)


def test_it_learns_and_the_painter_is_shown_what_it_imagined(
    stage: restyle.RestyleStage, sprites: Sprites, tmp_path: Path
) -> None:
    module, batch = stage.module(), stage.batch(0, 6)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss, _ = stage.loss(module, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    figures = stage.evaluate(module.eval())
    assert {"shape/flat", "colour/3D", "shape/line"} <= set(figures)
    stage.export(module, tmp_path)
    real = paintings.render(sprites)[:, :, :2, :2]
    learnt = paintings.completed(real, tmp_path / "imagined.npz")
    changed = (learnt != real).any((2, 3, 4, 5, 6))
    assert np.array_equal(changed, stage.held.numpy())
    with np.load(tmp_path / "imagined.npz") as file:
        of_world = dict(file)
    np.savez(tmp_path / "other.npz", **{**of_world, "styles": 0 * of_world["styles"]})
    with pytest.raises(ValueError, match="another world"):
        paintings.completed(real, tmp_path / "other.npz")


def test_orders_of_imagined_pictures_still_leave_colours_out() -> None:
    rng = np.random.default_rng(3)
    orders = [paint_captions.draw_order(rng, imagined=True) for _ in range(2000)]
    assert any(order.held for order in orders)
    assert not any(paintings.held_background(order.concept, order.shown[2]) for order in orders)
