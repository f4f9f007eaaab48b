"""The vision branch: sizes of pictures, its two experts, the stem of small models."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.nn import functional as F
from torch.testing import assert_close

from huayu.models.beit3 import Beit3Config, Beit3Model
from tests.models import tiny

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
QUERIES = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(5))


def eye(seed=3, **changes):
    return tiny.spread(Beit3Model(tiny.vision_config(**changes)), seed)


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    return eye()


def test_states_of_all_layers(model):
    pixels = tiny.pictures(2)
    out = model(pixels, QUERIES.expand(2, -1, -1), output_hidden_states=True)
    assert [tuple(state.shape) for state in out.hidden_states] == [(2, 1 + 16 + 5, 24)] * 4
    assert_close(out.hidden_states[-1][:, 17:], out.last_hidden_state)
    assert model(pixels, QUERIES.expand(2, -1, -1)).hidden_states is None


def test_patches_are_read_row_by_row(model):
    """A change of one patch reaches, before attention, exactly that token."""
    pixels = tiny.pictures(1)
    changed = pixels.clone()
    changed[0, 1, 8:16, 24:32] += 0.5  # row 1, column 3 of 4 × 4
    first = [model(p, QUERIES, output_hidden_states=True).hidden_states[0] for p in (pixels, changed)]
    assert (first[0] != first[1]).any(-1)[0].nonzero().flatten().tolist() == [1 + 4 + 3]


@pytest.mark.parametrize("expert", ["vision", "query"])
def test_each_expert_has_its_own_tokens(model, expert):
    """Without attention's mixing: only the tokens of the expert whose feed-forward is changed move."""
    other = copy.deepcopy(model)
    for layer in other.layers:
        getattr(layer.mlp, expert).fc2.bias.add_(1.0)
    pixels = tiny.pictures(1)
    before, after = (m(pixels, QUERIES, output_hidden_states=True).hidden_states[1] for m in (model, other))
    moved = (before - after).abs().amax(-1)[0] > 0.5
    assert moved.tolist() == [expert == "vision"] * 17 + [expert == "query"] * 5


def test_the_first_two_rows_of_the_position_tables_are_never_read(model):
    other = copy.deepcopy(model)
    other.vision_positions.weight[:2] = torch.nan
    other.query_positions.weight[:2] = torch.nan
    other.query_positions.weight[2 + 5 :] = torch.nan
    pixels = tiny.pictures(1)
    assert_close(other(pixels, QUERIES).last_hidden_state, model(pixels, QUERIES).last_hidden_state)


def test_pictures_are_read_alone(model):
    pixels = tiny.pictures(3)
    together = model(pixels, QUERIES.expand(3, -1, -1)).last_hidden_state
    for n in range(3):
        assert_close(model(pixels[n : n + 1], QUERIES).last_hidden_state, together[n : n + 1], **CLOSE)


@pytest.mark.parametrize("size", [(64, 64), (32, 40), (36, 32), (38, 38), (16, 16)])
def test_another_size_is_an_error(model, size):
    with pytest.raises(ValueError, match=f"picture of \\({size[0]}, {size[1]}\\) pixels, but the model takes 32"):
        model(torch.zeros(1, 3, *size), QUERIES)


@pytest.fixture(scope="module")
def wide():
    return eye(interpolate_positions=True)


class TestInterpolation:
    def test_the_trained_size_is_as_without(self, model, wide):
        pixels = tiny.pictures(2)
        queries = QUERIES.expand(2, -1, -1)
        assert_close(wide(pixels, queries).last_hidden_state, model(pixels, queries).last_hidden_state)

    def test_twice_the_size(self, wide):
        """A picture with every pixel doubled looks much as it did."""
        smooth = F.interpolate(tiny.pictures(1)[..., ::8, ::8], size=32, mode="bicubic")
        native = wide(smooth, QUERIES).last_hidden_state
        large = wide(F.interpolate(smooth, scale_factor=2, mode="bicubic"), QUERIES, output_hidden_states=True)
        assert large.hidden_states[0].shape[1] == 1 + 64 + 5
        other = wide(tiny.pictures(1, seed=9), QUERIES).last_hidden_state
        assert (large.last_hidden_state - native).norm() < 0.8 * (other - native).norm()

    def test_the_class_token_keeps_its_position_and_patches_get_bicubic_ones(self, wide):
        table = wide.vision_positions.weight
        rows = wide._vision_position_rows(torch.zeros(1, 3, 64, 48))
        assert rows.shape == (1 + 8 * 6, 24)
        assert rows[0].equal(table[2])
        for y, x in ((0, 0), (3, 5), (7, 2)):
            assert_close(rows[1 + y * 6 + x], bicubic(table[3:].view(4, 4, -1), y, x, 4 / 8, 4 / 6), **CLOSE)

    def test_in_half_precision_the_table_is_interpolated_in_fp32(self, wide):
        half = copy.deepcopy(wide).half()
        rows = half._vision_position_rows(torch.zeros(1, 3, 64, 64))
        exact = copy.deepcopy(half).float()._vision_position_rows(torch.zeros(1, 3, 64, 64))
        assert rows.equal(exact.half())

    def test_patches_must_fill_the_picture(self, wide):
        with pytest.raises(ValueError, match="patches have 8"):
            wide(torch.zeros(1, 3, 60, 64), QUERIES)


def bicubic(grid, y, x, step_y, step_x):
    """Keys' kernel with a = -0.75 at pixel centres, edges repeated; (H, W, D) → (D,)."""

    def weights(target, step):
        source = (target + 0.5) * step - 0.5
        low = math.floor(source)
        near = [abs(source - (low + k)) for k in (-1, 0, 1, 2)]
        return low, [1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) for d in near]

    (top, by_y), (left, by_x) = weights(y, step_y), weights(x, step_x)
    total = torch.zeros(grid.shape[-1])
    for i, wy in enumerate(by_y):
        for j, wx in enumerate(by_x):
            row, column = (min(max(v, 0), 3) for v in (top - 1 + i, left - 1 + j))
            total += wy * wx * grid[row, column]
    return total


STEM = {"stem_channels": [6, 8, 10], "stem_depth": 1}


@pytest.fixture(scope="module")
def stemmed():
    """With statistics that are not those of a new model."""
    model = eye(**STEM)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(2))
    return model


class TestStem:
    def test_a_picture_alone_is_as_in_a_batch(self, stemmed):
        pixels = tiny.pictures(3)
        together = stemmed(pixels, QUERIES.expand(3, -1, -1)).last_hidden_state
        for n in range(3):
            assert_close(stemmed(pixels[n : n + 1], QUERIES).last_hidden_state, together[n : n + 1], **CLOSE)

    def test_training_looks_at_the_batch_and_evaluation_does_not_change_the_statistics(self, stemmed):
        model = copy.deepcopy(stemmed)
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model(tiny.pictures(2), QUERIES.expand(2, -1, -1))
        assert all(buffer.equal(before[name]) for name, buffer in model.named_buffers())
        model.train()(tiny.pictures(2), QUERIES.expand(2, -1, -1))
        assert not any(buffer.equal(before[name]) for name, buffer in model.named_buffers())

    @pytest.mark.parametrize(("stem", "depth"), [([6], 0), ([6, 8], 1), ([6, 8, 10], 0), ([6, 6, 6, 6], 2)])
    def test_it_keeps_the_grid(self, stem, depth):
        model = eye(stem_channels=stem, stem_depth=depth)
        out = model(tiny.pictures(1), QUERIES, output_hidden_states=True)
        assert out.hidden_states[0].shape == (1, 1 + 16 + 5, 24)

    def test_twice_the_size(self):
        model = eye(**STEM, interpolate_positions=True)
        out = model(torch.zeros(1, 3, 64, 64), QUERIES, output_hidden_states=True)
        assert out.hidden_states[0].shape[1] == 1 + 64 + 5

    @pytest.mark.parametrize("stem", [[6] * 5, [6] * 6])
    def test_it_must_fit_the_patches(self, stem):
        with pytest.raises(StrictDataclassClassValidationError, match="patches of 8 pixels cannot be halved"):
            tiny.vision_config(stem_channels=stem)

    def test_what_only_pads_a_row_stays_out_of_the_statistics(self, batch):
        """Rows of 0, 1 and 2 pictures: the stem sees three pictures, not six."""
        model = tiny.chat(vision=STEM).train()
        seen = []
        model.vision_encoder.patch_embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        model(**batch)
        pictures = batch["pixel_values"]
        assert_close(seen[0], torch.stack([pictures[1, 0], pictures[2, 0], pictures[2, 1]]))
        assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_unknown_arguments_are_errors(model):
    with pytest.raises(TypeError, match="interpolate"):
        model(tiny.pictures(1), QUERIES, interpolate_pos_encoding=True)


def test_more_queries_than_positions(model):
    with pytest.raises(IndexError):
        model(tiny.pictures(1), torch.zeros(1, 7, 24))


def test_published_settings():
    names = {"img_size": 384, "patch_size": 32, "encoder_embed_dim": 48, "encoder_layers": 3}
    names |= {"encoder_attention_heads": 4, "encoder_ffn_embed_dim": 96, "max_source_positions": 64, "vocab_size": 100}
    config = Beit3Config.from_published(names)
    assert (config.image_size, config.patch_size, config.hidden_size, config.num_hidden_layers) == (384, 32, 48, 3)
    assert (config.num_attention_heads, config.intermediate_size) == (4, 96)
    assert (config.max_query_positions, config.text_vocab_size) == (64, 100)
    with pytest.raises(KeyError):
        Beit3Config.from_published({name: names[name] for name in names if name != "encoder_layers"})
