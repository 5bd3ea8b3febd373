"""Processes that die, hang or never start cost one image at most."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time

import pytest
from PIL import Image

from alpaca_labeler import storage
from alpaca_labeler.model.bundle import EMBEDDED
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline import cores, pool
from alpaca_labeler.pipeline.pool import WorkerError, Workers
from alpaca_labeler.pipeline.worker import Job
from alpaca_labeler.storage.image_version import ImageVersion
from tests.fuzz.seeds import encoded

JOB = Job(EMBEDDED, 1, 10**8, 10**8)

CRAFTED = """
import os, sys, time
from alpaca_labeler import storage
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline import worker
from alpaca_labeler.pipeline.labeler import Labeler
def first(owner, act):
    real = getattr(owner, act.__name__)
    def both(*given, **options):
        act(*given)
        return real(*given, **options)
    setattr(owner, act.__name__, both)
def label_one(_, image, *rest):
    if "kills" in image.source_ref: os.abort()
    if "hangs" in image.source_ref: time.sleep(60)
    if "cuts" in image.source_ref:
        os.write(int(sys.argv[1]), (900).to_bytes(4, "big") + b"x" * 300)
        os._exit(1)
    if "babbles" in image.source_ref: os.write(int(sys.argv[1]), (3).to_bytes(4, "big") + b"xyz")
def fetch(image, *rest):
    if "tells" in image.source_ref: raise KeyError(storage.credentials())
    if "recurses" in image.source_ref: raise RecursionError("redirected for ever")
def decode(data, *rest):
    if b"ENDLESS" in data: time.sleep(60)
    if b"HOARDS" in data: bytearray(2**36)
def picture(data, *rest):
    if b"KILLS" in data: os.abort()
for owner, act in (Labeler, label_one), (storage, fetch), (images, decode), (images, picture):
    first(owner, act)
worker.main()
"""


@pytest.fixture
def program(monkeypatch):
    """Have workers run another program; return a list of those that are started."""
    real = subprocess.Popen

    def replace(text):
        def start(command, **options):
            started.append(real([sys.executable, "-P", "-c", text, command[-1]], **options))
            return started[-1]

        started: list[subprocess.Popen[bytes]] = []
        monkeypatch.setattr(subprocess, "Popen", start)
        return started

    return replace


@pytest.fixture
def crafted(program):
    """Workers in which some images do what a broken decoder does."""
    program(CRAFTED)


def label(*images, job=JOB, count=1, ahead=pool.AHEAD):
    """Label in workers; return the outcomes by the names of the images."""
    with Workers(job, count, ahead=ahead) as workers:
        workers.ready()
        done = list(workers.label(images))
    assert sorted(d.image.source_ref for d in done) == sorted(i.source_ref for i in images)
    return {d.image.source_ref.rpartition("/")[2]: d for d in done}


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="others do not say what is held")


@pytest.mark.slow
@pytest.mark.usefixtures("crafted")
@pytest.mark.parametrize("ahead", [1, 8])
@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        *((what, "crashed", "") for what in ("kills", "cuts", "babbles")),
        pytest.param("HOARDS", "crashed", "", marks=LINUX),
        ("hangs", "timeout", ""),
        ("ENDLESS", "timeout", "within 1 s"),
    ],
)
def test_an_image_that_breaks_its_worker_is_the_one_that_fails(  # noqa: PLR0917
    monkeypatch, photos, tmp_path, what, code, words, ahead
):
    """It may die in the middle of its answer, answer what cannot be read, or never end."""
    if what == "hangs":
        monkeypatch.setattr(pool, "IMAGE_SECONDS", 0.5)
    job = Job(EMBEDDED, 1, 10**8, 10**8, 1) if what == "ENDLESS" else JOB
    odd = tmp_path / f"{what}.png"
    odd.write_bytes((photos / "cat.png").read_bytes() + what.encode())
    good = [ImageVersion(f"{photos}/{'./' * n}cat.png") for n in range(12)]
    done = label(*good[:5], ImageVersion(str(odd)), *good[5:], job=job, count=2, ahead=ahead)
    failed = done.pop(odd.name)
    assert failed.row.failure.code == code
    assert words in failed.problem
    assert all(one.row.label for one in done.values())


@pytest.mark.slow
@pytest.mark.usefixtures("crafted")
def test_an_error_before_decoding_is_no_verdict(photos):
    done = label(ImageVersion("recurses.jpg"), ImageVersion(f"{photos}/cat.png"))
    assert done["recurses.jpg"].row is None
    assert "recurses.jpg: cannot be fetched (RecursionError" in done["recurses.jpg"].problem
    assert done["cat.png"].row.label == "not alpaca"


@pytest.mark.slow
@pytest.mark.usefixtures("crafted")
def test_only_the_parent_looks_for_credentials(monkeypatch, tmp_path):
    """The profile needs a code: a worker that looked for its own keys would ask for it."""
    config = tmp_path / "config"
    config.write_text(
        "[profile mfa]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = base\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/me\nregion = us-east-1\n"
        "[profile base]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "mfa")
    keys = iter([("a", "b", "c"), ("d", "e", "f"), ("g", "h", None)])
    monkeypatch.setattr(storage, "credentials", lambda: next(keys))
    done = label(*(ImageVersion(f"s3://tells/{n}.jpg") for n in range(3)), ahead=1)
    told = [d.problem.partition("KeyError")[2] for d in done.values()]
    assert told == ["(('a', 'b', 'c')))", "(('d', 'e', 'f')))", "(('g', 'h', None)))"]


@pytest.mark.usefixtures("crafted")
def test_a_photo_that_kills_its_decoder_costs_a_page_one_picture(monkeypatch, photos):
    monkeypatch.setattr(pool, "_IDLE", [])
    photo = (photos / "cat.png").read_bytes()
    for _ in range(2):
        with Image.open(io.BytesIO(pool.jpeg(photo, 64))) as shown:
            assert (shown.format, max(shown.size)) == ("JPEG", 64)
        for bad, words in ((photo + b"KILLS", "crashed the decoder"), (photo[:999], "be decoded")):
            with pytest.raises(images.ImageError, match=words):
                pool.jpeg(bad, 64)
    [worker] = pool._IDLE
    pool._end(worker)


@pytest.mark.usefixtures("crafted")
def test_after_the_deadline_everything_left_comes_back_without_a_row(photos):
    images = [ImageVersion("hangs.jpg"), *[ImageVersion(f"{photos}/cat.png")] * 4]
    with Workers(JOB, 1, ahead=1) as workers:
        workers.ready()
        began = time.monotonic()
        done = list(workers.label(images, deadline=began + 0.5))
        assert time.monotonic() - began < 5
    assert [(d.image, d.row) for d in done] == [(image, None) for image in images]


def test_an_unusable_model_is_said_in_its_own_words():
    with pytest.raises(WorkerError, match="none: no model bundle there"):
        label(job=Job("none", 1, 1, 1))


def test_a_worker_that_does_not_start_is_an_error(program):
    program("import sys; sys.stdin.read()")
    with pytest.raises(WorkerError, match="died while it started"):
        label()


def test_leaving_ends_every_worker(program):
    started = program("from alpaca_labeler.pipeline import worker; worker.main()")
    with Workers(JOB, 2) as workers:
        workers.ready()
        assert [process.poll() for process in started] == [None, None]
    assert all(process.poll() is not None for process in started)


def test_a_folder_of_photos_is_not_imported_from(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with Workers(JOB, 1) as workers:
        assert workers.ready().labels == ("not alpaca", "alpaca")
    assert os.listdir(tmp_path) == ["numpy.py"]


def test_what_a_decoder_prints_stays_off_the_terminal(tmp_path, capfd):
    noise = encoded(Image.effect_noise((64, 48), 80), "TIFF", compression="tiff_lzw")
    planar_configuration = struct.pack("<HH", 284, 3)
    data = noise.replace(planar_configuration, struct.pack("<HH", 284, 2))
    (tmp_path / "odd.tif").write_bytes(data)
    with pytest.raises(images.ImageError):
        images.decode(data, 8)
    assert "PlanarConfiguration" in capfd.readouterr().err
    [done] = label(ImageVersion(f"{tmp_path}/odd.tif")).values()
    assert done.row.failure.code == "corrupt"
    assert capfd.readouterr().err == ""


# --- workers by what a container may use ----------------------------------------------------------


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
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(96))
    for name, text in (("cpu.max", cpu), ("memory.max", memory)):
        if text is not None:
            (tmp_path / name).write_text(text + "\n", encoding="latin-1")
    assert cores.usable(str(tmp_path)) == expected


def test_affinity_counts(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7})
    assert cores.usable("/nowhere") == 3
