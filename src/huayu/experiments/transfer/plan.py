"""The parts of the experiment and what each needs."""

from __future__ import annotations

from dataclasses import dataclass

from huayu.experiments.transfer.arms import ARMS


@dataclass(frozen=True)
class Job:
    """One part: its kind, seed (0: shared by all) and arm, and the jobs that must be done before."""

    kind: str
    seed: int = 0
    arm: str = ""
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Also the folder of its results."""
        return "/".join(filter(None, (f"seed-{self.seed}" if self.seed else "", self.arm or self.kind)))


def plan(seeds: int) -> list[Job]:
    """All jobs, in an order in which they may be done; those that ask why come last."""
    jobs = [Job("eye"), Job("pool", needs=("eye",))]
    why: list[Job] = []
    for seed in range(1, seeds + 1):
        at = f"seed-{seed}/"
        jobs += [
            Job("language", seed, "language"),
            Job("references", seed, "references", (at + "language", "pool")),
            Job("pairs", seed, "pairs-en", (at + "language", "pool")),
            Job("pairs", seed, "pairs-both", (at + "language", "pool")),
            *(
                Job("instruct", seed, one.key, (at + one.pairs_job,))
                for one in ARMS
                if one.instructions is not None and not one.thorough
            ),
            Job("paint", seed, "paint", (at + "language",)),
        ]  # fmt: skip
        why += [
            *(Job("instruct", seed, one.key, (at + one.pairs_job,)) for one in ARMS if one.thorough),
            Job("language", seed, "language-apart"),
            Job("pairs", seed, "pairs-apart", (at + "language-apart", "pool")),
            Job("paint", seed, "paint-apart", (at + "language-apart",)),
        ]
    return jobs + why
