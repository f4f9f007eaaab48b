"""From what a user calls a model to files on this disk. No torch."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from huayu import embedded
from huayu.checkpoints import hub, pipelines, published, sat, sniff
from huayu.errors import CheckpointError, ModelError


@dataclass(frozen=True)
class Source:
    """Where a model lies.

    ``form``: ``"folder"`` (config.json or a pipeline's model_index.json, and weights under their model's own names) or
    ``"state_dict"`` (weights under the published names). ``path``: that folder, or the file of weights. ``family``: a
    key of the table of families; None for a folder of another library's model, or for a file whose keys have not been
    looked at. ``name``: what it was asked for by. ``revision``: the commit, for what came from a hub.
    """

    path: Path
    form: str
    family: str | None
    name: str
    revision: str | None = None

    @property
    def folder(self) -> Path:
        """The folder that holds the files beside the weights."""
        return self.path if self.path.is_dir() else self.path.parent


def locate(name: str | Path | None = None, kind: str = "chat") -> Source:
    """Find a model: None (the embedded one), an embedded name, a folder, a file, a published name, or a hub id.

    A hub id is ``owner/name``, with ``/file`` for one of several files of weights and ``@revision`` for a version; what
    exists on the disk goes before the hub. Raises ModelError for a name that is none of these, CheckpointError for
    files that are missing, half downloaded or foreign.
    """
    if name is None:
        name = embedded.default(kind)
        if name is None:
            raise ModelError(f"No model for {kind} is in the package.", f"软件包中没有用于 {kind} 的模型。")
    text = str(name)
    if text in embedded.EMBEDDED:
        return _embedded(text, kind)
    path = Path(name).expanduser()
    if not path.exists() and (home := sat.in_home(text)):
        path = home
    if path.is_dir():
        return _of_kind(_in_folder(path, text), kind)
    if path.is_file():
        return _in_file(path, text)
    if _looks_like_a_path(name, text):
        raise CheckpointError(f"There is no file or folder {text}.", f"没有文件或文件夹 {text}。")
    return _of_kind(_from_hub(text, kind), kind)


def kind_of(name: str | Path) -> str:
    """What a model is for, as far as its name or its folder says: ``"paint"``, else ``"chat"``."""
    known = published.by_name(str(name).partition("@")[0])
    if known is not None:
        return known.kind
    return (
        "paint" if (Path(name).expanduser() / pipelines.INDEX).is_file() else embedded.EMBEDDED.get(str(name), "chat")
    )


def read_config(folder: Path) -> dict[str, Any] | None:
    """``config.json`` of a folder; None when there is none. CheckpointError when it is not a JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is damaged: it is not a JSON object.", f"{path} 已损坏：不是 JSON 对象。")
    return config


def _embedded(name: str, kind: str) -> Source:
    if embedded.EMBEDDED[name] != kind:
        raise ModelError(f"{name} is not a model for {kind}.", f"{name} 不是用于 {kind} 的模型。")
    folder = embedded.folder(name)
    if not any((folder / index).is_file() for index in ("config.json", pipelines.INDEX)):
        raise ModelError(f"The weights of {name} are not in this installation.", f"此安装中没有 {name} 的权重。")
    return _in_folder(folder, name)


def _of_kind(source: Source, kind: str) -> Source:
    if kind == "chat" and (source.path / pipelines.INDEX).is_file():
        raise ModelError(f"{source.name} is not a model for chat.", f"{source.name} 不是用于 chat 的模型。")
    return source


def _in_folder(folder: Path, name: str, revision: str | None = None) -> Source:
    if (folder / pipelines.INDEX).is_file():
        pipelines.require_complete(folder)
        ours = pipelines.class_of(folder) == "VisCPMPaintPipeline"
        return Source(folder, "folder", "viscpm_paint" if ours else None, name, revision)
    if sat.is_sat(folder):
        return Source(folder, "state_dict", None, name, revision)
    config = read_config(folder)
    model_type = str((config or {}).get("model_type", ""))
    if _is_published(config or {}):
        weights = sniff.weight_files(folder).files
        family = published.PUBLISHED_MODEL_TYPES.get(model_type)
        return Source(weights[0] if len(weights) == 1 else folder, "state_dict", family, name, revision)
    family = model_type if model_type in families() else None
    if family:
        sniff.weight_files(folder)
    return Source(folder, "folder", family, name, revision)


def _is_published(config: dict[str, Any]) -> bool:
    """Whether a folder with this ``config.json`` holds weights under their published names.

    The published chatglm counts its layers by another name than ours. Source: spec visualglm §1.
    """
    model_type = str(config.get("model_type", ""))
    glm = model_type == "chatglm" and "num_layers" in config and "num_hidden_layers" not in config
    return glm or not model_type or model_type in published.PUBLISHED_MODEL_TYPES


def _in_file(path: Path, name: str, revision: str | None = None) -> Source:
    if path.suffix not in sniff.WEIGHT_SUFFIXES:
        raise CheckpointError(
            f"{path} is not a file of weights; accepted are {', '.join(sniff.WEIGHT_SUFFIXES)} and folders.",
            f"{path} 不是权重文件；可接受 {'、'.join(sniff.WEIGHT_SUFFIXES)} 及文件夹。",
        )
    sniff.file_kind(path)
    config = read_config(path.parent) or {}
    model_type = str(config.get("model_type", ""))
    if path.name == "model.safetensors" and not _is_published(config):
        return _in_folder(path.parent, name, revision)
    return Source(path, "state_dict", published.PUBLISHED_MODEL_TYPES.get(model_type), name, revision)


def _from_hub(text: str, kind: str) -> Source:
    match = hub.HUB_ID.fullmatch(text)
    known = published.by_name(text if match is None else match["repo"])
    if known is None and match is None:
        close = difflib.get_close_matches(text, published.names(), n=2, cutoff=0.5) or published.names()[:3]
        raise ModelError(
            f"There is no model called {text}. Names look like {', '.join(close)}; a path or a hub id is good too.",
            f"没有名为 {text} 的模型。可用的名称如 {'、'.join(close)}；也可给出路径或 hub id。",
        )
    if known is not None and known.kind != kind:
        raise ModelError(f"{known.name} is not a model for {kind}.", f"{known.name} 不是用于 {kind} 的模型。")
    file, revision = (match["file"], match["revision"]) if match else (None, None)
    files = (file,) if file else known.files if known else ()
    repo = known.repository if known else str(match and match["repo"])
    fetched = hub.fetch(repo, revision, files)
    if len(files) == 1:
        return _in_file(fetched.folder / files[0], text, fetched.revision)
    return _in_folder(fetched.folder, text, fetched.revision)


def _looks_like_a_path(name: str | Path, text: str) -> bool:
    return (
        isinstance(name, Path)
        or text.startswith(("/", ".", "~"))
        or "\\" in text
        or text.count("/") > 2
        or (text.endswith(sniff.WEIGHT_SUFFIXES) and text.count("/") < 2)
    )


def families() -> dict[str, str]:
    """Family → package. A new family is one line there."""
    # Named by a string: the table of families is a layer above, and reading it imports no family.
    return import_module("huayu.models.families").FAMILIES
