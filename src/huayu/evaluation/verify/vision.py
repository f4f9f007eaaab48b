"""Golden cases with pictures: preprocessing, the vision branch, the whole model's forward and backward."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from huayu.checkpoints.keymap import Dropped, KeyMap
from huayu.checkpoints.reader import open_tensors
from huayu.evaluation.verify.arrays import Row, check_rows, model_inputs, short_names, words_of
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.models.beit3.modeling import Beit3Model
from huayu.models.cpm_bee.packing import IGNORED, labels_of, pack
from huayu.models.viscpm_chat.checkpoint import KEYMAP
from huayu.models.viscpm_chat.modeling import VisCPMChatProjector
from huayu.models.viscpm_chat.processing import VisCPMImageProcessor


def preprocess(case: Case, report: Report) -> None:
    """Pictures to pixels, at every size that a tensor's name asks for."""
    sizes = case.config["sizes_wh"]
    report.exact("sizes_wh", [list(case.picture(f"img{i}.png").size) for i in range(len(sizes))], sizes)
    for number in range(len(sizes)):
        case.take(f"pixels{number}")
    for name in case.tensors:
        found = re.fullmatch(r"pixels(\d+)(?:_(\d+))?", name)
        if found:
            size = int(found[2] or case.config["input_size"])
            report.close(name, _pixels(case, [int(found[1])], size)[0], case.take(name), case.tolerance)


def _pixels(case: Case, numbers: Sequence[int], size: int) -> Tensor:
    """(N, 3, S, S) of the pictures img{number}.png."""
    pictures = [case.picture(f"img{number}.png") for number in numbers]
    return VisCPMImageProcessor(size).preprocess(pictures, return_tensors="pt")["pixel_values"]


class _VisionPart(nn.Module):
    """What turns pictures into embeddings, without the language model."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        config = case.vision_config()
        self.query_tokens = nn.Parameter(torch.empty(case.config["query_num"], config.hidden_size))
        self.vision_encoder = Beit3Model(config)
        self.projector = VisCPMChatProjector(config.hidden_size, case.config["mapping_out"])


@torch.no_grad()
def beit3_queries(case: Case, report: Report) -> None:
    """Every stage of the vision branch."""
    with torch.device("meta"):
        part = _VisionPart(case)
    case.filled(part, KEYMAP)
    encoder, tolerance = part.vision_encoder, case.tolerance
    pixels = case.take("pixel_values")
    size = int(case.config["beit3"]["img_size"])
    report.close("pixel_values", _pixels(case, range(len(pixels)), size), pixels, tolerance)
    attended: dict[int, Tensor] = {}
    layers: Any = encoder.layers
    for number, layer in enumerate(layers):
        layer.attention.register_forward_hook(partial(_keep, attended, number))
    output = encoder(pixels, part.query_tokens.expand(len(pixels), -1, -1), output_hidden_states=True)
    first, *states = output.hidden_states[:-1]
    report.close("patch_embeds", encoder.patch_embedding(pixels), case.take("patch_embeds"), tolerance)
    report.close("embeds_with_positions", first, case.take("embeds_with_positions"), tolerance)
    for number, state in enumerate(states):
        report.close(f"layer{number}", state, case.take(f"layer{number}"), tolerance)
        if case.has(f"layer{number}_attn_out"):
            name = f"layer{number}_attn_out"
            report.close(name, attended[number], case.take(name), tolerance)
    report.close("query_hidden", output.last_hidden_state, case.take("query_hidden"), tolerance)
    report.close("image_embeds", part.projector(output.last_hidden_state), case.take("image_embeds"), tolerance)


def _keep(kept: dict[int, Tensor], number: int, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
    kept[number] = output


def vlu_forward(case: Case, report: Report) -> None:
    """The training batch, the forward and the gradients of the whole model."""
    arrays = short_names(case.tensors, "in.", case)
    packed = [pack(item, case.vocabulary) for item in case.config["items"]]
    rows = [Row().add(item) for item in packed]
    check_rows(report, rows, arrays, "in.")
    report.exact("max_len", max(row.length for row in rows) <= case.config["max_len"], True)
    _check_targets(case, report, packed, rows, arrays)
    pixels = arrays["pixel_values"]
    size = int(case.config["beit3"]["img_size"])
    report.close("in.pixel_values", _pixels(case, range(len(pixels)), size), pixels, case.tolerance)
    model: Any = case.chat_model()
    inputs = model_inputs(arrays)
    _check_forward(case, report, model, inputs, arrays)
    _check_gradients(case, report, model)


def _check_targets(case: Case, report: Report, packed: Any, rows: list[Row], arrays: dict[str, Tensor]) -> None:
    """Targets as the published collator numbers them: its table of words has one entry per occurrence."""
    words = [list(pair) for row in rows for pair in row.words]
    report.exact("ext_table", words, case.config["ext_table"])
    report.exact("in.ext_table", words or [[0, 1]], [list(pair) for pair in words_of(arrays)])
    vocabulary, bos, eos = case.vocabulary, case.vocabulary.ids["<s>"], case.vocabulary.ids["</s>"]
    size, used, targets = len(vocabulary), 0, []
    for item, row in zip(packed, rows, strict=True):
        labels = labels_of(item, size, eos, bos)
        entry = used
        for at, subscript in enumerate(row.token_subscripts):
            if subscript:
                if at and labels[at - 1] >= size:
                    labels[at - 1] = size + entry
                entry += 1
        used = entry
        targets.append(labels + [IGNORED] * (arrays["target"].shape[1] - len(labels)))
    report.exact("in.target", targets, arrays["target"])


def _check_forward(
    case: Case, report: Report, model: Any, inputs: dict[str, Tensor], arrays: dict[str, Tensor]
) -> None:
    tolerance = case.tolerance
    index = inputs.pop("image_token_index")
    features = model.get_image_features(arrays["pixel_values"])
    embeds = model.language_model.model.embed(
        inputs["input_ids"], inputs["token_subscripts"], inputs.get("request_vocab")
    )
    images = features[:, None]
    spliced = model.splice(embeds, images, index)
    output = model(
        **inputs,
        image_embeds=images,
        image_token_index=index,
        labels=arrays["target"].long(),
        output_hidden_states=True,
        use_cache=False,
    )
    hidden = model.language_model.model.norm(output.hidden_states[-1])
    report.close("vision_hidden_states", features, case.take("vision_hidden_states"), tolerance)
    report.close("spliced_embeds", spliced, case.take("spliced_embeds"), tolerance)
    report.close("hidden", hidden, case.take("hidden"), tolerance)
    report.close("logits", output.logits, case.take("logits"), tolerance)
    report.close("loss", output.loss, case.take("loss"), tolerance)
    output.loss.backward()


def _check_gradients(case: Case, report: Report, model: nn.Module) -> None:
    """Norms by published name, and which published parameters get no gradient at all."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    published = open_tensors(case.path(case.config.get("weights", "weights.safetensors")))
    without = [key for key in published if _gradient(KEYMAP, gradients, key) is None]
    report.exact("no_grad_params", sorted(without), sorted(case.config["no_grad_params"]))
    for name in [name for name in case.tensors if name.startswith("gradnorm.")]:
        gradient = _gradient(KEYMAP, gradients, name.removeprefix("gradnorm."))
        if gradient is None:
            report.fail(name, "no gradient", "没有梯度")
        else:
            report.close(name, gradient.float().norm(), case.take(name), case.tolerance)


def _gradient(keymap: KeyMap, gradients: dict[str, Tensor | None], key: str) -> Tensor | None:
    ours = keymap.to_ours(key)
    return None if ours is None or isinstance(ours, Dropped) else gradients.get(ours)
