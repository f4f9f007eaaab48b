"""The figures of ``run.py`` as tables in a page: ``python benchmarks/table.py FIGURES.json… docs/benchmarks.md``.

Replaces what stands between the two marks of the page by the tables of each file in turn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

# Kind of work → its name in the table.
_WORK = {
    "decode_short": "step after 32 tokens",
    "decode": "step after 512 tokens",
    "generate": "step in `generate`, after 512",
    "prefill": "prompt of 512 tokens",
}
_HOW = (("", ""), (", compiled", "compiled_"))
_CASES = {"": (1, 1), "_b8": (1, 8), "_t2": (2, 1), "_t2_b8": (2, 8)}  # suffix → threads, rows
# Name of the figures → the model's form.
_FORMS = {
    "fp32": "fp32",
    "bf16": "bf16",
    "int8": "INT8",
    "int4": "INT4, tables INT8",
    "int8_published": "INT8, tables fp32",
    "int4_published": "INT4, tables fp32",
    "int8_bf16": "INT8, the rest bf16",
    "int4_bf16": "INT4, tables INT8, the rest bf16",
    "fp32_prefill": "prompt: fp32",
    "bf16_prefill": "prompt: bf16",
    "int8_prefill": "prompt: INT8",
    "int4_prefill": "prompt: INT4, tables INT8",
}
# What is trained: name of the figures → model, method.
_TRAINED = {
    f"train_{family}_{method}": (model, way)
    for family, model in (("bee", "VisCPM-Chat"), ("glm", "VisualGLM"))
    for method, way in (("full", "all weights"), ("lora", "LoRA"), ("qlora", "QLoRA"))
}
# What else there is: name of the figure → (what it is, unit).
_SINGLE = {
    "int8_product_error": ("INT8: error of fast products in the logits of a step, over their norm", ""),
    "int4_product_error": ("INT4: the same", ""),
    "load_peak_ratio": ("memory at its peak while loading, over the model's bytes", ""),
    "load_gb_per_second": ("loading a checkpoint of 2.3 GB in the system's cache", "GB/s"),
    "python_seconds": ("Python alone", "s"),
    "import_seconds": ("`import huayu`", "s"),
    "help_seconds": ("`huayu --help`", "s"),
    "chat_first_token_seconds": ("cold start to the first words about a picture", "s"),
    "chat_answer_seconds": ("an answer about a new picture, warm", "s"),
    "chat_tokens_per_second": ("tokens of answers, pictures and prompts included", "/s"),
    "chat_peak_rss_mb": ("memory of that process at its peak, libraries included", "MiB"),
    "concurrency16_speedup": ("16 questions at once through the server's engine, over one after the other", "×"),
    "concurrency16_tokens_per_second": ("the same, tokens of all answers", "/s"),
    "paint_seconds": ("a picture of the model inside, warm", "s"),
    "paint_first_seconds": ("cold start to the first picture", "s"),
    "paint_peak_rss_mb": ("memory of that process at its peak, libraries included", "MiB"),
    "unet_step_seconds": ("a step of the UNet at the size of SD 2.1, guided, fp32", "s"),
    "unet_plain_step_seconds": ("the same step in plain diffusers", "s"),
}


def tables(figures: dict[str, Any]) -> str:
    """Markdown of all figures that are there."""
    machine = f"{figures['cpu']}, {figures['cores']} cores, {figures['memory_gb']} GB, load {figures['load_average']}"
    software = ", ".join(f"{name} {figures[name]}" for name in ("python", "torch", "transformers"))
    parts = [f"Made {figures['date']} on: {machine}; {software}."]
    families = (("CPM-Bee", ""), ("ChatGLM", "glm_"))
    kinds = ((model + how, prefix + more) for model, prefix in families for how, more in _HOW)
    for model, prefix in kinds:
        if rows := list(_decode_rows(figures, prefix)):
            head = ("threads", "rows", model, "ms", "from–to", "tokens/s", "floor, ms", "ratio", "by processor time")
            parts.append(_table(head, rows))
    if rows := list(_quantized_rows(figures)):
        head = ("threads", "rows", "a step of ChatGLM", "ms", "times fp32", "by processor time", "MB")
        parts.append(_table(head, rows))
    if rows := list(_training_rows(figures)):
        head = ("model", "method", "a step, ms", "samples/s", "tokens/s", "by hand ÷ ours", "by processor time", "MiB")
        parts.append(_table(head, rows))
    if rows := [
        (what, f"{figures[name]:g} {unit}".strip()) for name, (what, unit) in _SINGLE.items() if name in figures
    ]:
        parts.append(_table(("figure", "value"), rows))
    return "\n\n".join(parts)


def _decode_rows(figures: dict[str, Any], prefix: str) -> Iterable[Sequence[object]]:
    for suffix, (threads, batch) in _CASES.items():
        for kind, work in _WORK.items():
            name = prefix + kind
            if f"{name}_ms{suffix}" not in figures:
                continue
            keys = ("tokens_per_second", "floor_ms", "floor_ratio", "floor_ratio_cpu")
            span = "–".join(f"{figures[f'{name}_ms_{end}{suffix}']:g}" for end in ("min", "max"))
            values = [figures[f"{name}_{key}{suffix}"] for key in keys]
            yield threads, batch, work, figures[f"{name}_ms{suffix}"], span, *values


def _quantized_rows(figures: dict[str, Any]) -> Iterable[Sequence[object]]:
    for suffix, (threads, batch) in _CASES.items():
        for name, what in _FORMS.items():
            if f"{name}_ms{suffix}" in figures:
                keys = (f"{name}_ms{suffix}", f"{name}_speedup{suffix}", f"{name}_speedup_cpu{suffix}", f"{name}_mb")
                yield threads, batch, what, *(figures.get(key, "") for key in keys)


def _training_rows(figures: dict[str, Any]) -> Iterable[Sequence[object]]:
    keys = ("ms", "samples_per_second", "tokens_per_second", "plain_ratio", "plain_ratio_cpu", "peak_mb")
    for name, what in _TRAINED.items():
        if f"{name}_ms" in figures:
            yield *what, *(figures.get(f"{name}_{key}", "") for key in keys)


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """See the module. Raises ValueError when the page lacks a mark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="+")
    parser.add_argument("page", type=Path)
    options = parser.parse_args(arguments)
    text = options.page.read_text("utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    made = "\n\n".join(tables(json.loads(file.read_text("utf-8"))) for file in options.figures)
    options.page.write_text(f"{text[:begin]}\n{made}\n{text[end:]}", "utf-8")


if __name__ == "__main__":
    main()
