"""An outcome for every image, whatever is wrong with the others."""

from __future__ import annotations

import itertools
import os
import threading
import time
from datetime import UTC, datetime
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler import storage
from alpaca_labeler.pipeline.labeler import Labeler, Limits
from alpaca_labeler.storage.image_version import ImageVersion
from tests.fuzz.seeds import encoded

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def fixed(**options):
    return Labeler(clock=lambda: NOON, **options)


@pytest.fixture(scope="module")
def one():
    return fixed()


@pytest.mark.parametrize(("name", "label"), [("cat.png", "not alpaca"), ("alpaca.jpg", "alpaca")])
def test_bytes_a_path_and_pixels_have_the_same_label(one, photos, name, label):
    path = photos / name
    pixels = np.asarray(Image.open(path).convert("RGB"))
    found = one.predict(path)
    assert found == one.predict(str(path)) == one.predict(path.read_bytes()) == one.predict(pixels)
    assert found.label == label


LIMITS = Limits(max_bytes=10**6, max_pixels=10**6)


@pytest.mark.parametrize("threads", [1, 4])
def test_each_trouble_has_its_failure_row_and_stops_nothing(photos, tmp_path, threads):
    good = (photos / "coffee.jpg").read_bytes()
    files = {None: good, "empty": b"", "not-an-image": b"no photo", "corrupt": good[:5000]}
    files |= {"too-large": bytes(10**6 + 1)}
    files |= {"too-many-pixels": encoded(Image.new("1", (1001, 1000)), "PNG")}
    for code, data in files.items():
        (tmp_path / str(code)).write_bytes(data)
    os.mkfifo(tmp_path / "unavailable")
    os.symlink("nowhere", tmp_path / "dangling")
    codes = {str(code): code for code in (*files, "unavailable", "not-found")}
    codes |= {"dangling": "not-found"}
    requests = [ImageVersion(str(tmp_path / name)) for name in [*codes, "None"]]
    outcomes = list(fixed(threads=threads, limits=LIMITS).label(requests))
    assert len(outcomes) == len(requests)
    for outcome in outcomes:
        code = codes[os.path.basename(outcome.image.source_ref)]
        failure = outcome.row.failure
        assert (failure and failure.code) == code
        assert (outcome.row.label is None) == (code is not None) == bool(outcome.problem)


@pytest.mark.slow
def test_overlapped_work_gives_the_rows_of_sequential_work(photos):
    requests = [ImageVersion(str(path)) for path in sorted(photos.iterdir())] * 3

    def rows(**options):
        found = fixed(**options).label(requests)
        return sorted(outcome.row.to_line() for outcome in found)

    assert rows() == rows(threads=5, cores=2) == rows(threads=3)


STORES = [storage.Denied("no"), storage.Transient("later"), storage.Conflict("odd")]
LIBRARIES = [RecursionError("redirects"), EOFError("no code"), KeyError("a library's own")]


@pytest.mark.parametrize("error", [*STORES, *LIBRARIES])
def test_what_may_work_later_on_s3_has_no_row(one, monkeypatch, error):
    monkeypatch.setattr(storage, "fetch", Mock(side_effect=error))
    outcome = one.label_one(ImageVersion("s3://b/a.jpg"))
    assert outcome.row is None
    assert str(error) in outcome.problem
    with pytest.raises(storage.StorageError):
        one.predict("s3://b/a.jpg")


def test_a_file_without_permission_has_a_row(one, monkeypatch):
    monkeypatch.setattr(storage, "fetch", Mock(side_effect=storage.Denied("no")))
    assert one.label_one(ImageVersion("a.jpg")).row.failure.code == "unreadable"


def test_a_broken_file_whose_name_is_not_utf_8_has_a_row_that_can_be_written(one, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    os.mkfifo(path)
    row = one.label_one(ImageVersion(storage.to_source_ref(path))).row
    assert b"%FF.jpg" in row.to_line()


def test_requests_are_read_as_they_are_needed(photos):
    asked = itertools.count()
    requests = (ImageVersion(str(photos / "cat.png"), sequencer=f"{n}") for n in asked)
    outcomes = fixed(threads=2).label(requests)
    for _ in range(5):
        assert next(outcomes).row
    outcomes.close()
    assert next(asked) < 15


def test_after_the_deadline_nothing_is_begun_and_nothing_is_lost(photos):
    requests = [ImageVersion(str(photos / "cat.png"), sequencer=f"{n}") for n in range(9)]
    outcomes = list(fixed(threads=2).label(iter(requests), deadline=time.monotonic()))
    assert [outcome.image for outcome in outcomes] == requests
    assert all(outcome.row is None and "no time left" in outcome.problem for outcome in outcomes)


def test_a_download_that_hangs_does_not_outlive_the_deadline(monkeypatch, photos):
    release = threading.Event()
    real = storage.fetch

    def fetch(image, max_bytes):
        if image.source_ref == "hangs":
            release.wait(10)
        return real(image, max_bytes)

    monkeypatch.setattr(storage, "fetch", fetch)
    requests = [ImageVersion("hangs"), ImageVersion(str(photos / "cat.png"))]
    began = time.monotonic()
    outcomes = list(fixed(threads=2).label(requests, deadline=began + 0.5))
    assert time.monotonic() - began < 3
    release.set()
    assert {o.image: o.row is None for o in outcomes} == {requests[0]: True, requests[1]: False}


def test_no_more_bytes_are_held_than_allowed(monkeypatch, photos):
    held = most = 0
    lock = threading.Lock()
    real = storage.fetch

    def fetch(image, max_bytes):
        nonlocal held, most
        with lock:
            held += image.size
            most = max(most, held)
        time.sleep(0.005)
        with lock:
            held -= image.size
        return real(image, max_bytes)

    frugal = fixed(threads=8, limits=Limits(held_bytes=100))
    monkeypatch.setattr(storage, "fetch", fetch)
    requests = [ImageVersion(str(photos / "cat.png"), size=size) for size in [40, 90, 10, 200] * 5]
    outcomes = list(frugal.label(requests))
    assert len(outcomes) == 20
    assert most <= 200  # one that is over it alone is let in alone
