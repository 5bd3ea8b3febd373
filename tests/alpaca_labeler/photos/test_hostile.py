"""What fuzzing and hostile input have found: each stays fixed."""

from __future__ import annotations

import json
import sys
from time import process_time

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler.handler import events
from alpaca_labeler.handler.events import UnknownEvent
from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import BundleError
from alpaca_labeler.photos import deep, images, limits
from tests.fuzz import bombs, fuzz, seeds, targets
from tests.support import raw


@pytest.mark.parametrize("name", targets.TARGETS)
def test_whatever_comes_in_what_must_hold_holds(name):
    starts = targets.TARGETS[name].seeds()
    for number in range(len(starts) + 100):
        targets.TARGETS[name].run(fuzz.case(name, starts, seed=1, number=number))


# --- pictures ------------------------------------------------------------------------------------

MEGAPIXELS = 16


@pytest.mark.slow
@pytest.mark.parametrize("name", bombs.OF_PIXELS)
def test_many_pixels_take_bounded_memory_and_time(name):
    if name == "heif":
        pytest.importorskip("pillow_heif")
    pixels = MEGAPIXELS * 1_000_000
    found = bombs.measure(bombs.made(name, pixels), pixels, timeout=60)
    assert found["megabytes"] < 600, found
    assert found["seconds"] < 10, found


CLAIMS = [raw.png(12_000, 12_000, bytes(10_000)), bombs.frame_beyond_its_screen(0)]
CLAIMS += [bombs.empty_canvas(0)]


@pytest.mark.parametrize("claim", CLAIMS, ids=["PNG", "GIF", "WebP"])
def test_what_claims_too_much_is_refused_before_there_is_room_for_it(claim):
    found = bombs.measure(claim, images.MAX_PIXELS)
    assert found["outcome"] == "too-many-pixels"
    assert found["megabytes"] < 100


EXIF = bombs.long_tag(0x112, 5 * bombs.MB)
REFUSED = {
    "exif": bombs.in_png(raw.chunk(b"eXIf", EXIF)),
    "late exif": bombs.in_png(raw.chunk(b"eXIf", EXIF), late=True),
    "exif as text": bombs.raw_profile(5 * bombs.MB),
    "exif in WebP": bombs.tiny("WEBP", exif=EXIF),
    "exif in AVIF": bombs.in_avif(5 * bombs.MB),
    "exif in segments": bombs.in_jpeg(bombs.segments(0xE1, b"Exif\0\0", bytes(5 * bombs.MB))),
    "directory": bombs.large_directories(1, 2 * bombs.MB),
    "entries": bombs.many_entries(2**16 + 1),
    "segments": bombs.in_jpeg(b"\xff\xfe\0\2" * 100_001),
    "stray bytes": bombs.in_jpeg(b"\xff" * 100_001),
    "much of a segment": bombs.in_jpeg(bombs.segments(0xED, b"", bytes(33 * bombs.MB))),
    "scans": bombs.many_scans(10_000, 101),
    "scans of many pixels": bombs.empty_scans(200_000_000, 20),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_costs_too_much_beside_its_pixels_is_refused_at_once(name):
    tracer = sys.gettrace()
    sys.settrace(None)  # coverage's, which makes every line several times slower
    began = process_time()
    for read in (images.decode, images.picture):
        with pytest.raises(images.ImageError) as refusal:
            read(REFUSED[name], 64)
        assert refusal.value.code == "too-complex"
    took = process_time() - began
    sys.settrace(tracer)
    assert took < 0.5


def test_a_file_is_read_in_a_limited_number_of_steps(monkeypatch):
    monkeypatch.setattr(limits, "MAX_READS", 1000)
    chunks, stray = raw.chunk(b"teSt", b"") * 1000, b"x" * 1000
    for data in (bombs.in_png(chunks), bombs.in_png(chunks, late=True), bombs.in_gif(stray)):
        with pytest.raises(images.ImageError, match="steps to read"):
            images.decode(data, 32)


def test_scans_are_those_of_the_picture_and_not_of_what_lies_around_it():
    film = b"\xff\xda\0\x08" * 1000
    for data in (seeds.pictures()[0], seeds.pictures()[1]):  # baseline and progressive
        whole = images.decode(data, 32).pixels
        assert np.array_equal(images.decode(data + film, 32).pixels, whole)
        thumbnail = b"\xff\xef" + (len(film) + 2).to_bytes(2) + film
        assert np.array_equal(images.decode(data[:2] + thumbnail + data[2:], 32).pixels, whole)


@pytest.mark.parametrize("more", range(2, 14))
def test_a_jpeg_that_ends_in_the_header_of_its_scan_is_refused(more):
    data = seeds.pictures()[0]
    with pytest.raises(images.ImageError):
        images.decode(data[: data.index(b"\xff\xda") + more], 32)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_deep_picture_is_the_same_in_strips(kind, monkeypatch):
    values = (np.random.default_rng(1).normal(0, 1, (70, 90)) * 9999).astype(kind)
    data = seeds.encoded(Image.fromarray(values), "TIFF")
    whole = images.decode(data, 32).pixels
    monkeypatch.setattr(deep, "_STRIP_PIXELS", 1000)
    assert np.array_equal(images.decode(data, 32).pixels, whole)


# --- events --------------------------------------------------------------------------------------


def message(id_, body):
    return {"messageId": id_, "eventSource": "aws:sqs", "body": body}


GOOD = json.dumps({"bucket": "photos", "keys": ["good.jpg"]})


def item(**facts):
    return json.dumps({"BatchInput": {"bucket": "photos"}, "Items": [{"Key": "a"} | facts]})


def created(time="2026-01-01T00:00:00Z", **facts):
    detail = {"bucket": {"name": "photos"}, "object": {"key": "a"} | facts}
    event = {"source": "aws.s3", "detail-type": "Object Created", "time": time, "detail": detail}
    return json.dumps(event)


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        None,
        json.dumps({"bucket": "photos", "keys": ["\ud800.jpg"]}),
        *(item(Size=size) for size in (float("inf"), -1, 2**63)),
        *(item(LastModified=1e300), item(Etag=[1])),
        created(time="0001-01-01T00:00:00+14:00"),
        created(sequencer=1.5),
    ],
    ids=range(10),
)
def test_a_poisoned_message_is_handed_back_alone(body):
    event = {"Records": [message("bad", body), message("good", GOOD)]}
    batch = events.parse(event, within="s3://photos/")
    assert batch.again({}) == ["bad"]
    assert [request.image.source_ref for request in batch.requests] == ["s3://photos/good.jpg"]


def test_a_frame_that_is_no_event_is_refused():
    frames = [[message("a", GOOD), {}], [message("a", GOOD), 1], [message(["a"], GOOD)]]
    for event in (*({"Records": frame} for frame in frames), {"bucket": "b", "keys": ["\ud800"]}):
        with pytest.raises(UnknownEvent):
            events.parse(event, within="s3://b/")


# --- cards ---------------------------------------------------------------------------------------


def test_a_card_with_half_a_character_is_refused():
    document = json.loads(seeds.cards()[1]) | {"labels": ["not alpaca", "\ud800"]}
    with pytest.raises(BundleError, match="not a model card"):
        bundle.parse(json.dumps(document).encode(), b"", name="name")
