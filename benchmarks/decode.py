"""Speed of a language model beside its floor: ``python -m benchmarks.decode [--glm] [--compiled] [--threads 2]``.

CPM-Bee or, with names that begin with ``glm_``, ChatGLM. Random weights in fp32, prompts of 512 tokens, the likeliest
token each time. The floor is what no
implementation goes below: each matrix in one ``F.linear``, for a step all of them on the new tokens, for the prompt the
layers' on all tokens and the vocabulary's on the last. Ours and the floor take turns. Prints one JSON object:

``decode``: one step of the model with its cache, ``decode_short`` after a prompt of 32 tokens: what the cache costs is
no part of the floor. ``generate``: one step inside ``model.generate``. ``prefill``: the prompt. ``…_floor_ratio``: time
of the floor over ours. ``compiled_…``: the same with ``compile_blocks()``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.languages import Bee, Glm, Language
from benchmarks.process import figures_of
from benchmarks.timing import Timing, beside_floor, in_turns

CASES = ((1, 1), (1, 8), (2, 1), (2, 8))  # threads, batch


@dataclass(frozen=True)
class Scale:
    """The model, tokens of a prompt and of a short one, and rounds of each measurement."""

    language: Language
    prompt_tokens: int
    short_tokens: int
    steps: int
    prefills: int


_ABOUT, _TINY = (512, 32, 32, 5), (40, 30, 3, 2)
LARGE = Scale(
    Bee("", {"vocab_size": 86583, "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16,
             "head_dim": 64, "intermediate_size": 2560}), *_ABOUT)  # fmt: skip
TINY = Scale(
    Bee("", {"vocab_size": 150, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
             "intermediate_size": 48}), *_TINY)  # fmt: skip
GLM_LARGE = Scale(
    Glm("glm_", {"vocab_size": 130528, "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16,
                 "inner_hidden_size": 4096}), *_ABOUT)  # fmt: skip
GLM_TINY = Scale(
    Glm("glm_", {"vocab_size": 192, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "inner_hidden_size": 128}), *_TINY)  # fmt: skip


def figures(quick: bool = False, glm: bool = False) -> dict[str, Any]:
    """All cases, each in a process of its own. The names of one thread and one row have no suffix."""
    found: dict[str, Any] = {}
    for threads, batch in CASES[:1] if quick else CASES:
        for how in ([],) if quick else ([], ["--compiled"]):
            size = ["--quick"] * quick + ["--glm"] * glm + how
            found |= figures_of("benchmarks.decode", "--threads", threads, "--batch", batch, *size, threads=threads)
    return found


def suffix_of(threads: int, batch: int) -> str:
    """What the names of a case's figures end with."""
    return (f"_t{threads}" if threads > 1 else "") + (f"_b{batch}" if batch > 1 else "")


def measure(threads: int, batch: int, scale: Scale, compiled: bool = False) -> dict[str, Any]:
    """The figures of one case, in this process."""
    import torch

    from huayu.runtime.allocator import keep_freed_memory

    keep_freed_memory()  # as the command line does
    torch.set_num_threads(threads)
    suffix, language = suffix_of(threads, batch), scale.language
    with torch.inference_mode():
        model = language.build()
        if compiled:
            model.model.compile_blocks()
        matrix = language.output(model)
        inputs = language.prompts(batch, scale.prompt_tokens)
        floor = floor_pass(model, matrix, batch, 1)
        pairs = {
            "decode_short": in_turns(
                scale.steps, floor, language.greedy_steps(model, language.prompts(batch, scale.short_tokens))
            ),
            "decode": in_turns(scale.steps, floor, language.greedy_steps(model, inputs)),
            "generate": generate_steps(model, inputs, floor, scale.steps),
            "prefill": in_turns(
                scale.prefills,
                floor_pass(model, matrix, batch, scale.prompt_tokens),
                lambda: read_prompt(model, inputs),
            ),
        }
    found: dict[str, Any] = {}
    for kind, (least, ours) in pairs.items():
        name = language.prefix + "compiled_" * compiled + kind
        found |= beside_floor(name, least, ours, suffix)
        tokens = batch * (scale.prompt_tokens if kind == "prefill" else 1)
        found[f"{name}_tokens_per_second{suffix}"] = round(tokens * 1e3 / found[f"{name}_ms{suffix}"], 1)
    return found


def floor_pass(model: Any, vocabulary: Any, batch: int, tokens: int) -> Callable[[], None]:
    """One ``F.linear`` for each matrix: the layers' on (batch, tokens) rows, the vocabulary's on (batch, 1)."""
    import torch
    from torch.nn import functional as F

    linears = (module.weight for module in model.modules() if isinstance(module, torch.nn.Linear))
    layers = [weight for weight in linears if weight is not vocabulary]
    rows = {width: torch.randn(batch, tokens, width) for width in {weight.shape[1] for weight in layers}}
    last = torch.randn(batch, 1, vocabulary.shape[1])

    def run() -> None:
        for weight in layers:
            F.linear(rows[weight.shape[1]], weight)
        F.linear(last, vocabulary)

    return run


def read_prompt(model: Any, inputs: dict[str, Any]) -> Any:
    """The prompt into a new cache; logits of the last token."""
    from huayu.generation.cache import GrowingCache

    return model(**inputs, past_key_values=GrowingCache(), use_cache=True, logits_to_keep=1)


def generate_steps(model: Any, inputs: dict[str, Any], floor: Callable[[], None], steps: int) -> list[Timing]:
    """The floor and, in turns with it, steps of ``model.generate``, from one token to the next."""
    from transformers.generation.streamers import BaseStreamer

    from huayu.generation.cache import GrowingCache

    least, ours = Timing(), Timing()

    class Watch(BaseStreamer):
        """Is handed the prompt, then every token; what comes before the third token is not counted."""

        calls = 0

        def put(self, value: Any) -> None:  # noqa: ARG002 (as the library calls)
            self.calls += 1
            if self.calls > 3:
                ours.stop()
            (least if self.calls > 3 else Timing()).take(floor)
            ours.start()

        def end(self) -> None:
            """Nothing is kept."""

    model.generate(
        **inputs,
        past_key_values=GrowingCache(),
        max_new_tokens=steps + 2,
        do_sample=False,
        streamer=Watch(),
        eos_token_id=model.config.vocab_size - 1,
        pad_token_id=0,
    )
    return [least, ours]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a tiny model, only to see that it runs")
    parser.add_argument("--glm", action="store_true", help="ChatGLM, not CPM-Bee")
    parser.add_argument("--compiled", action="store_true", help="with compiled blocks")
    options = parser.parse_args()
    tiny, large = (GLM_TINY, GLM_LARGE) if options.glm else (TINY, LARGE)
    print(json.dumps(measure(options.threads, options.batch, tiny if options.quick else large, options.compiled)))


if __name__ == "__main__":
    main()
