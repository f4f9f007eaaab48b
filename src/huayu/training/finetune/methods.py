"""What learns in a fine-tune, and how it is kept: weights, LoRA pairs, the same over 4-bit weights, or a prefix."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, Literal

from torch import nn

from huayu.checkpoints.adapters import add_prefix, write_prefix
from huayu.runtime.packages import require

Method = Literal["lora", "dora", "qlora", "ptuning", "full", "vision", "language"]
METHODS: tuple[Method, ...] = ("lora", "dora", "qlora", "ptuning", "full", "vision", "language")
WHOLE: tuple[Method, ...] = ("full", "vision", "language")  # weights themselves learn, and the model is written
# Of both families: the linears of the language model's blocks; the eye with what hands its states on.
_LANGUAGE = re.compile(r"language_model\.model\.layers\.(\d+)\..+")
_VISION = re.compile(r"(vision_encoder|vision_model|qformer|projector|query_tokens|vision).*")
_BLOCK = 64  # numbers that share a scale in NF4


def prepare(
    model: nn.Module,
    method: Method,
    *,
    rank: int = 10,
    alpha: float | None = None,
    layers: tuple[int, ...] = (),
    tune_vision: bool = False,
    prefix: int = 8,
) -> nn.Module:
    """Make only the method's parameters learn, in fp32; the module that is trained (``model`` itself without pairs).

    "full": all weights; "vision": all but those of the language model; "language": those alone.
    ``rank``, ``alpha``, ``layers`` (none: all): of LoRA; pairs count ``alpha / rank`` times, without ``alpha`` once, in
    CPM-Bee, which divides what comes out by the root of its width, as many times more. ``tune_vision``: the eye learns
    too. ``prefix``: tokens of P-tuning v2. Raises ModelError for what a model does not have.
    """
    model.requires_grad_(False)
    trained = model
    if method in WHOLE:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(_is_free(name, method, tune_vision))
    elif method == "ptuning":
        add_prefix(model, prefix)
    else:
        trained = _with_pairs(model, method, rank, alpha or rank * _width_root(model), layers, tune_vision)
    for parameter in trained.parameters():
        if parameter.requires_grad:  # a small step is lost in half precision
            parameter.data = parameter.data.float()
    return trained


def _width_root(model: Any) -> float:
    text = model.config.text_config
    return float(text.hidden_size) ** 0.5 if text.model_type == "cpm_bee" else 1.0


def _is_free(name: str, method: Method, tune_vision: bool) -> bool:
    """The eye is the encoder proper; queries and projector learn with it or alone. Source: spec viscpm §6."""
    if name.startswith("language_model."):
        return method != "vision"
    return method != "language" and (tune_vision or not name.startswith(("vision_encoder.", "vision_model.")))


def _with_pairs(
    model: nn.Module, method: Method, rank: int, alpha: float, layers: tuple[int, ...], tune_vision: bool
) -> nn.Module:
    require("peft", "train")
    import peft

    if method == "qlora":
        _pack(model)
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and _learns(name, layers, tune_vision)
    ]
    settings = {"r": rank, "lora_alpha": alpha, "target_modules": targets, "use_dora": method == "dora"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers in words that are going out
        trained: nn.Module = peft.get_peft_model(model, peft.LoraConfig(**settings), autocast_adapter_dtype=False)
    return trained


def _learns(name: str, layers: tuple[int, ...], tune_vision: bool) -> bool:
    block = _LANGUAGE.fullmatch(name)
    if block:
        return not layers or int(block[1]) in layers
    return tune_vision and bool(_VISION.fullmatch(name))


def _pack(model: nn.Module) -> None:
    """The linears of the language model's blocks to NF4, as the published QLoRA has them. Source: spec visualglm §9."""
    require("bitsandbytes", "quant")
    import bitsandbytes

    class Linear4bit(bitsandbytes.nn.Linear4bit):
        """Always as in training: evaluated on a CPU it would pack its weights anew, in a form without a gradient."""

        def train(self, mode: bool = True) -> Linear4bit:  # noqa: ARG002 (the library's signature)
            return super().train(True)

    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and _LANGUAGE.fullmatch(name) and not module.in_features % _BLOCK:
            weight = module.weight.detach()
            packed = Linear4bit(
                module.in_features, module.out_features, module.bias is not None, weight.dtype, quant_type="nf4"
            )
            packed.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
            packed.bias = module.bias
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, packed.to(weight.device))
    model.is_loaded_in_4bit = True  # type: ignore[assignment]  # by this PEFT knows


def write(trained: Any, method: Method, base: str, processor: Any, folder: Path) -> None:
    """What was learnt: the whole model with its processor, or the adapter as PEFT writes it, naming its model."""
    if method in WHOLE:
        trained.save_pretrained(folder)
        processor.save_pretrained(folder)
    elif method == "ptuning":
        write_prefix(folder, trained, base)
    else:
        trained.peft_config["default"].base_model_name_or_path = base
        trained.save_pretrained(folder, save_embedding_layers=False)
