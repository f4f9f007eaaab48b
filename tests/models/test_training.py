"""Losses and gradients; the library's Trainer and PEFT on these models."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.testing import assert_close
from transformers import Trainer, TrainingArguments

from tests.models import tiny

# One library still calls the other by names that go away in its next major version.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_gradient|gradient)_checkpointing.* is deprecated:FutureWarning")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
EXACT = {"atol": 1e-12, "rtol": 1e-12}
ANSWERS = ["ab", "龘a齉猫齾", "猫狗b龘"]


@pytest.fixture(scope="module")
def items(processor):
    pairs = zip(tiny.ROWS, ANSWERS, strict=True)
    return [processor.pack_chat(*row, answer, for_generation=False) for row, answer in pairs]


@pytest.fixture(scope="module")
def lessons(processor, items):
    """A batch with labels and pictures, right-padded."""
    return {**processor.collate(items, with_labels=True), "pixel_values": tiny.pictures(3, 2)}


@pytest.fixture
def model(chat):
    return copy.deepcopy(chat).train()


def gradients(model, **inputs):
    model.zero_grad()
    model(**inputs).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert_close(value, theirs[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def test_the_loss_is_the_surprise_at_each_answer_token(model, lessons):
    with torch.no_grad():
        out = model(**lessons)
        odds = out.logits.log_softmax(-1)
        labels = lessons["labels"]
        surprises = [-odds[r, t, labels[r, t]] for r, t in (labels != -100).nonzero().tolist()]
        assert len(surprises) == sum((2, 6, 4))
    assert_close(out.loss, torch.stack(surprises).mean())


def test_an_answer_costs_what_saying_it_costs(chat, processor, items, lessons):
    """Training's layout and generation's, step by step with a cache, give one answer the same probability."""
    with torch.no_grad():
        for row, prompt in enumerate(processor.pack_chat(*one) for one in tiny.ROWS):
            item, count = items[row], tiny.ROWS[row][0]
            pictures = {"pixel_values": lessons["pixel_values"][row : row + 1, :count]} if count else {}
            alone = processor.collate([item], with_labels=True)
            labels = alone["labels"][0][alone["labels"][0] != -100]
            loss = chat(**alone, **pictures).loss
            prompt.request_vocab = item.request_vocab  # an answer may bring words that its prompt does not have
            inputs = processor.collate([prompt], start_answer=True)
            out = chat(**inputs, **pictures, use_cache=True)
            total = -out.logits[0, -1].log_softmax(-1)[labels[0]]
            for step, token in enumerate(labels[:-1], start=1):
                inputs = tiny.grown(inputs, token[None, None])
                size = inputs["input_ids"].shape[1]
                out = chat(**tiny.later(inputs, size - 1, size), past_key_values=out.past_key_values, use_cache=True)
                total -= out.logits[0, -1].log_softmax(-1)[labels[step]]
            assert_close(total / len(labels), loss, **CLOSE)


def test_checkpointed_gradients_are_the_same(model, lessons):
    plain = gradients(model, **lessons)
    assert plain.keys() == dict(model.named_parameters()).keys()
    ran = []
    layers = (model.language_model.model.layers[0], model.vision_encoder.layers[0])
    for layer in layers:
        layer.register_forward_hook(lambda *_: ran.append(1))
        layer.mlp_norm.register_forward_hook(lambda *_: ran.append(2))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same(gradients(model, **lessons), plain)
    assert (ran.count(1), ran.count(2)) == (2, 4)  # the inside of a layer ran again for the backward pass


def test_loss_only_is_the_full_loss(model, lessons):
    """Also for answers with words of the request's own."""
    assert (lessons["labels"] >= len(tiny.LINES)).any()
    full, short = model(**lessons), model(**lessons, loss_only=True)
    assert_close(short.loss, full.loss)
    assert short.logits is None
    assert_same(gradients(model, **lessons, loss_only=True), gradients(model, **lessons))


def test_loss_only_needs_labels(model, lessons):
    inputs = {name: value for name, value in lessons.items() if name != "labels"}
    out = model(**inputs, loss_only=True)
    assert out.loss is None
    assert out.logits.shape[1] == lessons["input_ids"].shape[1]


@pytest.mark.parametrize("loss_only", [False, True])
def test_losses_of_parts_add_up(model, processor, items, lessons, loss_only):
    """With the number of all labels known, one row after another gives the gradients of the whole batch."""
    whole = gradients(model, **lessons)
    count = (lessons["labels"] != -100).sum()
    model.zero_grad()
    for row, item in enumerate(items):
        pictures = {"pixel_values": lessons["pixel_values"][row : row + 1]} if item.image_bounds else {}
        part = processor.collate([item], with_labels=True)
        model(**part, **pictures, num_items_in_batch=count, loss_only=loss_only).loss.backward()
    assert_same({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, whole)


def test_pictures_that_only_pad_leave_no_trace_in_gradients(model, lessons):
    poisoned = lessons["pixel_values"].clone()
    poisoned[0] = poisoned[1, 1] = math.nan
    assert_same(gradients(model, **{**lessons, "pixel_values": poisoned}), gradients(model, **lessons))


def test_the_embedding_is_the_output(model, lessons):
    embedding = model.get_input_embeddings()
    assert embedding is model.language_model.model.embed_tokens
    assert model.get_output_embeddings() is None
    names = [name for name, _ in model.named_parameters()]
    assert sum("embed_tokens" in name or "lm_head" in name for name in names) == 1
    cat = tiny.LINES.index("猫狗")
    with torch.no_grad():
        before = model(**lessons).logits
        embedding.weight[cat] *= 2
        after = model(**lessons).logits
    answer = lessons["labels"][0] != -100  # of a row without that token
    assert not (lessons["input_ids"][0] == cat).any()
    assert_close(after[0, answer, cat], 2 * before[0, answer, cat], **CLOSE)
    assert_close(after[0, answer, :cat], before[0, answer, :cat], **CLOSE)


def test_embeddings_can_be_replaced(language, texts):
    model = copy.deepcopy(language)
    other = copy.deepcopy(model.get_input_embeddings())
    with torch.no_grad():
        other.weight.neg_()
    model.set_input_embeddings(other)
    assert model.get_input_embeddings() is model.model.embed_tokens is other
    assert not torch.allclose(model(**texts).logits, language(**texts).logits)


class TestLora:
    CONFIG = {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 8, "init_lora_weights": False}

    @pytest.fixture
    def chat(self, chat):
        """In float64: merging adds in another order, and how far that leads in float32 depends on the processor."""
        return copy.deepcopy(chat).double()

    @pytest.fixture
    def lessons(self, lessons):
        return {**lessons, "pixel_values": lessons["pixel_values"].double()}

    @pytest.fixture
    def batch(self, batch):
        return {**batch, "pixel_values": batch["pixel_values"].double()}

    @pytest.fixture
    def adapted(self, model):
        torch.manual_seed(0)
        # The vision branch names its projections alike, one for each expert.
        settings = {**self.CONFIG, "target_modules": r"language_model\..*\.(q_proj|v_proj)"}
        return get_peft_model(model, LoraConfig(**settings))

    def test_only_adapters_learn(self, adapted, lessons):
        trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
        assert len(trained) == 2 * 2 * 2
        assert all("lora_" in name for name in trained)
        before = {name: p.detach().clone() for name, p in adapted.named_parameters()}
        optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
        first = adapted(**lessons).loss
        first.backward()
        optimizer.step()
        assert adapted(**lessons).loss < first
        assert {name for name, p in adapted.named_parameters() if not p.equal(before[name])} == trained

    def test_saved_loaded_and_merged_are_the_same(self, adapted, chat, lessons, tmp_path):
        adapted.eval()
        with torch.no_grad():
            expected = adapted(**lessons).logits
            assert not torch.allclose(expected, chat(**lessons).logits, atol=1e-2)
            adapted.save_pretrained(tmp_path)
            loaded = PeftModel.from_pretrained(copy.deepcopy(chat), tmp_path).eval()
            assert_close(loaded(**lessons).logits, expected, **EXACT)
            merged = loaded.merge_and_unload()
            assert merged.state_dict().keys() == chat.state_dict().keys()
            assert_close(merged(**lessons).logits, expected, **EXACT)

    def test_an_adapter_is_scaled_like_the_weight_it_adds_to(self, adapted, lessons):
        """The division by sqrt(fan-in) comes after both: B·A added to the weight is the same model."""
        merged = copy.deepcopy(adapted).merge_and_unload().eval()
        with torch.no_grad():
            assert_close(merged(**lessons).logits, adapted.eval()(**lessons).logits, **EXACT)

    def test_it_generates(self, adapted, batch):
        settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
        inputs = {**batch, "pixel_values": torch.nan_to_num(batch["pixel_values"])}
        expected = copy.deepcopy(adapted).merge_and_unload().eval().generate(**inputs, **settings)
        assert adapted.eval().generate(**inputs, **settings).tolist() == expected.tolist()

    def test_all_projections_by_their_plain_names(self, model, lessons):
        """`target_modules="all-linear"`: every linear of both branches, none of the tied embedding."""
        adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", r=2))
        adapted(**lessons).loss.backward()
        names = {name for name, p in adapted.named_parameters() if p.requires_grad and p.grad is not None}
        assert len(names) == 2 * (2 * 7 + 2 * 2 * (4 + 2) + 2)


class TestTrainer:
    def trained(self, model, rows, processor, folder, **changes):
        """One step of plain gradient descent with the library's Trainer."""
        settings = {"max_steps": 1, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "seed": 0}
        settings |= {"lr_scheduler_type": "constant", "report_to": "none", "use_cpu": True, "save_strategy": "no"}
        settings |= {"disable_tqdm": True, "dataloader_pin_memory": False, **changes}

        def batch(picked):
            return processor.collate(picked, with_labels=True)

        arguments = TrainingArguments(output_dir=str(folder), **settings)
        trainer = Trainer(model, arguments, data_collator=batch, train_dataset=rows, eval_dataset=rows)
        return trainer, trainer.train()

    @pytest.fixture(scope="class")
    @classmethod
    def rows(cls, processor):
        """Answers of very different lengths: a mean of means would be another loss."""
        pairs = [("a", "b"), ("猫", "abcdef" * 4)]
        return [processor.pack_chat(0, "", question, answer, for_generation=False) for question, answer in pairs]

    def test_accumulated_steps_are_one_step(self, model, rows, processor, tmp_path):
        other = copy.deepcopy(model)
        self.trained(model, rows, processor, tmp_path, per_device_train_batch_size=2)
        self.trained(other, rows, processor, tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=2)
        assert_same(model.state_dict(), other.state_dict())

    def test_it_evaluates(self, model, rows, processor, tmp_path):
        trainer, _ = self.trained(model, rows, processor, tmp_path, learning_rate=0.0, prediction_loss_only=True)
        with torch.no_grad():
            expected = model.eval()(**processor.collate(rows, with_labels=True)).loss
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-4)
