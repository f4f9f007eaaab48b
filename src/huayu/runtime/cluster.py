"""Ray, where it is asked for: the cluster that RAY_ADDRESS names, else one of this machine that ends with us."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huayu.errors import ModelError
from huayu.runtime.packages import require

# Tasks and results are names and texts; pictures and weights never pass through the object store.
_OBJECT_STORE = 80 * 2**20
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without a GPU of its own sees those there are, as elsewhere
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",  # on a busy machine its own 5 s are too short
    "RAY_gcs_server_port_wait_time_s": "120",  # its own: 30
    "RAY_worker_niceness": "0",  # Ray's own, 15, starves them beside anything else
}


@contextmanager
def connected(num_cpus: int) -> Iterator[Any]:
    """The module ``ray``, connected. ``num_cpus``: of the local cluster, where there is no other.

    A cluster that is already connected stays connected. Nothing is reported to anyone, no dashboard is opened.
    Raises ModelError where Ray is not installed, or where a local cluster does not come up.
    """
    require("ray", "scale")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address, **quiet)
    else:
        _start(ray, num_cpus=num_cpus, include_dashboard=False, object_store_memory=_OBJECT_STORE, **quiet)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, **settings: Any) -> None:
    try:
        ray.init("local", **settings)
    except Exception as problem:  # Ray has no class for it; a node gets 30 s, which no setting changes
        raise ModelError(
            f"Ray did not start on this machine ({problem}). On a busy machine try again: the first start is the "
            "slowest, and each is where PYTHONDONTWRITEBYTECODE is set. Or name a running cluster in RAY_ADDRESS.",
            f"无法在本机启动 Ray（{problem}）。机器繁忙时请重试：首次启动最慢；若设置了 PYTHONDONTWRITEBYTECODE，"
            "则每次都慢。也可用 RAY_ADDRESS 指定已在运行的集群。",
        ) from problem
