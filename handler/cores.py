"""How many processes may label at once: what this process may use, not what the host has.

A container sees all cores and all memory of its host; its own share is in its control groups.
"""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER_BYTES: Final = 256 * 2**20
"""Memory of a worker while it decodes a common photo: 50 MB, and up to 10 bytes per pixel."""


def usable(root: str = "/") -> int:
    """Return how many workers this process may run, at least 1.

    It is the lowest of what its affinity, the CPU quota of its control groups (of either version),
    rounded up, and their limit on memory allow. `root` is the folder that holds `proc` and `sys`.
    """
    # Not os.cpu_count(): process_cpu_count (Python 3.13) respects affinity and PYTHON_CPU_COUNT.
    count: int = getattr(os, "process_cpu_count", _affinity)() or 1
    cpus = [_cpus(folder) for folder in _groups(root, "cpu")]
    memory = [_bytes(folder) // WORKER_BYTES for folder in _groups(root, "memory")]
    return max(1, math.ceil(min([count, *cpus, *memory])))


def _affinity() -> int | None:
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _cpus(folder: str) -> float:
    quota, period = (
        _words(folder, "cpu.max")
        or [
            *_words(folder, "cpu.cfs_quota_us"),  # of version 1
            *_words(folder, "cpu.cfs_period_us"),
        ]
        or ["max", "max"]
    )
    return int(quota) / int(period) if quota.isdecimal() else math.inf


def _bytes(folder: str) -> int:
    [limit] = _words(folder, "memory.max") or _words(folder, "memory.limit_in_bytes") or ["max"]
    return int(limit) if limit.isdecimal() else sys.maxsize


def _words(folder: str, name: str) -> list[str]:
    try:
        with open(os.path.join(folder, name), encoding="ascii") as file:
            return file.read().split()
    except (OSError, ValueError):
        return []


def _groups(root: str, controller: str) -> Iterator[str]:
    """Yield the folders of this process's control groups and of those around them."""
    try:
        with open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Inside a container the path may be the host's, which does not exist there; then only the
        # mount itself, which is the container's group, has the files.
        top = os.path.join(root, "sys/fs/cgroup", controllers)
        while path.strip("/"):
            yield top + path
            path = os.path.dirname(path)
        yield top
