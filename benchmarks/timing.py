"""Timing of things that are compared: taken in turns, so that what else the machine does falls on both alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Timing:
    """Seconds of each round: by the wall clock, and of processor time (all threads)."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def start(self) -> None:
        """A round begins."""
        self._from = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """The round that began last ends, and counts."""
        wall, cpu = self._from
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)

    def take(self, work: Callable[[], object]) -> None:
        """One round."""
        self.start()
        work()
        self.stop()


def in_turns(rounds: int, *works: Callable[[], object]) -> list[Timing]:
    """Every work once in each round, after one round that is not counted."""
    timings = [Timing() for _ in works]
    for number in range(rounds + 1):
        for timing, work in zip(timings, works, strict=True):
            (timing if number else Timing()).take(work)
    return timings


def beside_floor(name: str, floor: Timing, ours: Timing, suffix: str = "") -> dict[str, float]:
    """Floor over ours by median (1.0 is the limit), in wall and in processor time, and the milliseconds of both.

    The milliseconds are of the median round, the shortest and the longest.
    """
    figures = {
        f"{name}_floor_ratio{suffix}": round(median(floor.wall) / median(ours.wall), 3),
        f"{name}_floor_ratio_cpu{suffix}": round(median(floor.cpu) / median(ours.cpu), 3),
    }
    for what, timing in ((name, ours), (f"{name}_floor", floor)):
        for part, seconds in (("", median(timing.wall)), ("_min", min(timing.wall)), ("_max", max(timing.wall))):
            figures[f"{what}_ms{part}{suffix}"] = round(1e3 * seconds, 2)
    return figures
