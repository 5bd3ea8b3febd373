"""What is fuzzed, and what must hold whatever the input. A check raises if it does not."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from unittest.mock import patch
from urllib.parse import quote_plus

import numpy as np
from PIL import Image

from alpaca_labeler import storage
from alpaca_labeler.console import printable
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.handler import events
from alpaca_labeler.label import sort_into, sources
from alpaca_labeler.manifest import exports
from alpaca_labeler.manifest.command import line as line_for_people
from alpaca_labeler.manifest.out import Out
from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import BundleError
from alpaca_labeler.model.classifier import Classifier, Prediction, decide
from alpaca_labeler.photos import images
from alpaca_labeler.storage import StorageError
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import compaction, manifest_row, merge, parts
from alpaca_labeler.table.ledger import Ledger, LedgerError
from alpaca_labeler.table.manifest_row import Failure, ManifestError, Row
from alpaca_labeler.training import description, provenance, recipe
from tests.fuzz import mutators, seeds
from tests.support.fake_s3 import FakeS3

MAX_PIXELS = 4_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # as if the limit had never been higher
CODES = {"empty", "not-an-image", "unsupported", "too-many-pixels", "corrupt"}
RESULTS = "s3://results/labels/"


@dataclass(frozen=True)
class Target:
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    check: Callable[[bytes], None]
    megabytes: int = 100
    """How far the peak of memory may grow in one case."""


def _text(message: str) -> None:
    """A message must fit into a row."""
    failed = manifest_row.failure_row(ImageVersion("a"), Failure("corrupt", message), "1-a", NOON)
    manifest_row.parse(manifest_row.encode(failed))


def _refused(error: images.ImageError) -> None:
    assert error.code in CODES, error.code
    _text(str(error))


def _refused_by_name(error: LabelerError, name: str) -> None:
    assert name in str(error)
    _text(str(error))


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


# --- pictures ------------------------------------------------------------------------------------


def check_picture(data: bytes) -> None:
    """Pixels in the model's form, the same each time, or an `ImageError` with a known code."""
    try:
        seen = images.decode(data, 32, max_pixels=MAX_PIXELS)
    except images.ImageError as error:
        _refused(error)
    else:
        assert seen.pixels.shape == (32, 32, 3)
        assert seen.pixels.dtype == np.uint8
        assert seen.pixels.flags.c_contiguous
        # A JPEG counts at the size at which it is decoded, an eighth of each side at least.
        limit = MAX_PIXELS * (64 if data.startswith(b"\xff\xd8") else 1)
        assert 0 < seen.width * seen.height <= limit
        again = images.decode(data, 32, max_pixels=MAX_PIXELS)
        assert np.array_equal(seen.pixels, again.pixels), "other pixels the second time"
    try:
        shown = images.picture(data, 48, max_pixels=MAX_PIXELS)
    except images.ImageError as error:
        _refused(error)
    else:
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
        row = manifest_row.failure_row(image, Failure("empty", ""), "1-a", NOON)
        assert manifest_row.version_of(manifest_row.parse(manifest_row.encode(row))) == image
    names = [request.image.source_ref for request in batch.requests]
    for done, left in ((dict.fromkeys(names, "row"), {}), ({}, dict.fromkeys(names, "why"))):
        try:
            answer = json.loads(json.dumps(events.answer(batch, done, left)))
        except events.Unfinished:
            assert not batch.messages
            continue
        if batch.messages:
            failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
            asked = {request.id for request in batch.requests} if left else set()
            assert failed == {*batch.broken, *asked}


# --- manifests -----------------------------------------------------------------------------------


def check_rows(data: bytes) -> None:
    """Rows or a `ManifestError`; one winner per image, in any order."""
    try:
        keyed = [*merge.read(io.BytesIO(data.replace(seeds.SEPARATOR, b"\n")), "file")]
    except ManifestError as error:
        _text(str(error))
        return
    merged = [*merge.merge(merge.sort(keyed))]
    assert merged == [*merge.merge(merge.sort(reversed(keyed)))], "the order of merging decides"
    names = [manifest_row.parse(line)["source-ref"] for line, _ in merged]
    assert names == sorted({name for name, _ in keyed})
    for _, line in keyed:
        row = manifest_row.parse(line)
        shown = line_for_people(row)
        assert "\n" not in shown
        assert printable(shown) == shown
        manifest_row.version_of(row)


def check_ledger(data: bytes) -> None:
    """A run on any two files: refused and nothing changed, or settled once and for all."""
    contents = [*data.split(seeds.SEPARATOR, 1), b""][:2]
    with tempfile.TemporaryDirectory(dir=_fast_folder()) as folder:
        files = [os.path.join(folder, name) for name in ("m.jsonl", "f.jsonl")]
        for file, content in zip(files, contents, strict=True):
            Path(file).write_bytes(content)
        try:
            _run(files)
        except (LedgerError, ManifestError) as error:
            _text(str(error))
            for file, content in zip(files, contents, strict=True):
                left = Path(file).read_bytes() if os.path.exists(file) else b""
                assert content.startswith(left) or left == content + b"\n", "it was written over"
            return
        settled = [Path(file).read_bytes() if os.path.exists(file) else b"" for file in files]
        rows = [[manifest_row.parse(line) for line in text.split(b"\n")[:-1]] for text in settled]
        names = [[row["source-ref"] for row in some] for some in rows]
        assert len({*names[0], *names[1]}) == len(names[0]) + len(names[1]), "two rows an image"
        assert "new" in names[0]
        _run(files)
        assert settled == [
            Path(file).read_bytes() if os.path.exists(file) else b"" for file in files
        ], "settling again changes something"


def _run(files: list[str]) -> None:
    with Ledger(*files) as ledger:
        ledger.load("1-a")
        image = ImageVersion("new", 1, "2026-01-01T00:00:00Z")
        if not ledger.has(image):
            ledger.append(seeds.row("new", size=1, **{"last-modified": "2026-01-01T00:00:00Z"}))
        ledger.settle()
        [*ledger.rows()]


def _fast_folder() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def check_exports(data: bytes) -> None:
    """Every form takes every row or counts it, and what is written can be read."""
    try:
        lines = [*merge.read(io.BytesIO(data.replace(seeds.SEPARATOR, b"\n")), "file")]
    except ManifestError:
        return
    rows = [manifest_row.parse(line) for _, line in lines]
    for form, write in exports.FORMATS.items():
        text, out = _exported(write, rows)
        written = out.written
        assert written + out.left_out.total() == len(rows), form
        text.encode()
        if form == "csv":
            table = [*csv.reader(io.StringIO(text, newline=""), strict=True)]
            assert len(table) == written + 1
            for cell in (cell for line in table for cell in line if not _is_number(cell)):
                assert not cell.startswith(exports.FORMULA_STARTS), cell
        elif form == "label-studio":
            assert not written or len(json.loads(text)) == written
        else:
            assert len([json.loads(line) for line in text.splitlines()]) == written


def _exported(write: Callable[[list[Row], Out], None], rows: list[Row]) -> tuple[str, Out]:
    out = Out(str, files_root="/")
    # One that holds no folders of splits, which an export looks for.
    with (
        tempfile.TemporaryDirectory(dir=_fast_folder()) as empty,
        contextlib.chdir(empty),
        contextlib.redirect_stdout(io.StringIO(newline="")) as text,
    ):
        write(rows, out)
    return text.getvalue(), out


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def check_table(data: bytes) -> None:
    """Compacting any objects: what a reader sees stays the same, or it is refused."""
    contents = data.split(seeds.SEPARATOR)
    s3 = FakeS3()
    names = ["manifest.jsonl", "failures.jsonl", *(f"parts/{n}.jsonl" for n in range(9))]
    for name, content in zip(names, contents[:11], strict=False):
        s3.put_object("results", f"labels/{name}", content)
    try:
        with patch.object(storage, "client", lambda: s3):
            seen = [*compaction.table(RESULTS, missing_ok=True)]
            done = compaction.compact(RESULTS, pause=0)
            assert not done.broken
            assert [*compaction.table(RESULTS, missing_ok=True)] == seen, "the table changed"
            assert not [key for _, key in s3.objects if "parts/" in key]
            assert compaction.compact(RESULTS, pause=0) == compaction.Compacted()
    except (ManifestError, StorageError) as error:
        _text(str(error))


# --- bundles -------------------------------------------------------------------------------------

MODEL = (seeds.TESTS.parent / "alpaca_labeler/model/embedded/model.tflite").read_bytes()


def check_card(data: bytes) -> None:
    """A card that is used says itself what it decides; any other is refused by name."""
    for text in (data, _resigned(data)):
        try:
            found = bundle.parse(text, MODEL, name="name")
        except BundleError as error:
            _refused_by_name(error, "name")
            continue
        card = found.card
        assert card.version.endswith(card.digest())
        assert 0 <= card.review_band[0] <= card.review_band[1] <= 1
        row = manifest_row.label_row(ImageVersion("a"), (1, 1), _decision(card), card, NOON)
        assert (
            manifest_row.metadata(manifest_row.parse(manifest_row.encode(row)))["confidence"] >= 0
        )


def _decision(card: bundle.Card) -> Prediction:
    for logit in (-1e3, 0.0, 1e3):
        found = decide(card, logit)
        assert 0 <= found.probability <= 1
    return found


def _resigned(data: bytes) -> bytes:
    """The same card with the version that fits it, so that more than the digest is looked at."""
    try:
        document = json.loads(data)
        card = bundle._card({**document, "version": "1-0"})
        return json.dumps({**document, "version": f"1-{card.digest()}"}).encode()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return data


# --- text of strangers ---------------------------------------------------------------------------


def check_text(data: bytes) -> None:
    """Lists, tables and recipes: read as they are, or refused by name."""
    with tempfile.NamedTemporaryFile(dir=_fast_folder(), suffix=".toml") as file:
        file.write(data)
        file.flush()
        for read in (description.read, recipe.load):
            try:
                read(file.name)
            except LabelerError as error:
                _refused_by_name(error, file.name)
    try:
        record = provenance.parse(data, "name")
    except BundleError as error:
        _refused_by_name(error, "name")
    else:
        assert all(0 <= probability <= 1 for probability in record.judged.values())


# --- names ---------------------------------------------------------------------------------------


def check_key(data: bytes) -> None:
    """Any name: one image, one line, one cell, one folder, and the way back."""
    name = os.fsdecode(data)
    if not name:
        return
    source_ref = storage.to_source_ref(name)
    source_ref.encode()
    assert storage.to_path(source_ref) in {name, os.path.abspath(name)}
    row = seeds.row(source_ref)
    line = manifest_row.encode(row)
    assert line.count(b"\n") == 1
    assert manifest_row.parse(line) == row
    assert printable(line_for_people(row)) == line_for_people(row)
    text, _ = _exported(exports.to_csv, [row])
    [_, cells] = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert cells[0].removeprefix("'") == source_ref.removeprefix("'")
    assert not cells[0].startswith(exports.FORMULA_STARTS)
    folder = sort_into.folder_name(name)
    assert os.sep not in folder
    assert folder.strip(".")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    _check_object_key(name)


def _check_object_key(key: str) -> None:
    bucket = {"name": "photos"}
    notified = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": bucket, "object": {"key": quote_plus(key)}},
    }
    bridged = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": bucket, "object": {"key": key}},
    }
    for event in ({"Records": [notified]}, bridged, {"bucket": "photos", "keys": [key]}):
        batch = events.parse(json.loads(json.dumps(event)), within="s3://photos/")
        named = [storage.split_s3(request.image.source_ref) for request in batch.requests]
        skipped = events.is_skipped(f"s3://photos/{key}", "s3://photos/")
        assert named == ([] if skipped else [("photos", key)])
    s3 = FakeS3()
    s3.put_object("photos", key, b"")
    with patch.object(storage, "client", lambda: s3):
        found = [*sources.find(["s3://photos/"], sources.Skipped())]
        assert [image.source_ref for image in found] in ([], [f"s3://photos/{key}"])
        parts.write(RESULTS, [seeds.row(f"s3://photos/{key}")])
        [(line, _)] = compaction.table(RESULTS)
        assert manifest_row.parse(line)["source-ref"] == f"s3://photos/{key}"


# --- models --------------------------------------------------------------------------------------


def check_model(data: bytes) -> None:
    """A damaged model whose hash was made to match: an answer, a `BundleError`, or a crash."""
    document = json.loads(seeds.cards()[1])
    document["sha256"] = hashlib.sha256(data).hexdigest()
    found = bundle.parse(_resigned(json.dumps(document).encode()), data, name="name")
    try:
        Classifier(found).predict(np.zeros((found.card.input_size,) * 2 + (3,), np.uint8))
    except BundleError:
        return


TARGETS = {
    "pictures": Target(seeds.pictures, mutators.mutate_picture, check_picture),
    "events": Target(seeds.events, mutators.mutate_json, check_event),
    "rows": Target(seeds.manifests, mutators.mutate_lines, check_rows),
    "ledger": Target(seeds.manifests, mutators.mutate_lines, check_ledger),
    "exports": Target(seeds.manifests, mutators.mutate_lines, check_exports),
    "table": Target(seeds.manifests, mutators.mutate_lines, check_table),
    "cards": Target(seeds.cards, mutators.mutate_json, check_card),
    "texts": Target(seeds.texts, mutators.mutate_lines, check_text),
    "keys": Target(seeds.keys, mutators.mutate_bytes, check_key),
    # Their hash matches, so crashes are expected: see docs/robustness.md.
    "models": Target(lambda: [MODEL], mutators.mutate_bytes, check_model, megabytes=2000),
}
"""By name. `models` runs only if it is asked for."""
