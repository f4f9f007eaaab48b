"""VisualGLM with a convolutional stem, as the small one in the package has it."""

from __future__ import annotations

import pytest
import torch

import huayu.hf  # noqa: F401
from huayu.checkpoints.convert import convert
from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import open_model
from huayu.errors import CheckpointError
from huayu.models.stem import StemConvolution
from huayu.models.visualglm import VisualGLMForConditionalGeneration
from tests.models.chatglm.tiny import spread
from tests.models.visualglm import tiny


@pytest.fixture
def model():
    config = tiny.config()
    config.vision_config.patch_size, config.stem_channels, config.stem_depth = 4, [6, 8], 1
    torch.manual_seed(5)
    return spread(VisualGLMForConditionalGeneration(config)).eval()


def test_it_is_there_and_learns_from_a_signal_near_one(model):
    blocks = [module for module in model.modules() if isinstance(module, StemConvolution)]
    assert len(blocks) == 3
    fresh = VisualGLMForConditionalGeneration(model.config)
    pixels = torch.randn(4, 3, tiny.SIDE, tiny.SIDE)
    out = fresh.vision_encoder.embeddings.patch_embedding.stem(pixels)
    assert out.shape == (4, 8, tiny.SIDE // 4, tiny.SIDE // 4)
    assert 0.3 < out.std() < 3


@torch.no_grad()
def test_a_folder_of_it_opens_with_the_same_embeddings(model, tmp_path):
    pixels = torch.randn(2, 3, tiny.SIDE, tiny.SIDE)
    model.save_pretrained(tmp_path)
    tiny.processor().save_pretrained(tmp_path)
    opened = open_model(locate(tmp_path), torch.float32).model.eval()
    assert opened.get_image_features(pixels).equal(model.get_image_features(pixels))
    assert model.get_image_features(torch.randn(1, 3, 2 * tiny.SIDE, 2 * tiny.SIDE)).shape[1] == tiny.QUERIES


def test_strides_make_up_a_patch(model):
    with pytest.raises(Exception, match="cannot be halved"):
        type(model.config)(vision_config={"patch_size": 14}, stem_channels=[4, 4, 4])


def test_published_formats_have_no_place_for_it(model, tmp_path):
    model.save_pretrained(tmp_path / "ours")
    tiny.processor().save_pretrained(tmp_path / "ours")
    with pytest.raises(CheckpointError, match="published format cannot hold"):
        convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    assert not (tmp_path / "hf").exists()
