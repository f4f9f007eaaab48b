"""Steps of ChatGLM in 8 and 4 bits beside fp32 and bf16: ``python -m benchmarks.quantized [--threads 2] [--batch 8]``.

The model of ``benchmarks.decode --glm``, once in every form, and one step of each in turn. Prints one JSON object:

``int8_speedup``, ``int4_speedup``: time of a whole step in fp32 over that in so many bits, embedding and output matrix
in 8 (scope ``lean``); ``int8_published_speedup``, ``int4_published_speedup``: those two in fp32, as published. At this
width they are half of the numbers, in the published 6B a tenth. All compute in fp32 around the fast products;
``bf16_speedup``, ``int4_bf16_speedup``, …: in bf16. ``…_speedup_cpu``: by processor time. ``…_ms``: a step.
``…_mb``: of all tensors. ``…_prefill_speedup``: of a prompt. ``…_product_error``: logits by fast products beside exact
ones, norm of the difference over the norm.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from benchmarks.decode import GLM_LARGE, GLM_TINY, Scale, read_prompt, suffix_of
from benchmarks.process import figures_of
from benchmarks.timing import in_turns

CASES = ((1, 1), (1, 8), (2, 1))  # threads, batch
# Name → bits, scope, whether in bf16.
FORMS: dict[str, tuple[int | None, str, bool]] = {
    "fp32": (None, "", False),
    "bf16": (None, "", True),
    "int8": (8, "lean", False),
    "int4": (4, "lean", False),
    "int8_published": (8, "published", False),
    "int4_published": (4, "published", False),
    "int8_bf16": (8, "lean", True),
    "int4_bf16": (4, "lean", True),
}


def figures(quick: bool = False) -> dict[str, Any]:
    """All cases, each in a process of its own. The names of one thread and one row have no suffix."""
    found: dict[str, Any] = {}
    for threads, batch in CASES[:1] if quick else CASES:
        size = ["--quick"] if quick else []
        found |= figures_of("benchmarks.quantized", "--threads", threads, "--batch", batch, *size, threads=threads)
    return found


def measure(threads: int, batch: int, scale: Scale) -> dict[str, Any]:
    """The figures of one case, in this process."""
    import torch

    from huayu.runtime.allocator import keep_freed_memory

    keep_freed_memory()  # as the command line does
    torch.set_num_threads(threads)
    suffix, language = suffix_of(threads, batch), scale.language
    plain = language.build()
    models = {name: _form(plain, *form) for name, form in FORMS.items()}
    inputs = language.prompts(batch, scale.prompt_tokens)
    with torch.inference_mode():
        steps = [language.greedy_steps(model, inputs) for model in models.values()]
        found = _compare("", models, in_turns(scale.steps, *steps), suffix)
        prompts: list[Callable[[], Any]] = [partial(read_prompt, models[name], inputs) for name in _PREFILLS]
        found |= _compare("_prefill", _PREFILLS, in_turns(scale.prefills, *prompts), suffix)
        if not suffix:
            found |= {f"{name}_product_error": _error(language, models[name], inputs) for name in ("int8", "int4")}
            for name, model in models.items():
                found[f"{name}_mb"] = round(sum(t.nbytes for t in (*model.parameters(), *model.buffers())) / 1e6, 3)
    return found


_PREFILLS = ("fp32", "bf16", "int8", "int4")


def _form(plain: Any, bits: int | None, scope: str, bf16: bool) -> Any:
    if bits is None and not bf16:
        return plain
    model = copy.deepcopy(plain)
    model = model.quantize(bits, scope) if bits else model
    return model.bfloat16() if bf16 else model


def _compare(what: str, names: Any, timings: list[Any], suffix: str) -> dict[str, float]:
    """Milliseconds of each, and how many times as fast as the first."""
    found, first = {}, timings[0]
    for name, timing in zip(names, timings, strict=True):
        found[f"{name}{what}_ms{suffix}"] = round(1e3 * median(timing.wall), 2)
        if timing is not first:
            found[f"{name}{what}_speedup{suffix}"] = round(median(first.wall) / median(timing.wall), 3)
            found[f"{name}{what}_speedup_cpu{suffix}"] = round(median(first.cpu) / median(timing.cpu), 3)
    return found


def _error(language: Any, model: Any, inputs: Any) -> float:
    """Of the logits of one step."""
    from huayu.quantization import exact

    fast, exactly = (language.greedy_steps(exact(model, wish), inputs)().float() for wish in (False, True))
    return round(float((fast - exactly).norm() / exactly.norm()), 5)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a tiny model, only to see that it runs")
    options = parser.parse_args()
    print(json.dumps(measure(options.threads, options.batch, GLM_TINY if options.quick else GLM_LARGE)))


if __name__ == "__main__":
    main()
