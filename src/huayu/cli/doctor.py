"""``huayu doctor``: what is installed here, and whether it works."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from huayu import __version__
from huayu.chat import load_chat
from huayu.errors import HuayuError, OptionError
from huayu.runtime import memory, packages
from huayu.runtime.language import say

_LIBRARIES = ("torch", "transformers", "accelerate", "safetensors", "tokenizers", "pillow", "numpy", "opencc", "typer")


@dataclass(frozen=True)
class Finding:
    """One line. ``ok``: True, False (to be mended), or None (only to be known)."""

    name: str
    value: str
    ok: bool | None = True


def run(model: Path | None = None, *, record: bool = False, dtype: str | None = None, as_json: bool) -> int:
    """Print the findings; 0 when nothing has to be mended, else 1.

    ``model``: a folder whose fingerprints are compared, too. ``record``: first take one, in ``dtype``. Raises
    OptionError for these two without what they are about.
    """
    if (record and model is None) or (dtype is not None and not record):
        raise OptionError(
            "--record needs a model, and --dtype needs --record.", "--record 须指明模型，--dtype 须与 --record 同用。"
        )
    findings = []
    for finding in chain(examine(), fingerprints(model, record, dtype) if model else ()):
        findings.append(finding)
        if not as_json:
            mark = {True: "ok  ", False: "FAIL", None: "-   "}[finding.ok]
            print(f"{mark} {finding.name}: {finding.value}", flush=True)
    fine = all(finding.ok is not False for finding in findings)
    if as_json:
        print(json.dumps({"ok": fine, "findings": list(map(asdict, findings))}, ensure_ascii=False, indent=1))
    return 0 if fine else 1


def examine() -> Iterator[Finding]:
    """All findings, the quick ones first."""
    yield Finding("huayu", __version__)
    yield Finding("python", f"{platform.python_version()} · {platform.platform()}")
    for name in _LIBRARIES:
        version = packages.version_of(name)
        yield Finding(name, version or say("not installed", "未安装"), version is not None)
    yield torchvision()
    yield from machine()
    yield vocabulary()
    yield embedded_model()


def torchvision() -> Finding:
    """The trap: one built for another torch takes image processors down with it."""
    state = packages.torchvision_state()
    said = {
        "absent": say("absent (it is not needed)", "未安装（不需要）"),
        "works": say("works", "可用"),
        "broken": say(
            "does not fit this torch and breaks other libraries: pip uninstall torchvision",
            "与此 torch 不匹配，会使其他库出错：pip uninstall torchvision",
        ),
    }
    return Finding("torchvision", said[state], state != "broken")


def machine() -> Iterator[Finding]:
    """Devices, memory, threads."""
    import torch

    from huayu.runtime.device import pick_device

    yield Finding(say("device", "设备"), _describe(pick_device()))
    total, available = memory.total_memory(), memory.available_memory()
    if total and available:
        told = say(f"{_gb(available)} free of {_gb(total)}", f"{_gb(total)}，可用 {_gb(available)}")
        yield Finding(say("memory", "内存"), told, None)
    threads = f"{torch.get_num_threads()} / {os.cpu_count()}"
    yield Finding(say("threads", "线程"), threads, None)


def _describe(device: object) -> str:
    import torch

    if str(device).startswith("cuda"):
        cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return ", ".join(f"{card.name} {_gb(card.total_memory)}" for card in cards)
    return str(device)


def vocabulary() -> Finding:
    """The CPM-Bee vocabulary, which the published models need and huayu may not ship."""
    from huayu.checkpoints.vocabulary import find_vocabulary, home

    name = say("published vocabulary", "已发布模型的词表")
    try:
        return Finding(name, str(find_vocabulary(home())), None)
    except HuayuError:
        return Finding(name, say("not here; only published models need it", "未找到；仅已发布的模型需要"), None)


def embedded_model() -> Finding:
    """Whether the model in the package answers a question."""
    name = say("embedded model", "内置模型")
    return Finding(name, *_tried(_answer))


def fingerprints(folder: Path, record: bool, dtype: str | None) -> Iterator[Finding]:
    """What a model computes here against what was recorded with it: libraries may change that without a word."""
    from huayu.evaluation.verify.fingerprints import check_fingerprints
    from huayu.evaluation.verify.report import Report

    name, report = say("fingerprint", "指纹"), Report()

    def work() -> str:
        from huayu.chat import fingerprint
        from huayu.checkpoints.find import locate

        locate(folder)
        if record:
            fingerprint.record(folder, load_chat(folder, device="cpu", dtype=dtype).backend)
        kept = check_fingerprints(folder, report)
        return (
            ", ".join(fingerprint.recorded(folder))
            if kept
            else say("none; --record takes one", "无；可用 --record 记录")
        )

    told, fine = _tried(work)
    yield Finding(f"{name} {folder.name}", told, fine if report.checks or not fine else None)
    for check in report.checks:
        yield Finding(check.name, check.found, check.ok)


def _answer() -> str:
    from PIL import Image

    started = time.perf_counter()
    chat = load_chat(device="cpu")
    loaded = time.perf_counter() - started
    reply = chat.ask(Image.new("RGB", (64, 64), "red"), say("What is the background?", "背景是什么颜色？"))
    return f"{chat.name} · {loaded:.1f} s + {reply.usage.seconds:.1f} s · {reply.text}"


def _tried(work: Callable[[], str]) -> tuple[str, bool]:
    try:
        return work(), True
    except HuayuError as error:
        return say(error.en, error.zh), False
    except Exception as error:  # whatever is broken here is what the command is asked for
        return f"{type(error).__name__}: {error}", False


def _gb(size: int) -> str:
    return f"{size / 2**30:.1f} GB"
