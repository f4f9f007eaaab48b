"""A model folder: its list of checksums, its inventory of keys and shapes, the answer it was recorded with."""

from __future__ import annotations

import json
from pathlib import Path

from huayu.checkpoints import checksums
from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import blueprint
from huayu.errors import CheckpointError
from huayu.evaluation.verify.report import Report
from huayu.runtime.language import say

SELF_TEST = "selftest.json"


def model_folder(folder: Path, report: Report) -> None:
    """Every file against its hash, every tensor against the model's own, then the recorded question."""
    _check_files(folder, report)
    if _check_keys(folder, report):
        _check_answer(folder, report)


def _check_files(folder: Path, report: Report) -> None:
    found = checksums.differences(folder)
    if found is None:
        report.skip(checksums.FILE, "the folder has no list", "文件夹中没有校验表")
        return
    report.empty(checksums.FILE, [f"{one.name}: {say(one.en, one.zh)}" for one in found], say("files", "文件"))


def _check_keys(folder: Path, report: Report) -> bool:
    account = blueprint(locate(folder)).account()
    checked = f"{{{len(account.loaded)}}}"
    report.empty("keys.missing", list(account.missing), checked)
    report.empty("keys.unexpected", list(account.unexpected), checked)
    shapes = [f"{key} {found} ≠ {wanted}" for key, (wanted, found) in account.misshapen.items()]
    report.empty("keys.shapes", shapes, checked)
    return account.ok


def _check_answer(folder: Path, report: Report) -> None:
    """``selftest.json``: a question, perhaps a picture of the folder, and the answer that the model then gave."""
    if not (folder / SELF_TEST).is_file():
        report.skip(SELF_TEST, "no answer was recorded", "没有记录的答案")
        return
    try:
        recorded = json.loads((folder / SELF_TEST).read_text("utf-8"))
        picture, question, answer = recorded.get("picture"), recorded["question"], recorded["answer"]
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{SELF_TEST} is not right: {error!r}", f"{SELF_TEST} 有误：{error!r}") from error
    from huayu.chat import load_chat

    path = folder / picture if picture else None
    if path and path.resolve().parent != folder.resolve():
        raise CheckpointError(f"{SELF_TEST} names a picture elsewhere", f"{SELF_TEST} 中的图片不在此文件夹")
    report.exact(SELF_TEST, load_chat(folder, device="cpu").ask(path, question).text, answer)
