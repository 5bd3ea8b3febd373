"""The facts that a row holds, as types that are read from JSON and written to it.

Nothing in JSON is trusted: a value of the wrong type counts as missing. A row that we wrote has
none, and is decoded at once, in a third of the time: a table has a million rows.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeVar

from msgspec import Meta, Struct, ValidationError, convert, field
from msgspec.structs import fields

EARLIEST: Final = ""
"""The moment of a date that cannot be read."""

RANDOM: Final = "random"
"""`Decision.sample` of a photo that was drawn at random to be checked."""

_LAST_YEAR: Final = 9000

# All days but 29 February, which takes a calendar.
_DAY: Final = r"((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_OURS: Final = rf"(?a)\A[1-8]\d{{3}}-{_DAY}T([01]\d|2[0-3])(:[0-5]\d){{2}}\.\d{{6}}Z\Z"

Moment = Annotated[str, Meta(pattern=_OURS)]
"""As `timestamp` writes it, so it need not be parsed."""
Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]

DECODER_CODES: Final = frozenset({"not-an-image", "unsupported", "corrupt"})
"""Failures that are the decoder's verdict: another decoder may read the photo."""


class Fact(Struct, frozen=True, gc=False, rename="kebab", omit_defaults=True):
    """A fact in JSON, without what is not known. What has a factory is always written."""


class Read(Fact, frozen=True):
    """What was read: when, and which state of the photo."""

    at: Moment = EARLIEST
    """By the clock of the store that the photo lies in."""
    content: Text | None = None
    """`sha256:<hex>` of what makes the picture; None if the bytes never arrived."""
    etag: Text | None = None
    size: Count | None = None
    """Bytes."""
    last_modified: Text | None = None
    """ISO 8601 in UTC: to the second for S3, to the nanosecond for a file."""
    version_id: Text | None = None
    sequencer: Text | None = None
    """Of the S3 event that announced this version; it orders the events of one key."""
    width: Count | None = None
    height: Count | None = None
    """Pixels."""
    taken: Text | None = None
    """By the camera's clock, which names no time zone: `2026-01-31T12:00:00`."""
    camera: Text | None = None


class Failure(Fact, frozen=True):
    """Why an image has no label."""

    code: Text = field(default_factory=lambda: "unknown")
    """Stable, for programs: `empty`, `not-an-image`, `corrupt`, `not-found`, ..."""
    message: str = ""
    """For people."""
    decoder: str = ""
    """For a code in `DECODER_CODES`: the decoder that could not read the image."""


class Answer(Fact, frozen=True):
    """What a model said: a label, or why there is none."""

    model: str = ""
    """The version of its bundle."""
    label: Text | None = None
    index: Count | None = None
    """Of the class: 1 for the positive one."""
    attribute: Text | None = None
    """Name of Ground Truth's key for the label."""
    probability: Share | None = None
    """Of the positive class, 0..1."""
    threshold: Share | None = None
    needs_review: bool = field(default_factory=bool)
    failure: Failure | None = None


class Decision(Fact, frozen=True):
    """What a person said of one content. `label` None takes earlier decisions back."""

    at: Moment = EARLIEST
    who: str = ""
    label: Text | None = field(default_factory=lambda: None)
    index: Count | None = None
    attribute: Text | None = None
    sample: Text | None = None
    """`RANDOM` if the photo was drawn at random."""


F = TypeVar("F", Read, Failure, Answer, Decision)


class Facts(Fact, frozen=True):
    """The `labeler` block of a row: the facts, which alone are merged."""

    read: Read | None = None
    answer: Answer | None = None
    people: Mapping[str, Decision] = field(default_factory=dict)
    """By content."""
    gone: Moment = EARLIEST


# --- moments -------------------------------------------------------------------------------------


def moment(value: object) -> str:
    """Return a date as rows hold it, in UTC to the microsecond; `EARLIEST` if it is not a date.

    Such moments compare as text. What lies beyond the year 9000 is no date either.
    """
    try:
        found = datetime.fromisoformat(value if isinstance(value, str) else "")
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


# --- JSON of any kind ----------------------------------------------------------------------------


def known(kind: Any, value: object, *, strict: bool = True) -> Any:
    """Return a value of a type, None for any other. Unless `strict`, a text may hold a number."""
    try:
        return convert(value, kind, strict=strict)
    except ValidationError:
        return None


def block(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a nested object; empty if there is none."""
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def facts_of(found: dict[str, Any]) -> Facts:
    """Read a `labeler` block whose values may have any type."""
    people = {key: _fact(Decision, each) for key, each in block(found, "people").items()}
    return Facts(
        _fact(Read, found.get("read")),
        _fact(Answer, found.get("answer")),
        {key: said for key, said in people.items() if said},
        moment(found.get("gone")),
    )


def _fact(kind: type[F], found: object) -> F | None:
    if not isinstance(found, dict):
        return None
    values = found | {
        "at": moment(found.get("at")),
        "failure": _fact(Failure, found.get("failure")),
    }
    read = {each.name: known(each.type, values.get(each.encode_name)) for each in fields(kind)}
    return kind(**{name: value for name, value in read.items() if value is not None})
