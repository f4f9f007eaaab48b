"""Opening a model to talk with, whatever it is: embedded, published, a folder, a file, or another library's."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huayu.chat.compiled import compile_blocks
from huayu.chat.model import ChatModel
from huayu.chat.options import ChatOptions, from_generation_config
from huayu.chat.size import set_image_size
from huayu.errors import CheckpointError, ModelError
from huayu.runtime.language import say

if TYPE_CHECKING:
    import torch

    from huayu.chat.backend import Backend
    from huayu.chat.viscpm import VisCPMBackend
    from huayu.checkpoints.find import Source
    from huayu.runtime.memory import Placement
    from huayu.safety import Guard

_LOG = logging.getLogger("huayu")
Progress = Callable[[int, int], None]


def load_chat(
    model: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    quantize: str | None = None,
    vocab: str | Path | None = None,
    placement: Placement | None = None,
    progress: Progress | None = None,
    safety: Guard | str | None = None,
    image_size: int | None = None,
    compile: bool = False,
) -> ChatModel:
    """A :class:`ChatModel`.

    ``model``: None (the one in the package), a name of ``huayu models``, a folder (of an adapter, too), a file of
    weights, or a hub id of any image-text-to-text model. ``device``: None takes CUDA or Apple's GPU if there is one.
    ``dtype``: None takes float32 on the CPU, else float16 (models of other libraries: as they were saved). ``vocab``: a
    published model's vocabulary file, if it is elsewhere. ``quantize``: ``"int8"`` or ``"int4"`` packs the language
    model's large matrices (see :mod:`huayu.quantization`). ``placement``: how much of the GPU it may fill; None reads
    ``CUDA_MEMORY_CPMBEE_MAX`` and ``CUDA_MEM_SAVE``. ``progress(done, total)`` is told bytes. ``safety``: what happens
    to unsafe questions and pictures (``"block"``, also as ``"default"``, ``"blur"``, ``"allow"``: see
    :class:`huayu.safety.Guard`), a guard of your own, or None for no checks. ``image_size``: pixels of a side that
    pictures are read with, a multiple of the model's patches; None is what it was trained with. ``compile``: the
    language model's blocks as one function: faster answers after a slow first one; needs a C++ compiler.

    Raises ModelError and CheckpointError; nothing half-loaded stays.
    """
    from huayu.checkpoints.adapters import find_adapter
    from huayu.checkpoints.find import locate
    from huayu.quantization.scopes import parse_bits
    from huayu.runtime.device import pick_device
    from huayu.safety import settle_guard

    where, adapter = pick_device(device), find_adapter(model)
    source = locate(adapter.base if adapter else model, kind="chat")
    bits, guard = None if quantize is None else parse_bits(quantize), settle_guard(safety, source.folder)
    if source.form == "folder" and source.family is None:
        backend: Any = _open_foreign(source, where, dtype, bits, placement)
    else:
        wishes = {"vocab": vocab, "placement": placement, "progress": progress}
        backend = open_own(source, device=where, dtype=dtype, bits=bits, **wishes)  # type: ignore[arg-type]
    if adapter:
        adapter.apply(backend.model)
        backend.name = adapter.name
    if image_size is not None:
        set_image_size(backend, image_size)
    if compile:
        compile_blocks(backend)
    return ChatModel(backend, guard)


def _open_foreign(source: Source, where: torch.device, dtype: Any, bits: int | None, placement: Any) -> Backend:
    import huayu.hf  # noqa: F401 (a Llava with queries is of a class of ours)
    from huayu.chat.huggingface import open_backend

    if bits:
        raise ModelError(
            f"huayu quantises its own families only, and {source.name} is another library's; try --dtype float16.",
            f"huayu 只量化自己的模型，而 {source.name} 属于其他库；可尝试 --dtype float16。",
        )
    return open_backend(source, where, dtype, _settle_placement(placement, where))


def open_viscpm(
    model: str | Path | Source | None, *, settings: dict[str, Any] | None = None, verbatim: bool = False
) -> VisCPMBackend:
    """The backend of a VisCPM-Chat model. Raises ModelError for another one.

    ``settings``: the published json of sizes, for a published file. ``verbatim``: texts go in and out as the published
    code had them.
    """
    from huayu.chat.viscpm import VisCPMBackend

    backend = open_own(model, settings=settings)
    if not isinstance(backend, VisCPMBackend):
        raise ModelError(f"{backend.name} is not VisCPM-Chat.", f"{backend.name} 不是 VisCPM-Chat。")
    backend.verbatim = verbatim
    return backend


def open_own(
    model: str | Path | Source | None,
    *,
    device: torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    bits: int | None = None,
    vocab: str | Path | None = None,
    placement: Placement | None = None,
    progress: Progress | None = None,
    settings: dict[str, Any] | None = None,
) -> Backend:
    """The backend of a model of one of our families; arguments as :func:`load_chat`.

    ``bits``: 8 or 4, to quantise the linears of the language model's blocks while they are read.
    """
    import huayu.hf  # noqa: F401 (lets the processor's folder be opened)
    from huayu.checkpoints.find import Source, locate
    from huayu.checkpoints.opening import open_model
    from huayu.quantization import while_loading
    from huayu.runtime.device import pick_device, pick_dtype
    from huayu.runtime.memory import guarded, place

    source = model if isinstance(model, Source) else locate(model, kind="chat")
    device = device or pick_device()
    placement = _settle_placement(placement, device)
    first = device if placement.is_plain else "cpu"
    with guarded():
        prepare = while_loading(bits) if bits else None
        number = pick_dtype(dtype, device)
        opened = open_model(source, number, first, progress=progress, settings=settings, prepare=prepare)
        if opened.family not in _BACKENDS:
            raise ModelError(f"{source.name} cannot talk about pictures.", f"{source.name} 不能看图对话。")
        backend = _BACKENDS[opened.family](source, opened.model, vocab)
        place(opened.model, device, placement, "language_model")
    return backend


def _viscpm(source: Source, model: Any, vocab: str | Path | None) -> Backend:
    from huayu.chat.viscpm import VisCPMBackend
    from huayu.models.viscpm_chat.checkpoint import MAX_PROMPT_TOKENS

    processor = open_processor(source, model.config, vocab)
    longest = min(MAX_PROMPT_TOKENS, int(processor.tokenizer.model_max_length))
    defaults = chat_defaults(source)
    return VisCPMBackend(model, processor, name=source.name, defaults=defaults, max_prompt_tokens=longest)


def _visualglm(source: Source, model: Any, vocab: str | Path | None) -> Backend:
    """Raises CheckpointError when there is no vocabulary, or one with more pieces than the model has rows."""
    from huayu.chat.visualglm import VisualGLMBackend
    from huayu.checkpoints.vocabulary import find_named
    from huayu.models.visualglm import VisualGLMProcessor, published

    if source.form == "folder" and vocab is None and (source.path / "processor_config.json").is_file():
        processor: Any = VisualGLMProcessor.from_pretrained(source.path, local_files_only=True)
    else:
        processor = published.processor(model.config, find_named(source.folder, published.VOCABULARY, vocab))
    found, rows = processor.tokenizer.vocab_size, model.config.text_config.vocab_size
    if found > rows:
        raise CheckpointError(
            f"The vocabulary has {found} tokens, but the model of {source.name} has {rows}.",
            f"词表有 {found} 个词元，而 {source.name} 的模型有 {rows} 个。",
        )
    return VisualGLMBackend(model, processor, name=source.name, defaults=chat_defaults(source, "visualglm"))


# Family → what makes the backend of an opened model.
_BACKENDS: dict[str, Callable[[Source, Any, str | Path | None], Backend]] = {
    "viscpm_chat": _viscpm,
    "visualglm": _visualglm,
}


def _settle_placement(placement: Placement | None, device: torch.device) -> Placement:
    """The caller's, or the environment's; a plain one, with a word, where there is no CUDA to share."""
    from huayu.runtime.memory import Placement, placement_from_environment

    placement = placement_from_environment() if placement is None else placement
    if placement.is_plain or device.type == "cuda":
        return placement
    _LOG.warning(
        "%s",
        say(
            f"CUDA_MEMORY_CPMBEE_MAX and CUDA_MEM_SAVE have no effect on {device.type}: the model is in main memory.",
            f"CUDA_MEMORY_CPMBEE_MAX 与 CUDA_MEM_SAVE 对 {device.type} 无效：模型全部在主内存中。",
        ),
    )
    return Placement()


def open_processor(source: Source, config: Any, vocab: str | Path | None) -> Any:
    """The processor beside the weights, or one made of ``config`` and the vocabulary that is found.

    Raises CheckpointError when there is no vocabulary, or one of another size.
    """
    from huayu.chat.viscpm import PUBLISHED_TOKENS
    from huayu.checkpoints.vocabulary import BEE_MD5, find_vocabulary
    from huayu.models.viscpm_chat import published
    from huayu.models.viscpm_chat.processing import VisCPMChatProcessor

    own = source.form == "folder" and (source.path / "processor_config.json").is_file()
    if own and vocab is None and (source.path / "vocab.txt").is_file():
        processor = VisCPMChatProcessor.from_pretrained(source.path, local_files_only=True)
    else:
        size = config.text_config.vocab_size
        md5 = BEE_MD5 if size == PUBLISHED_TOKENS else None
        processor = published.processor(config, find_vocabulary(source.path, vocab, md5))
    found, wanted = len(processor.tokenizer.vocabulary), config.text_config.vocab_size
    if found != wanted:
        raise CheckpointError(
            f"The vocabulary has {found} tokens, but the model of {source.name} has {wanted}.",
            f"词表有 {found} 个词元，而 {source.name} 的模型有 {wanted} 个。",
        )
    return processor


def chat_defaults(source: Source, family: str = "viscpm_chat") -> ChatOptions:
    """How a model answers when nothing is asked for.

    The ``chat`` part of ``generation_config.json``, which holds fields of :class:`ChatOptions`; else the library's own
    fields there; for published files the published settings. Source: spec viscpm §3.4, visualglm §7.
    """
    path = source.folder / "generation_config.json"
    if source.form == "state_dict":
        checkpoint = import_module(f"huayu.models.{family}.checkpoint")
        return ChatOptions(**{"search": "beam", **checkpoint.PUBLISHED_GENERATION})
    if not path.is_file():
        return ChatOptions(search="greedy")
    try:
        settings = json.loads(path.read_text("utf-8"))
        return ChatOptions(**settings["chat"]) if "chat" in settings else from_generation_config(settings)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not right: {error}.", f"{path} 有误：{error}。") from error
