"""The facts that a row holds, and how each is read from JSON and written to it.

Nothing in JSON is trusted: a value of the wrong type counts as missing. Facts are named tuples,
which are made in a third of the time of frozen dataclasses: a table has a million rows.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

EARLIEST: Final = ""
"""The moment of a date that cannot be read."""

RANDOM: Final = "random"
"""`Decision.sample` of a photo that was drawn at random to be checked."""

_LAST_YEAR: Final = 9000

_OURS: Final = re.compile(
    r"[1-8]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3])(:[0-5]\d){2}\.\d{6}Z", re.ASCII
)
"""Moments that `timestamp` has written, but for the last days of months: they need no parsing."""

DECODER_CODES: Final = frozenset({"not-an-image", "unsupported", "corrupt"})
"""Failures that are the decoder's verdict: another decoder may read the photo."""


class Read(NamedTuple):
    """What was read: when, and which state of the photo."""

    at: str = EARLIEST
    """By the clock of the store that the photo lies in."""
    content: str | None = None
    """`sha256:<hex>` of what makes the picture; None if the bytes never arrived."""
    etag: str | None = None
    size: int | None = None
    """Bytes."""
    last_modified: str | None = None
    """ISO 8601 in UTC: to the second for S3, to the nanosecond for a file."""
    version_id: str | None = None
    sequencer: str | None = None
    """Of the S3 event that announced this version; it orders the events of one key."""
    width: int | None = None
    height: int | None = None
    """Pixels."""
    taken: str | None = None
    """By the camera's clock, which names no time zone: `2026-01-31T12:00:00`."""
    camera: str | None = None


class Failure(NamedTuple):
    """Why an image has no label."""

    code: str
    """Stable, for programs: `empty`, `not-an-image`, `corrupt`, `not-found`, ..."""
    message: str = ""
    """For people."""
    decoder: str = ""
    """For a code in `DECODER_CODES`: the decoder that could not read the image."""


class Answer(NamedTuple):
    """What a model said: a label, or why there is none."""

    model: str = ""
    """The version of its bundle."""
    label: str | None = None
    index: int | None = None  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    """Of the class: 1 for the positive one."""
    attribute: str | None = None
    """Name of Ground Truth's key for the label."""
    probability: float | None = None
    """Of the positive class, 0..1."""
    threshold: float | None = None
    needs_review: bool = False
    failure: Failure | None = None


class Decision(NamedTuple):
    """What a person said of one content. `label` None takes earlier decisions back."""

    at: str
    who: str = ""
    label: str | None = None
    index: int | None = None  # type: ignore[assignment]
    attribute: str | None = None
    sample: str | None = None
    """`RANDOM` if the photo was drawn at random."""


Fact = Read | Failure | Answer | Decision
F = TypeVar("F", Read, Failure, Answer, Decision)


# --- moments -------------------------------------------------------------------------------------


def moment(value: object) -> str:
    """Return a date as rows hold it, in UTC to the microsecond; `EARLIEST` if it is not a date.

    Such moments compare as text. What lies beyond the year 9000 is no date either.
    """
    if not isinstance(value, str):
        return EARLIEST
    if _OURS.fullmatch(value):
        return value
    try:
        found = datetime.fromisoformat(value)
        return timestamp(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return EARLIEST


def timestamp(value: datetime) -> str:
    """Return a moment with a time zone as rows hold it."""
    value = value.astimezone(UTC)
    return f"{value.isoformat(timespec='microseconds')[:26]}Z" if value.year <= _LAST_YEAR else ""


def later(value: datetime, than: str) -> str:
    """Return `value`, or a microsecond after `than` if that is later: no clock is trusted."""
    now = timestamp(value)
    if now > than:
        return now
    return timestamp(datetime.fromisoformat(than) + timedelta(microseconds=1))


# --- JSON ----------------------------------------------------------------------------------------


def block(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a nested object; empty if there is none."""
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def text(value: object) -> str | None:
    """Return a text; None for anything else."""
    return value if isinstance(value, str) and value else None


def share(value: object) -> float | None:
    """Return a number from 0 to 1; None for anything else."""
    if type(value) is float or type(value) is int:
        return float(value) if 0 <= value <= 1 else None
    return None


def count(value: object) -> int | None:
    """Return a whole number from 0 on, also one that some tools write as text."""
    if type(value) is int:
        return value if 0 <= value < 2**63 else None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return None


_READERS: Final[Mapping[object, Callable[[object], Any]]] = {
    "at": moment,
    "code": lambda value: text(value) or "unknown",
    bool: lambda value: value is True,
    str: lambda value: text(value) or "",
    str | None: text,
    int | None: count,
    float | None: share,
    Failure | None: lambda value: from_json(Failure, value),
}
"""By the name of a field, or by its type."""

_FIELDS: Final = {
    kind: [
        (name, name.replace("_", "-"), _READERS.get(name) or _READERS[each])
        for name, each in kind.__annotations__.items()
    ]
    for kind in (Read, Failure, Answer, Decision)
}


def from_json(kind: type[F], found: object) -> F | None:
    """Read a fact; None if there is no JSON object."""
    if not isinstance(found, dict):
        return None
    get = found.get
    return kind(*[read(get(key)) for _, key, read in _FIELDS[kind]])


def to_json(fact: Fact) -> dict[str, Any]:
    """Return a fact as JSON holds it, without what is not known."""
    return {
        key: to_json(value) if isinstance(value, Failure) else value
        for (_, key, _), value in zip(_FIELDS[type(fact)], fact, strict=True)
        if value is not None and value != ""
    }
