#!/usr/bin/env python3
"""The two commands of the README; needs only Python 3.11 or newer and a package registry.

    python3 dev.py demo            set up .venv with the page, talk about a picture, paint two
    python3 dev.py test [ARG…]     set up .venv and run the tests; ARGs go to pytest
    python3 dev.py setup [EXTRA…]  only set up (extras of pyproject.toml; default: test)

Linux, macOS and Windows. pip's own configuration is honoured. HUAYU_TORCH=cpu|cuda chooses the PyTorch build.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "huayu-setup.json"
TORCH = "torch==2.13.0"
# pip option → the variables by which uv takes the same thing (uv does not read pip's configuration).
PIP_TO_UV = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "no-index": ("UV_NO_INDEX",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "proxy": ("HTTP_PROXY", "HTTPS_PROXY"),
    "timeout": ("UV_HTTP_TIMEOUT",),
}


def say(en: str, zh: str) -> None:
    """Print the sentence in the screen's language."""
    sys.path.insert(0, str(ROOT / "src"))
    from huayu.runtime import language

    print(language.say(en, zh), flush=True)


def run(*command: object, quiet: bool = False, env: dict[str, str] | None = None) -> bool:
    """Run a command in the repository; True when it succeeded. ``quiet`` also hides what a failure prints."""
    output = subprocess.DEVNULL if quiet else None
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, cwd=ROOT, env=env, stdout=output, stderr=output, check=False).returncode == 0


def pip_settings() -> dict[str, str]:
    """pip's own options by name, the environment over the `install` section over the global one."""
    listing = [str(PYTHON), "-m", "pip", "config", "list"]
    lines = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    options = {}
    for section in ("global", "install", ":env:"):
        for option in PIP_TO_UV:
            if f"{section}.{option}" in found:
                options[option] = str(ast.literal_eval(found[f"{section}.{option}"]))
    return options


def uv_environment(options: dict[str, str]) -> dict[str, str]:
    """The environment for uv with pip's options handed on; what the user has set for uv stays."""
    env = dict(os.environ, VIRTUAL_ENV=str(VENV))
    for option, names in PIP_TO_UV.items():
        for name in names if options.get(option) else ():
            separator = "," if name == "UV_FIND_LINKS" else " "
            env.setdefault(name, separator.join(options[option].split()))
    if "extra-index-url" in options:  # pip looks at all indexes, uv by itself only at the first that has the name
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return env


class Installer:
    """uv when it can be had (seconds), else pip (a minute or two)."""

    def __init__(self) -> None:
        self.uv = run(PYTHON, "-m", "pip", "install", "--quiet", "uv", quiet=True)
        self.env = uv_environment(pip_settings()) if self.uv else dict(os.environ)
        if not self.uv:
            say("uv cannot be had; pip does its work, which takes longer.", "装不了 uv，改用 pip，会慢一些。")

    def install(self, *what: object, quiet: bool = False, **variables: str) -> bool:
        tool = [PYTHON, "-m", "uv", "pip", "install"] if self.uv else [PYTHON, "-m", "pip", "install"]
        return run(*tool, "--quiet", *what, quiet=quiet, env={**self.env, **variables})


def install_torch(installer: Installer) -> bool:
    """A CPU build unless there is a GPU to use; any build rather than none."""
    choice = os.environ.get("HUAYU_TORCH", "").lower()
    if choice not in ("", "cpu", "cuda"):
        say("HUAYU_TORCH must be cpu or cuda.", "HUAYU_TORCH 只能是 cpu 或 cuda。")
        return False
    gpu = choice == "cuda" or (not choice and shutil.which("nvidia-smi") is not None)
    if not gpu and installer.install(f"{TORCH}+cpu", quiet=True):
        return True
    if gpu or sys.platform != "linux":
        return installer.install(TORCH)
    # uv knows PyTorch's own index of CPU builds; a closed network should not cost minutes.
    closed = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "1"}
    if installer.uv and installer.install(TORCH, "--torch-backend", "cpu", quiet=True, **closed):
        return True
    say(
        "No CPU build of PyTorch can be reached: taking the GPU build, a download of several GB; it runs on a CPU too.",
        "找不到 PyTorch 的 CPU 版：改装 GPU 版，要下载几个 GB，在 CPU 上同样能用。",
    )
    return installer.install(TORCH)


def fingerprint() -> str:
    """Changes when what has to be installed may have changed."""
    digest = hashlib.sha256(os.environ.get("HUAYU_TORCH", "").encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def make_venv() -> bool:
    """A fresh .venv with pip in it."""
    try:
        venv.create(VENV, with_pip=True, clear=True, symlinks=os.name != "nt")
    except subprocess.CalledProcessError:
        say(
            "This Python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv).",
            "这个 Python 建不了虚拟环境（Debian、Ubuntu 上请先 apt install python3-venv）。",
        )
        shutil.rmtree(VENV, ignore_errors=True)
        return False
    return True


def set_up(extras: set[str]) -> bool:
    """Make .venv hold the package with these extras; costs nothing when it does already."""
    stamp = json.loads(STAMP.read_text()) if STAMP.is_file() and PYTHON.is_file() else {"extras": []}
    current = stamp.get("fingerprint") == fingerprint()
    if current and extras <= set(stamp["extras"]):
        return True
    say("Setting up .venv (a minute or two, only once) …", "正在准备 .venv（一两分钟，只需一次）……")
    STAMP.unlink(missing_ok=True)
    if not (PYTHON.is_file() or make_venv()):
        return False
    wanted = sorted(extras | set(stamp["extras"]))
    target = f"{ROOT}[{','.join(wanted)}]" if wanted else str(ROOT)
    installer = Installer()
    rest = ["-c", ROOT / "constraints.txt", "-e", target]
    if not (current or install_torch(installer)) or not installer.install(*rest):
        say("Setting up failed; the lines above say why.", "准备失败，原因见上面几行。")
        return False
    STAMP.write_text(json.dumps({"fingerprint": fingerprint(), "extras": wanted}))
    return True


def demo() -> int:
    """A short conversation about a picture, then two pictures from words."""
    scripts = (ROOT / "examples" / name for name in ("chat_demo.py", "paint_demo.py"))
    if not (set_up({"web"}) and all(run(PYTHON, script) for script in scripts)):
        return 1
    command = os.path.relpath(PYTHON.with_name("huayu"))
    say(f"The same in the browser: {command} web", f"在浏览器里试试：{command} web")
    return 0


def test(arguments: list[str]) -> int:
    """All tests on two or more cores; with arguments, exactly what pytest is told."""
    if not set_up({"test"}):
        return 1
    workers = min(4, os.cpu_count() or 1)
    spread = ["-n", str(workers), "--dist", "loadfile"] if workers > 1 and not arguments else []
    # Idle threads that spin would take the time of the other workers.
    env = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    command = [str(PYTHON), "-m", "pytest", *spread, *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):
        print(f"huayu needs Python 3.11 or newer; this is {sys.version.split()[0]}. / 需要 Python 3.11 以上。")
        return 2
    os.environ["PYTHONUTF8"] = "1"
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "demo" and not rest:
        return demo()
    if command == "test":
        return test(rest)
    if command == "setup":
        return 0 if set_up(set(rest or ["test"])) else 1
    print(__doc__)
    return 0 if command in ("-h", "--help", "help") else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
