"""Golden cases of VisualGLM with pictures: preprocessing, ViT, Q-Former, the whole path in both namings."""

# B rows, N pictures, S side in pixels

from __future__ import annotations

import re
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import Blip2QFormerModel, Blip2VisionModel

from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.glm_cases import Kept, check_constants, check_layout, picture_index, whole_model
from huayu.evaluation.verify.report import Report
from huayu.models.visualglm.checkpoint import VIT_KEYMAP, qformer_keymap
from huayu.models.visualglm.configuration import VISION_NORM_EPSILON, qformer_config, vision_config
from huayu.models.visualglm.processing import MEAN, STD, VisualGLMImageProcessor

_SUFFIXES = (".png", ".jpeg", ".jpg")


def image(case: Case, report: Report) -> None:
    """Pictures to pixels; of the published examples, which a case only names, every n-th pixel."""
    config, tolerance = case.config, case.tolerance
    report.close("mean", torch.tensor(MEAN), torch.tensor(config["mean"]), 1e-6)
    report.close("std", torch.tensor(STD), torch.tensor(config["std"]), 1e-6)
    processor = VisualGLMImageProcessor(config["size"])
    for name in case.tensors:
        if found := re.fullmatch(r"example_(\w+)\.sub(\d+)", name):
            _check_example(case, report, processor, name, found[1], int(found[2]))
            continue
        with Image.open(next(path for s in _SUFFIXES if (path := case.folder / f"{name}{s}").is_file())) as opened:
            pixels = processor(opened, return_tensors="pt")["pixel_values"]
        report.close(name, pixels, case.take(name), tolerance)


def _check_example(
    case: Case, report: Report, processor: VisualGLMImageProcessor, name: str, which: str, step: int
) -> None:
    """A photograph that lies elsewhere; where it is not, its lines stay open."""
    recorded, about = case.take(name), case.config["examples"][which]
    folder = case.folder / case.config["examples_dir"]
    path = next((path for s in _SUFFIXES if (path := folder / f"{which}{s}").is_file()), None)
    if path is None:
        report.skip(name, "the example picture is not there", "没有示例图片")
        return
    with Image.open(path) as opened:
        report.exact(f"example_{which}.size", list(opened.size), about["size"])
        pixels = processor(opened, return_tensors="pt")["pixel_values"][0]
    report.close(f"example_{which}.mean", pixels.mean(), about["mean"], case.tolerance)
    report.close(f"example_{which}.std", pixels.std(), about["std"], case.tolerance)
    report.close(name, pixels[:, ::step, ::step], recorded, case.tolerance)


@torch.no_grad()
def vit(case: Case, report: Report) -> None:
    """The input of every layer, the last one's output, the norm behind."""
    with torch.device("meta"):
        model: Any = Blip2VisionModel(vision_config(case.config["eva_config"]))
    model.post_layernorm.eps = VISION_NORM_EPSILON
    case.filled(model, VIT_KEYMAP)
    report.close("ln_vision_eps", VISION_NORM_EPSILON, case.config["ln_vision_eps"], 0.0)
    kept = Kept()
    for number, layer in enumerate(model.encoder.layers):
        kept.watch(str(number), layer)
    output = model(case.take("pixel_values")).last_hidden_state
    for name, entered in kept.inputs.items():
        report.close(f"layer_in_{name}", entered, case.take(f"layer_in_{name}"), case.tolerance)
    last = list(kept.outputs.values())[-1]
    report.close("last_layer_out", last, case.take("last_layer_out"), case.tolerance)
    report.close("output", output, case.take("output"), case.tolerance)


class _Queries(nn.Module):
    """The Q-Former with its queries."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        config = qformer_config(settings)
        self.query_tokens = nn.Parameter(torch.empty(settings["vocab_size"], config.hidden_size))
        self.qformer = Blip2QFormerModel(config)


@torch.no_grad()
def qformer(case: Case, report: Report) -> None:
    """What enters and leaves the norm between layers."""
    settings = case.config["qformer_config"]
    with torch.device("meta"):
        part: Any = _Queries(settings)
    case.filled(part, qformer_keymap(settings["num_layers"]))
    kept = Kept()
    norms = [part.qformer.layernorm, *(layer.output_query.LayerNorm for layer in part.qformer.encoder.layer)]
    for number, norm in enumerate(norms):
        kept.watch(f"layer_{number}", norm)
    vision = case.take("encoder_hidden_states")
    queries = part.query_tokens.expand(len(vision), -1, -1)
    output = part.qformer(query_embeds=queries, encoder_hidden_states=vision).last_hidden_state
    for name in list(kept.inputs)[:-1]:
        report.close(f"{name}.pre_ln_in", kept.inputs[name], case.take(f"{name}.pre_ln_in"), case.tolerance)
        report.close(f"{name}.ln_out", kept.outputs[name], case.take(f"{name}.ln_out"), case.tolerance)
    last = f"layer_{len(norms) - 1}"
    report.close("final_ln_in", kept.inputs[last], case.take("final_ln_in"), case.tolerance)
    report.close("output", output, case.take("output"), case.tolerance)


def full_hf(case: Case, report: Report) -> None:
    """The whole path, Hugging Face names."""
    _check_whole(case, report, whole_model(case), sat=False)


@torch.no_grad()
def full_sat(case: Case, report: Report) -> None:
    """The whole path, sat names; and the same with frequencies that were never rounded."""
    _check_whole(case, report, whole_model(case, sat=True), sat=True)
    if case.has("logits_invfreq_fp32"):
        model = whole_model(case, sat=True, rope="fp32")
        logits = model(**_inputs(case, report, model, sat=True)).logits
        report.close("logits_invfreq_fp32", logits, case.take("logits_invfreq_fp32"), case.tolerance)


def _inputs(case: Case, report: Report, model: Any, sat: bool) -> dict[str, Any]:
    ids, text = case.take("input_ids"), model.config.text_config
    token = text.pad_token_id if sat else text.unk_token_id
    start, length = case.take("pre_image_length"), model.config.image_length
    index = picture_index(report, "input_ids", ids, start, length, token)
    return {"input_ids": ids, "pixel_values": case.take("pixel_values")[:, None], "image_token_index": index}


@torch.no_grad()
def _check_whole(case: Case, report: Report, model: Any, sat: bool) -> None:
    config = model.config.text_config
    check_constants(case, report, config)
    check_layout(case, report, "", config, case.take("input_ids"), None)
    kept = Kept()
    kept.watch("qformer_out", model.qformer.encoder.layer[-1].output_query.LayerNorm)
    kept.watch("image_embeds", model.projector)
    kept.watch("last_hidden", model.language_model.model.norm)
    inputs = _inputs(case, report, model, sat)
    vision = model.vision_encoder(inputs["pixel_values"][:, 0]).last_hidden_state
    report.close("vit_out", vision, case.take("vit_out"), case.tolerance)
    logits = model(**inputs).logits
    for name in ("qformer_out", "image_embeds", "last_hidden"):
        if case.has(name):
            report.close(name, kept.outputs[name], case.take(name), case.tolerance)
    report.close("logits", logits, case.take("logits"), case.tolerance)
