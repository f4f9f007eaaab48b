"""From a :class:`Source` to a model: the family is recognised, built on the meta device, and filled.

What is used of a family's package (``huayu.models.<family>``): the model class that config.json names; and for
published state dicts ``checkpoint.KEYMAP``, ``checkpoint.SIGNATURE`` (keys that tell the family),
``published.MODEL`` (the class's name), ``published.configure(shapes, settings)`` and ``published.processor``. A family
with several published formats has ``published.SIGNATURES``, one for each, ``published.keymap(config, names)`` and
``published.prepare(tensors)`` instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from huayu.checkpoints import sat
from huayu.checkpoints.find import Source, families, read_config
from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.loading import Progress, load_into
from huayu.checkpoints.ranks import open_sat
from huayu.checkpoints.reader import LazyTensors, open_tensors
from huayu.checkpoints.recast import taken_apart
from huayu.checkpoints.report import KeyReport, account
from huayu.errors import CheckpointError, ModelError


@dataclass(frozen=True)
class Blueprint:
    """A model on the meta device beside the tensors that are to fill it; nothing has been read yet.

    ``keymap`` is None when the tensors have the model's own names; ``settings`` is the published json, if any.
    """

    source: Source
    family: str
    model: nn.Module
    tensors: LazyTensors
    keymap: KeyMap | None
    settings: dict[str, Any] | None = None

    def account(self) -> KeyReport:
        """What would become of every key."""
        expected = {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}
        return account(expected, self.tensors.shapes, self.keymap)


@dataclass(frozen=True)
class Opened:
    """A filled model in evaluation mode, and the account of its keys."""

    model: nn.Module
    family: str
    report: KeyReport


def open_model(
    source: Source,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    *,
    mmap: bool = False,
    progress: Progress | None = None,
    settings: dict[str, Any] | None = None,
    prepare: Callable[[Blueprint], Blueprint] | None = None,
) -> Opened:
    """Open one of our folders or a published state dict; arguments and errors as :func:`loading.load_into`.

    The family of a state dict is told by its keys, its sizes by its shapes and ``settings``, a published json of sizes
    (None: the one beside it, if any). ``prepare`` changes the plan before anything is read, as
    :func:`huayu.quantization.while_loading` does. Raises ModelError for a folder of another library's model: that is
    for the library's own classes to open.
    """
    plan = blueprint(source, settings)
    plan = prepare(plan) if prepare else plan
    report = load_into(plan.model, plan.tensors, plan.keymap, dtype, device, mmap=mmap, progress=progress)
    config: Any = plan.model.config
    config.dtype = dtype or plan.tensors.dtype
    return Opened(plan.model.eval(), plan.family, report)


def blueprint(source: Source, settings: dict[str, Any] | None = None) -> Blueprint:
    """Recognise the family, build its model on the meta device and open the tensors, without reading them.

    What a published chat always asked of its search becomes the ``chat`` part of the model's generation settings.
    """
    tensors = open_sat(source.path) if sat.is_sat(source.path) else open_tensors(source.path)
    if source.form == "folder":
        return _of_folder(source, tensors)
    name, checkpoint = published_family(tensors, source)
    published = import_module(f"{families()[name]}.published")
    settings = settings or settings_beside(source.folder)
    try:
        tensors = published.prepare(tensors) if hasattr(published, "prepare") else tensors
        config = published.configure(tensors.shapes, settings)
    except KeyError as error:
        raise CheckpointError(
            f"{source.path} does not fit: 1 missing ({error.args[0]}).", f"{source.path} 不匹配：缺少 {error.args[0]}。"
        ) from error
    model: Any = build(import_module(families()[name]), published.MODEL, config)
    if search := getattr(checkpoint, "PUBLISHED_GENERATION", None):
        model.generation_config.chat = {"search": "beam", **search}
        model.generation_config._from_model_config = False  # else the library makes it anew and forgets this part
    keymap = published.keymap(config, tensors) if hasattr(published, "keymap") else checkpoint.KEYMAP
    return Blueprint(source, name, model, taken_apart(tensors, keymap), keymap, settings)


def build(package: ModuleType, class_name: str, config: Any) -> nn.Module:
    """The model on the meta device: no memory, no random numbers."""
    with torch.device("meta"):
        return getattr(package, class_name)(config)


def published_family(tensors: LazyTensors, source: Source) -> tuple[str, ModuleType]:
    """Name and ``checkpoint`` module of the family whose signature keys are all there. Raises CheckpointError."""
    for name, package in families().items():
        if find_spec(f"{package}.published"):
            module = import_module(f"{package}.checkpoint")
            published = import_module(f"{package}.published")
            signatures = getattr(published, "SIGNATURES", None) or (module.SIGNATURE,)
            if any(all(key in tensors.entries for key in signature) for signature in signatures):
                return name, module
    first = ", ".join(list(tensors)[:3])
    raise CheckpointError(
        f"{source.path} is a state dict of no model that huayu knows; its keys begin with {first}.",
        f"{source.path} 不属于 huayu 认识的任何模型；它的键如 {first}。",
    )


def _of_folder(source: Source, tensors: LazyTensors) -> Blueprint:
    if source.family is None:
        raise ModelError(f"{source.path} is not one of huayu's own models.", f"{source.path} 不是 huayu 自己的模型。")
    package = import_module(families()[source.family])
    settings = read_config(source.path) or {}
    class_name = next(iter(settings.get("architectures") or ()), "")
    model_class: Any = getattr(package, class_name, None) if class_name in package.__all__ else None
    is_model = isinstance(model_class, type) and issubclass(model_class, nn.Module)
    if not is_model:
        raise CheckpointError(
            f"{source.path / 'config.json'} names no class of {source.family}: {class_name or 'none'}.",
            f"{source.path / 'config.json'} 没有给出 {source.family} 的模型类：{class_name or '无'}。",
        )
    try:
        config = model_class.config_class.from_pretrained(source.path, local_files_only=True)
        model: Any = build(package, class_name, config)
        if (source.path / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(source.path, local_files_only=True)
    except (OSError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"{source.path}: its config.json or generation_config.json is not right: {error}.",
            f"{source.path} 的 config.json 或 generation_config.json 有误：{error}。",
        ) from error
    return Blueprint(source, source.family, model, tensors, None)


def settings_beside(folder: Path) -> dict[str, Any] | None:
    """A published json of sizes beside the weights, if there is one (a hub's config.json of other names is not)."""
    for path in sorted(folder.glob("*.json")):
        try:
            settings = json.loads(path.read_text("utf-8")) if path.stat().st_size < 100_000 else None
        except (OSError, ValueError):
            continue
        if isinstance(settings, dict) and any(_is_sizes(name, settings) for name in ("llm", "eva_config", "eva_args")):
            return settings
    return None


def _is_sizes(part: str, settings: dict[str, Any]) -> bool:
    return "dim_model" in settings or isinstance(settings.get(part), dict)
