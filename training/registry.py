"""Publish bundles to object storage and move the pointer that says which one is in use.

It never replaces a published file, never deletes one, and never points to a bundle that has not
been read back whole from there.

    s3://bucket/models/alpaca/
      20260131T120000Z-0a1b2c3d4e5f/model.tflite     written first
      20260131T120000Z-0a1b2c3d4e5f/photos.csv       what it was trained on, if that is known
      20260131T120000Z-0a1b2c3d4e5f/model.json       written last: with it the bundle is complete
      latest.json                                    the pointer, moved by conditional writes only:
                                                     the version in use, and the one before
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.model import bundle
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.storage.upload import Upload

from . import provenance

POINTER_FILE: Final = "latest.json"

_MOVE_TRIES: Final = 10
"""Each lost race is another writer's finished move, so ten in a row mean a fault."""


class PublishError(LabelerError):
    """Something cannot be published or pointed to. The message names it and says what to do."""


def publish(
    folder: str, store: str, *, promote: bool = True, say: Callable[[str], None] = lambda _: None
) -> str:
    """Upload a bundle to `store` (`s3://bucket/prefix`), then move the pointer if that is forward.

    Returns the URI of the published bundle. It is idempotent: run it again after any failure, or
    beside other publishers. `say` is called with each step as text.

    Raises `PublishError`, `BundleError` or `StorageError`.
    """
    store = _store(store)
    base = bundle.resolve(folder)
    model = bundle.load(base).model
    # The bytes that are verified here are those uploaded, even if the folder changes meanwhile.
    document = storage.read(storage.join(base, bundle.CARD_FILE), bundle.MAX_CARD_BYTES)
    whole = bundle.parse(document, model, name=base)
    version, photos = whole.card.version, provenance.read(base, whole.document)
    say(f"{folder}: version {version} is whole")
    _check_question(store, whole.card)

    uri = storage.join(store, version)
    # The card last: if there is a card, its model is beside it.
    for name, data, content_type in (
        (bundle.MODEL_FILE, model, "application/octet-stream"),
        (provenance.PHOTOS_FILE, photos, "text/csv; charset=utf-8"),
        (bundle.CARD_FILE, document, "application/json"),
    ):
        if data is not None:
            new = _create(storage.join(uri, name), data, content_type)
            say(f"{name}: {len(data):,} bytes {'uploaded' if new else 'already there'}")
    _verified(store, version)
    say(f"{uri}: read back and verified")
    if promote:
        _move(store, whole.card, say, only_forward=True)
    return f"{uri}/"


def promote(store: str, version: str, *, say: Callable[[str], None] = lambda _: None) -> None:
    """Point to a published version, older or newer, once it has been read back whole.

    Raises `PublishError`, `BundleError` or `StorageError`.
    """
    store = _store(store)
    if not bundle.VERSION.fullmatch(version):
        raise PublishError(f"{version!r} is not a model version; `alpaca models list` names them")
    card = _verified(store, version)
    _check_question(store, card)
    _move(store, card, say, only_forward=False)


def versions(store: str) -> list[dict[str, Any]]:
    """List what is published, for JSON, newest first, incomplete versions included.

    version, current: its name, and whether it is in use
    accuracy: share of photos labelled right, 0..1, by its card; None if that does not say
    missing: the files that it lacks; models are not read, so even a version that lacks none can be
        refused by `promote`

    Raises `PublishError` or `StorageError`.
    """
    store = _store(store)
    current, _, _ = _read_pointer(store)
    files: dict[str, set[str]] = {current: set()} if current else {}
    for item in storage.list_objects(f"{store}/"):
        version, _, name = item.source_ref.removeprefix(f"{store}/").partition("/")
        if name and bundle.VERSION.fullmatch(version):
            files.setdefault(version, set()).add(name)
    return [
        {
            "version": version,
            "current": version == current,
            "accuracy": _accuracy(storage.join(store, version)),
            "missing": [
                name for name in (bundle.MODEL_FILE, bundle.CARD_FILE) if name not in found
            ],
        }
        for version, found in sorted(files.items(), reverse=True)
    ]


# --- the bundles ---------------------------------------------------------------------------------


def _store(uri: str) -> str:
    """Return the store's URI without a trailing slash, or say what is wrong with it."""
    try:
        bucket, key = storage.split_s3(uri)
    except storage.StorageError as error:
        raise PublishError(
            f"{uri}: not a place to publish to; name one like s3://bucket/models/alpaca"
        ) from error
    key = key.rstrip("/")
    last = key.rsplit("/", 1)[-1]
    if last.endswith(".json") or bundle.VERSION.fullmatch(last):
        raise PublishError(f"{uri}: name the prefix that holds the versions, without {last}")
    return f"{storage.S3_SCHEME}{bucket}" + (f"/{key}" if key else "")


def _create(uri: str, data: bytes, content_type: str) -> bool:
    """Create an object, or check that the existing one has this content. Tell if it is new."""
    if storage.write_if_absent(uri, data, content_type):
        return True
    # It was written before: by another publisher, an earlier try, or this call (a lost answer).
    with suppress(storage.TooLarge):
        if storage.read(uri, len(data)) == data:
            return False
    raise PublishError(
        f"{uri}: other content is published under this version. A published file is never "
        "replaced: export the bundle again, which gives it a new version."
    )


def _verified(store: str, version: str) -> bundle.Card:
    """Read a published bundle back, model and all, and return its card."""
    uri = storage.join(store, version)
    card = bundle.load(f"{uri}/").card
    if card.version != version:
        raise PublishError(
            f"{uri}: the bundle in it is {card.version}; publish it under its own version"
        )
    return card


def _check_question(store: str, card: bundle.Card) -> None:
    """Refuse a model with other classes than those of the one in use: functions share a table."""
    now, _, _ = _read_pointer(store)
    with suppress(bundle.BundleError):  # a broken one says nothing
        known = bundle.load(f"{storage.join(store, now)}/").card.labels if now else card.labels
        if known != card.labels:
            names = " and ".join(map(repr, card.labels)), " and ".join(map(repr, known))
            raise PublishError(
                f"{store}: its models tell {names[1]}, and {card.version} {names[0]}, which is "
                "another question; publish it under another prefix, for another stack"
            )


def _accuracy(base: str) -> float | None:
    """Return the accuracy that a bundle's card states."""
    try:
        card = json.loads(storage.read(storage.join(base, bundle.CARD_FILE), bundle.MAX_CARD_BYTES))
        return float(card["metrics"]["accuracy"]["value"])
    except (ValueError, KeyError, TypeError, storage.NotFound, storage.TooLarge):
        return None


# --- the pointer ---------------------------------------------------------------------------------


def _move(store: str, card: bundle.Card, say: Callable[[str], None], *, only_forward: bool) -> None:
    """Point to a bundle and say so; with `only_forward` not if a newer one is or was in use.

    Concurrency is optimistic: after a lost race the pointer is read and decided again.
    """
    uri = storage.join(store, POINTER_FILE)
    for _ in range(_MOVE_TRIES):
        now, previous, etag = _read_pointer(store)
        if now == card.version:
            say(f"{uri}: stays at {now}; it already names this version")
            return
        # What was replaced by an older version was rolled back: publishing must not undo that.
        if only_forward and card.version <= max(now or "", previous or ""):
            say(
                f"{uri}: stays at {now}; a newer version is or was in use; promote this one by "
                "name to use it"
            )
            return
        pointer = {
            "version": card.version,
            "sha256": card.sha256,
            "moved_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "previous": now,
        }
        try:
            with Upload(uri, etag, "application/json") as upload:
                upload.write(json.dumps(pointer, indent=2).encode() + b"\n")
                upload.commit()
        except storage.Conflict:
            continue
        say(f"{uri}: moved from {now or 'nothing'} to {card.version}")
        return
    raise PublishError(f"{uri}: others keep moving it; try again when they have finished")


def _read_pointer(store: str) -> tuple[str | None, str | None, str | None]:
    """Return the version in use, the one before, and the pointer's ETag; None if there is none."""
    uri = storage.join(store, POINTER_FILE)
    try:
        found = storage.fetch(ImageVersion(uri), bundle.MAX_CARD_BYTES)
    except storage.NotFound:
        return None, None, None
    try:
        content = json.loads(found.data)
        version, previous = content["version"], content.get("previous")
        if not bundle.VERSION.fullmatch(version):
            raise ValueError(f"{version!r} is not a version")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PublishError(
            f"{uri}: not a model pointer ({error}). Delete that object, then promote a version."
        ) from error
    previous = previous if isinstance(previous, str) else None  # 0.2 wrote a list
    return version, previous, f'"{found.version.etag}"'
