"""Golden cases of VisualGLM's texts: the tokenizer's wrapper, prompts, answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.models.chatglm.prompts import process_response, round_prompt
from huayu.models.chatglm.tokenization import ChatGLMTokenizer
from huayu.models.visualglm.processing import Encoded, VisualGLMImageProcessor, VisualGLMProcessor
from huayu.models.visualglm.prompts import Flavour, answer_of, published

# Settings that say which class is to read them.
_OF_A_CLASS = ("name_or_path", "tokenizer_class", "auto_map")
# Names in a case's table of special pieces, where they are not the piece without its brackets.
_SPECIAL = {"s": "<s>", "eos_s": "</s>", "tab": "<|tab|>", "MASK": "[MASK]", "gMASK": "[gMASK]", "sMASK": "[sMASK]"}


def _tokenizer(case: Case) -> Any:
    """The case's small vocabulary, as strict as published code."""
    settings = {name: value for name, value in case.json("tokenizer_config.json").items() if name not in _OF_A_CLASS}
    vocabulary = case.path(case.config.get("tokenizer", ChatGLMTokenizer.vocab_files_names["vocab_file"]))
    return ChatGLMTokenizer(str(vocabulary), strict=True, **settings)


def _check_special(case: Case, report: Report, tokenizer: Any) -> None:
    config = case.config
    names = {name: _SPECIAL.get(name) or _spelled(name) for name in config["special"]}
    ours = {name: tokenizer.convert_tokens_to_ids(piece) for name, piece in names.items()}
    report.exact("special", ours, config["special"])
    report.exact("num_image_tokens", 0, config["num_image_tokens"])


def _spelled(name: str) -> str:
    if name.startswith("blank_"):
        return f"<|{name}|>"
    return f"<{name.removeprefix('byte_')}>"


def tokenizer(case: Case, report: Report) -> None:
    """Every text there and back, padding, pairs, decoding of odd ids."""
    ours = _tokenizer(case)
    _check_special(case, report, ours)
    report.exact("vocab", ours.vocab_size, case.config["vocab"])
    texts = case.json("cases.json")
    made = [_text(ours, line["text"]) for line in texts]
    for field in dict.fromkeys(field for line in texts for field in line):
        report.exact(f"cases.{field}", [line[field] for line in made], [line.get(field) for line in texts])
    calls = case.json("calls.json")
    for name, call in calls.items():
        if name not in ("pair", "decode"):
            report.exact(f"calls.{name}", _called(ours, call), call)
    pair = calls["pair"]
    report.exact("calls.pair", ours.build_inputs_with_special_tokens(pair["a"], pair["b"]), pair["out"])
    report.exact(
        "calls.decode", [ours.decode(one["ids"]) for one in calls["decode"]], [one["text"] for one in calls["decode"]]
    )


def _text(tokenizer: Any, text: str) -> dict[str, Any]:
    ids, whole = tokenizer.encode(text, add_special_tokens=False), tokenizer.encode(text)
    return {
        "text": text,
        "ids": ids,
        "tokens": tokenizer.tokenize(text),
        "ids_with_special": whole,
        "decoded": tokenizer.decode(ids),
        "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True),
        "decoded_with_special": tokenizer.decode(whole),
    }


def _called(tokenizer: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """The call made again: its texts are what its ids say, its padding is that of the ids."""
    special = {tokenizer.gmask_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    rows = call["input_ids"]
    texts = [tokenizer.decode([i for i in row if i not in special], clean_up_tokenization_spaces=False) for row in rows]
    if "attention_mask" not in call:
        return dict(tokenizer(texts))
    return dict(tokenizer(texts, padding="max_length", max_length=len(rows[0])))


def prompts(case: Case, report: Report) -> None:
    """Every prompt in each published way, and what becomes of answers."""
    ours = _tokenizer(case)
    _check_special(case, report, ours)
    processor = VisualGLMProcessor(VisualGLMImageProcessor(), ours, case.config["image_length"])
    lines = case.json("cases.json")
    report.exact("n", len(lines), case.config["n"])
    for way in ("hf", "sat", "sat_pil"):
        asked = [line for line in lines if way in line]
        made = [_prompt(processor, line, way) for line in asked]
        for field in dict.fromkeys(field for line in asked for field in line[way]):
            theirs = [line[way].get(field) for line in asked]
            report.exact(f"cases.{way}.{field}", [line.get(field) for line in made], theirs)
    _check_texts(case, report, "lm_only.json", "prompt", lambda one: round_prompt(one["query"], one["history"]))
    _check_texts(case, report, "process_response.json", "out", lambda one: process_response(one["in"]))
    _check_texts(case, report, "sat_split.json", "response", lambda one: answer_of(one["decoded"], one["english"]))


def _check_texts(case: Case, report: Report, file: str, field: str, ours: Callable[[dict[str, Any]], str]) -> None:
    lines = case.json(file)
    report.exact(file.removesuffix(".json"), [ours(line) for line in lines], [line[field] for line in lines])


def _prompt(processor: VisualGLMProcessor, line: dict[str, Any], way: str) -> dict[str, Any]:
    handed = way == "sat_pil"
    flavour: Flavour = "hf" if way == "hf" else "sat"
    path = "" if handed else line["image_path"]
    settings: dict[str, Any] = {"flavour": flavour, "english": line["english"], "has_image": handed}
    try:
        prompt = published(line["query"], line["history"], path, **settings)
    except (AssertionError, IndexError) as error:
        return {"error": repr(error)}
    encoded: Encoded = processor.published_prompt(line["query"], line["history"], path, **settings)
    before = encoded.picture_at or 0
    made = {
        "prompt_with_path": prompt.with_path,
        "prompt": prompt.prompt,
        "image_position": prompt.position,
        "has_image": prompt.path is not None,
        "input_ids": encoded.ids,
        "pre_image": before,
        "pre_image_length": before,
    }
    return {field: made[field] for field in line[way] if field in made}
