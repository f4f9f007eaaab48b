"""``huayu chat`` with the words of VisualGLM's own script, on a tiny VisualGLM folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from huayu.chat import load_chat
from huayu.cli.main import main
from tests.models.visualglm import tiny

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny-visualglm")
    tiny.model().save_pretrained(path)
    tiny.processor().save_pretrained(path)
    settings = {"search": "sample", "temperature": 0.8, "top_k": 100, "top_p": 0.4, "max_new_tokens": 9, "seed": 1}
    (path / "generation_config.json").write_text(json.dumps({"chat": settings}), "utf-8")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Run:
    """Runs ``huayu chat … --from_pretrained FOLDER`` with ``stdin`` as a pipe; returns exit code, stdout and stderr."""
    monkeypatch.setenv("HUAYU_LANG", "en")

    def command(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as stop:
            main(["chat", *map(str, arguments), "--from_pretrained", str(folder)])
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return command


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "red.png"
    tiny.pictures()[0].save(path)
    return path


def test_the_published_words_mean_what_ours_mean(run: Run, folder: Path, picture: Path) -> None:
    sampling = ("--max_length", "40", "--top_p", ".9", "--top_k", "50", "--temperature", "2.5", "--seed", "3")
    code, out, _ = run(picture, *sampling, "--prompt_zh", "描述这张图片。", "--json")
    record = json.loads(out)
    asked = {"max_length": 40, "top_p": 0.9, "top_k": 50, "temperature": 2.5, "seed": 3}
    reply = load_chat(folder).ask(picture, "描述这张图片。", **asked)
    assert code == 0
    assert (record["question"], record["answer"]) == ("描述这张图片。", reply.text)
    assert reply.text


def test_max_length_counts_prompt_and_picture(run: Run, folder: Path, picture: Path) -> None:
    prompt = load_chat(folder).ask(picture, "你好", search="greedy").usage.prompt_tokens
    code, out, err = run(picture, "你好", "--search", "greedy", "--max_length", prompt + 3, "--json")
    record = json.loads(out)
    assert code == 0
    assert (record["completion_tokens"], record["finish"]) == (3, "length")
    assert "cut at --max-length" in err
    code, out, err = run(picture, "你好", "--max_length", prompt)
    assert (code, out) == (1, "")
    assert f"{prompt} tokens; max_length is {prompt}" in err


def test_max_length_alone_lifts_the_models_own_limit(folder: Path) -> None:
    chat = load_chat(folder)
    longest = max(chat.ask(None, "你好", max_length=100, seed=seed).usage.completion_tokens for seed in range(4))
    assert longest > 9
    assert chat.ask(None, "你好", max_length=100, max_new_tokens=2).usage.completion_tokens <= 2


def test_english_is_a_language_and_a_first_question(run: Run, folder: Path, picture: Path) -> None:
    code, out, _ = run(picture, "--english", "--prompt_en", "Describe the image.", "--quiet")
    asked = load_chat(folder).ask(picture, "Describe the image.", answer_language="en")
    assert (code, out) == (0, asked.text + "\n")
    assert run(picture, "Describe the image.", "--lang", "en", "--quiet")[1] == out


@pytest.mark.parametrize(("bits", "name"), [("8", "int8"), ("4", "int4")])
def test_quant_is_quantize(run: Run, folder: Path, picture: Path, bits: str, name: str) -> None:
    code, out, _ = run(picture, "你好", "--quant", bits, "--search", "greedy", "--quiet")
    asked = load_chat(folder, quantize=name).ask(picture, "你好", search="greedy")
    assert (code, out) == (0, asked.text + "\n")


def test_clear_and_stop(run: Run, picture: Path) -> None:
    lines = "你好\n你好\nclear\n你好\nstop\nnever asked\n"
    code, out, _ = run(picture, "--search", "greedy", "--json", "--quiet", stdin=lines)
    first, second, third = (json.loads(line) for line in out.splitlines())
    assert code == 0
    assert first["prompt_tokens"] == third["prompt_tokens"] < second["prompt_tokens"]
    assert first["answer"] == third["answer"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--english", "--prompt_zh", "描述"), "--prompt-zh has no effect with --english"),
        (("--prompt_en", "Describe"), "--prompt-en has no effect without --english"),
        (("你好", "--prompt_zh", "描述"), "--prompt-zh has no effect: a question is given"),
        (("Hello", "--english", "--prompt_en", "Describe"), "--prompt-en has no effect: a question is given"),
        (("--english", "--lang", "zh"), "--english and --lang zh exclude each other"),
        (("--prompt_zh", " "), "empty"),
        (("你好", "--quant", "3"), "int8 and int4"),
        (("你好", "--max_length", "0"), "max_length must be ≥ 1"),
        (("你好", "--search", "greedy", "--top_k", "3"), "does not use top_k"),
    ],
)
def test_words_without_effect_are_refused(run: Run, picture: Path, words: tuple[str, ...], told: str) -> None:
    code, out, err = run(picture, *words)
    assert (code, out) == (1, "")
    assert told in err
    assert err.count("\n") == 1
