"""How many pairs a core reads in a second, from files, WebDataset and Parquet: ``python scripts/data_rate.py``.

Makes so many pairs of that size, reads them in training's shuffled order, decodes each picture and makes it 224 × 224,
and prints rows in a second of processor time, once for each layout, with what 240 million pairs would take at that
rate; then how many are judged by `huayu data clean`, and what so many hashes take in memory. ``--side``: the pictures'
longer side; img2dataset is mostly told 256 or 384.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from benchmarks.run import environment  # noqa: E402 (the checkout comes first)
from huayu.data.cleaning import CleanOptions, Seen, judge  # noqa: E402
from huayu.data.mixing import Order  # noqa: E402
from huayu.data.pictures import open_picture  # noqa: E402
from huayu.data.records import Reader, Record, open_tables  # noqa: E402

PUBLISHED = 240_000_000  # pairs: 100 million English and 140 million Chinese
CAPTION = "一只狗坐在草地上，旁边放着一个红色的球。"


def picture(rng: np.random.Generator, side: int) -> bytes:
    """A JPEG with detail at every scale, as a photograph has."""
    pixels = np.zeros((side * 3 // 4, side, 3), np.float32)
    for cells, weight in ((4, 90), (16, 50), (64, 25), (side, 9)):
        small = Image.fromarray(rng.integers(0, 255, (cells * 3 // 4 or 1, cells, 3), np.uint8))
        pixels += (np.asarray(small.resize((side, side * 3 // 4)), np.float32) - 127) * (weight / 127)
    data = io.BytesIO()
    Image.fromarray(np.clip(pixels + 127, 0, 255).astype(np.uint8)).save(data, "JPEG", quality=90)
    return data.getvalue()


def write(folder: Path, pictures: list[bytes]) -> dict[str, Path]:
    """The same pairs in three layouts."""
    import pyarrow
    import pyarrow.parquet

    loose = folder / "files"
    loose.mkdir()
    rows = []
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, data in enumerate(pictures):
            (loose / f"{number}.jpg").write_bytes(data)
            rows.append({"image": f"{number}.jpg", "caption": CAPTION})
            for ending, part in (("jpg", data), ("txt", CAPTION.encode())):
                info = tarfile.TarInfo(f"{number:09}.{ending}")
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
    (loose / "dataset.json").write_text(json.dumps(rows), "utf-8")
    table = pyarrow.table({"jpg": pictures, "caption": [CAPTION] * len(pictures)})
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=len(pictures), compression="none")
    return {"JSON and files": loose, "WebDataset": folder / "a.tar", "Parquet": folder / "a.parquet"}


def most_memory() -> float:
    """MB, at its highest so far. From /proc: what getrusage says begins with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def measure(file: Path) -> dict[str, float]:
    """Rows a second of processor time: to list them (texts read), and to open them; MB the process grew by."""
    len(open_tables(file)[0])  # what is imported on the way
    start, before = time.process_time(), most_memory()
    (table,) = open_tables(file)
    reader = Reader(table)
    assert all(isinstance(reader[place], Record) for place in range(len(reader)))
    listed, order = time.process_time(), Order([len(reader)] if table.anywhere else table.blocks, (0,))
    for position in range(len(reader)):
        record = reader[order[position]]
        assert isinstance(record, Record)
        assert record.picture is not None
        open_picture(record.picture).resize((224, 224), Image.Resampling.BICUBIC)
    done, after = time.process_time(), most_memory()
    count = len(reader)
    some = [
        found for found in (reader[order[position]] for position in range(min(500, count))) if isinstance(found, Record)
    ]
    judge(some[0], CleanOptions(), {})  # what is imported on the way
    begun = time.process_time()
    for record in some:
        judge(record, CleanOptions(), {})
    cleaned = len(some) / (time.process_time() - begun)
    return {
        "cleaned": cleaned,
        "listed": count / (listed - start),
        "opened": count / (done - listed),
        "grew_mb": after - before,
    }


def in_a_process_of_its_own(file: Path) -> dict[str, float]:
    """:func:`measure` where nothing else has been in memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, file).result()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--side", type=int, default=384)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    some = [picture(rng, asked.side) for _ in range(64)]
    pictures = [random.Random(number).choice(some) for number in range(asked.rows)]
    size = sum(map(len, pictures)) / len(pictures)
    with tempfile.TemporaryDirectory() as folder:
        layouts = write(Path(folder), pictures)
        found = {name: in_a_process_of_its_own(file) for name, file in layouts.items()}
    print(json.dumps(environment() | {"rows": asked.rows, "side": asked.side, "bytes_of_a_picture": round(size)}))
    for name, rates in found.items():
        hours = PUBLISHED / rates["opened"] / 3600
        listing = PUBLISHED / rates["listed"] / 3600
        print(
            f"{name:15} {rates['opened']:6.0f} rows/s opened, {rates['cleaned']:6.0f} judged for cleaning, "
            f"{rates['listed']:6.0f} listed, "
            f"{rates['grew_mb']:5.0f} MB more; 240 M: {hours:5.0f} core-hours and {listing:4.1f} to list"
        )
    before, start, seen = most_memory(), time.process_time(), Seen(3)
    for number in range(200_000):
        seen.add(f"{rng.integers(2**63):016x}", f"00000.tar/{number:09}.jpg")
    grew, took = most_memory() - before, time.process_time() - start
    print(f"Near-duplicates: {200_000 / took:.0f} hashes/s, {grew * 2**20 / 200_000:.0f} bytes each")
    print(f"240 M pairs of {size / 1000:.0f} kB: {PUBLISHED * size / 1e12:.1f} TB")


if __name__ == "__main__":
    main()
