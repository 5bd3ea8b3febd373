"""Publish bundles to object storage and move the pointer that says which one is in use.

It never replaces a published file, never deletes one, and never points to a bundle that has not
been read back whole from there.

    s3://bucket/models/alpaca/
      20260131T120000Z-0a1b2c3d4e5f/model.tflite     written first
      20260131T120000Z-0a1b2c3d4e5f/photos.csv       what it was trained on, if that is known
      20260131T120000Z-0a1b2c3d4e5f/model.json       written last: with it the bundle is complete
      latest.json                                    the pointer, moved by conditional writes only
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ..handler import bundle, storage
from ..handler.errors import LabelerError
from ..handler.image_version import ImageVersion
from . import provenance

if TYPE_CHECKING:
    from collections.abc import Callable

POINTER_FILE: Final = "latest.json"
HISTORY_LENGTH: Final = 20
"""Versions the pointer remembers. Older ones stay published and can be promoted by name."""

_MOVE_TRIES: Final = 10
"""Each lost race is another writer's finished move, so ten in a row mean a fault."""


class PublishError(LabelerError):
    """Something cannot be published or pointed to. The message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """The content of `latest.json`."""

    version: str
    """The version in use."""
    sha256: str
    """Digest of that version's `model.tflite`, in hex."""
    moved_at: str
    """Time of the move, ISO 8601 in UTC."""
    previous: tuple[str, ...] = ()
    """Versions in use before, newest first: what `rollback` goes back to."""
    withdrawn: tuple[str, ...] = ()
    """Versions that were rolled back. Publishing one again does not undo that; `promote` does."""


@dataclass(frozen=True, slots=True)
class Move:
    """What happened to the pointer, or would happen to it."""

    pointer: str
    """URI of the pointer."""
    before: str | None
    """Version in use before; None if there was no pointer."""
    after: str | None
    """Version in use afterwards; None if there is no pointer."""
    reason: str
    """Why it moved or why it stayed, as the end of a sentence."""

    @property
    def moved(self) -> bool:
        """Tell whether another version is in use now."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing did, or would do."""

    version: str
    uri: str
    """URI of the published bundle, for `MODEL_URI` or `--model`."""
    created: tuple[str, ...]
    """Files written now. The others existed already, with the same content."""
    move: Move


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Share of photos labelled right, 0..1, with its interval if the card has one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Version:
    """One published version, as far as listing can tell without reading its model."""

    version: str
    current: bool
    withdrawn: bool
    created: str | None
    """Date on its card, ISO 8601 in UTC."""
    accuracy: Accuracy | None
    """Accuracy on its card."""
    problem: str | None
    """Why it cannot be used, or None."""


def publish(
    folder: str,
    store: str,
    *,
    promote: bool = True,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Publication:
    """Upload a bundle to `store` (`s3://bucket/prefix`), then move the pointer if that is forward.

    It is idempotent: run it again after any failure, or beside other publishers. `say` is called
    with each step as text. With `dry_run` nothing is written.

    Raises `PublishError`, `handler.bundle.BundleError` or `handler.storage.StorageError`.
    """
    store = _store(store)
    base = bundle.resolve(folder)
    model = bundle.load(base).model
    # The bytes that are verified here are those uploaded, even if the folder changes meanwhile.
    document = storage.read(storage.join(base, bundle.CARD_FILE), bundle.MAX_CARD_BYTES)
    whole = bundle.parse(document, model, name=base)
    card, photos = whole.card, provenance.read(base, whole.document)
    say(f"{folder}: version {card.version} is whole")

    uri = storage.join(store, card.version)
    created: list[str] = []
    # The card last: if there is a card, its model is beside it.
    for name, data, content_type in (
        (bundle.MODEL_FILE, model, "application/octet-stream"),
        (provenance.PHOTOS_FILE, photos, "text/csv; charset=utf-8"),
        (bundle.CARD_FILE, document, "application/json"),
    ):
        if data is None:
            continue
        new = _create(storage.join(uri, name), data, content_type, dry_run=dry_run)
        created += [name] * new
        done = "to upload" if dry_run else "uploaded"
        say(f"{name}: {len(data):,} bytes {done if new else 'already there'}")
    if not dry_run:
        _verified(store, card.version)
        say(f"{uri}: read back and verified")

    def forward(now: Pointer | None) -> Pointer | str:
        if not promote:
            return "it was not asked to move"
        if now and now.version == card.version:
            return "it already names this version"
        if now and card.version in now.withdrawn:
            return "this version was rolled back; promote it by name to use it again"
        if now and card.version < now.version:
            return "the version in use is newer; promote this one by name to use it"
        return _advanced(now, card)

    move = _move(store, forward, "it is the newest version", dry_run=dry_run)
    return Publication(card.version, f"{uri}/", tuple(created), move)


def promote(
    store: str,
    version: str,
    *,
    approve: Callable[[str, str], None] | None = None,
    dry_run: bool = False,
) -> Move:
    """Point to a published version, older or newer, once it has been read back whole.

    `approve` is called first, with the URIs of the bundle in use and of the other one, and raises
    to veto the move. If the pointer moves meanwhile, it is called again for the bundle in use then.
    It is not called if no version is in use, or if this version is.

    Raises `PublishError`, `handler.bundle.BundleError` or `handler.storage.StorageError`.
    """
    store = _store(store)
    if not bundle.VERSION.fullmatch(version):
        raise PublishError(f"{version!r} is not a model version; `alpaca models list` names them")
    card = _verified(store, version)

    def approved(now: Pointer | None) -> Pointer | str:
        if now and now.version == version:
            return "it already names this version"
        if now and approve:
            approve(*(f"{storage.join(store, name)}/" for name in (now.version, version)))
        return _advanced(now, card)

    return _move(store, approved, "it was promoted by name", dry_run=dry_run)


def rollback(store: str, *, dry_run: bool = False) -> Move:
    """Point to the version in use before, and remember the one in use now as withdrawn.

    Raises `PublishError`, `handler.bundle.BundleError` or `handler.storage.StorageError`.
    """
    store = _store(store)
    seen: list[Pointer] = []

    def back(now: Pointer | None) -> Pointer | str:
        if now is None:
            raise PublishError(f"{store}: nothing to roll back; nothing was ever promoted there")
        seen.append(now)
        first = seen[0]
        # If two people roll the same version back, they mean one step, not two.
        if now.version != first.version:
            if now.version in first.previous[:1]:
                return "somebody else rolled it back meanwhile"
            raise PublishError(
                f"{storage.join(store, POINTER_FILE)}: it was moved from {first.version} to "
                f"{now.version} meanwhile. Look at `alpaca models list {store}`, then decide again."
            )
        if not now.previous:
            raise PublishError(
                f"{store}: no version was in use before {now.version}; "
                f"promote one that `alpaca models list {store}` names"
            )
        try:
            card = _verified(store, now.previous[0])
        except (bundle.BundleError, PublishError) as error:
            raise PublishError(
                f"{error} So there is no rollback to it: promote a version that `alpaca models "
                f"list {store}` names."
            ) from error
        return Pointer(
            version=card.version,
            sha256=card.sha256,
            moved_at=_now(),
            previous=now.previous[1:],
            withdrawn=_remember(now.version, now.withdrawn),
        )

    return _move(store, back, "it was rolled back", dry_run=dry_run)


def versions(store: str) -> list[Version]:
    """List what is published, newest first, unusable versions included.

    Models are not read, so a version without a `problem` here can still be refused by `promote`.

    Raises `PublishError` or `handler.storage.StorageError`.
    """
    store = _store(store)
    pointer, _ = _read_pointer(store)
    files: dict[str, set[str]] = {pointer.version: set()} if pointer else {}
    for item in storage.list_objects(f"{store}/"):
        version, _, name = item.source_ref.removeprefix(f"{store}/").partition("/")
        if name and bundle.VERSION.fullmatch(version):
            files.setdefault(version, set()).add(name)
    return [_version(store, name, files[name], pointer) for name in sorted(files, reverse=True)]


# --- the bundles ---------------------------------------------------------------------------------


def _store(uri: str) -> str:
    """Return the store's URI without a trailing slash, or say what is wrong with it."""
    try:
        bucket, key = storage.split_s3(uri)
    except ValueError as error:
        raise PublishError(
            f"{uri}: not a place to publish to; name one like s3://bucket/models/alpaca"
        ) from error
    key = key.rstrip("/")
    last = key.rsplit("/", 1)[-1]
    if last.endswith(".json") or bundle.VERSION.fullmatch(last):
        raise PublishError(f"{uri}: name the prefix that holds the versions, without {last}")
    return f"{storage.S3_SCHEME}{bucket}" + (f"/{key}" if key else "")


def _create(uri: str, data: bytes, content_type: str, *, dry_run: bool) -> bool:
    """Create an object, or check that the existing one has this content. Tell if it is new."""
    if dry_run:  # listing, because only that tells a missing object from a missing bucket
        new = all(item.source_ref != uri for item in storage.list_objects(uri))
    else:
        new = storage.write_if_absent(uri, data, content_type)
    if new:
        return True
    # It was written before: by another publisher, an earlier try, or this call (a lost answer).
    try:
        same = storage.read(uri, len(data)) == data
    except storage.TooLarge:
        same = False
    if not same:
        raise PublishError(
            f"{uri}: other content is published under this version. A published file is never "
            "replaced: export the bundle again, which gives it a new version."
        )
    return False


def _verified(store: str, version: str) -> bundle.Card:
    """Read a published bundle back, model and all, and return its card."""
    uri = storage.join(store, version)
    card = bundle.load(f"{uri}/").card
    if card.version != version:
        raise PublishError(
            f"{uri}: the bundle in it is {card.version}; publish it under its own version"
        )
    return card


def _version(store: str, version: str, files: set[str], pointer: Pointer | None) -> Version:
    missing = [name for name in (bundle.MODEL_FILE, bundle.CARD_FILE) if name not in files]
    document: dict[str, Any] = {}
    problem = f"incomplete: no {' and no '.join(missing)}" if missing else None
    if bundle.CARD_FILE in files:
        uri = storage.join(storage.join(store, version), bundle.CARD_FILE)
        try:
            document = json.loads(storage.read(uri, bundle.MAX_CARD_BYTES))
            if document["version"] != version:
                problem = f"its card is of version {document['version']}"
        except (ValueError, KeyError, TypeError, storage.NotFound, storage.TooLarge):
            document, problem = {}, f"{bundle.CARD_FILE} is not a model card"
    created = document.get("created")
    return Version(
        version=version,
        current=pointer is not None and version == pointer.version,
        withdrawn=pointer is not None and version in pointer.withdrawn,
        created=created if isinstance(created, str) else None,
        accuracy=_accuracy(document.get("metrics")),
        problem=problem,
    )


def _accuracy(metrics: Any) -> Accuracy | None:
    figure = metrics.get("accuracy") if isinstance(metrics, dict) else None
    if not isinstance(figure, dict):
        figure = {"value": figure}
    value, low, high = (
        float(number) if isinstance(number := figure.get(name), int | float) else None
        for name in ("value", "low", "high")
    )
    return None if value is None else Accuracy(value, low, high)


# --- the pointer ---------------------------------------------------------------------------------


def _move(
    store: str, decide: Callable[[Pointer | None], Pointer | str], reason: str, *, dry_run: bool
) -> Move:
    """Replace the pointer with what `decide` returns; a text means that it stays, and why.

    Concurrency is optimistic: after a lost race the pointer is read and decided again.
    """
    uri = storage.join(store, POINTER_FILE)
    for _ in range(_MOVE_TRIES):
        now, etag = _read_pointer(store)
        before = now.version if now else None
        then = decide(now)
        if isinstance(then, str):
            return Move(uri, before, before, then)
        done = Move(uri, before, then.version, reason)
        if dry_run:
            return done
        data = json.dumps(asdict(then), indent=2).encode() + b"\n"
        mark = hashlib.sha256(data).hexdigest()
        try:
            storage.write_if_unchanged(uri, data, etag, "application/json", mark=mark)
        except storage.Conflict:
            continue
        except storage.Transient:
            # The write may have succeeded and only its answer be lost. Trying again would then
            # roll back twice.
            if _read_pointer(store)[0] != then:
                raise
        return done
    raise PublishError(f"{uri}: others keep moving it; try again when they have finished")


def _read_pointer(store: str) -> tuple[Pointer | None, str | None]:
    """Return the pointer and its ETag; (None, None) if there is no pointer."""
    uri = storage.join(store, POINTER_FILE)
    try:
        found = storage.fetch(ImageVersion(uri), bundle.MAX_CARD_BYTES)
    except storage.NotFound:
        return None, None
    try:
        pointer = _parse_pointer(found.data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PublishError(
            f"{uri}: not a model pointer ({error}). Delete that object, then promote a version."
        ) from error
    return pointer, f'"{found.version.etag}"'


def _parse_pointer(data: bytes) -> Pointer:
    content = json.loads(data)
    pointer = Pointer(
        version=content["version"],
        sha256=content.get("sha256", ""),
        moved_at=content.get("moved_at", ""),
        previous=tuple(content.get("previous", ())),
        withdrawn=tuple(content.get("withdrawn", ())),
    )
    for version in (pointer.version, *pointer.previous, *pointer.withdrawn):
        if not bundle.VERSION.fullmatch(version):
            raise ValueError(f"{version!r} is not a version")
    return pointer


def _advanced(now: Pointer | None, card: bundle.Card) -> Pointer:
    if now is None:
        return Pointer(card.version, card.sha256, _now())
    return Pointer(
        version=card.version,
        sha256=card.sha256,
        moved_at=_now(),
        previous=_remember(now.version, now.previous, but=card.version),
        withdrawn=tuple(version for version in now.withdrawn if version != card.version),
    )


def _remember(version: str, rest: tuple[str, ...], but: str | None = None) -> tuple[str, ...]:
    """Put a version in front of others, once, and forget the oldest."""
    kept = (version, *(other for other in rest if other not in {version, but}))
    return kept[:HISTORY_LENGTH]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
