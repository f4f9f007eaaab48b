"""A vision encoder and a language model of one's own: joined, taught four pictures, opened again, talked with."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

import huayu.hf  # noqa: F401 (the Auto classes know a Llava with queries)
from huayu.chat import load_chat
from huayu.cli.main import main
from huayu.errors import ModelError
from huayu.training.align.join import connector_of, join, parameters_of
from huayu.training.align.stage import AlignStage
from tests.training.tiny_backbones import CHATML, save_language, save_vision

COLOURS = {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色"}
ASKED, ASKED_ZH = "Which colour is it?", "这是什么颜色？"
TEXTS = [
    ASKED,
    ASKED_ZH,
    "Describe this picture.",
    *COLOURS,
    *COLOURS.values(),
    *(f"它是{c}的。" for c in COLOURS.values()),
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models by their kind, and ``zh.json``, ``en.json``, ``captions.tsv`` about four pictures."""
    root = tmp_path_factory.mktemp("parts")
    for kind in ("siglip", "clip", "vit", "dinov2"):
        save_vision(root / kind, kind)
    for kind in ("qwen3", "llama", "gpt2"):
        save_language(root / kind, kind, TEXTS, CHATML if kind == "qwen3" else None)
    for name in COLOURS:
        Image.new("RGB", (40, 30), name).save(root / f"{name}.png")
    few = [{"img": f"{en}.png", "prompt": ASKED_ZH, "label": f"它是{zh}的。"} for en, zh in COLOURS.items()]
    asked = {"from": "human", "value": f"<image>\n{ASKED}"}
    talk = [{"image": f"{en}.png", "conversations": [asked, {"from": "gpt", "value": en}]} for en in COLOURS]
    (root / "zh.json").write_text(json.dumps(few), "utf-8")
    (root / "en.json").write_text(json.dumps(talk), "utf-8")
    (root / "captions.tsv").write_text("".join(f"{en}.png\t{en}\n" for en in COLOURS), "utf-8")
    return root


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def inputs(processor: Any, question: str = ASKED_ZH) -> dict[str, torch.Tensor]:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    chat = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return processor(images=[[Image.new("RGB", (40, 30), "red")]], text=[text], return_tensors="pt")


@pytest.mark.parametrize(
    ("vision", "language", "connector", "tokens"),
    [
        ("siglip", "qwen3", "queries", 6),
        ("siglip", "qwen3", "mlp", 16),
        ("clip", "gpt2", "mlp", 16),
        ("vit", "gpt2", "queries", 6),
        ("dinov2", "llama", "mlp", 21),  # with its class and register tokens
        ("dinov2", "llama", "queries", 6),
    ],
)
def test_a_pair_is_an_ordinary_model(
    parts: Path, tmp_path: Path, vision: str, language: str, connector: Any, tokens: int
) -> None:
    model, processor = join(str(parts / vision), str(parts / language), connector=connector, queries=6)
    asked = inputs(processor)
    assert (asked["input_ids"] == model.config.image_token_id).sum() == tokens
    with torch.inference_mode():
        before = model(**asked).logits
        blue = model(**{**asked, "pixel_values": -asked["pixel_values"]}).logits
    assert not torch.allclose(before[:, -1], blue[:, -1], atol=1e-4)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, report = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert type(again) is type(model)
    asked = inputs(transformers.AutoProcessor.from_pretrained(tmp_path))
    with torch.inference_mode():
        torch.testing.assert_close(again(**asked).logits, before, rtol=0, atol=0)
    written = json.loads((tmp_path / "config.json").read_text("utf-8"))["model_type"]
    assert written == ("llava" if connector == "mlp" else "llava_queries")
    if connector == "mlp":  # needs nothing of ours
        assert type(again).__module__.startswith("transformers.")
    made = again.generate(**asked, max_new_tokens=6, min_new_tokens=6, do_sample=False)[:, -6:]
    plain = asked["input_ids"]
    for _ in range(6):
        with torch.no_grad():
            logits = again(plain, pixel_values=asked["pixel_values"]).logits[:, -1]
        logits[:, again.generation_config.eos_token_id] = -torch.inf
        plain = torch.cat([plain, logits.argmax(-1)[:, None]], dim=1)
    assert made.tolist() == plain[:, -6:].tolist()


def test_the_language_model_speaks_as_before(parts: Path) -> None:
    own = transformers.AutoModelForCausalLM.from_pretrained(parts / "gpt2")
    model, processor = join(str(parts / "clip"), str(parts / "gpt2"), connector="mlp")
    ids = processor.tokenizer(ASKED_ZH, return_tensors="pt")["input_ids"]
    rows = own.config.vocab_size
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == rows
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=ids).logits[..., :rows], own(ids).logits)
        table = own.get_output_embeddings().weight
        torch.testing.assert_close(model.lm_head.weight[rows], table.mean(dim=0))


def test_chinese_and_english_by_the_command(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUAYU_LANG", "zh")
    pair = ("--vision", parts / "siglip", "--language", parts / "qwen3", "--queries", 4, "--layers", 1)
    small = ("--check", parts / "zh.json", "--batch-size", 4, "--steps", 60, "--learning-rate", 5e-3, "--device", "cpu")
    assert run("train", "align", parts / "zh.json", *pair, *small, "--output", tmp_path) == 0
    assert "它是红色的。" in capsys.readouterr().out
    fell = losses(tmp_path)
    assert fell[-1] < fell[0] / 4
    chat = load_chat(tmp_path / "model", device="cpu")
    for en, zh in COLOURS.items():
        assert chat.ask(parts / f"{en}.png", ASKED_ZH).text == f"它是{zh}的。"
    stream = chat.stream(parts / "blue.png", ASKED_ZH)
    assert "".join(stream) == "它是蓝色的。"
    assert stream.reply.finish == "stop"
    own = transformers.AutoModelForCausalLM.from_pretrained(parts / "qwen3").state_dict()
    text = chat.backend.model.model.language_model.state_dict()
    assert all(torch.equal(value, own[f"model.{name}"]) for name, value in text.items())
    assert run("chat", parts / "green.png", ASKED_ZH, "--model", tmp_path / "model") == 0
    assert "它是绿色的。" in capsys.readouterr().out


def test_captions_then_instructions_with_lora(parts: Path, tmp_path: Path) -> None:
    pair = ("--vision", parts / "clip", "--language", parts / "gpt2", "--connector", "mlp")
    small = ("--batch-size", 4, "--steps", 40, "--learning-rate", 5e-3, "--lora-rate", 5e-3, "--device", "cpu")
    rows = ("--lora", "--instructions", parts / "en.json", "--trust-pictures")
    assert run("train", "align", parts / "captions.tsv", *pair, *small, *rows, "--output", tmp_path) == 0
    assert losses(tmp_path / "connector")[-1] < losses(tmp_path / "connector")[0] / 2
    first = load_chat(tmp_path / "connector" / "model", device="cpu").backend.model
    chat = load_chat(tmp_path / "model", device="cpu")
    name = "model.language_model.h.0.attn.c_attn.weight"
    assert not torch.equal(chat.backend.model.state_dict()[name], first.state_dict()[name])
    assert set(chat.backend.model.state_dict()) == set(first.state_dict())
    own = losses(tmp_path)
    assert own[-1] < own[0] / 2
    said = json.loads((tmp_path / "report.json").read_text("utf-8"))["answers"]
    assert [row["question"] for row in said] == [ASKED] * len(said)
    # The other three were learnt; a twentieth of four rows, which is one, was held back.
    assert sum(chat.ask(parts / f"{en}.png", ASKED).text == en for en in COLOURS) >= 3


@pytest.fixture(scope="module")
def stage(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> AlignStage:
    rows = json.loads((parts / "en.json").read_text("utf-8"))
    more = [{"from": "human", "value": "And <image> now <|im_end|>?"}, {"from": "gpt", "value": "Still so."}]
    rows[1]["conversations"] += more
    rows.append({"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]})
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    file.write_text(json.dumps(rows), "utf-8")
    settings: dict[str, Any] = {"queries": 4, "split": 0.0, "pictures": str(parts)}
    return AlignStage(str(parts / "siglip"), str(parts / "qwen3"), data=str(file), **settings)


def test_only_the_answer_is_learnt_after_what_a_chat_is_asked(stage: AlignStage) -> None:
    batch = stage.collated(stage.learnt)
    tokenizer = stage.backend.tokenizer
    assert len(stage.learnt) == 6
    assert len(batch["pixel_values"]) == 5
    for row, example in enumerate(stage.learnt):
        labels = batch["labels"][row]
        learnt = labels[labels >= 0]
        assert tokenizer.decode(learnt) == f"{example.answer}<|im_end|>"
        asked = tokenizer.decode(batch["input_ids"][row][: int((labels >= 0).nonzero()[0])])
        places = "<image>" * 4 + "\n" if example.picture else ""
        assert asked.startswith(
            f"<|im_start|>user\n{places}{example.before[0][0] if example.before else example.question}"
        )
        assert asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    talked = tokenizer.decode(batch["input_ids"][2][batch["attention_mask"][2] == 1])
    assert talked.count("<|im_end|>") == 4  # of two turns; none that a row wrote
    assert talked.count("<image>") == 4


def test_padding_changes_nothing(stage: AlignStage) -> None:
    model = stage.module().eval()
    together = stage.collated(stage.learnt[:3])
    with torch.no_grad():
        whole = model(**{k: v for k, v in together.items() if k != "labels"}).logits
        for row in range(3):
            alone = stage.collated(stage.learnt[row : row + 1])
            size = alone["input_ids"].shape[1]
            logits = model(**{k: v for k, v in alone.items() if k != "labels"}).logits
            torch.testing.assert_close(whole[row, :size], logits[0], rtol=1e-4, atol=1e-4)


def test_only_the_connector_learns(stage: AlignStage) -> None:
    model = stage.module()
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters_of(connector_of(model))
    loss, _ = stage.loss(model.train(), stage.batch(0, 2))
    loss.backward()
    assert all(
        float(p.grad.abs().sum()) > 0 for p in (connector_of(model).query_tokens, connector_of(model).norm.weight)
    )
    assert not model.model.language_model.training
    model.zero_grad()


def test_every_row_once_a_round(stage: AlignStage) -> None:
    count = len(stage.learnt)
    rounds = [[stage._row(at) for at in range(start, start + count)] for start in (0, count)]
    assert all(sorted(map(str, rows)) == sorted(map(str, stage.learnt)) for rows in rounds)
    assert rounds[0] != rounds[1]


def test_what_cannot_be_joined_says_so(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"qwen3 cannot be used as a vision encoder"):
        join(str(parts / "qwen3"), str(parts / "qwen3"))
    with pytest.raises(ModelError, match="cannot be opened as a causal language model"):
        join(str(parts / "vit"), str(parts / "vit"))
    transformers.AutoTokenizer.from_pretrained(parts / "llama").save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    capped = transformers.Gemma2Config(
        vocab_size=400, **sizes, num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.05,
        bos_token_id=None, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    transformers.Gemma2ForCausalLM(capped).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no place for"):
        join(str(parts / "vit"), str(tmp_path), connector="mlp")
    biased = transformers.PhiConfig(vocab_size=400, **sizes, bos_token_id=None, eos_token_id=0)
    transformers.PhiForCausalLM(biased).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a bias"):
        join(str(parts / "vit"), str(tmp_path))


def test_arguments_that_do_not_fit(parts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("HUAYU_LANG", "en")
    assert run("train", "align", parts / "zh.json", "--vision", parts / "vit") == 1
    assert "a language model" in capsys.readouterr().err
    assert run("train", "align", parts / "zh.json", "--connector", "glue") == 1
    assert "queries or mlp" in capsys.readouterr().err
    assert run("train", "no/such.toml", "steps=1") == 1
    assert "recipe" in capsys.readouterr().err


def test_the_costs_on_paper_are_those_of_the_formula() -> None:
    spec = importlib.util.spec_from_file_location("align_cost", Path("scripts/align_cost.py"))
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    vision = {
        **script.VISION,
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    language = {**heads, "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 3, "intermediate_size": 24}
    eye, joint, speaker = script.parts(vision, {**language, "tie_word_embeddings": True}, "queries", 5, 6)
    tokens, width, layers = 11, 16, 3
    block = width * 8 * (4 + 2 + 2 + 4) + 3 * width * 24
    products = 2 * tokens * (layers * block + width * 100)
    assert speaker.forward == products + layers * 4 * tokens**2 * 4 * 8
    assert speaker.backward == pytest.approx(products + 2 * layers * 4 * tokens**2 * 4 * 8, rel=0.1)
    assert speaker.parameters == layers * (block + 2 * width + 2 * 8) + width * 101
    assert eye.backward == eye.kept == 0
    assert joint.backward > 1.5 * joint.forward
    printed = script.table([eye, joint, speaker], pairs=10**9, batch=2, mfu=0.5)
    hours = 10**9 * sum(p.forward + p.backward for p in (eye, joint, speaker)) / (0.5 * 989e12) / 3600
    assert f"| {hours:.2f} |" in printed
