"""Rows of the results manifest: how one is made, written, read, and which of several wins.

A row is an augmented-manifest row as SageMaker Ground Truth and Rekognition Custom Labels read it,
plus a `labeler` block that says which version of the image was labelled, by which model. Nothing
here reads or writes storage.
"""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.storage.image_version import ImageVersion, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alpaca_labeler.model.bundle import Card
    from alpaca_labeler.model.classifier import Prediction

TASK_TYPE: Final = "groundtruth/image-classification"

Row = dict[str, Any]
"""One parsed JSON line: a label row, or a failure row if it has the key `failure`."""


WITHDRAWN: Final = "withdrawn"
"""Key in a model's row: the date on which a person withdrew earlier decisions."""

GONE: Final = "gone"
"""Failure code of a photo that no longer exists, and the key of the date of that."""

_DEEP: Final = 100
"""A line with more opening brackets than this is checked for deep nesting; a row has four."""


class ManifestError(LabelerError):
    """A line is not a manifest row. The message says what is wrong with it."""


DECODER_CODES: Final = frozenset({"not-an-image", "unsupported", "corrupt"})
"""Failures that are the decoder's verdict: another decoder may read the photo."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image can never be labelled as it is."""

    code: str
    """Stable, for programs: `empty`, `not-an-image`, `corrupt`, `not-found`, ..."""
    message: str
    """For people."""
    decoder: str = ""
    """For a code in `DECODER_CODES`: the decoder that could not read the image."""


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
            **version_facts(version),
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
            # Libraries may quote a file's name, and a name need not be valid text.
            "message": failure.message.encode(errors="backslashreplace").decode(),
            **({"decoder": failure.decoder} if failure.decoder else {}),
            "creation-date": timestamp(created),
        },
        "labeler": {"model-version": model_version, **version_facts(version)},
    }


def version_facts(version: ImageVersion) -> dict[str, Any]:
    """Return a version as a row's `labeler` block names it."""
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


def check_encoding(start: bytes) -> None:
    """Raise `ManifestError` if a file with this start is UTF-16, as some Windows editors save."""
    if start[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"{\0", b"\0{"}:
        raise ManifestError("saved as UTF-16; open it in an editor and save it as UTF-8")


def parse(line: bytes) -> Row:
    """Read one line. Raises `ManifestError` if it is not a row with a `source-ref`."""
    try:
        row = orjson.loads(line.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        check_encoding(line)
        raise ManifestError(f"not JSON ({error})") from None
    if not isinstance(row, dict) or not isinstance(row.get("source-ref"), str):
        raise ManifestError("no `source-ref`, so it is not a manifest row")
    if line.count(b"{") + line.count(b"[") > _DEEP:
        try:
            encode(row)
        except TypeError as error:  # a row that can be read but not written stops a compaction
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
    """Return the class name of a label row; None if it has none, and for a failure row."""
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
    """Tell whether the label needs review: it is in the review band, and no person's."""
    return (
        not is_failure(row)
        and not is_human(row)
        and block(row, "labeler").get("needs-review") is True
    )


def number(value: object) -> float | None:
    """Return a finite number as a float; None for anything else that JSON holds."""
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
    """Return the version of the model behind the row; empty if the row has none."""
    return _text(block(row, "labeler").get("model-version"))


def version_of(row: Row) -> ImageVersion:
    """Return the version of the image that the row is about."""
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
    """Return a row's nested object; empty if it has none, since rows may come from anywhere."""
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# --- which row wins ------------------------------------------------------------------------------


def names_version(row: Row) -> bool:
    """Tell whether the row says which version of the image it is about."""
    return version_of(row).is_named()


def same_version(row: Row, other: Row) -> bool:
    """Tell whether two rows of one image are about the same version of it."""
    return version_of(row).is_same(version_of(other))


def speaks_of(row: Row, version: ImageVersion) -> bool:
    """Tell whether a row is about this version of its image, as far as the row says.

    A row that does not say, such as other tools write, is taken to be about the current version.
    """
    own = version_of(row)
    return own.is_same(version) if own.is_named() else own.size in {None, version.size}


def winner(rows: Sequence[Row]) -> Row:
    """Return the one row that stands for an image, of all that were ever written for it.

    | rows of one image  | the winner                                                             |
    |--------------------|------------------------------------------------------------------------|
    | different versions | the newest version: by sequencer if all have one, else by date         |
    | of one version     | the row that says that the photo is gone, unless uploaded again since  |
    |                    | else a person's last decision, unless it was withdrawn                 |
    |                    | else a label over a failure, the newer model, the row that came first  |

    A version is its content: see `ImageVersion.is_same`. The winner carries the newest date and
    sequencer of its version, from any of its rows, so that merging in another order gives the
    same. `rows` are of one `source-ref`, at least one, in any order.
    """
    # Sorted by the rows alone: if nothing orders two versions, the same one wins every time.
    candidates = sorted(
        _by_version([*map(_unpacked, rows)]), key=lambda group: min(map(encode, group))
    )
    newest = candidates[0] if len(candidates) == 1 else _newest_version(candidates)
    chosen = decided(sorted(newest, key=encode)) or by_model(newest, min(models(newest), key=_rank))
    chosen = _marked(with_facts(chosen, _newest_facts(newest)), max(map(_gone_until, newest)))
    return _packed(chosen)


def latest(rows: Sequence[Row]) -> Row:
    """Return the one row that stands for an image if the order of writing is known.

    This is for one run after the other on one machine: the version seen last is the current one,
    whatever the dates say, and the model used last was chosen on purpose. Only a person's decision
    about the same version stays. `rows` are of one `source-ref`, at least one, oldest first.
    """
    # A file that could not even be opened is taken to be unchanged.
    known = [row for row in rows if names_version(row)] or [*rows]
    last = known[-1]
    group = next(group for group in _by_version(known) if any(row is last for row in group))
    now = [row for row in known if any(row is each for each in group)]
    if (person := decided(now)) is not None:
        return with_facts(person, version_of(([*models(now)] or [last])[-1]))
    return by_model(now, rows[-1] if rows[-1] is not last else models(now)[-1])


def decided(rows: Sequence[Row]) -> Row | None:
    """Return the last decision by a person, of rows of one version; None if none still counts."""
    since = _last_withdrawal(rows)
    people = [row for row in rows if is_human(row) and (created(row) > since or not since)]
    # Of two with the same date, the later one in `rows`.
    return max(reversed(people), key=created) if people else None


def withdrawn(row: Row) -> str:
    """Return when a person withdrew what people had decided about this image; empty if nobody did.

    Such a row is the model's again. Decisions up to that moment do not count.
    """
    return "" if is_human(row) else _text(block(row, "labeler").get(WITHDRAWN))


def gone(row: Row, until: str) -> Row:
    """Return the row that says that the photo of `row` is gone, in all uploads up to `until`.

    It is a failure row with `row` inside: if the same photo is uploaded again, `row` counts again.
    `until` is a date as S3 gives it.
    """
    inner = {key: value for key, value in row.items() if key != "source-ref"}
    facts = {"model-version": model_version(row), **version_facts(version_of(row))}
    return {
        "source-ref": row["source-ref"],
        "failure": {"code": GONE, "message": "the photo is not there", "creation-date": until},
        "labeler": {**facts, GONE: until, "row": inner},
    }


def is_gone(row: Row) -> bool:
    """Tell whether the row says that its photo is no longer there. No command shows such a row."""
    return bool(_gone_until(row)) and block(row, "failure").get("code") == GONE


def _gone_until(row: Row) -> str:
    return _text(block(row, "labeler").get(GONE))


def _marked(row: Row, until: str) -> Row:
    if until == _gone_until(row):
        return row
    return {**row, "labeler": {**block(row, "labeler"), GONE: until}}


def _unpacked(row: Row) -> Row:
    """Return the row inside a row that says that its photo is gone, with the date of that."""
    if not is_gone(row):
        return row
    inner = {"source-ref": row["source-ref"], **block(block(row, "labeler"), "row")}
    return _marked(with_facts(inner, version_of(row)), _gone_until(row))


def _packed(row: Row) -> Row:
    """Return a row that carries such a date as one that is gone, unless it was uploaded since."""
    until = _gone_until(row)
    return gone(row, until) if until and (version_of(row).last_modified or "") <= until else row


def _last_withdrawal(rows: Sequence[Row]) -> str:
    return max(map(withdrawn, rows), default="")


def models(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no person made."""
    return [row for row in rows if not is_human(row)]


def by_model(rows: Sequence[Row], chosen: Row) -> Row:
    """Return the chosen row with the last withdrawal in `rows`: older decisions may still come."""
    since = _last_withdrawal(rows)
    if since == withdrawn(chosen):
        return chosen
    return {**chosen, "labeler": {**block(chosen, "labeler"), WITHDRAWN: since}}


def with_facts(row: Row, facts: ImageVersion) -> Row:
    """Return the row with what `facts` tells of the state of its image."""
    known = version_facts(version_of(row))
    new = {name: value for name, value in version_facts(facts).items() if value != known[name]}
    if facts.last_modified is None:  # then the version's number and size are not known for sure
        new = {name: value for name, value in new.items() if value is not None}
    return {**row, "labeler": {**block(row, "labeler"), **new}} if new else row


def _by_version(rows: Sequence[Row]) -> list[list[Row]]:
    """Group rows by the version of the image that they are about."""
    groups: list[list[Row]] = []
    # Those whose content is known come first: two of one date and size may still differ in it.
    for row in sorted(rows, key=lambda row: (not version_of(row).etag, encode(row))):
        group = next((g for g in groups if any(same_version(row, each) for each in g)), None)
        if group is None and not names_version(row):
            group = next((g for g in groups if not names_version(g[0])), None)
        if group is None:
            groups.append([row])
        else:
            group.append(row)
    return groups


def _newest_facts(group: Sequence[Row]) -> ImageVersion:
    # A failure may be dated by its announcement, a moment apart from the image's own date.
    versions = [version_of(row) for row in group]
    labelled = [v for v, row in zip(versions, group, strict=True) if not is_failure(row)]
    newest = max(
        labelled or versions,
        key=lambda v: (v.last_modified or "", v.version_id or "", v.size or 0),
    )
    return replace(
        newest,
        etag=max(v.etag or "" for v in versions) or None,
        sequencer=max((v.sequencer or "" for v in versions), key=_order) or None,
    )


def _newest_version(candidates: list[list[Row]]) -> list[Row]:
    facts = [_newest_facts(group) for group in candidates]
    # A sequencer orders what S3 announced; rows of a backfill have none, and then the date decides.
    # Both agree except for a multipart upload, which has the date of its beginning.
    if all(version.sequencer for version in facts):
        keys: list[tuple[str, ...]] = [(padded(version.sequencer or ""),) for version in facts]
    else:
        keys = [
            (
                version.last_modified or "",
                # Within one second only the time of reading tells: it was the current version then.
                min(map(created, group)),
                padded(version.sequencer or ""),
            )
            for version, group in zip(facts, candidates, strict=True)
        ]
    return candidates[keys.index(max(keys))]


def _order(sequencer: str) -> tuple[str, str]:
    return padded(sequencer), sequencer


def _rank(row: Row) -> tuple[object, ...]:
    return (
        label(row) is None,
        not is_failure(row),
        _Descending(model_version(row)),
        created(row),  # a model gives the same row again
        encode(row),
    )


class _Descending(str):
    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)

    def __gt__(self, other: str) -> bool:
        return str.__lt__(self, other)
