"""``huayu convert`` and ``huayu quantize``: a checkpoint to our folder, or to a published format."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huayu.checkpoints.convert import Converted, convert
from huayu.checkpoints.find import read_config
from huayu.cli.chat import loading_bar
from huayu.errors import HuayuError
from huayu.runtime.language import say
from huayu.runtime.memory import available_memory

_SPARE = 1.25  # of the weights, for what is computed with them


def run(
    source: str,
    target: Path,
    *,
    dtype: str | None,
    max_shard_size: str,
    vocab: Path | None,
    to: str | None,
    keep_lora: bool = False,
    bits: str | None = None,
    scope: str = "published",
    fingerprint: bool,
    quiet: bool,
) -> None:
    """Convert, and print what was written and what the user should know. Raises HuayuError.

    ``bits``: quantise while reading. ``fingerprint``: record one in a VisualGLM folder, if it fits into memory.
    """
    from huayu.checkpoints.adapters import find_adapter
    from huayu.quantization import while_loading

    if find_adapter(source):
        with TemporaryDirectory(dir=target.absolute().parent, prefix=".huayu-") as aside:
            merge(source, Path(aside), dtype=dtype, vocab=vocab)
            settings = {"dtype": dtype, "max_shard_size": max_shard_size, "vocab": vocab, "to": to, "bits": bits}
            run(aside, target, **settings, scope=scope, fingerprint=fingerprint, quiet=quiet)  # type: ignore[arg-type]
        return
    prepare = while_loading(bits, scope) if bits else None
    label = say("Quantising", "量化") if bits else say("Converting", "转换")
    with loading_bar(visible=not quiet, label=label) as progress:
        done = convert(
            source, target, dtype, max_shard_size, vocab=vocab, to=to, keep_lora=keep_lora, prepare=prepare,
            progress=progress,
        )  # fmt: skip
    notes = [*done.notes, *(record(done, quiet=quiet) if fingerprint else ())]
    if quiet:
        return
    size = f"{done.nbytes / 1e6:.1f} MB"
    print(say(f"Wrote {done.path}: {size}.", f"已写入 {done.path}：{size}。"))
    print(done.report)
    for en, zh in notes:
        print(say(en, zh))


def merge(adapter: str, folder: Path, *, dtype: str | None, vocab: Path | None) -> None:
    """Write the adapter's model into ``folder``, with what it learnt in its weights."""
    from huayu.chat import load_chat

    backend: Any = load_chat(adapter, device="cpu", dtype=dtype, vocab=vocab).backend
    backend.model.save_pretrained(folder)
    backend.processor.save_pretrained(folder)


def record(done: Converted, *, quiet: bool) -> list[tuple[str, str]]:
    """Take the fingerprint of a new VisualGLM folder in its own dtype, unless one came with it; what to say of it."""
    config = read_config(done.path) if done.path.is_dir() else None
    if not config or config["model_type"] != "visualglm" or not (done.path / "processor_config.json").is_file():
        return []
    from huayu.chat import fingerprint, load_chat

    dtype, needed, free = config["dtype"], int(done.nbytes * _SPARE), available_memory()
    if dtype in fingerprint.recorded(done.path):
        return []
    if free is not None and needed > free:
        sizes = f"{needed / 1e9:.1f} GB > {free / 1e9:.1f} GB"
        return [_unrecorded(done.path, sizes, sizes)]
    try:
        with loading_bar(visible=not quiet, label=say("Recording its fingerprint", "记录指纹")) as progress:
            chat = load_chat(done.path, device="cpu", dtype=dtype, progress=progress)
            fingerprint.record(done.path, chat.backend)
    except HuayuError as error:
        return [_unrecorded(done.path, error.en, error.zh)]
    return [(f"Its fingerprint in {dtype} was recorded.", f"已记录其 {dtype} 指纹。")]


def _unrecorded(folder: Path, en: str, zh: str) -> tuple[str, str]:
    command = f"huayu doctor {json.dumps(str(folder), ensure_ascii=False)} --record"
    return (f"No fingerprint was recorded ({en}); later: {command}", f"未记录指纹（{zh}）；以后可运行：{command}")
