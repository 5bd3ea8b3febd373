"""Workers by what a container may use."""

from __future__ import annotations

import os

import pytest

from alpaca_labeler.handler import cores


@pytest.fixture
def usable(tmp_path, monkeypatch):
    """Return the count for a host of 96 cores and these files of control groups."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 96, raising=False)

    def count(groups, files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cores.usable(str(tmp_path))

    return count


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 96),
        ("", {}, 96),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, 96),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/host/only\n", {"cpu.max": "400000 100000\n"}, 4),
        (
            "4:cpu,cpuacct:/docker/x\n1:name=systemd:/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 96),
        ("0::/\n", {"memory.max": "1073741824\n"}, 4),
        ("0::/\n", {"memory.max": "67108864\n"}, 1),
        ("3:memory:/p\n", {"memory/p/memory.limit_in_bytes": "536870912\n"}, 2),
        ("3:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 96),
    ],
)
def test_quotas_and_memory_limits_of_a_container_count(usable, groups, files, expected):
    assert usable(groups, files) == expected


def test_affinity_counts(monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7}, raising=False)
    assert cores.usable("/nowhere") == 3


def test_this_machine_has_at_least_one_core():
    assert cores.usable() >= 1
