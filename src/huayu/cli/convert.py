"""``huayu convert``: a checkpoint to our folder, or back to one file with the published names."""

from __future__ import annotations

from pathlib import Path

from huayu.checkpoints.convert import convert
from huayu.cli.chat import loading_bar
from huayu.runtime.language import say


def run(
    source: str,
    target: Path,
    *,
    dtype: str | None,
    max_shard_size: str,
    vocab: Path | None,
    to: str | None,
    keep_lora: bool,
    quiet: bool,
) -> None:
    """Convert, and print what was written and what the user should know. Raises HuayuError."""
    with loading_bar(visible=not quiet, label=say("Converting", "转换")) as progress:
        done = convert(
            source, target, dtype, max_shard_size, vocab=vocab, to=to, keep_lora=keep_lora, progress=progress
        )
    if quiet:
        return
    size = f"{done.nbytes / 1e6:.1f} MB"
    print(say(f"Wrote {done.path}: {size}.", f"已写入 {done.path}：{size}。"))
    print(done.report)
    for en, zh in done.notes:
        print(say(en, zh))
