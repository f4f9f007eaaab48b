"""Golden cases of trained additions to VisualGLM: LoRA pairs and prefixes, in the names of both published formats."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from huayu.checkpoints import lora as pairs
from huayu.checkpoints.loading import load_into
from huayu.checkpoints.reader import LazyTensors
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.glm_cases import language_model
from huayu.evaluation.verify.glm_models import config_of, image_token_index, keymap_of, visualglm, weights
from huayu.evaluation.verify.report import Report
from huayu.models.visualglm.modeling import VisualGLMForConditionalGeneration

_PREFIX = "mixins.ptuning.prefix."


@torch.inference_mode()
def lora(case: Case, report: Report) -> None:
    """Logits without the pairs, with them beside the weights, and merged; every merged weight."""
    tensors, config = weights(case), config_of(case)
    keymap = keymap_of(tensors, config)
    base, loras = pairs.split(tensors)
    wanted = {name.split(".matrix_")[0] for name in case.config["trainable"]}
    report.exact("trainable", sorted(name for name in tensors if ".matrix_" in name), sorted(case.config["trainable"]))
    report.exact("layers", sorted({int(name.split(".")[2]) for name in wanted}), sorted(case.config["layer_range"]))
    for name, found in loras.items():
        report.exact(f"{name}.rank", found.rank, case.config["lora_rank"])
        report.close(f"{name}.scaling", found.scale, case.config["scaling"], 0)
    inputs = _inputs(case, config)
    model = _filled(base, config, keymap)
    report.close("logits_base", model(**inputs).logits, case.take("logits_base"), case.tolerance)
    ours = {name: str(keymap.to_ours(f"{name}.weight")).removesuffix(".weight") for name in loras}
    pairs.attach(model, {ours[name]: found for name, found in loras.items()})
    report.close("logits_lora", model(**inputs).logits, case.take("logits_lora"), case.tolerance)
    whole = pairs.merged(tensors)
    for name in sorted(case.tensors):
        if name.startswith("merged."):
            report.close(name, whole[name.removeprefix("merged.")], case.take(name), case.tolerance)
    logits = _filled(whole, config, keymap)(**inputs).logits
    report.close("logits_merged", logits, case.take("logits_merged"), case.tolerance)


@torch.inference_mode()
def ptuning_sat(case: Case, report: Report) -> None:
    """Logits with the prefixes of sat's format and without them."""
    inputs = _inputs(case, config_of(case))
    report.close("logits", visualglm(case)(**inputs).logits, case.take("logits"), case.tolerance)
    tensors, config = weights(case), config_of(case, pre_seq_len=None)
    plain = LazyTensors({k: e for k, e in tensors.entries.items() if not k.startswith(_PREFIX)}, tensors.files)
    logits = _filled(plain, config, keymap_of(plain, config))(**inputs).logits
    report.close("logits_base", logits, case.take("logits_base"), case.tolerance)


@torch.inference_mode()
def ptuning_hf(case: Case, report: Report) -> None:
    """The prefix of every layer, positions that it does not shift, logits of a prompt and of one cached step."""
    model: Any = language_model(case)
    for number, prefix in enumerate(_prefixes(model)):
        for part, name in zip(prefix, ("k", "v"), strict=True):
            report.close(f"prefix_{name}_{number}", part[None], case.take(f"prefix_{name}_{number}"), case.tolerance)
    ids, step = case.take("input_ids"), case.take("next_id")
    positions = model._prepare_position_ids_for_generation(ids, {"input_ids": ids})
    report.exact("position_ids", positions, case.take("position_ids"))
    out = model(input_ids=ids, use_cache=True)
    report.close("logits", out.logits, case.take("logits"), case.tolerance)
    report.exact("next_id", out.logits[:, -1:].argmax(-1), step)
    following = positions[..., -1:] + torch.tensor([[0], [1]])
    out = model(input_ids=step, position_ids=following, past_key_values=out.past_key_values)
    report.close("next_logits", out.logits, case.take("next_logits"), case.tolerance)


def _prefixes(model: Any) -> list[Tensor]:
    """Keys and values (2, H, P, W) of each layer."""
    if encoder := getattr(model.model, "prefix_encoder", None):
        return list(encoder())
    return [layer.attention.prefix for layer in model.model.layers]


def _filled(tensors: LazyTensors, config: Any, keymap: Any) -> nn.Module:
    with torch.device("meta"):
        model = VisualGLMForConditionalGeneration(config)
    load_into(model, tensors, keymap, torch.float32)
    return model.eval()


def _inputs(case: Case, config: Any) -> dict[str, Tensor]:
    """A prompt with its picture, which begins at ``pre_image``."""
    ids = case.take("input_ids")
    return {
        "input_ids": ids,
        "pixel_values": case.take("pixel_values")[:, None],
        "image_token_index": image_token_index(ids, config.image_length, int(case.take("pre_image"))),
        "attention_mask": torch.ones_like(ids),  # placeholders may be the padding token
    }
