"""How many processes may label at once: what this process may use, not what the host has."""

from __future__ import annotations

import os
from typing import Final

WORKER_BYTES: Final = 256 * 2**20
"""Memory of a worker while it decodes a common photo: 50 MB, and up to 10 bytes per pixel."""


def usable(groups: str = "/sys/fs/cgroup") -> int:
    """Return how many workers this process may run, at least 1.

    It is the lowest of what its affinity, its container's CPU quota (rounded up) and its
    container's limit on memory allow. `groups` is where the container's control group is mounted.
    """
    count = len(os.sched_getaffinity(0))
    quota, period = _limits(groups, "cpu.max") or ["max", ""]
    [memory] = _limits(groups, "memory.max") or ["max"]
    cpus = -(-int(quota) // int(period)) if quota.isdecimal() else count
    held = int(memory) // WORKER_BYTES if memory.isdecimal() else count
    return max(1, min(count, cpus, held))


def _limits(groups: str, name: str) -> list[str]:
    try:
        with open(os.path.join(groups, name), encoding="ascii") as file:
            return file.read().split()
    except (OSError, ValueError):
        return []
