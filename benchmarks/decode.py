"""Speed of the CPM-Bee language model beside its floor: ``python -m benchmarks.decode [--threads 2] [--batch 8]``.

Random weights in fp32, packed prompts of 512 tokens, the likeliest token each time. The floor is what no
implementation goes below: each matrix in one ``F.linear``, for a step all of them on the new tokens, for the prompt the
layers' on all tokens and the vocabulary's on the last. Ours and the floor take turns. Prints one JSON object:

``decode``: one step of the model with its cache, ``decode_short`` after a prompt of 32 tokens: what the cache costs is
no part of the floor. ``generate``: one step inside ``model.generate``. ``prefill``: the prompt. ``…_floor_ratio``: time
of the floor over ours.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.process import figures_of
from benchmarks.timing import Timing, beside_floor, in_turns

CASES = ((1, 1), (1, 8), (2, 1), (2, 8))  # threads, batch


@dataclass(frozen=True)
class Scale:
    """Sizes of the model, tokens of a prompt and of a short one, and rounds of each measurement."""

    sizes: dict[str, int]
    prompt_tokens: int
    short_tokens: int
    steps: int
    prefills: int


LARGE = Scale(
    {"vocab_size": 86583, "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16, "head_dim": 64,
     "intermediate_size": 2560}, 512, 32, 32, 5)  # fmt: skip
TINY = Scale(
    {"vocab_size": 150, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8,
     "intermediate_size": 48}, 40, 30, 3, 2)  # fmt: skip


def figures(quick: bool = False) -> dict[str, Any]:
    """All cases, each in a process of its own. The names of one thread and one row have no suffix."""
    found: dict[str, Any] = {}
    for threads, batch in CASES[:1] if quick else CASES:
        size = ["--quick"] if quick else []
        found |= figures_of("benchmarks.decode", "--threads", threads, "--batch", batch, *size, threads=threads)
    return found


def measure(threads: int, batch: int, scale: Scale) -> dict[str, Any]:
    """The figures of one case, in this process."""
    import torch

    from huayu.runtime.allocator import keep_freed_memory

    keep_freed_memory()  # as the command line does
    torch.set_num_threads(threads)
    suffix = (f"_t{threads}" if threads > 1 else "") + (f"_b{batch}" if batch > 1 else "")
    with torch.inference_mode():
        model = build(scale.sizes)
        inputs = prompts(scale.sizes["vocab_size"], batch, scale.prompt_tokens)
        short = prompts(scale.sizes["vocab_size"], batch, scale.short_tokens)
        floor = floor_pass(model, batch, 1)
        pairs = {
            "decode_short": in_turns(scale.steps, floor, greedy_steps(model, short)),
            "decode": in_turns(scale.steps, floor, greedy_steps(model, inputs)),
            "generate": generate_steps(model, inputs, floor, scale.steps),
            "prefill": in_turns(
                scale.prefills, floor_pass(model, batch, scale.prompt_tokens), lambda: read_prompt(model, inputs)
            ),
        }
    found: dict[str, Any] = {}
    for name, (least, ours) in pairs.items():
        found |= beside_floor(name, least, ours, suffix)
        tokens = batch * (scale.prompt_tokens if name == "prefill" else 1)
        found[f"{name}_tokens_per_second{suffix}"] = round(tokens * 1e3 / found[f"{name}_ms{suffix}"], 1)
    return found


def build(sizes: dict[str, int]) -> Any:
    """A CpmBeeForCausalLM with random weights, in fp32."""
    import torch

    from huayu.models.cpm_bee import CpmBeeConfig, CpmBeeForCausalLM

    with torch.device("meta"):
        model = CpmBeeForCausalLM(CpmBeeConfig(**sizes))
    model = model.to_empty(device="cpu").eval()
    draw = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        parameter.fill_(1) if "norm" in name else parameter.normal_(generator=draw)
    return model


def prompts(
    vocab_size: int, batch: int, tokens: int, picture_tokens: int = 0, start_answer: bool = True
) -> dict[str, Any]:
    """``batch`` packed questions of ``tokens`` tokens each, the answer's first included if it is to ``start``.

    With ``picture_tokens`` each begins with the places of a picture.
    """
    from huayu.models.cpm_bee.packing import collate, pack
    from huayu.models.cpm_bee.vocabulary import BeeVocabulary

    special = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>"]
    special += ["image", "context", "question"]
    words = [f"«{n}»" for n in range(vocab_size - len(special))]
    vocabulary = BeeVocabulary([*special, *words])
    picture = {"image": "<unk>" * picture_tokens} if picture_tokens else {}

    def item(length: int, row: int = 0) -> Any:
        text = "".join(words[(7 * at + row) % len(words)] for at in range(length))
        return pack({**picture, "context": "", "question": text, "<ans>": ""}, vocabulary, for_generation=True)

    around = len(item(0).input_ids) + start_answer
    items = [item(tokens - around, row) for row in range(batch)]
    return collate(items, vocabulary, padding="left", start_answer=start_answer)


def floor_pass(model: Any, batch: int, tokens: int) -> Callable[[], None]:
    """One ``F.linear`` for each matrix: the layers' on (batch, tokens) rows, the vocabulary's on (batch, 1)."""
    import torch
    from torch.nn import functional as F

    layers = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    rows = {width: torch.randn(batch, tokens, width) for width in {weight.shape[1] for weight in layers}}
    vocabulary = model.get_input_embeddings().weight
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


def greedy_steps(model: Any, inputs: dict[str, Any]) -> Callable[[], None]:
    """One step after another, each feeding the likeliest token of the one before; the prompt is read at once."""
    import torch

    from huayu.generation.published import ModelStepper

    stepper = ModelStepper(model, inputs, num_beams=1, max_steps=4096)
    segment = inputs["segment_ids"][:, -1]
    tokens, position = inputs["input_ids"][:, -1], 0

    def step() -> None:
        nonlocal tokens, position
        position += 1
        tokens = stepper.step(tokens, segment, torch.full_like(segment, position)).argmax(-1)

    return step


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
    options = parser.parse_args()
    print(json.dumps(measure(options.threads, options.batch, TINY if options.quick else LARGE)))


if __name__ == "__main__":
    main()
