"""Workers by what a container may use."""

from __future__ import annotations

import os

import pytest

from alpaca_labeler.pipeline import cores


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        (None, None, 96),
        ("max 100000", "max", 96),
        ("200000 100000", None, 2),
        ("150000 100000", None, 2),
        ("10000 100000", None, 1),
        (None, "1073741824", 4),
        ("800000 100000", "67108864", 1),
        ("\xff", "", 96),
    ],
)
def test_quota_and_memory_limit_of_a_container_count(tmp_path, monkeypatch, cpu, memory, expected):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 96, raising=False)
    for name, text in (("cpu.max", cpu), ("memory.max", memory)):
        if text is not None:
            (tmp_path / name).write_text(text + "\n", encoding="latin-1")
    assert cores.usable(str(tmp_path)) == expected


def test_affinity_counts(monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7}, raising=False)
    assert cores.usable("/nowhere") == 3
