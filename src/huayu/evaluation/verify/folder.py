"""A model folder: its list of checksums, its inventory of keys and shapes, the answer it was recorded with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from huayu.checkpoints import checksums, pipelines
from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import blueprint
from huayu.checkpoints.report import KeyReport
from huayu.errors import CheckpointError
from huayu.evaluation.verify.fingerprints import check_fingerprints
from huayu.evaluation.verify.report import Report
from huayu.runtime.language import say

SELF_TEST = "selftest.json"
_LEVELS = 6.0  # of 255, in an eighth of the picture


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
    account = _account(folder)
    checked = f"{{{len(account.loaded)}}}"
    report.empty("keys.missing", list(account.missing), checked)
    report.empty("keys.unexpected", list(account.unexpected), checked)
    shapes = [f"{key} {found} ≠ {wanted}" for key, (wanted, found) in account.misshapen.items()]
    report.empty("keys.shapes", shapes, checked)
    return account.ok


def _account(folder: Path) -> KeyReport:
    if not (folder / pipelines.INDEX).is_file():
        return blueprint(locate(folder)).account()
    from huayu.models.viscpm_paint.opening import account_parts

    return account_parts(locate(folder, kind="paint"))


def _check_answer(folder: Path, report: Report) -> None:
    """``selftest.json``: a question, perhaps a picture of the folder, and the answer that the model then gave; or a
    prompt, a seed and the picture that it then painted; or fingerprints, with or without these."""
    if not (folder / SELF_TEST).is_file():
        report.skip(SELF_TEST, "no answer was recorded", "没有记录的答案")
        return
    try:
        recorded = json.loads((folder / SELF_TEST).read_text("utf-8"))
        if "fingerprints" in recorded:
            check_fingerprints(folder, report)
            if not recorded.keys() & {"prompt", "question"}:
                return
        picture, painted = recorded.get("picture"), "prompt" in recorded
        asked = (recorded["prompt"], int(recorded["seed"])) if painted else (recorded["question"], recorded["answer"])
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{SELF_TEST} is not right: {error!r}", f"{SELF_TEST} 有误：{error!r}") from error
    path = folder / picture if picture else None
    if path and path.resolve().parent != folder.resolve():
        raise CheckpointError(f"{SELF_TEST} names a picture elsewhere", f"{SELF_TEST} 中的图片不在此文件夹")
    if painted and path:
        _check_painting(folder, report, path, *asked)
        return
    from huayu.chat import load_chat

    report.exact(SELF_TEST, load_chat(folder, device="cpu").ask(path, asked[0]).text, asked[1])


def _check_painting(folder: Path, report: Report, path: Path, prompt: str, seed: int) -> None:
    """Machines round differently, and painting in steps makes more of it: the pictures are compared coarsely."""
    from huayu.paint import load_paint

    ours = load_paint(folder, device="cpu", safety=None).paint(prompt, seed=seed).images[0]
    with Image.open(path) as recorded:
        theirs = recorded.convert("RGB")
    report.exact(f"{SELF_TEST} size", list(ours.size), list(theirs.size))
    report.close(SELF_TEST, _coarse(ours), _coarse(theirs), _LEVELS)


def _coarse(picture: Image.Image) -> Tensor:
    """(8, 8, 3): mean levels, 0 to 255."""
    return torch.from_numpy(np.asarray(picture.resize((8, 8), Image.Resampling.BOX), np.float32))
