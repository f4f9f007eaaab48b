"""Opening a pipeline: our folder, or the published flat file with a VAE from elsewhere. Every key is accounted for."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import schedulers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from huayu.checkpoints import pipelines
from huayu.checkpoints.find import Source, locate
from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.loading import load_into
from huayu.checkpoints.opening import blueprint, settings_beside
from huayu.checkpoints.reader import LazyTensors, open_tensors
from huayu.checkpoints.report import KeyReport, account
from huayu.checkpoints.vocabulary import find_bee
from huayu.errors import CheckpointError, ModelError
from huayu.models.cpm_bee.configuration import CpmBeeConfig
from huayu.models.cpm_bee.modeling import CpmBeeModel
from huayu.models.cpm_bee.tokenization import CpmBeeTokenizer
from huayu.models.viscpm_paint.checkpoint import PARTS, PUBLISHED_DEFAULTS, PUBLISHED_NOISE, VAE_KEYMAP
from huayu.models.viscpm_paint.conditioning import CanvasHead, ConditioningHead
from huayu.models.viscpm_paint.pipeline import VisCPMPaintPipeline
from huayu.models.viscpm_paint.prompts import PromptEncoder
from huayu.models.viscpm_paint.published import published_vae
from huayu.models.viscpm_paint.schedulers import SCHEDULERS, make_scheduler
from huayu.models.viscpm_paint.vae import find_vae

Progress = Callable[[int, int], None]
Dtype = torch.dtype | Mapping[str, torch.dtype] | None

# In the order they are opened: what reads comes first, and may be gone before what paints is there.
_READS, _PAINTS = ("text_encoder", "conditioning_head"), ("canvas", "unet", "vae")
_CLASSES: dict[str, Any] = {
    "conditioning_head": ConditioningHead,
    "canvas": CanvasHead,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}
_SCHEDULERS = tuple(kind.__name__ for kind, _ in SCHEDULERS.values())


def open_pipeline(
    source: Source | str | Path | None = None,
    dtype: Dtype = None,
    device: torch.device | str = "cpu",
    *,
    vocab: str | Path | None = None,
    vae: str | Path | None = None,
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
    texts: Sequence[str] | None = None,
    mmap: bool = False,
) -> VisCPMPaintPipeline:
    """A pipeline ready to paint; nothing of the checkpoint is executed.

    ``dtype``: of all parts, or by part (``{"text_encoder": torch.float16, "": torch.float32}`` is what the published
    code has; ``""`` means all others); None: as stored. ``vocab``, ``vae``: vocabulary file, and folder or file of the
    VAE, of a published file where they do not lie beside it. ``settings``: sizes other than the published; None: of the
    json beside the file, if any. ``texts``: prompts and negative prompts to encode at once; the text encoder is then
    let go before the UNet is read, so that the two are never in memory together, and only these texts can be painted.
    ``mmap`` as :func:`load_into`. ``progress(done, total)`` counts bytes.

    Raises CheckpointError naming what does not fit; ModelError for a folder that is not such a pipeline.
    """
    source = source if isinstance(source, Source) else locate(source, kind="paint")
    plan = _of_folder(source) if source.form == "folder" else _of_file(source, vocab, vae, settings)
    fill = _Filler(plan, dtype, torch.device(device), mmap, progress)
    parts = {name: fill(name) for name in _READS}
    encoder = PromptEncoder()
    if texts is not None:
        encoder.encode_typed(texts, plan.tokenizer, parts["text_encoder"], parts["conditioning_head"])
        parts["text_encoder"] = None
        plan.models.pop("text_encoder")
        gc.collect()
    parts |= {name: fill(name) for name in _PAINTS if name in plan.models}
    pipeline = VisCPMPaintPipeline(
        tokenizer=plan.tokenizer, scheduler=plan.scheduler, paint_defaults=plan.defaults, **parts
    )
    pipeline._texts = encoder
    return pipeline


def account_parts(source: Source) -> KeyReport:
    """What would become of every key of our folder, or of a published file without its VAE; names begin with the part.

    Raises as :func:`open_pipeline`, but for keys and shapes.
    """
    if source.form != "folder":
        return blueprint(source).account()
    plan = _of_folder(source)
    whole = KeyReport()
    for part, model in plan.models.items():
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        one = account(expected, plan.tensors[part].shapes)
        whole = KeyReport(
            {**whole.loaded, **{f"{part}.{ours}": f"{part}.{key}" for ours, key in one.loaded.items()}},
            missing=[*whole.missing, *(f"{part}.{name}" for name in one.missing)],
            unexpected=[*whole.unexpected, *(f"{part}.{name}" for name in one.unexpected)],
            misshapen={**whole.misshapen, **{f"{part}.{name}": shapes for name, shapes in one.misshapen.items()}},
        )
    return whole


class _Plan:
    """Parts on the meta device beside the tensors that fill them."""

    def __init__(self, tokenizer: CpmBeeTokenizer, scheduler: Any, defaults: dict[str, Any]) -> None:
        self.tokenizer, self.scheduler, self.defaults = tokenizer, scheduler, defaults
        self.models: dict[str, nn.Module] = {}
        self.tensors: dict[str, LazyTensors] = {}
        self.keymaps: dict[str, KeyMap | None] = {}

    def add(self, name: str, model: nn.Module, tensors: LazyTensors, keymap: KeyMap | None = None) -> None:
        self.models[name], self.tensors[name], self.keymaps[name] = model, tensors, keymap


class _Filler:
    """Fills one part after the other."""

    def __init__(self, plan: _Plan, dtype: Dtype, device: torch.device, mmap: bool, progress: Progress | None) -> None:
        self.plan, self.dtype, self.device, self.mmap, self.progress = plan, dtype, device, mmap, progress
        self.done, self.total = 0, sum(tensors.nbytes for tensors in plan.tensors.values())

    def __call__(self, name: str) -> Any:
        model, tensors = self.plan.models[name], self.plan.tensors[name]
        dtype = self.dtype.get(name, self.dtype.get("")) if isinstance(self.dtype, Mapping) else self.dtype

        def told(done: int, total: int) -> None:
            if self.progress:
                self.progress(self.done + tensors.nbytes * done // max(total, 1), self.total)

        load_into(model, tensors, self.plan.keymaps[name], dtype, self.device, mmap=self.mmap, progress=told)
        self.done += tensors.nbytes
        return model.eval().requires_grad_(False)


def _of_folder(source: Source) -> _Plan:
    if source.family != "viscpm_paint":
        raise ModelError(f"{source.name} is not a VisCPM-Paint pipeline.", f"{source.name} 不是 VisCPM-Paint 管线。")
    folder = source.path
    index = pipelines.index(folder)
    try:
        plan = _Plan(
            CpmBeeTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            _scheduler(folder / "scheduler", index),
            dict(index.get("paint_defaults") or {}),
        )
        for name in (*_READS, *_PAINTS):
            if name != "canvas" or all(index.get(name) or [None]):
                plan.add(name, _on_meta(name, folder / name), open_tensors(folder / name))
    except (OSError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}.", f"{folder} 已损坏：{error}。") from error
    return plan


def _on_meta(name: str, folder: Path) -> nn.Module:
    with torch.device("meta"):
        if name == "text_encoder":
            return CpmBeeModel(CpmBeeConfig.from_pretrained(folder, local_files_only=True))
        return _CLASSES[name].from_config(json.loads((folder / "config.json").read_text("utf-8")))


def _scheduler(folder: Path, index: Mapping[str, Any]) -> Any:
    """The scheduler of a folder, when it is one of those we know by name."""
    name = (index.get("scheduler") or [None, None])[1]
    if name not in _SCHEDULERS:
        raise ValueError(f"its scheduler is {name}; known: {', '.join(_SCHEDULERS)}")
    return getattr(schedulers, name).from_config(json.loads((folder / "scheduler_config.json").read_text("utf-8")))


def _of_file(
    source: Source, vocab: str | Path | None, vae: str | Path | None, settings: Mapping[str, Any] | None
) -> _Plan:
    settings = settings or settings_beside(source.folder) or {}
    drawn = blueprint(source, dict(settings))
    if drawn.family != "viscpm_paint":
        raise ModelError(f"{source.name} cannot paint.", f"{source.name} 不能作画。")
    drawn.account().require(str(source.path))
    whole: Any = drawn.model
    size = whole.config.text.vocab_size
    tokenizer = CpmBeeTokenizer(str(find_bee(source.path, vocab, size)))
    if len(tokenizer.vocabulary) != size:
        raise CheckpointError(
            f"The vocabulary has {len(tokenizer.vocabulary)} tokens, but the model of {source.name} has {size}.",
            f"词表有 {len(tokenizer.vocabulary)} 个词元，而 {source.name} 的模型有 {size} 个。",
        )
    said = {**PUBLISHED_DEFAULTS, **settings.get("paint_defaults", {})}
    plan = _Plan(tokenizer, make_scheduler(said["scheduler"], PUBLISHED_NOISE), said)
    for name, prefix in (("text_encoder", "llm."), ("conditioning_head", "trans_block."), ("unet", "unet.")):
        entries = {key: entry for key, entry in drawn.tensors.entries.items() if key.startswith(prefix)}
        own = KeyMap.of(
            (theirs, ours.removeprefix(f"{name}.")) for theirs, ours in PARTS.rules if theirs.startswith(prefix)
        )
        plan.add(name, getattr(whole, name), LazyTensors(entries, drawn.tensors.files, drawn.tensors.mapped), own)
    file = find_vae(source.folder, vae)
    plan.add("vae", published_vae(settings.get("vae")), open_tensors(file), VAE_KEYMAP)
    return plan
