"""Published state dict ⇄ our folder, and either to another dtype: streamed, checked, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from huayu.checkpoints import atomic, beside, checksums, formats, pipelines, sniff, writer
from huayu.checkpoints.find import Source, families, kind_of, locate
from huayu.checkpoints.keymap import Dropped
from huayu.checkpoints.lora import Lora, write_peft
from huayu.checkpoints.opening import Blueprint, blueprint
from huayu.checkpoints.reader import LazyTensors, open_tensors
from huayu.checkpoints.report import KeyReport
from huayu.checkpoints.vocabulary import find_bee, find_named
from huayu.errors import CheckpointError, ModelError
from huayu.runtime.device import pick_dtype
from huayu.runtime.memory import parse_size

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Converted:
    """What was written. ``notes``: (English, Chinese) sentences the user should read."""

    path: Path
    report: KeyReport
    nbytes: int
    notes: tuple[tuple[str, str], ...]


def convert(
    src: str | Path | Source,
    dst: str | Path,
    dtype: torch.dtype | str | None = None,
    max_shard_size: int | str = "2GB",
    *,
    vocab: str | Path | None = None,
    keep_dropped: bool = True,
    to: str | None = None,
    keep_lora: bool = False,
    prepare: Callable[[Blueprint], Blueprint] | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Write the model ``src`` to ``dst``: a ``.pt``/``.bin``/``.pth`` file with the published names, else our folder.

    ``to``: a folder in a published format instead, ``"hf"`` (shards of Hugging Face) or ``"sat"``
    (SwissArmyTransformer), of a family that has them. ``keep_lora``: LoRA pairs of a fine-tuned sat checkpoint stay
    apart, as a PEFT adapter in ``adapter/``; else they are merged. ``prepare`` changes what is written, as
    :func:`huayu.quantization.while_loading` does.

    ``dtype`` of all floating tensors; None keeps what the source has. ``max_shard_size`` in bytes, or ``"2GB"``.
    ``keep_dropped``: published tensors that our models do not use go to ``dropped.safetensors`` in the folder, so that
    the way back gives the published file again. The source's licence and readme are copied; every file's SHA-256 goes
    to ``checksums.json``. ``progress(done, total)`` counts bytes.

    Memory: one tensor. Raises CheckpointError when a key is not accounted for, when ``dst`` exists, when the disk has
    not enough room; ModelError for a model of another library. What fails leaves nothing behind.
    """
    dst = _free(Path(dst).expanduser())
    source = src if isinstance(src, Source) else locate(src, kind_of(src))
    chosen = None if dtype is None else pick_dtype(dtype, torch.device("cpu"))
    size = parse_size(max_shard_size) if isinstance(max_shard_size, str) else max_shard_size
    to_file = dst.suffix in sniff.STATE_DICT_SUFFIXES
    plan = None if (source.path / pipelines.INDEX).is_file() else blueprint(source)
    if plan is None or (plan.family == "viscpm_paint" and not to_file):  # the folder of a pipeline is several models
        if prepare:
            raise ModelError(f"{source.name} cannot be quantised by huayu.", f"huayu 不能量化 {source.name}。")
        conversion = import_module(f"{families()['viscpm_paint']}.conversion")
        return Converted(dst, *conversion.convert(source, dst, chosen, size, vocab, progress))
    _require_format(to, plan.family, to_file)
    plan, loras = formats.without_lora(plan) if keep_lora else (plan, {})
    plan = prepare(plan) if prepare else plan
    report = plan.account()
    report.require(str(plan.source.path))
    job = _Job(plan, report, dst, chosen, progress)
    if to_file or to is not None:
        return job.to_published(to or "file", size, vocab)
    return job.to_folder(size, vocab, keep_dropped, loras)


def _free(dst: Path) -> Path:
    if dst.is_file() or (dst.is_dir() and any(dst.iterdir())):
        raise CheckpointError(f"{dst} exists already.", f"{dst} 已存在。")
    if dst.suffix == ".safetensors":
        raise CheckpointError(f"{dst}: name a folder, or a .pt file.", f"{dst}：请给出文件夹名或 .pt 文件名。")
    return dst


def _require_format(to: str | None, family: str, to_file: bool) -> None:
    if to is not None and (to_file or to not in formats.of(family)):
        known = ", ".join(formats.of(family)) or "–"
        raise CheckpointError(
            f"{to!r} is no folder of {family}; there are: {known}.", f"{family} 没有 {to!r} 格式；可用：{known}。"
        )


@dataclass
class _Job:
    plan: Blueprint
    report: KeyReport
    dst: Path
    dtype: torch.dtype | None
    progress: Progress | None
    done: int = 0
    total: int = 0

    def to_folder(
        self, max_shard_size: int, vocab: str | Path | None, keep_dropped: bool, loras: dict[str, Lora]
    ) -> Converted:
        tensors = self.plan.tensors
        todo = writer.items(tensors, dict(self.report.loaded), self.dtype)
        extra, extra_tensors = self._dropped() if keep_dropped else ([], tensors)
        self._start([*todo, *extra])
        notes: list[tuple[str, str]] = []
        with atomic.replacing(self.dst) as aside:
            aside.mkdir()
            digests = writer.write_folder(aside, tensors, todo, max_shard_size, self._told)
            if extra:
                path = aside / sniff.DROPPED_FILE
                digests[path.name] = writer.write_safetensors(path, extra_tensors, extra, self._told)
                notes.append(_kept_note(len(extra)))
            if self.plan.keymap is None:
                made = any(entry.computed for entry in tensors.entries.values())  # quantised as they are read
                same = not made and self.dtype in (None, tensors.dtype)
                beside.copy_all(self.plan.source.folder, aside, same_numbers=same)
                if made:
                    self._write_config(aside)
            else:
                notes += self._write_family_files(aside, vocab)
                formats.keep_settings(aside, self.plan)
            if loras:
                write_peft(aside / "adapter", loras, self.dst.name)
            self._set_config(aside)
            beside.copy_licences(self.plan, aside, self.dst.name)
            checksums.write_checksums(aside, digests)
        return Converted(self.dst, self.report, self.total, tuple(notes))

    def to_published(self, form: str, max_shard_size: int, vocab: str | Path | None) -> Converted:
        """Under the published names: one file, or a folder as ``form`` ("hf", "sat") has it."""
        tensors, keymap = formats.as_published(self.plan, self.report, form)
        todo = writer.items(tensors, {name: name for name in tensors}, self.dtype)
        extra, extra_tensors = self._dropped()
        extra = [item for item in extra if isinstance(keymap.to_ours(item.name), Dropped)]
        self._start([*todo, *extra])
        pairs = [(tensors, item) for item in todo] + [(extra_tensors, item) for item in extra]
        scratch = sum(item.nbytes for part, item in pairs if writer.needs_scratch(part, item))
        atomic.require_space(self.dst, self.total + scratch)
        with atomic.replacing(self.dst) as aside:
            try:
                formats.write(aside, self.plan, pairs, form, max_shard_size, self._told)
            except RuntimeError as error:
                raise CheckpointError(
                    f"{self.dst} was not written: {error}.", f"{self.dst} 没有写成：{error}。"
                ) from error
            if form != "file":
                formats.write_vocabulary(aside, self.plan, vocab)
                beside.copy_licences(self.plan, aside, self.dst.name)
        absent = [name for name in keymap.dropped if "{n}" not in name and name not in {item.name for item in extra}]
        notes = [_absent_note(absent)] if absent else []
        return Converted(self.dst, self.report, self.total, tuple(notes))

    def _dropped(self) -> tuple[list[writer.Item], LazyTensors]:
        """Tensors the model does not use, under their published names, and where they are read from."""
        if self.plan.keymap is not None:
            names = {key: key for key in self.report.dropped}
            return writer.items(self.plan.tensors, names, self.dtype), self.plan.tensors
        path = self.plan.source.folder / sniff.DROPPED_FILE
        if not path.is_file():
            return [], self.plan.tensors
        tensors = open_tensors(path)
        return writer.items(tensors, {key: key for key in tensors}, self.dtype), tensors

    def _start(self, todo: list[writer.Item]) -> None:
        self.total = sum(item.nbytes for item in todo)
        atomic.require_space(self.dst, self.total)

    def _told(self, nbytes: int) -> None:
        self.done += nbytes
        if self.progress:
            self.progress(self.done, self.total)

    def _write_family_files(self, aside: Path, vocab: str | Path | None) -> list[tuple[str, str]]:
        model = self._write_config(aside)
        model.generation_config.save_pretrained(aside)
        published = import_module(f"{families()[self.plan.family]}.published")
        try:
            if name := getattr(published, "VOCABULARY", None):
                path = find_named(self.plan.source.folder, name, vocab)
            else:
                path = find_bee(self.plan.source.path, vocab, model.config.get_text_config().vocab_size)
        except CheckpointError as error:
            if vocab is not None:
                raise
            return [(error.en, error.zh)]
        published.processor(model.config, path).save_pretrained(aside)
        return []

    def _write_config(self, aside: Path) -> Any:
        model: Any = self.plan.model
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(aside)
        return model

    def _set_config(self, aside: Path) -> None:
        path = aside / "config.json"
        config = json.loads(path.read_text("utf-8"))
        config["dtype"] = str(self.dtype or self.plan.tensors.dtype).removeprefix("torch.")
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _kept_note(count: int) -> tuple[str, str]:
    return (
        f"{count} published tensors that the model does not use were kept in {sniff.DROPPED_FILE}.",
        f"模型不使用的 {count} 个已发布张量保留在 {sniff.DROPPED_FILE} 中。",
    )


def _absent_note(names: list[str]) -> tuple[str, str]:
    listed = ", ".join(names)
    return (
        f"Not in the file, because the source does not have them: {listed}. huayu does not need them; the published "
        f"code loads strictly and would.",
        f"源中没有、因此文件中也没有：{listed}。huayu 不需要它们；原发布代码严格加载时需要。",
    )
