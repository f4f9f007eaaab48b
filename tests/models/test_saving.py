"""Folders and the library's Auto classes; names as published; weights spread over devices."""

from __future__ import annotations

import copy
import json

import accelerate
import pytest
import torch
from torch.testing import assert_close
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from huayu.checkpoints.keymap import Dropped
from huayu.models import cpm_bee, viscpm_chat
from huayu.models.beit3 import Beit3Model
from huayu.models.cpm_bee import CpmBeeConfig, CpmBeeForCausalLM, CpmBeeModel
from huayu.models.viscpm_chat import VisCPMChatConfig, VisCPMChatForConditionalGeneration
from tests.models import tiny


def same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(ours[name].equal(theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def folder(chat, processor, tmp_path_factory):
    """The chat model in several files, with its processor."""
    path = tmp_path_factory.mktemp("chat")
    chat.save_pretrained(path, max_shard_size="60KB")
    processor.save_pretrained(path)
    return path


class TestFolder:
    def test_it_is_sharded(self, folder):
        index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
        assert len(set(index["weight_map"].values())) > 2

    def test_image_text_to_text(self, folder, chat, batch):
        model = AutoModelForImageTextToText.from_pretrained(folder)
        assert type(model) is VisCPMChatForConditionalGeneration
        assert not model.training
        assert same(model, chat)
        assert model(**batch).logits.equal(chat(**batch).logits)
        settings = {"max_new_tokens": 5, "do_sample": False}
        assert model.generate(**batch, **settings).equal(chat.generate(**batch, **settings))

    def test_auto_model(self, folder, chat):
        assert same(AutoModel.from_pretrained(folder), chat)

    def test_configuration(self, folder, chat):
        config = AutoConfig.from_pretrained(folder)
        assert type(config) is VisCPMChatConfig
        assert config.text_config == chat.config.text_config
        assert config.vision_config == chat.config.vision_config
        assert config.num_query_tokens == tiny.QUERIES
        assert config.get_text_config().vocab_size == len(tiny.LINES)

    def test_processor(self, folder, processor, photographs):
        again = AutoProcessor.from_pretrained(folder)
        assert type(again) is type(processor)
        given = {"images": [photographs, []], "text": ["龘a齉", " 猫狗\n"]}
        ours, theirs = processor(**given), again(**given)
        assert set(ours) == set(theirs)
        assert all(ours[name].equal(theirs[name]) for name in ours)
        assert again.num_query_tokens == tiny.QUERIES

    def test_parts_of_the_processor(self, folder, processor, photographs):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert type(tokenizer) is type(processor.tokenizer)
        assert tokenizer.encode("猫狗 ab") == processor.tokenizer.encode("猫狗 ab")
        pictures = AutoImageProcessor.from_pretrained(folder)
        assert pictures(photographs, return_tensors="pt")["pixel_values"].equal(processor.pixel_values(photographs))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_half_precision_is_kept(self, chat, tmp_path, dtype):
        half = copy.deepcopy(chat).to(dtype)
        half.save_pretrained(tmp_path)
        model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="auto")
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        assert same(model, half)
        single = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
        assert {parameter.dtype for parameter in single.parameters()} == {torch.float32}

    def test_a_folder_of_the_vision_branch(self, chat, tmp_path):
        chat.vision_encoder.save_pretrained(tmp_path)
        model = AutoModel.from_pretrained(tmp_path)
        assert type(model) is Beit3Model
        assert same(model, chat.vision_encoder)


class TestLanguageModelAlone:
    MASKED = [[True, False], [False, True], [False, False]]

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        return tiny.language(seed=4, num_hidden_layers=3, mask_modules=cls.MASKED)

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, model, processor, tmp_path_factory):
        path = tmp_path_factory.mktemp("language")
        model.save_pretrained(path, max_shard_size="20KB")
        processor.tokenizer.save_pretrained(path)
        return path

    def test_causal_lm(self, model, folder, texts):
        again = AutoModelForCausalLM.from_pretrained(folder)
        assert type(again) is CpmBeeForCausalLM
        assert same(again, model)
        assert again(**texts).logits.equal(model(**texts).logits)

    def test_without_its_output(self, model, folder):
        again = AutoModel.from_pretrained(folder)
        assert type(again) is CpmBeeModel
        assert same(again, model.model)

    def test_configuration_and_tokenizer(self, model, folder):
        config = AutoConfig.from_pretrained(folder)
        assert type(config) is CpmBeeConfig
        written = {"dtype": "float32", "transformers_version": config.transformers_version}
        assert config.to_dict() == {**model.config.to_dict(), **written, "_name_or_path": str(folder)}
        assert config.mask_modules == self.MASKED
        assert AutoTokenizer.from_pretrained(folder).encode("猫狗 ab") == tiny.vocabulary().encode("猫狗 ab")[0]

    def test_the_plain_loop_of_any_causal_model(self, model, folder):
        """Tokenizer → generate → tokenizer, left-padded, as scripts for other models do it."""
        tokenizer = AutoTokenizer.from_pretrained(folder)
        texts = ["猫", "abc def 狗"]
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        settings = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        together = model.generate(**inputs, **settings)[:, -5:]
        for row, text in enumerate(texts):
            alone = model.generate(**tokenizer(text, return_tensors="pt"), **settings)[:, -5:]
            assert alone.tolist() == together[row : row + 1].tolist()


PUBLISHED = {"vocab_size": 50, "dim_model": 64, "num_heads": 4, "dim_head": 16, "dim_ff": 96, "num_layers": 3}


class TestPublishedSettings:
    def test_names(self):
        config = CpmBeeConfig.from_published({**PUBLISHED, "half": True, "eps": 1e-5, "dropout_p": 0.0})
        assert (config.hidden_size, config.num_attention_heads, config.head_dim) == (64, 4, 16)
        assert (config.intermediate_size, config.num_hidden_layers, config.vocab_size) == (96, 3, 50)
        assert (config.rms_norm_eps, config.dtype) == (1e-5, torch.float16)
        assert CpmBeeConfig.from_published(PUBLISHED).dtype == torch.float32

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_every_size_must_be_given(self, name):
        with pytest.raises(KeyError, match=name):
            CpmBeeConfig.from_published({key: value for key, value in PUBLISHED.items() if key != name})


@pytest.mark.parametrize("mask_modules", [None, [[True, False], [False, True]]])
def test_published_names_there_and_back(mask_modules):
    for model, keymap in (
        (tiny.language(mask_modules=mask_modules), cpm_bee.KEYMAP),
        (tiny.chat(mask_modules=mask_modules), viscpm_chat.KEYMAP),
    ):
        published = {name: keymap.to_published(name) for name in model.state_dict()}
        assert None not in published.values()
        assert len(set(published.values())) == len(published)
        assert {keymap.to_ours(name) for name in published.values()} == set(published)
        assert all(keymap.to_ours(theirs) == ours for ours, theirs in published.items())


@pytest.mark.parametrize(
    "name",
    ["llm.encoder.layers.x.ffn.layernorm_before_ffn.weight", "xquery", "query.weight", "llm.lm_head.weight", "vpm."],
)
def test_foreign_names_have_no_place(name):
    assert viscpm_chat.KEYMAP.to_ours(name) is None
    assert viscpm_chat.KEYMAP.to_published(name) is None


def test_dropped_names_say_why():
    dropped = viscpm_chat.KEYMAP.to_ours("vpm.mim_head.weight")
    assert isinstance(dropped, Dropped)
    assert "never read" in dropped.reason


class TestPlacement:
    def test_device_map(self, folder, chat, batch):
        model = AutoModelForImageTextToText.from_pretrained(folder, device_map="auto")
        assert model(**batch).logits.equal(chat(**batch).logits)

    # The queries are a parameter and no module; accelerate places it and says so.
    @pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules")
    def test_weights_that_stay_on_the_disk(self, folder, chat, batch, tmp_path):
        """Every module's weights are read when it is called, and only then."""
        places = {"query_tokens": "cpu", "language_model.model.norm": "cpu"}
        for name in ("vision_encoder", "projector", "language_model.model.layers"):
            places[name] = "disk"
        places |= {"language_model.model.embed_tokens": "disk", "language_model.model.position_bias": "disk"}
        model = AutoModelForImageTextToText.from_pretrained(folder, device_map=places, offload_folder=tmp_path)
        assert model.language_model.model.embed_tokens.weight.device.type == "meta"
        assert model.vision_encoder.query_positions.weight.device.type == "meta"
        assert_close(model(**batch).logits, chat(**batch).logits)
        settings = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": None}
        assert model.generate(**batch, **settings).equal(chat.generate(**batch, **settings))

    def test_everything_offloaded(self, chat, batch):
        model = copy.deepcopy(chat)
        accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        labels = torch.where(batch["is_context"] == 1, -100, 20)
        out = model(**batch, labels=labels)
        assert_close(out.logits, chat(**batch).logits)
        assert_close(model(**batch, labels=labels, loss_only=True).loss, out.loss)
