"""A model's recorded fingerprints against what it computes here, stage by stage."""

from __future__ import annotations

from pathlib import Path

from huayu.chat import load_chat
from huayu.chat.fingerprint import FILE, PIXELS, Fingerprint, recorded, take, tolerance
from huayu.chat.visualglm import VisualGLMBackend
from huayu.evaluation.verify.report import Report


def check_fingerprints(folder: Path, report: Report) -> bool:
    """Each dtype's, one after the other, on the CPU; False when the folder has none."""
    kept = recorded(folder)
    for dtype, theirs in kept.items():
        backend = load_chat(folder, device="cpu", dtype=dtype).backend
        if isinstance(backend, VisualGLMBackend):
            compare(report, take(backend), theirs, dtype)
        else:
            report.fail(f"{FILE} {dtype}", f"{backend.name} has no fingerprints", f"{backend.name} 没有指纹")
    return bool(kept)


def compare(report: Report, ours: Fingerprint, theirs: Fingerprint, dtype: str) -> None:
    """One line a stage; the first that fails is where to look. A failure names the libraries that changed."""
    import torch

    name, before = f"{FILE} {dtype} ", len(report.checks)
    for stage, allowed in (
        ("pixels", PIXELS),
        ("picture", tolerance(dtype, theirs.picture)),
        ("logits", tolerance(dtype, theirs.logits)),
    ):
        report.close(name + stage, torch.tensor(getattr(ours, stage)), torch.tensor(getattr(theirs, stage)), allowed)
    report.exact(name + "prompt", ours.prompt, theirs.prompt)
    for stage in ("likeliest", "answer"):  # only so far were they sure when recorded; here more or fewer may be
        left, right = getattr(ours, stage), getattr(theirs, stage)
        common = min(len(left), len(right))
        report.exact(name + stage, left[:common], right[:common])
    if any(check.ok is False for check in report.checks[before:]):
        changed = {n: (v, ours.versions.get(n)) for n, v in theirs.versions.items() if v != ours.versions.get(n)}
        told = ", ".join(f"{n} {then} → {now}" for n, (then, now) in changed.items()) or "="
        report.skip(name + "libraries", f"since it was recorded: {told}", f"与记录时相比：{told}")
