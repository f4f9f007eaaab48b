"""Memory at its peak while VisualGLM-6B is loaded: ``python scripts/glm_memory.py [--bits 4] [--scope lean]``.

The published shape with random numbers, of which one table's worth lies in a file of 1.1 GB (a temporary one, unless
``--file`` names it) that every tensor is cut from: mapped, as a checkpoint is. Prints one JSON object; ``peak_gb`` is
of the whole process, ``peak_anonymous_gb`` of its own pages, without those of files that the kernel may drop, such as
libraries; ``before_gb`` of the process before anything is loaded. Linux only.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import torch  # noqa: E402 (the checkout comes first)
from torch import Tensor  # noqa: E402

from benchmarks.gpu.setting import GLM_FULL, GLM_TINY  # noqa: E402
from benchmarks.load import Peak  # noqa: E402
from huayu.checkpoints.find import Source  # noqa: E402
from huayu.checkpoints.loading import load_into  # noqa: E402
from huayu.checkpoints.opening import Blueprint  # noqa: E402
from huayu.checkpoints.reader import Entry, LazyTensors  # noqa: E402
from huayu.models.visualglm import VisualGLMConfig, VisualGLMForConditionalGeneration  # noqa: E402
from huayu.quantization import quantizing  # noqa: E402

_PIECE = 1 << 22


def measure(bits: int, scope: str, tiny: bool, file: Path) -> dict[str, float | int | str]:
    """Load it from random numbers in ``file``, which is written if it is not there."""
    with torch.device("meta"):
        model = VisualGLMForConditionalGeneration(VisualGLMConfig(**(GLM_TINY if tiny else GLM_FULL).config))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    pool = _random(file, max(torch.Size(shape).numel() for shape in shapes.values()))

    def read(shape: tuple[int, ...]) -> Tensor:
        return pool[: torch.Size(shape).numel()].view(shape)

    entries = {name: Entry(shape, pool.dtype, partial(read, shape)) for name, shape in shapes.items()}
    source = Source(name="random", path=file, form="folder", family="visualglm")
    before, start = _resident(), time.process_time()
    plan = Blueprint(source, "visualglm", model, LazyTensors(entries, (file,)), None)
    plan = quantizing(plan, bits, scope) if bits < 16 else plan
    with Peak() as peak:
        load_into(plan.model, plan.tensors, plan.keymap, torch.float16, progress=peak.look)
    held = sum(tensor.nbytes for tensor in (*plan.model.parameters(), *plan.model.buffers()))
    return {
        "bits": bits,
        "scope": scope,
        "cpu_seconds": round(time.process_time() - start, 1),
        "before_gb": round(before / 1e9, 3),
        "weights_gb": round(held / 1e9, 3),
        "peak_anonymous_gb": round(peak.value / 1e9, 3),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
    }


def _random(file: Path, count: int) -> Tensor:
    if not file.exists():
        made = torch.from_file(str(file), shared=True, size=count, dtype=torch.float16)
        for part in made.split(_PIECE):
            part.copy_(torch.randn(len(part)).mul_(0.02))
    pool = torch.from_file(str(file), shared=True, size=count, dtype=torch.float16)
    LazyTensors({}, (file,)).release(pool)
    return pool


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, choices=(16, 8, 4), default=4)
    parser.add_argument("--scope", choices=("published", "lean"), default="published")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, only to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = options.file or Path(folder) / "random.bin"
        print(json.dumps(measure(options.bits, options.scope, options.tiny, file)))


if __name__ == "__main__":
    main()
