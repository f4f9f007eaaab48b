"""Models by hub id: the local cache first, then the endpoints in order. Weights and small text only, never code."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huayu.checkpoints import pipelines, sniff
from huayu.errors import CheckpointError, ModelError

HOME_ENDPOINT = "https://huggingface.co"
DEFAULT_ENDPOINTS = (HOME_ENDPOINT, "https://hf-mirror.com")
# owner/name, then optionally /file-in-the-repository, then optionally @revision
HUB_ID = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:/(?P<file>[\w][\w.-]*))?(?:@(?P<revision>[\w.-]+))?")
_TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".md")
_TEXT_NAMES = ("LICENSE", "LICENCE", "NOTICE")
_SECONDS = 15.0


@dataclass(frozen=True)
class Fetched:
    """A repository's files on this disk. ``revision`` is the commit where it is known."""

    folder: Path
    revision: str


def offline() -> bool:
    """Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network."""
    values = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value in ("1", "ON", "YES", "TRUE") for value in values)


def endpoints() -> list[str]:
    """Where to ask, in order: HF_ENDPOINT if set; then HUAYU_MIRRORS (comma-separated), or the default two."""
    first = os.environ.get("HF_ENDPOINT", "")
    listed = os.environ.get("HUAYU_MIRRORS")
    rest = listed.split(",") if listed is not None else DEFAULT_ENDPOINTS
    return list(dict.fromkeys(url.strip().rstrip("/") for url in (first, *rest) if url.strip()))


def fetch(repo: str, revision: str | None = None, files: Sequence[str] = ()) -> Fetched:
    """The repository's weights and small text files in the local hub cache, downloaded when they are not there.

    ``files``: the weights to take; empty: those that the usual names say. A complete copy in the cache is used as it
    is, without asking the network. Raises CheckpointError when the cache has no complete copy and the network is
    forbidden or no endpoint gives one, naming each endpoint and its answer; ModelError when the repository has no
    weights that huayu opens.
    """
    found, reason = _cached(repo, revision or "main", files)
    if found:
        return found
    if offline():
        raise CheckpointError(
            f"{repo} is not complete in the local cache ({reason}), and HF_HUB_OFFLINE forbids the network.",
            f"本地缓存中没有完整的 {repo}（{reason}），且 HF_HUB_OFFLINE 禁止联网。",
        )
    tried: list[str] = []
    for endpoint in endpoints():
        try:
            return _download(endpoint, repo, revision, files)
        except _failures() as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise CheckpointError(f"The disk is full: {repo}.", f"磁盘已满：{repo}。") from error
            tried.append(f"{endpoint} ({_why(error)})")
    listed = "; ".join(tried) or "-"
    raise CheckpointError(
        f"{repo} could not be fetched. Tried: local cache ({reason}); {listed}.",
        f"无法获取 {repo}。已尝试：本地缓存（{reason}）；{listed}。",
    )


def choose(listing: Sequence[str], files: Sequence[str] = ()) -> list[str]:
    """Which of a repository's files to take: text at the top level, and one set of weights. ModelError if none.

    Of a pipeline of diffusers all its parts.
    """
    if pipelines.INDEX in listing and not files:
        return pipelines.choose(listing)
    top = [name for name in listing if "/" not in name]
    weights = list(files) or _weights(top)
    absent = [name for name in weights if name not in listing]
    if absent:
        raise ModelError(f"The repository has no file {absent[0]}.", f"该仓库没有文件 {absent[0]}。")
    texts = [name for name in top if name.endswith(_TEXT_SUFFIXES) or any(word in name for word in _TEXT_NAMES)]
    indices = {name for name in texts if name.endswith(".index.json")}
    ours = {name for name in indices if not files and weights[0].endswith(name.split(".")[-3])}
    return sorted({*weights, *texts} - (indices - ours))


def _weights(top: Sequence[str]) -> list[str]:
    for index, pattern in (
        ("model.safetensors.index.json", r"model-\d+-of-\d+\.safetensors"),
        ("model.safetensors", r"model\.safetensors"),
        ("pytorch_model.bin.index.json", r"pytorch_model-\d+-of-\d+\.bin"),
        ("pytorch_model.bin", r"pytorch_model\.bin"),
    ):
        found = [name for name in top if re.fullmatch(pattern, name)]
        if index in top and found:
            return found
    for suffixes in ((".safetensors",), sniff.STATE_DICT_SUFFIXES):
        found = [name for name in top if name.endswith(suffixes)]
        if len(found) == 1:
            return found
        if found:
            names = ", ".join(found)
            raise ModelError(
                f"The repository holds several models ({names}): add the file's name to the hub id.",
                f"该仓库有多个模型（{names}）：请在名称后加上文件名。",
            )
    raise ModelError(
        "The repository holds no weights that huayu opens (*.safetensors, *.bin, *.pt).",
        "该仓库没有 huayu 能打开的权重（*.safetensors、*.bin、*.pt）。",
    )


def _cached(repo: str, revision: str, files: Sequence[str]) -> tuple[Fetched | None, str]:
    """The complete copy in the hub's cache, else why there is none."""
    from huggingface_hub import constants

    store = Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repo.replace('/', '--')}"
    reference = store / "refs" / revision
    commit = reference.read_text("utf-8").strip() if reference.is_file() else revision
    snapshot = store / "snapshots" / commit
    if not snapshot.is_dir():
        return None, "absent"
    half = sorted((store / "blobs").glob("*.incomplete"))
    try:
        if missing := [name for name in files if not (snapshot / name).is_file()]:
            reason = f"half a download: {half[0].name}" if half else f"{missing[0]} is missing"
            return None, reason
        if (snapshot / pipelines.INDEX).is_file() and not files:
            pipelines.require_complete(snapshot)
        elif not files:
            sniff.weight_files(snapshot)
    except CheckpointError as error:
        return None, f"half a download: {half[0].name}" if half else error.en.rstrip(".")
    return Fetched(snapshot, commit), ""


def _download(endpoint: str, repo: str, revision: str | None, files: Sequence[str]) -> Fetched:
    from huggingface_hub import HfApi, snapshot_download

    # The user's token goes to the hub itself and to an endpoint set as HF_ENDPOINT, never to a mirror.
    own = {HOME_ENDPOINT, os.environ.get("HF_ENDPOINT", HOME_ENDPOINT).rstrip("/")}
    token = None if endpoint in own else False
    info = HfApi(endpoint=endpoint, token=token).model_info(repo, revision=revision, timeout=_SECONDS)
    listing = [entry.rfilename for entry in info.siblings or ()]
    wanted = choose(listing, files)
    folder = snapshot_download(repo, revision=revision, endpoint=endpoint, token=token, allow_patterns=wanted)
    return Fetched(Path(folder), info.sha or revision or "main")


def _failures() -> tuple[type[BaseException], ...]:
    from huggingface_hub.errors import HfHubHTTPError

    # Its first base is the HTTP library's own root of errors, whichever library this version of the hub client uses.
    return (OSError, HfHubHTTPError.__bases__[0])


def _why(error: BaseException) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    return type(error).__name__
