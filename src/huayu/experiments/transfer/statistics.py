"""Means over seeds with their intervals, and what they say of the published claims. The rules were set beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from huayu.experiments.transfer.arms import ARMS, REFERENCES
from huayu.experiments.transfer.talk import LANGUAGES

T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # Student's t by degrees of freedom, from 1
NEARLY = 0.8  # of what English gets: as good, for a claim of transfer
MOSTLY = 0.9  # of the answers: as a rule

Figure = dict[str, float]


def interval(values: Sequence[float], lowest: float = 0.0, highest: float = 1.0) -> Figure:
    """Mean of one value per seed with its 95 % t interval; one seed, marked by ``n``, may be anything."""
    n = len(values)
    mean = sum(values) / n
    if n == 1:
        return {"mean": mean, "low": lowest, "high": highest, "n": 1}
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = spread * (T_975[n - 2] if n - 2 < len(T_975) else 1.96)
    return {"mean": mean, "low": max(lowest, mean - half), "high": min(highest, mean + half)}


def summary(per_seed: Mapping[str, Mapping[str, Any]]) -> Any:
    """The same tree as each seed's, with intervals for its numbers; leaves that only some seeds have are of those."""
    trees = list(per_seed.values())
    if isinstance(trees[0], Mapping):
        keys = dict.fromkeys(key for tree in trees for key in tree)
        return {
            key: summary({seed: tree[key] for seed, tree in per_seed.items() if key in tree}) for key in keys
        }  # fmt: skip
    return interval([float(value) for value in trees])  # type: ignore[arg-type]


def gap(per_seed: Mapping[str, Any], measure: str) -> Figure:
    """Chinese minus English over all skills, seed by seed."""
    return interval([tree["zh"]["all"][measure] - tree["en"]["all"][measure] for tree in per_seed.values()], -1.0)


def collect(results: Mapping[str, Mapping[str, Any]], seeds: int) -> dict[str, Any]:
    """Everything the report needs, from the results of the jobs that are done; seeds without a result are left out."""

    def of(job: str, key: str) -> dict[str, Any]:
        names = {str(seed): f"seed-{seed}/{job}" for seed in range(1, seeds + 1)}
        return {seed: results[name][key] for seed, name in names.items() if name in results}

    tables: dict[str, dict[str, Any]] = {key: of("references", key) for key in REFERENCES}
    tables |= {one.key: of(one.key if one.instructions is not None else one.pairs_job, "figures") for one in ARMS}
    tables |= {"pairs-both": of("pairs-both", "figures")}
    found: dict[str, Any] = {"arms": {}}
    for key, per_seed in tables.items():
        if per_seed:
            found["arms"][key] = {
                "seeds": per_seed,
                "summary": summary(per_seed),
                "gap": {name: gap(per_seed, name) for name in ("exact", "content")},
            }
    for key, job in (("paint", "paint"), ("paint-apart", "paint-apart")):
        per_seed = of(job, "figures")
        if per_seed:
            found[key] = {"seeds": per_seed, "summary": summary(per_seed)}
    found["space"] = {
        job: [interval(values) for values in zip(*of(job, "translations").values(), strict=True)]
        for job in ("language", "language-apart")
    }
    found["looks_like"] = {job: summary(of(job, "looks_like")) for job in ("pairs-en", "pairs-both", "pairs-apart")
                           if of(job, "looks_like")}  # fmt: skip
    found["on_the_way"] = {one.key: of(one.key, "on_the_way") for one in ARMS if one.instructions is not None}
    return found


def verdicts(found: Mapping[str, Any], things: int) -> dict[str, str]:
    """claim → "confirmed", "partly", "open" (seeds too few or too unlike) or "refuted"; left out without its arms."""
    arms = {key: value["summary"] for key, value in found["arms"].items()}
    judged: dict[str, str] = {}
    if "a" in arms and "blind" in arms:
        a, blind = arms["a"], arms["blind"]
        zh, en = (a[language]["all"]["content"] for language in LANGUAGES[::-1])
        judged["understands"] = _verdict(
            zh["low"] > blind["zh"]["all"]["content"]["high"], zh["mean"] >= NEARLY * en["mean"]
        )
    for claim, keys in (("speaks", ("b", "c")), ("speaks+", ("b+", "c+"))):
        if arms.keys() >= set(keys):
            b, c = (arms[key]["zh"]["all"]["language"] for key in keys)
            judged[claim] = _verdict(c["low"] > b["high"], b["mean"] < 0.5 and c["mean"] >= MOSTLY)
    if "paint" in found:
        zh, en = (found["paint"]["summary"][language]["thing"] for language in LANGUAGES[::-1])
        judged["paints"] = _verdict(zh["low"] > 1 / things, zh["mean"] >= NEARLY * en["mean"])
    return judged


def _verdict(some: bool, all_of_it: bool) -> str:
    """``some``: the intervals part as claimed; ``all_of_it``: the means are as claimed."""
    return {(1, 1): "confirmed", (1, 0): "partly", (0, 1): "open", (0, 0): "refuted"}[some, all_of_it]
