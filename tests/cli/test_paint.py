"""``huayu paint`` in this process: files, JSON, batches, replay, looking, refusals, exit codes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from huayu.chat import ChatModel, ChatReply, looking
from huayu.cli.main import main
from huayu.labelling import read_record
from huayu.paint import Painter, load_paint
from tests.ranking.test_ranking import english  # noqa: F401 (a fixture)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, diffusers_folder: Path
) -> Run:
    """Runs ``huayu paint …`` in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.setenv("HUAYU_LANG", "en")
    monkeypatch.setattr("huayu.safety.guard.is_installed", lambda module: False)  # an optional check takes seconds
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str | Path | int, model: str | Path | None = diffusers_folder) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        given = ["paint", *map(str, arguments), *([] if model is None else ["--model", str(model)])]
        with pytest.raises(SystemExit) as stop:
            main(given)
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return command


def pixels(file: str | Path) -> bytes:
    with Image.open(file) as image:
        return image.tobytes()


def test_one_picture(run: Run, diffusers_folder: Path) -> None:
    code, out, err = run("a dog", "-o", "new/dog.png", "--seed", 3, "--steps", 2)
    assert (code, out) == (0, "new/dog.png\n")
    assert str(diffusers_folder) in err
    expected = load_paint(diffusers_folder).paint("a dog", seed=3, steps=2)
    assert pixels("new/dog.png") == expected.images[0].tobytes()
    assert read_record("new/dog.png").prompt == "a dog"
    assert run("a dog", "--seed", 3, "--steps", 2, "--quiet") == (0, "painting-3.png\n", "")
    assert pixels("painting-3.png") == pixels("new/dog.png")
    assert run("a dog", "-o", "new", "--seed", 4, "--steps", 2, "-q")[1].strip() == str(Path("new/painting-4.png"))


def test_json_and_every_option(run: Run, diffusers_folder: Path) -> None:
    Image.new("RGB", (24, 16), "red").save("photo.png")
    Image.new("L", (24, 16), 255).save("mask.png")
    code, out, _ = run(
        "a dog", "-o", "dog.png", "--n", 2, "--seed", 3, "--size", "24x16", "--steps", 4, "--guidance", 2,
        "--negative", "cat", "--scheduler", "dpm++", "--image", "photo.png", "--mask", "mask.png", "--strength", 0.5,
        "--mark", "en", "--safety", "allow", "--batch-size", 2, "--device", "cpu", "--dtype", "float32", "--json",
        "--sheet", "all.png",
    )  # fmt: skip
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert (first["file"], second["file"]) == ("dog-1.png", "dog-2.png")
    assert (first["seed"], second["seed"], second["width"], second["steps"]) == (3, 4, 24, 4)
    assert (second["negative"], second["guidance"], second["scheduler"], second["mark"]) == ("cat", 2.0, "dpm++", "en")
    expected = load_paint(diffusers_folder).paint(
        "a dog", seed=4, size=(24, 16), steps=4, guidance=2, negative="cat", scheduler="dpm++", image="photo.png",
        mask="mask.png", strength=0.5, mark="en",
    )  # fmt: skip
    difference = [abs(a - b) for a, b in zip(pixels("dog-2.png"), expected.images[0].tobytes(), strict=True)]
    assert max(difference) <= 1
    with Image.open("all.png") as sheet:
        assert sheet.size == (2 * 24 + 3 * 8, 16 + 20 + 2 * 8)
    assert read_record("all.png").settings == {"sheet": [3, 4]}


def test_the_best_of_several(run: Run, english: Path, diffusers_folder: Path) -> None:  # noqa: F811
    code, out, _ = run(
        "a dog", "-o", "dog.png", "--seed", 3, "--steps", 1, "--rerank", 3, "--ranker", english, "--json"
    )
    record = json.loads(out)
    assert code == 0
    painter = load_paint(diffusers_folder, ranker=english)
    images = [painter.paint("a dog", seed=seed, steps=1).images[0] for seed in (3, 4, 5)]
    assert painter.ranker is not None
    assert record["scores"] == pytest.approx(painter.ranker("a dog", images), abs=0.05)
    assert record["seed"] == 3 + record["scores"].index(max(record["scores"]))
    code, out, _ = run("一只狗", "--seed", 3, "--steps", 1, "--rerank", 3, "--ranker", english, "--json")
    assert (code, json.loads(out)["scores"]) == (0, [])


def test_painted_again_from_its_file(run: Run) -> None:
    run("a dog", "-o", "dog.png", "--seed", 3, "--steps", 2)
    code, out, err = run("--again", "dog.png", "-o", "twin.png", model=None)
    assert (code, out) == (0, "twin.png\n")
    assert "the same picture" in err
    assert pixels("twin.png") == pixels("dog.png")
    with Image.open("dog.png") as file:
        file.crop((0, 0, 8, 8)).save("cut.png", pnginfo=None)
    for file, words in (("cut.png", "no record"), ("nowhere.png", "not a PNG")):
        code, _, err = run("--again", file, model=None)
        assert (code, err.count("\n")) == (1, 1)
        assert words in err
    assert "settings from the record" in run("--again", "dog.png", "--steps", 9)[2]


def test_a_file_of_prompts_goes_on_where_it_stopped(run: Run) -> None:
    rows = ["a dog", "", json.dumps({"prompt": "a cat", "n": 2, "seed": 9})]
    Path("list.txt").write_text("\n".join(rows))
    code, out, _ = run("--batch", "list.txt", "-o", "out", "--seed", 1, "--steps", 2, "--sheet", "all.png")
    names = [str(Path("out") / name) for name in ("0001.png", "0003-1.png", "0003-2.png")]
    assert (code, out.splitlines()) == (0, [*names, "all.png"])
    assert [read_record(name).seed for name in names] == [1, 9, 10]
    before = Path(names[0]).stat().st_mtime_ns
    sheet = pixels("all.png")
    Path(names[2]).unlink()
    code, out, err = run("--batch", "list.txt", "-o", "out", "--seed", 1, "--steps", 2, "--sheet", "all.png")
    assert (code, out.splitlines()) == (0, [*names[1:], "all.png"])
    assert "finished already" in err
    assert Path(names[0]).stat().st_mtime_ns == before
    assert pixels("all.png") == sheet


def test_blocked_prompts_and_pictures(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run("naked", "-o", "no.png")
    assert (code, out) == (1, "")
    assert err.startswith("huayu: naked: ")
    assert not Path("no.png").exists()
    record = json.loads(run("naked", "--json")[1])
    assert record["file"] is None
    assert any(not verdict["allowed"] and verdict["reason"] for verdict in record["verdicts"])
    monkeypatch.setenv("HUAYU_LANG", "zh")
    assert run("naked")[2] != err
    assert run("naked", "--safety", "allow", "--steps", 1, "-o", "shown.png")[0] == 0
    Path("list.txt").write_text("naked\na dog\n")
    assert run("--batch", "list.txt", "-o", "out", "--steps", 1)[0] == 1
    assert [path.name for path in Path("out").iterdir()] == ["0002.png"]


def test_looked_at_by_a_chat_model(run: Run, tiny_chat_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["No, there is no dog.", "Hm.", "Yes."])
    asked: list[str] = []

    def ask(self: ChatModel, picture: Image.Image, question: str, **options: object) -> ChatReply:
        asked.append(question)
        return ChatReply(next(answers), None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(ChatModel, "ask", ask)
    check = ("--check", 2, "--check-model", tiny_chat_folder)
    code, out, _ = run("a dog, at sea", "-o", "dog.png", "--seed", 5, "--steps", 1, "--json", *check)
    assert code == 0
    assert asked == ["Is there a dog in the picture?"] * 3
    assert json.loads(out)["seed"] == 7
    assert "Yes." in json.loads(out)["look"]["reason"]


def test_small_models_are_asked_for_a_thing() -> None:
    assert looking.thing_of("一个苹果，扁平风格") == "苹果"
    assert looking.thing_of("一些花") == "一些花"
    assert looking.thing_of("a red apple, flat") == "a red apple"
    assert looking.thing_of("a sailboat on a blue background") == "a sailboat"
    assert looking.thing_of("蓝色背景上的一艘帆船") == "帆船"


@pytest.mark.parametrize(
    ("prompt", "answer", "fits"),
    [
        ("左边一只狗，右边一只猫", "图里有一只狗和一只猫。", True),
        ("左边一只狗，右边一只猫", "图里有一只狗。", False),
        ("a dog and a cat, blue background", "There are a dog and a cat in the picture.", True),
        ("a dog and a cat, blue background", "There are a dog and a bird in the picture.", False),
        ("a dog and a cat", "I do not know.", False),
    ],
)
def test_small_models_are_asked_what_there_is_of_two_things(prompt: str, answer: str, fits: bool) -> None:
    question = "图里都有什么？" if prompt[0] == "左" else "What are all the things in the picture?"
    assert looking.question_for(prompt, small=True) == question
    assert prompt in looking.question_for(prompt, small=False)
    assert looking.verdict_on(answer, prompt, "mini", small=True).allowed is fits


@pytest.mark.parametrize(
    ("answer", "thing", "language", "another"),
    [
        ("有，图里有一只狗。", "猫", "zh", True),
        ("有，图里有一只狗。", "小狗", "zh", False),
        ("有。", "猫", "zh", False),
        ("Yes, there is a dog.", "a cat", "en", True),
        ("Yes, there is a Dog.", "a big dog", "en", False),
        ("Yes.", "a cat", "en", False),
    ],
)
def test_a_yes_about_something_else(answer: str, thing: str, language: str, another: bool) -> None:
    assert looking.names_another(answer, thing, language) is another


@pytest.mark.parametrize(
    ("thing", "language", "question"),
    [
        ("一只狗", "zh", "图里有一只狗吗？"),
        ("dog", "en", "Is there a dog in the picture?"),
        ("Apple", "en", "Is there an Apple in the picture?"),
        ("two dogs", "en", "Is there two dogs in the picture?"),
    ],
)
def test_questions_about_a_picture(thing: str, language: str, question: str) -> None:
    assert looking.question_about(thing, language) == question


@pytest.mark.parametrize(
    ("answer", "language", "said"),
    [
        ("有，是一只狗。", "zh", True),
        ("图里有狗。", "zh", True),
        ("没有。图里有一只猫。", "zh", False),
        ("不是。", "zh", False),
        ("红色", "zh", None),
        ("Yes, there is.", "en", True),
        ("There is a dog.", "en", True),
        ("There isn't one.", "en", False),
        ("No. There is a cat.", "en", False),
        ("I do not know.", "en", None),
        ("我不知道图里有没有。", "zh", None),
        ("A nothing", "en", None),
        ("", "en", None),
    ],
)
def test_answers_are_read(answer: str, language: str, said: bool | None) -> None:
    assert looking.read_answer(answer, language) is said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "one of PROMPT, --batch and --again"),
        (("a", "--batch", "x.txt"), "one of PROMPT"),
        (("  ",), "empty"),
        (("a", "--size", "large"), "512x384"),
        (("a", "--size", "100"), "nearest"),
        (("a", "--scheduler", "heun"), "dpm++, unipc"),
        (("a", "--n", "0"), "n must be"),
        (("a", "--n", "many"), "--n"),
        (("a", "--mask", "m.png"), "mask needs image"),
        (("a", "--image", "nowhere.png"), "nowhere.png does not exist"),
        (("a", "--image", "photo.png", "--mask", "small.png"), "mask is 8×8"),
        (("a", "-o", "a.jpg"), "PNG"),
        (("a", "--rerank", "3"), "--ranker"),
        (("a", "--rerank", "3", "--ranker", "./nowhere"), "nowhere"),
        (("a", "--check-model", "x"), "--check"),
        (("a", "--quantize", "int8"), "not available"),
        (("a", "--safety", "maybe"), "block, blur, allow"),
        (("a", "--mark", "fr"), "mark"),
        (("a", "--exact"), "only for VisCPM-Paint"),
        (("a", "--dtype", "int3"), "int3"),
        (("a", "--device", "toaster"), "toaster"),
        (("a", "--batch-size", "0"), "batch_size"),
        (("--batch", "nowhere.txt"), "nowhere.txt"),
        (("x" * 40,), "tokens"),
    ],
)
def test_refusals_are_one_plain_sentence(run: Run, arguments: tuple[str, ...], words: str) -> None:
    Image.new("RGB", (24, 16)).save("photo.png")
    Image.new("RGB", (8, 8)).save("small.png")
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert words in err
    assert err.startswith("huayu: ")
    assert err.count("\n") == 1
    assert not list(Path().glob("painting-*.png"))


def test_models_that_are_not_there(run: Run, tiny_chat_folder: Path) -> None:
    assert "no file or folder" in run("a", model="./nowhere")[2]
    assert "cannot paint" in run("a", model=tiny_chat_folder)[2]


def test_refusals_speak_chinese(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_LANG", "zh_CN.UTF-8")
    assert run(" ")[2] == "huayu: 提示词为空（0 个字；至少 1 个）。\n"


def test_interrupted_it_keeps_what_is_finished(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from huayu.paint import Painted, PaintStream

    take = PaintStream.__next__
    finished: list[Painted] = []

    def interrupt(self: PaintStream) -> object:
        if finished and not self._run.cancel.is_set():
            raise KeyboardInterrupt
        event = take(self)
        finished.extend([event] if isinstance(event, Painted) else [])
        return event

    monkeypatch.setattr(PaintStream, "__next__", interrupt)
    code, out, err = run("a dog", "-o", "dog.png", "--n", 3, "--seed", 1, "--steps", 30)
    assert (code, out) == (130, "dog-1.png\n")
    assert "stopped; 1 finished" in err
    assert pixels("dog-1.png") == finished[0].image.tobytes()
    assert not Path("dog-2.png").exists()


def test_the_painter_is_told_what_the_command_line_says(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from huayu.cli import painting

    told: dict[str, object] = {}

    def load(model: object, **given: object) -> Painter:
        told.update(given, model=model)
        raise KeyboardInterrupt

    monkeypatch.setattr(painting, "load_paint", load)
    run("a", "--vocab", "v.txt", "--vae", "vae", "--ranker", "clip", "--rerank", "2", "--device", "cpu", model="some")
    expected = {"model": "some", "vocab": Path("v.txt"), "vae": Path("vae"), "ranker": "clip", "device": "cpu"}
    assert {name: told[name] for name in expected} == expected


def test_a_bar_of_steps_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from huayu.cli.painting import painting_bar
    from huayu.paint import Progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("HUAYU_LANG", "zh")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    with painting_bar(visible=True) as show:
        show(Progress(3, 40))
    assert "作画" in screen.getvalue()
    assert "3/40" in screen.getvalue()
    monkeypatch.setattr("sys.stderr", silent := Terminal())
    with painting_bar(visible=False) as show:
        show(Progress(3, 40))
    assert silent.getvalue() == ""
