"""Short rows that share a row, and what of a row is learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from huayu.checkpoints.convert import convert
from huayu.errors import ModelError
from huayu.training.finetune.packing import packed
from huayu.training.finetune.stage import FinetuneStage
from huayu.training.language.stage import PretrainStage
from huayu.training.loop import LoopSettings, train
from tests.models.visualglm import tiny as tiny_glm

EXAMPLE = Path("examples/backgrounds")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with and without pictures, of one and two turns; the last has words that no vocabulary has."""
    shown = json.loads((EXAMPLE / "dataset.json").read_text("utf-8"))

    def turns(*said: str) -> list[dict[str, str]]:
        return [{"from": ("human", "gpt")[n % 2], "value": words} for n, words in enumerate(said)]

    found = [
        {"image": shown[0]["img"], "conversations": turns("图里有什么？", "红苹果")},
        {"conversations": turns("what is a dog", "a cat")},
        {"image": shown[1]["img"], "conversations": turns("颜色？", "红", "是猫？", "a red apple")},
        {"image": shown[2]["img"], "conversations": turns("question", "the image")},
        {"conversations": turns("龘 and 鱻", "鱻, 龘")},
    ]
    file = tmp_path_factory.mktemp("mixed") / "rows.json"
    file.write_text(json.dumps(found), "utf-8")
    return file


def stage(model: Path, data: Path, **changes: Any) -> FinetuneStage:
    where = {"data": str(data), "pictures": str(EXAMPLE), "split": 0.0, "asks": 0, "method": "full"}
    return FinetuneStage(model=str(model), **{**where, **changes})


def loss_and_gradients(made: FinetuneStage, batch: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    made.backend.model.zero_grad()
    loss = made.loss(made.backend.model, batch)[0]
    loss.backward()
    named = made.backend.model.named_parameters()
    return loss.item(), {name: value.grad.clone() for name, value in named if value.grad is not None}


def test_packed_rows_have_the_loss_of_rows_by_themselves(tiny_chat_folder: Path, mixed: Path) -> None:
    made = stage(tiny_chat_folder, mixed, tune_vision=True)
    made.module()
    batch = made.batch(0, 6)
    rows = packed(batch, 160)
    assert len(batch["input_ids"]) == 6
    assert sorted(rows["sample_ids"].amax(1).tolist()) == [1, 1, 4]
    assert rows["input_ids"].shape[1] <= 160
    words = (rows["request_vocab"] >= 0).any(2).any(1)
    assert words.any()
    assert rows["sample_ids"][words].max() == 1, "words of its own would be choices for its neighbours"
    assert rows["pixel_values"].shape[1] > 1
    assert rows["attention_mask"].sum() == batch["attention_mask"].sum()
    loss, gradients = loss_and_gradients(made, batch)
    together, shared = loss_and_gradients(made, rows)
    assert together == pytest.approx(loss, rel=1e-6)
    assert gradients.keys() == shared.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(shared[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max())), name


def test_what_shares_a_row_is_not_seen(tiny_chat_folder: Path, mixed: Path) -> None:
    made = stage(tiny_chat_folder, mixed)
    made.module().eval()
    rows = packed({name: value[:3] for name, value in made.batch(0, 6).items()}, 10_000)
    first = rows["sample_ids"] == 1
    assert (rows["sample_ids"] == 2).any()
    with torch.no_grad():
        before = made.backend.model(**rows, use_cache=False).logits[first]
        other = dict(rows)
        other["input_ids"] = torch.where(rows["sample_ids"] == 2, 12, rows["input_ids"])
        after = made.backend.model(**other, use_cache=False).logits[first]
    assert torch.allclose(before, after, atol=1e-6)


def test_a_fine_tune_may_pack(tiny_chat_folder: Path, mixed: Path, tmp_path: Path) -> None:
    def weights(pack: int) -> dict[str, Tensor]:
        made = stage(tiny_chat_folder, mixed, pack=pack)
        loop = {"steps": 2, "batch_size": 6, "learning_rate": 1e-4, "warmup": 1, "samples": 0}
        train(made, LoopSettings(output=str(tmp_path / str(pack)), device="cpu", **loop))  # type: ignore[arg-type]
        return made.backend.model.state_dict()

    plain, together = weights(0), weights(200)
    assert all(torch.allclose(plain[name], together[name], atol=1e-5) for name in plain)


def test_texts_may_share_a_row(tiny_chat_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(["a red apple", "图里是猫", "the dog", "颜色"] * 2), "utf-8")
    made = PretrainStage(str(tiny_chat_folder), data=str(tmp_path / "a.txt"))
    module = made.module()
    plain = made.batch(0, 6)
    made.pack = 64
    rows = made.batch(0, 6)
    assert len(rows["input_ids"]) < 6
    assert made.loss(module, rows)[0].item() == pytest.approx(made.loss(module, plain)[0].item(), rel=1e-6)


def test_chatglm_does_not_pack(mixed: Path, tmp_path: Path) -> None:
    tiny_glm.model().save_pretrained(tmp_path / "ours")
    base = convert(tmp_path / "ours", tmp_path / "hf", to="hf", vocab=tiny_glm.VOCABULARY).path
    made = stage(base, mixed, pack=128)
    with pytest.raises(ModelError, match="cannot be packed"):
        made.batch(0, 4)


def test_questions_are_learnt_when_asked_for(tiny_chat_folder: Path, mixed: Path) -> None:
    def learnt(made: FinetuneStage) -> list[str]:
        batch = made.batch(0, 6)
        table = made.backend.processor.tokenizer.vocabulary
        return sorted(table.decode([int(i) for i in row if 0 <= int(i) < len(table)]) for row in batch["labels"])

    answers = learnt(stage(tiny_chat_folder, mixed))
    every = learnt(stage(tiny_chat_folder, mixed, learn="all"))
    assert answers[:4] == sorted(answers)[:4]
    assert len(answers) == 6
    assert len(every) == 12
    assert [row for row in every if row.startswith("图里有什么？")]
    assert not [row for row in answers if row.startswith("图里有什么？")]
    assert set(answers) <= set(every)
    with pytest.raises(ModelError, match="known: answers, all"):
        stage(tiny_chat_folder, mixed, learn="questions")
