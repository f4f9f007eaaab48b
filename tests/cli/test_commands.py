"""The commands in this process: answers, pipes, JSON, refusals, exit codes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from huayu.chat import load_chat
from huayu.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``huayu …`` with ``stdin`` as a pipe; returns exit code, stdout and stderr."""
    monkeypatch.setenv("HUAYU_LANG", "en")

    def command(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return command


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "红.png"
    Image.new("RGB", (40, 30), "red").save(file)
    return file


def test_one_question(run: Run, tiny_chat_folder: Path, picture: Path) -> None:
    code, out, err = run("chat", picture, "图里有什么？", "--model", tiny_chat_folder)
    assert code == 0
    assert out == load_chat(tiny_chat_folder).ask(picture, "图里有什么？").text + "\n"
    assert "max-new-tokens" in err  # the tiny model never ends by itself
    assert run("chat", picture, "图里有什么？", "--model", tiny_chat_folder, "--quiet") == (0, out, "")


def test_json_and_every_option(run: Run, tiny_chat_folder: Path, picture: Path) -> None:
    code, out, _ = run(
        "chat", picture, "这是什么？", "--model", tiny_chat_folder, "--json",
        "--search", "sample", "--temperature", "1.1",
        "--top-k", "9", "--top-p", "0.9", "--min-p", "0.01", "--repetition-penalty", "1.2", "--seed", "4",
        "--max-new-tokens", "7", "--stop", "zzz", "--lang", "zh", "--device", "cpu", "--dtype", "float32",
        "--picture", picture,
    )  # fmt: skip
    record = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert record["question"] == "这是什么？"
    reply = load_chat(tiny_chat_folder).ask(
        picture, "这是什么？", search="sample", temperature=1.1, top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.2,
        seed=4, max_new_tokens=7, answer_language="zh",
    )  # fmt: skip
    assert record["answer"] == reply.text != ""
    assert record["finish"] == reply.finish
    assert record["completion_tokens"] == reply.usage.completion_tokens <= 7
    beams = ("--beams", "2", "--length-penalty", "2.5", "--temperature", "0.7", "--max-new-tokens", "7")
    code, out, _ = run("chat", picture, "这是什么？", "--model", tiny_chat_folder, "--quiet", *beams)
    chat = load_chat(tiny_chat_folder)
    asked = chat.ask(picture, "这是什么？", num_beams=2, length_penalty=2.5, temperature=0.7, max_new_tokens=7)
    assert out == asked.text + "\n"


def test_pipe_with_clear_and_stop(run: Run, tiny_chat_folder: Path, picture: Path) -> None:
    lines = "这是什么？\n\n红？\nclear\n这是什么？\nstop\nnever asked\n"
    code, out, err = run("chat", picture, "--model", tiny_chat_folder, "--quiet", "--json", stdin=lines)
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [record["question"] for record in records] == ["这是什么？", "红？", "这是什么？"]
    assert records[0]["answer"] == records[2]["answer"]
    assert records[1]["prompt_tokens"] > records[0]["prompt_tokens"]


def test_a_refused_line_does_not_end_the_pipe(run: Run, tiny_chat_folder: Path) -> None:
    lines = "红" * 4000 + "\n红？\n"
    code, out, err = run("chat", "--model", tiny_chat_folder, "--quiet", stdin=lines)
    assert code == 1
    assert out.count("\n") == 1
    assert "tokens" in err
    assert "3000" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.png", "a"), "does not exist"),
        ((__file__, "a"), "accepted: PNG"),
        (("PICTURE", "  "), "empty"),
        (("PICTURE", "a", "--model", "no-such-model"), "no model called"),
        (("PICTURE", "a", "--model", "./nowhere"), "no file or folder"),
        (("PICTURE", "a", "--device", "toaster"), "toaster"),
        (("PICTURE", "a", "--device", "cuda:55"), "cuda:55"),
        (("PICTURE", "a", "--dtype", "int3"), "int3"),
        (("PICTURE", "a", "--quantize", "int3"), "int8 and int4"),
        (("PICTURE", "a", "--beams", "0"), "num_beams"),
        (("PICTURE", "a", "--search", "greedy", "--top-k", "3"), "does not use top_k"),
        (("PICTURE", "a", "--lang", "fr"), "answer_language"),
        (("PICTURE", "a", "--beams", "many"), "--beams"),
        (("PICTURE", "a", "b"), "unexpected"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_refusals_are_one_plain_sentence(
    run: Run, tiny_chat_folder: Path, picture: Path, arguments: tuple[str, ...], words: str
) -> None:
    given = [str(picture) if argument == "PICTURE" else argument for argument in arguments]
    given += [] if "--model" in given else ["--model", str(tiny_chat_folder)]
    code, out, err = run("chat", *given)
    assert code == 1
    assert out == ""
    assert words in err
    assert err.startswith("huayu: ")
    assert err.count("\n") == 1


def test_refusals_speak_chinese(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_LANG", "zh_CN.UTF-8")
    assert run("chat", "nowhere.png", "a")[2] == "huayu: 图片 nowhere.png 不存在。\n"


def test_interrupted(run: Run, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huayu.chat import ChatStream

    def interrupt(self: ChatStream) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(ChatStream, "__next__", interrupt)
    monkeypatch.setattr(ChatStream, "close", lambda self: None)
    assert run("chat", "--model", tiny_chat_folder, stdin="红？\n")[0] == 130


def test_an_answer_in_another_language_is_told(
    run: Run, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huayu.chat.viscpm import VisCPMBackend

    monkeypatch.setattr(VisCPMBackend, "_foreign", lambda self, settings: [])
    told = [
        "did not answer in the language" in run("chat", "--model", tiny_chat_folder, "--lang", lang, stdin="a?\n")[2]
        for lang in ("en", "zh")
    ]
    assert sorted(told) == [False, True]


def test_models(run: Run) -> None:
    code, out, _ = run("models")
    assert code == 0
    assert "VisCPM-Chat-balance" in out
    assert "General Model License" in out
    records = json.loads(run("models", "--json")[1])
    assert records[0]["embedded"]
    assert all(record["licence"] for record in records)
    assert {"name", "kind", "size", "repository"} <= set(records[0])


def test_doctor(run: Run, monkeypatch: pytest.MonkeyPatch, tiny_chat_folder: Path) -> None:
    from huayu.cli import doctor
    from huayu.runtime import packages

    monkeypatch.setattr(doctor, "load_chat", lambda **named: load_chat(tiny_chat_folder, **named))
    code, out, _ = run("doctor")
    assert code == 0
    assert "torch: 2." in out
    assert "embedded model: " in out
    assert "FAIL" not in out
    monkeypatch.setattr(packages, "torchvision_state", lambda: "broken")
    code, out, _ = run("doctor", "--json")
    report = json.loads(out)
    assert code == 1
    assert not report["ok"]
    assert [f["name"] for f in report["findings"] if f["ok"] is False] == ["torchvision"]


def test_doctor_says_when_the_embedded_model_does_not_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from huayu.cli import doctor

    def broken(**named: object) -> None:
        raise RuntimeError("half of it is missing")

    monkeypatch.setattr(doctor, "load_chat", broken)
    code, out, _ = run("doctor")
    assert code == 1
    assert "FAIL embedded model: RuntimeError: half of it is missing" in out


def test_convert_there_and_ask(run: Run, tiny_chat_folder: Path, tmp_path: Path, picture: Path) -> None:
    code, out, _ = run("convert", tiny_chat_folder, tmp_path / "half", "--dtype", "float16")
    assert code == 0
    assert "Wrote" in out
    code, answer, _ = run("chat", picture, "红？", "--model", tmp_path / "half", "--quiet")
    assert code == 0
    assert answer.strip()
    code, out, err = run("convert", tiny_chat_folder, tmp_path / "half")
    assert code == 1
    assert "exists" in err


def test_verify(run: Run, tmp_path: Path) -> None:
    cases = Path(__file__).resolve().parents[1] / "golden" / "cases"
    code, out, _ = run("verify", cases / "preprocess", "not-a-folder")
    assert code == 0
    assert " ok\n" in out
    assert run("verify")[0] == 1


def test_version_and_no_command(run: Run) -> None:
    from huayu import __version__

    assert run("--version") == (0, f"{__version__}\n", "")
    code, out, _ = run()
    assert code == 0
    assert "chat" in out


def test_safety(run: Run, tiny_chat_folder: Path, picture: Path) -> None:
    asked = ("chat", picture, "how to make a bomb", "--model", tiny_chat_folder, "--max-new-tokens", "3")
    code, plain, _ = run(*asked)
    assert code == 0
    code, out, _ = run(*asked, "--safety", "block")
    assert code == 1
    assert "matched" in out
    code, out, err = run(*asked, "--safety", "allow")
    assert (code, out) == (0, plain)
    assert "matched" in err
    code, out, _ = run(*asked, "--safety", "blur", "--json")
    record = json.loads(out)
    assert (code, record["finish"], record["verdicts"][0]["label"]) == (1, "refused", "weapons")
    code, _, err = run(*asked, "--safety", "strict")
    assert code == 1
    assert "off, block, blur, allow" in err
