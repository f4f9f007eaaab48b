"""Ray, where it is asked for: the cluster that RAY_ADDRESS names, else one of this machine that ends with us."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huayu.runtime.packages import require

# Tasks and results are names and texts; pictures and weights never pass through the object store.
_OBJECT_STORE = 80 * 2**20
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without a GPU of its own sees those there are, as elsewhere
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",  # on a busy machine its own 5 s are too short
    "RAY_worker_niceness": "0",  # Ray's own, 15, starves them beside anything else
}


@contextmanager
def connected(num_cpus: int) -> Iterator[Any]:
    """The module ``ray``, connected. ``num_cpus``: of the local cluster, where there is no other.

    A cluster that is already connected stays connected. Nothing is reported to anyone, no dashboard is opened.
    Raises ModelError where Ray is not installed.
    """
    require("ray", "scale")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    given: dict[str, Any] = {"address": os.environ.get("RAY_ADDRESS") or "local"}
    if given["address"] == "local":
        given |= {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    ray.init(**given, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield ray
    finally:
        ray.shutdown()
