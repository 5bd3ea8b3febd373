"""What is fuzzed, and what must hold whatever the input. A check raises if it does not."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from unittest.mock import patch
from urllib.parse import quote_plus

import msgspec
import numpy as np

from alpaca_labeler import storage
from alpaca_labeler.console import printable
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.handler import events
from alpaca_labeler.label import sort_into
from alpaca_labeler.manifest.command import line as line_for_people
from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import BundleError
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline.done import as_read
from alpaca_labeler.storage import StorageError
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import bucket, lines
from alpaca_labeler.table.facts import Answer, Failure, Read
from alpaca_labeler.table.log import LogError
from alpaca_labeler.table.row import ManifestError, Row, merge
from alpaca_labeler.table.run import Run
from alpaca_labeler.table.table import open_table
from alpaca_labeler.training import description, provenance, recipe
from tests.fuzz import mutators, seeds
from tests.support.fake_s3 import FakeS3

MAX_PIXELS = 4_000_000
CODES = {"empty", "not-an-image", "unsupported", "too-many-pixels", "too-complex", "corrupt"}
RESULTS = "s3://results/labels/"
FAST = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where files need no disk."""


@dataclass(frozen=True)
class Target:
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    check: Callable[[bytes], object]
    refused: type[LabelerError] | tuple[type[LabelerError], ...] = ()
    """What the check may raise."""
    megabytes: int = 100
    """How far the peak of memory may grow in one case."""

    def run(self, data: bytes) -> None:
        """Check an input; raises what is a finding."""
        try:
            self.check(data)
        except self.refused as error:
            message = str(error)
            assert not isinstance(error, images.ImageError) or error.code in CODES  # noqa: PT017
            assert not isinstance(error, BundleError) or NAME in message  # noqa: PT017
            failed = Row("a", Read(), Answer("1-a", failure=Failure("corrupt", message)))
            assert Row.from_line(failed.to_line()) == failed, "its message fits into no row"


NAME = "the-file.toml"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


# --- pictures ------------------------------------------------------------------------------------


def check_picture(data: bytes) -> None:
    """The same pixels each time and a picture for a page, or an `ImageError` of a known code."""
    seen = images.decode(data, 32, max_pixels=MAX_PIXELS)
    assert seen.pixels.shape == (32, 32, 3)
    assert seen.pixels.dtype == np.uint8
    assert seen.pixels.flags.c_contiguous
    # A JPEG counts at the size at which it is decoded, an eighth of each side at least.
    limit = MAX_PIXELS * (64 if data.startswith(b"\xff\xd8") else 1)
    assert 0 < seen.width * seen.height <= limit
    again = images.decode(data, 32, max_pixels=MAX_PIXELS)
    assert np.array_equal(seen.pixels, again.pixels), "other pixels the second time"
    shown = images.picture(data, 48, max_pixels=MAX_PIXELS)
    assert shown.mode == "RGB"
    assert max(shown.size) <= 48


# --- events --------------------------------------------------------------------------------------


def check_event(data: bytes) -> None:
    """Images that can be asked for and a complete answer, or `UnknownEvent`."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return  # Lambda itself would not call us
    try:
        batch = events.parse(event, within="s3://photos/")
    except events.UnknownEvent as error:
        str(error).encode(errors="backslashreplace")
        return
    for request in batch.requests:
        image = request.image
        assert image.source_ref.startswith("s3://photos/")
        assert image.size is None or isinstance(image.size, int)
        for fact in (image.etag, image.version_id, image.sequencer, image.last_modified):
            assert fact is None or isinstance(fact, str), fact
        read = as_read(image, NOON)
        assert msgspec.json.decode(msgspec.json.encode(read), type=Read) == read
    names = [request.image.source_ref for request in batch.requests]
    for done, left in ((len(names), {}), (0, dict.fromkeys(names, "why"))):
        try:
            answer = json.loads(json.dumps(events.answer(batch, done, left)))
        except events.Unfinished:
            assert not batch.messages
            continue
        if batch.messages:
            failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
            asked = {request.id for request in batch.requests}
            broken = {id_ for id_, _ in batch.unreadable} - asked
            assert failed == broken | (asked if left else set())


# --- manifests -----------------------------------------------------------------------------------


def check_rows(data: bytes) -> None:
    """Rows or a `ManifestError`; one row per image, the same in any order."""
    keyed = [*lines.read(io.BytesIO(data.replace(seeds.SEPARATOR, b"\n")), "file")]
    rows = [Row.from_line(line) for _, line in keyed]
    for row in rows:
        assert Row.from_line(row.to_line()) == row
        shown = line_for_people(row).removesuffix("\n")
        assert "\n" not in shown
        assert printable(shown) == shown
    found = [Row.from_line(line) for _, line in lines.merge(lines.sort(keyed))]
    again = [Row.from_line(line) for _, line in lines.merge(lines.sort(reversed(keyed)))]
    assert found == again, "the order of merging decides"
    assert [row.source_ref for row in found] == sorted({name for name, _ in keyed})


def check_run(data: bytes) -> None:
    """A run on any file: refused and nothing lost, or settled once and for all."""
    content = data.replace(seeds.SEPARATOR, b"\n")
    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        file = Path(folder, "m.jsonl")
        file.write_bytes(content)
        try:
            _run(file)
        except (LogError, ManifestError):
            assert file.read_bytes().startswith(content.rstrip(b"\n")), "it was written over"
            raise
        settled = file.read_bytes()
        names = [Row.from_line(line).source_ref for line in settled.splitlines()]
        assert names == sorted(set(names)), "two rows an image"
        assert "new" in names
        _run(file)
        assert file.read_bytes() == settled, "settling again changes something"


def _run(file: Path) -> None:
    with Run(str(file)) as run:
        run.load("1-a")
        image = ImageVersion("new", 1, "2026-01-01T00:00:00Z")
        if not run.has(image):
            run.append(seeds.row("new", size=1, last_modified="2026-01-01T00:00:00Z"))
        run.settle()
        [*run.rows()]


def _rows() -> list[Row]:
    with suppress(storage.NotFound):
        return [row for row, _ in open_table(RESULTS).read()]
    return []


def check_table(data: bytes) -> None:
    """Compacting any objects: what a reader sees stays the same, or it is refused."""
    s3 = FakeS3()
    names = ["manifest.jsonl", *(f"parts/{n:032}.jsonl" for n in range(9))]
    for name, content in zip(names, data.split(seeds.SEPARATOR), strict=False):
        s3.put_object("results", f"labels/{name}", content)
    with patch.object(storage, "client", lambda: s3):
        seen = [*_rows()]
        done = bucket.compact(RESULTS, pause=0, until="0")
        assert not done.broken
        assert not done.parts or done.rows == len(seen)
        # A person's label of a copy may come with the next merge.
        while bucket.compact(RESULTS, pause=0, until="0").parts:
            pass
        left = [*_rows()]
        assert [merge(a, b) for a, b in zip(seen, left, strict=True)] == left, "facts were lost"
        assert not [key for _, key in s3.objects if "parts/" in key]


# --- bundles -------------------------------------------------------------------------------------

MODEL = (seeds.TESTS.parent / "alpaca_labeler/model/embedded/model.tflite").read_bytes()


def check_card(data: bytes) -> None:
    """A card that is used says itself what it decides; any other is refused by name."""
    card = bundle.parse(data, MODEL, name=NAME).card
    assert card.version.endswith(card.digest())
    assert 0 <= card.review_band[0] <= card.review_band[1] <= 1
    for logit in (-1e3, 0.0, 1e3):
        said = decide(card, logit)
        assert 0 <= said.probability <= 1
        answer = Answer(card.version, said.label, said.index, card.attribute, said.probability)
        assert (Row.from_line(Row("a", Read(), answer).to_line()).confidence or 0) >= 0


def mutate_card(data: bytes, rng: Random) -> bytes:
    """Change a card; half get the version that fits, so that more than the digest is checked."""
    changed = mutators.mutate_json(data, rng)
    return _resigned(changed) if rng.random() < 0.5 else changed


def _resigned(data: bytes) -> bytes:
    try:
        document = json.loads(data)
        card = msgspec.convert({**document, "version": "1-0"}, bundle.Card)
        return json.dumps({**document, "version": f"1-{card.digest()}"}).encode()
    except (ValueError, TypeError, RecursionError):
        return data


def check_record(data: bytes) -> None:
    """A model's record of its photos: probabilities, or refused by name."""
    assert all(0 <= p <= 1 for p in provenance.parse(data, NAME).judged.values())


def reads(reader: Callable[[str], object]) -> Callable[[bytes], None]:
    """Return a check that a file is read as it is, or refused by name."""

    def check(data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=FAST) as folder:
            file = Path(folder, NAME)
            file.write_bytes(data)
            try:
                reader(str(file))
            except LabelerError as error:
                assert NAME in str(error)  # noqa: PT017
                raise

    return check


# --- names ---------------------------------------------------------------------------------------


def check_key(data: bytes) -> None:
    """Any name: one image, one line, one folder, and the way back."""
    name = os.fsdecode(data)
    if not name:
        return
    source_ref = storage.to_source_ref(name)
    source_ref.encode()
    assert storage.to_path(source_ref) in {name, os.path.abspath(name)}
    row = seeds.row(source_ref)
    assert row.to_line().count(b"\n") == 1
    assert Row.from_line(row.to_line()) == row
    shown = line_for_people(row).removesuffix("\n")
    assert printable(shown) == shown
    folder = sort_into.folder_name(name)
    assert os.sep not in folder
    assert folder.strip(".")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    _check_object_key(name)


def _check_object_key(key: str) -> None:
    where = {"name": "photos"}
    facts = {"bucket": where, "object": {"key": quote_plus(key)}}
    notified = {"Records": [{"eventName": "ObjectCreated:Put", "s3": facts}]}
    facts = {"bucket": where, "object": {"key": key}}
    bridged = {"source": "aws.s3", "detail-type": "Object Created", "detail": facts}
    for event in (notified, bridged, {"bucket": "photos", "keys": [key]}):
        batch = events.parse(json.loads(json.dumps(event)), within="s3://photos/")
        named = [storage.split_s3(request.image.source_ref) for request in batch.requests]
        skipped = events.is_skipped(f"s3://photos/{key}", "s3://photos/")
        assert named == ([] if skipped else [("photos", key)])


# --- all -----------------------------------------------------------------------------------------

FILES = (seeds.manifests, mutators.mutate_lines)
TEXTS = (seeds.texts, mutators.mutate_lines)
TARGETS = {
    "pictures": Target(seeds.pictures, mutators.mutate_picture, check_picture, images.ImageError),
    "events": Target(seeds.events, mutators.mutate_json, check_event),
    "rows": Target(*FILES, check_rows, ManifestError),
    "run": Target(*FILES, check_run, (LogError, ManifestError)),
    "table": Target(*FILES, check_table, (ManifestError, StorageError)),
    "cards": Target(seeds.cards, mutate_card, check_card, BundleError),
    "sets": Target(*TEXTS, reads(description.read), LabelerError),
    "recipes": Target(*TEXTS, reads(recipe.load), LabelerError),
    "records": Target(*TEXTS, check_record, BundleError),
    "keys": Target(seeds.keys, mutators.mutate_bytes, check_key),
}
