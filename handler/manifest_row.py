"""Rows of the results manifest: how one is made, written, read, and which of several wins.

A row is an augmented-manifest row as SageMaker Ground Truth and Rekognition Custom Labels read it,
plus a `labeler` block that says which version of the image was labelled, by which model. Nothing
here reads or writes storage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from .errors import LabelerError
from .image_version import ImageVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bundle import Card
    from .classifier import Prediction

TASK_TYPE: Final = "groundtruth/image-classification"

Row = dict[str, Any]
"""One parsed JSON line: a label row, or a failure row where it has the key `failure`."""


_DEEP: Final = 100
"""Brackets in a line that make a closer look worth while: a row has four."""


class ManifestError(LabelerError):
    """A line is not a manifest row. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image can never be labelled as it is."""

    code: str
    """Stable, for programs: `empty`, `not-an-image`, `corrupt`, `not-found`, ..."""
    message: str
    """For people."""
    decoder: str = ""
    """Which decoder could not read it, if another one might."""


def label_row(
    version: ImageVersion,
    size: tuple[int, int],
    prediction: Prediction,
    card: Card,
    created: datetime,
) -> Row:
    """Make the row of a labelled image; `size` is (width, height) in pixels, `created` in UTC."""
    return {
        "source-ref": version.source_ref,
        card.attribute: prediction.index,
        f"{card.attribute}-metadata": {
            "class-name": prediction.label,
            "confidence": prediction.confidence,
            "type": TASK_TYPE,
            "job-name": f"labeling-job/{card.version}",
            "human-annotated": "no",
            "creation-date": timestamp(created),
        },
        "labeler": {
            "model-version": card.version,
            "probability": prediction.probability,
            "threshold": card.threshold,
            "needs-review": prediction.needs_review,
            **_version_facts(version),
            "width": size[0],
            "height": size[1],
        },
    }


def failure_row(
    version: ImageVersion, failure: Failure, model_version: str, created: datetime
) -> Row:
    """Make the row of an image that cannot be labelled; `created` in UTC."""
    return {
        "source-ref": version.source_ref,
        "failure": {
            "code": failure.code,
            # Libraries may quote a file's name, and a name may be no text.
            "message": failure.message.encode(errors="backslashreplace").decode(),
            **({"decoder": failure.decoder} if failure.decoder else {}),
            "creation-date": timestamp(created),
        },
        "labeler": {"model-version": model_version, **_version_facts(version)},
    }


def _version_facts(version: ImageVersion) -> dict[str, Any]:
    return {
        "etag": version.etag,
        "version-id": version.version_id,
        "sequencer": version.sequencer,
        "last-modified": version.last_modified,
        "size": version.size,
    }


def timestamp(moment: datetime) -> str:
    """Return a moment as rows write it: UTC to the microsecond, without a zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def encode(row: Row) -> bytes:
    """Return the row as one line of UTF-8 JSON, newline included."""
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def parse(line: bytes) -> Row:
    """Read one line. Raises `ManifestError` where it is not a row with a `source-ref`."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"not JSON ({error})") from None
    if not isinstance(row, dict) or not isinstance(row.get("source-ref"), str):
        raise ManifestError("no `source-ref`, so it is not a manifest row")
    if line.count(b"{") + line.count(b"[") > _DEEP:
        try:
            encode(row)
        except TypeError as error:  # what can be read and not be written would stop a compaction
            raise ManifestError(f"nested too deeply to be a row ({error})") from None
    return row


# --- reading a row -------------------------------------------------------------------------------


def is_failure(row: Row) -> bool:
    """Tell a failure row from a label row."""
    return "failure" in row


def metadata(row: Row) -> dict[str, Any]:
    """Return a label row's metadata, whatever its attribute is called; empty for a failure row."""
    for key, value in row.items():
        if key.endswith("-metadata") and isinstance(value, dict):
            return value
    return {}


def attribute(row: Row) -> str | None:
    """Return the name of a label row's attribute; None for a failure row."""
    return next((key.removesuffix("-metadata") for key in row if key.endswith("-metadata")), None)


def is_human(row: Row) -> bool:
    """Tell whether a person gave this label."""
    return metadata(row).get("human-annotated") == "yes"


def label(row: Row) -> str | None:
    """Return the class name of a label row; None if it has none, as a failure row."""
    name = None if is_failure(row) else metadata(row).get("class-name")
    return name if isinstance(name, str) else None


def probability(row: Row) -> float | None:
    """Return the model's probability of the positive class, 0..1; a person's row keeps it."""
    found = number(block(row, "labeler").get("probability"))
    return found if found is not None and 0 <= found <= 1 else None


def confidence(row: Row) -> float | None:
    """Return how certain the label is, 0..1."""
    found = number(metadata(row).get("confidence"))
    return found if found is not None and 0 <= found <= 1 else None


def needs_review(row: Row) -> bool:
    """Tell whether a person should look at the label: in the review band, and by no person yet."""
    return (
        not is_failure(row)
        and not is_human(row)
        and block(row, "labeler").get("needs-review") is True
    )


def number(value: object) -> float | None:
    """Return a finite number as it is; None for anything else that JSON holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def created(row: Row) -> str:
    """Return when the row was made, as `timestamp` writes it."""
    return _text(metadata(row).get("creation-date") or block(row, "failure").get("creation-date"))


def model_version(row: Row) -> str:
    """Return the version of the model behind the row; empty where it is not said."""
    return _text(block(row, "labeler").get("model-version"))


def version_of(row: Row) -> ImageVersion:
    """Return which version of the image the row speaks of."""
    facts = block(row, "labeler")
    size = facts.get("size")
    return ImageVersion(
        row["source-ref"],
        size=size if isinstance(size, int) else None,
        last_modified=_text(facts.get("last-modified")) or None,
        etag=_text(facts.get("etag")) or None,
        version_id=_text(facts.get("version-id")) or None,
        sequencer=_text(facts.get("sequencer")) or None,
    )


def block(row: Row, key: str) -> dict[str, Any]:
    """Return a row's nested object; empty where the row has none: rows may come from anywhere."""
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# --- which row wins ------------------------------------------------------------------------------


def names_version(row: Row) -> bool:
    """Tell whether the row says which version of the image it speaks of."""
    return _identity(row) != _UNKNOWN


def same_version(row: Row, other: Row) -> bool:
    """Tell whether two rows of one image speak of the same version of it."""
    return bool(_names(row) & _names(other))


def winner(rows: Sequence[Row]) -> Row:
    """Return the one row that stands for an image, of all that were ever written for it.

    The newest version of the image wins. Within one version a person's row wins over a model's, a
    label over a failure, the newer model's over the older's, and of equal rows the first that was
    made, so that a row delivered again changes nothing. It carries the sequencer of its version,
    whichever row brought it, so that merging in another order gives the same. `rows` are of one
    `source-ref`, at least one, in any order.
    """
    # In an order that follows from the rows alone: of versions that nothing orders, the same wins.
    candidates = sorted(_by_version(rows), key=lambda group: min(map(encode, group)))
    newest = candidates[0] if len(candidates) == 1 else _newest_version(candidates)
    chosen = min(newest, key=_rank)
    sequencer = max((version_of(row).sequencer or "" for row in newest), key=_order)
    if sequencer in {"", version_of(chosen).sequencer}:
        return chosen
    return {**chosen, "labeler": {**chosen["labeler"], "sequencer": sequencer}}


def latest(rows: Sequence[Row]) -> Row:
    """Return the one row that stands for an image where the order of writing is known.

    One run after the other on one machine: what was seen last is what is there, whatever the dates
    say, and the model that was asked last was asked on purpose. Only a person's row of the same
    version stays. `rows` are of one `source-ref`, at least one, oldest first.
    """
    # A file that could not even be looked at is, for all that is known, the one it was.
    known = [row for row in rows if names_version(row)] or rows
    now = _identity(known[-1])
    human = [row for row in rows if is_human(row) and _identity(row) == now]
    return human[-1] if human else rows[-1]


def _identity(row: Row) -> tuple[object, ...]:
    version = version_of(row)
    return version.version_id, version.etag, version.last_modified, version.size


_UNKNOWN: Final = (None, None, None, None)
"""The identity of a row that does not say which version of the image it speaks of."""


def _by_version(rows: Sequence[Row]) -> list[list[Row]]:
    """Part rows by the version of the image that they speak of."""
    found: list[tuple[set[object], list[Row]]] = []
    for row in rows:
        names, group = _names(row), [row]
        apart = []
        for other_names, other in found:
            if names & other_names:
                names, group = names | other_names, other + group
            else:
                apart.append((other_names, other))
        found = [*apart, (names, group)]
    return [group for _, group in found]


def _names(row: Row) -> set[object]:
    """Return what tells the row's version from others; rows that share one speak of the same."""
    version = version_of(row)
    names: set[object] = {_identity(row)}
    # An image that could not be read is dated by its announcement, not by its header: a moment
    # apart. An announcement tells its version for certain.
    if version.etag and version.sequencer:
        names.add((version.etag, padded(version.sequencer)))
    return names


def _newest_version(candidates: list[list[Row]]) -> list[Row]:
    facts = [[(version_of(row), created(row)) for row in group] for group in candidates]
    sequencers = [
        max((padded(v.sequencer) for v, _ in group if v.sequencer), default="") for group in facts
    ]
    # A sequencer orders what S3 announced; rows of a backfill have none, and then the date decides.
    # Both agree but for a multipart upload, which bears the date of its beginning.
    if all(sequencers):
        keys: list[tuple[str, ...]] = [(sequencer,) for sequencer in sequencers]
    else:
        keys = [
            (
                max(v.last_modified or "" for v, _ in group),
                # Within one second only the reading itself tells: it was the current version then.
                min(made for _, made in group),
                sequencer,
            )
            for group, sequencer in zip(facts, sequencers, strict=True)
        ]
    return candidates[keys.index(max(keys))]


def padded(sequencer: str) -> str:
    """Return a sequencer so that it compares as text.

    S3's are hex strings of any length, compared with the shorter padded with zeros at its right:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    return sequencer.upper().ljust(64, "0")


def _order(sequencer: str) -> tuple[str, str]:
    return padded(sequencer), sequencer


def _rank(row: Row) -> tuple[object, ...]:
    return (
        not is_human(row),
        is_failure(row),
        _Descending(model_version(row)),
        # A person's later word corrects the earlier one; a model's says the same again.
        _Descending(created(row)) if is_human(row) else created(row),
        encode(row),
    )


class _Descending(str):
    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)

    def __gt__(self, other: str) -> bool:
        return str.__lt__(self, other)
