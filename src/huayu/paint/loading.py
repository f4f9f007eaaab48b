"""Opening a model that paints, whatever it is: embedded, published, a folder, a file, or another library's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huayu.errors import ModelError
from huayu.paint.painter import Painter
from huayu.runtime.language import say

if TYPE_CHECKING:
    import torch

    from huayu.checkpoints.find import Source
    from huayu.ranking import Ranker
    from huayu.safety import Guard

_LOG = logging.getLogger("huayu")
Progress = Callable[[int, int], None]


def load_paint(
    model: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | Mapping[str, torch.dtype] | None = None,
    quantize: str | None = None,
    vocab: str | Path | None = None,
    vae: str | Path | None = None,
    safety: Guard | str | None = "default",
    ranker: Ranker | str | Path | None = None,
    texts: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Painter:
    """A :class:`Painter`.

    ``model``: None (the one in the package), a name of ``huayu models``, a folder, a published file, or a hub id of any
    text-to-image pipeline of diffusers. ``device``: None takes CUDA or Apple's GPU if there is one. ``dtype``: None
    takes float32 on the CPU, else float16; VisCPM-Paint also takes one for each part. ``vocab``, ``vae``: vocabulary
    file and folder of the VAE for a published model, where they do not lie beside it. ``safety``: what happens to what
    the checks find (``"block"``, which is the default, ``"blur"``, ``"allow"``), a guard of your own, or None for no
    checks. ``ranker``: folder or hub id of a CLIP or a Chinese-CLIP, which chooses among candidates. ``texts``: all
    that will be painted, negative prompts too: the text encoder of VisCPM-Paint is then gone before its UNet is read.
    ``progress(done, total)`` is told bytes. ``CUDA_MEM_SAVE=true`` keeps on the GPU only the part that is at work.

    Raises ModelError and CheckpointError; nothing half-loaded stays.
    """
    if quantize is not None:
        raise ModelError(
            f"quantize={quantize!r} is not available in this version; try --dtype float16.",
            f"此版本尚不支持 quantize={quantize!r}；可尝试 --dtype float16。",
        )
    from huayu.checkpoints.find import locate
    from huayu.ranking import open_ranker
    from huayu.runtime.device import pick_device, pick_dtype
    from huayu.runtime.memory import guarded
    from huayu.safety import settle_guard

    where = pick_device(device)
    formats: Any = dtype if isinstance(dtype, Mapping) else pick_dtype(dtype, where)
    source = locate(model, kind="paint")
    chooser = open_ranker(ranker, device=where) if isinstance(ranker, str | Path) else ranker
    guard = settle_guard(safety, source.folder)
    in_turn = _in_turn(where)
    with guarded():
        first = "cpu" if in_turn else where
        pipeline = _open(source, formats, first, vocab=vocab, vae=vae, texts=texts, progress=progress)
        if in_turn:
            pipeline.enable_model_cpu_offload(device=where)
    return Painter(pipeline, source.name, guard, chooser)


def _open(source: Source, dtype: Any, device: Any, **given: Any) -> Any:
    from huayu.checkpoints import pipelines

    if source.form == "folder" and not (source.path / pipelines.INDEX).is_file():
        raise ModelError(f"{source.name} cannot paint.", f"{source.name} 不能作画。")
    if source.form == "folder" and source.family is None:
        return open_diffusers(source, dtype).to(device)
    from huayu.models.viscpm_paint import open_pipeline

    return open_pipeline(source, dtype, device, **given)


def open_diffusers(source: Source, dtype: torch.dtype) -> Any:
    """Any text-to-image pipeline; nothing of its own code runs. Raises ModelError.

    Its safety checker, which would hand out black pictures without a word, is left to the guard.
    """
    from huayu.paint.diffusers_backend import auto_pipeline

    try:
        with _without_bars():
            pipeline = auto_pipeline("Text2Image").from_pretrained(
                source.path, dtype=dtype, local_files_only=True, trust_remote_code=False
            )
    except (ValueError, KeyError, AttributeError, ImportError, OSError, RuntimeError) as problem:
        first = str(problem).strip().split("\n")[0]
        raise ModelError(
            f"{source.name} cannot be opened as a text-to-image pipeline: {first}",
            f"无法以文生图管线打开 {source.name}：{first}",
        ) from problem
    if getattr(pipeline, "safety_checker", None) is not None:
        pipeline.safety_checker = None
    return pipeline


def _in_turn(device: torch.device) -> bool:
    """Whether only the part at work is to be on the GPU; said where there is none."""
    from huayu.runtime.memory import placement_from_environment

    wanted = placement_from_environment().offload_all
    if wanted and device.type != "cuda":
        kind = device.type
        _LOG.warning("%s", say(f"CUDA_MEM_SAVE has no effect on {kind}.", f"CUDA_MEM_SAVE 对 {kind} 无效。"))
    return wanted and device.type == "cuda"


@contextmanager
def _without_bars() -> Iterator[None]:
    """The libraries' own progress bars, one for each part, are of no use to a reader."""
    from diffusers.utils import logging as ours
    from transformers.utils import logging as theirs

    shown = [log for log in (ours, theirs) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()
