"""A row of the results table: its type, its merge, and the keys that follow from it.

A row says what is known of one photo: three facts, each merged by maximum. So `merge` is
associative, commutative and idempotent, and it never matters when, where or how often rows meet.

| fact                    | what it says                                    | merge                |
|-------------------------|-------------------------------------------------|----------------------|
| `read` and its `answer` | what was read last, and what a model said of it | the later            |
| `people`                | per content: who called it what, and when       | the later of each    |
| `gone`                  | the photo was not there: hidden until read      | the later            |

Nothing else in the project decides which row counts. On disk a row is also an augmented-manifest
row as SageMaker Ground Truth and Rekognition Custom Labels read it: those keys are derived when it
is written, and are read only from the rows of other tools.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from typing import Any, Final

import msgspec

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.table.facts import (
    EARLIEST,
    Answer,
    Count,
    Decision,
    Facts,
    Failure,
    Read,
    Share,
    Text,
    block,
    facts_of,
    known,
    later,
    moment,
)

TASK_TYPE: Final = "groundtruth/image-classification"
REVIEW_JOB: Final = "labeling-job/review"
_JOB: Final = "labeling-job/"
_METADATA: Final = "-metadata"

CURRENT: Final = ""
"""The content of a decision that names none: the photo as it is when the row is merged in."""


class ManifestError(LabelerError):
    """A line is not a manifest row. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one photo."""

    source_ref: str
    """`s3://bucket/decoded key`, or a local path, relative to the folder of its manifest."""
    read: Read | None = None
    answer: Answer | None = None
    people: Mapping[str, Decision] = field(default_factory=dict)
    """By content."""
    gone: str = EARLIEST
    ambiguous: tuple[str, ...] = field(default=(), compare=False)
    """Of another tool's row with several labels: their attributes, of which the first counts."""

    # --- what follows from the facts ---

    @property
    def decision(self) -> Decision | None:
        """The decision of a person that stands; None if there is none, or it was taken back.

        If the content is not known, the last decision about any content is taken to be about it.
        """
        if not self.people:
            return None  # as in nearly every row, and asked for several times of each
        content = self.read.content if self.read else None
        about = [said for key, said in self.people.items() if not content or key in {content, ""}]
        last = max(about, key=_said_order, default=None)
        return last if last and last.label is not None else None

    @property
    def label(self) -> str | None:
        """The class name: a person's, else the model's; None for a failure."""
        return self._labelled.label if self._labelled else None

    @property
    def attribute(self) -> str | None:
        """Name of Ground Truth's key for the label."""
        own = self._labelled.attribute if self._labelled else None
        return own or (self.answer.attribute if self.answer else None)

    @property
    def index(self) -> int | None:
        """Class index of the label, 1 for the positive class; None if it is not known."""
        said, answer = self._labelled, self.answer
        if said is None or said.index is not None or answer is None:
            return said.index if said else None
        if said.label == answer.label:
            return answer.index
        return 1 - answer.index if answer.index in {0, 1} else None  # of two classes

    @property
    def failure(self) -> Failure | None:
        """Why there is no label; None if there is one, be it a person's."""
        return self.answer.failure if self.answer and self.decision is None else None

    @property
    def needs_review(self) -> bool:
        """Whether the model was not sure, and no person has decided."""
        return bool(self.answer and self.answer.needs_review and self.decision is None)

    @property
    def probability(self) -> float | None:
        """The model's probability of the positive class, 0..1."""
        return self.answer.probability if self.answer else None

    @property
    def confidence(self) -> float | None:
        """How certain the label is, 0..1: 1 if a person gave it."""
        if self.decision:
            return 1.0
        if self.probability is None or self.label is None:
            return None
        return self.probability if self.index == 1 else round(1 - self.probability, 4)

    @property
    def model(self) -> str:
        """Version of the model that read the photo last; empty if none has."""
        return self.answer.model if self.answer else ""

    @property
    def hidden(self) -> bool:
        """Whether the photo was found to be gone after it was read last."""
        return bool(self.gone) and self.gone >= (self.read.at if self.read else EARLIEST)

    @property
    def newest(self) -> str:
        """The latest moment in the row."""
        said = (decision.at for decision in self.people.values())
        return max(self.read.at if self.read else EARLIEST, self.gone, *said)

    @property
    def _labelled(self) -> Decision | Answer | None:
        return self.decision or (self.answer if self.answer and self.answer.label else None)

    # --- other rows of the same photo ---

    def decided(
        self,
        label: str | None,
        who: str,
        now: datetime,
        *,
        index: int | None = None,
        attribute: str | None = None,
        sample: str | None = None,
    ) -> Row:
        """Return the row that says that `who` calls this photo `label` (None: takes it back).

        It holds nothing but the decision, dated after all that is known of the photo: the last
        decision counts, whatever the clocks say. `now` has a time zone.
        """
        said = Decision(later(now, self.newest), who, label, index, attribute, sample)
        return Row(self.source_ref, people={(self.read and self.read.content) or CURRENT: said})

    def settled(self) -> Row:
        """Return the row with the content filled into a decision that names none."""
        content = self.read.content if self.read else None
        if content is None or CURRENT not in self.people:
            return self
        named = {key: said for key, said in self.people.items() if key != CURRENT}
        return replace(self, people=_united(named, {content: self.people[CURRENT]}))

    # --- lines ---

    @classmethod
    def from_line(cls, line: bytes) -> Row:
        """Read one line of JSON. Raises `ManifestError` if it is not a row with a `source-ref`."""
        try:
            # Text first: values of other tools' keys are skipped, and must be UTF-8 as well.
            found = _LINES.decode(line if line.isascii() else line.decode())
        except (ValueError, RecursionError):
            found = _of_any_types(line)
        facts = found.labeler
        if facts is None or facts == _NOTHING:
            return _foreign(_parsed(line))
        read = facts.read or Read()
        is_read = facts.answer is not None or read != Read()
        return cls(
            found.source_ref, read if is_read else None, facts.answer, facts.people, facts.gone
        )

    def to_line(self) -> bytes:
        """Return the row as one line of UTF-8 JSON, newline included."""
        document = {"source-ref": self.source_ref, **self.ground_truth(), "labeler": self.facts()}
        return msgspec.json.encode(document) + b"\n"

    def facts(self) -> Facts:
        """Return the `labeler` block: the facts, which alone are merged."""
        return Facts(self.read, self.answer, dict(sorted(self.people.items())), self.gone)

    def ground_truth(self) -> dict[str, Any]:
        """Return the label as Ground Truth writes it; empty if there is none."""
        attribute, index = self.attribute, self.index
        if attribute in {None, "source-ref"} or index is None or self.hidden:
            return {}
        said = self.decision
        at = said.at if said else self.read.at if self.read else EARLIEST
        return {
            attribute: index,
            f"{attribute}{_METADATA}": {
                "class-name": self.label,
                "confidence": self.confidence or 0.0,
                "type": TASK_TYPE,
                "job-name": REVIEW_JOB if said else f"{_JOB}{self.model}",
                "human-annotated": "yes" if said else "no",
                "creation-date": at.removesuffix("Z"),
            },
        }


# --- merge ---------------------------------------------------------------------------------------


def merge(a: Row, b: Row) -> Row:
    """Return all that two rows of one photo say: each fact by its maximum."""
    last = max(a, b, key=_read_order)
    people = _united(a.people, b.people)
    return Row(a.source_ref, last.read, last.answer, people, max(a.gone, b.gone))


def merged(rows: Iterable[Row]) -> Row:
    """Merge the rows of one photo, at least one, in any order."""
    return reduce(merge, rows)


def _united(a: Mapping[str, Decision], b: Mapping[str, Decision]) -> Mapping[str, Decision]:
    both = a.keys() & b.keys()
    return {**a, **b, **{key: max(a[key], b[key], key=_said_order) for key in both}}


def _said_order(said: Decision) -> tuple[str, bytes]:
    return said.at, msgspec.json.encode(said)


def _read_order(row: Row) -> tuple[bool, str, str, str, bytes]:
    """Order readings in time. Of equal ones the greater text is the later, so all agree on it."""
    read = row.read or Read()
    facts = msgspec.json.encode([row.read, row.answer])
    sequencer = padded(read.sequencer or "")
    return row.read is not None, read.at, read.last_modified or "", sequencer, facts


def padded(sequencer: str) -> str:
    """Return a sequencer so that it compares as text.

    S3's are hex strings of any length, compared with the shorter padded with zeros at its right:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    return sequencer.upper().ljust(64, "0")


# --- reading a line ------------------------------------------------------------------------------


class _Line(msgspec.Struct, rename="kebab"):
    source_ref: str
    labeler: Facts | None = None


_LINES: Final = msgspec.json.Decoder(_Line)
_NOTHING: Final = Facts()


def _of_any_types(line: bytes) -> _Line:
    found = _parsed(line)
    return _Line(found["source-ref"], facts_of(block(found, "labeler")))


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(line.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, RecursionError) as error:
        check_encoding(line)
        raise ManifestError(f"not JSON ({error})") from None
    if not isinstance(found, dict) or not isinstance(found.get("source-ref"), str):
        raise ManifestError("no `source-ref`, so it is not a manifest row")
    return found


def check_encoding(start: bytes) -> None:
    """Raise `ManifestError` if a file with this start is UTF-16, as some Windows editors save."""
    if start[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"{\0", b"\0{"}:
        raise ManifestError("saved as UTF-16; open it in an editor and save it as UTF-8")


def _foreign(found: dict[str, Any]) -> Row:
    """Read a row of another tool: a person's label is a decision, any other an answer."""
    name, attributes = found["source-ref"], _attributes(found)
    if not attributes:
        return Row(name)
    attribute = attributes[0]
    metadata = found[f"{attribute}{_METADATA}"]
    index = known(Count, found.get(attribute), strict=False)
    at, label = moment(metadata.get("creation-date")), metadata["class-name"]
    others = tuple(attributes) if len(attributes) > 1 else ()
    if metadata.get("human-annotated") == "yes":
        who = known(str, block(found, "labeler").get("annotator")) or ""
        said = Decision(at, who, label, index, attribute)
        return Row(name, people={CURRENT: said}, ambiguous=others)
    confidence = known(Share, metadata.get("confidence"))
    probability = confidence if confidence is None or index == 1 else round(1 - confidence, 4)
    model = (known(str, metadata.get("job-name")) or "").removeprefix(_JOB)
    answer = Answer(model, label, index, attribute, probability)
    return Row(name, Read(at), answer, ambiguous=others)


def _attributes(found: dict[str, Any]) -> list[str]:
    """Return the names of a row's image labels."""
    return [
        key.removesuffix(_METADATA)
        for key, value in found.items()
        if key.endswith(_METADATA)
        and isinstance(value, dict)
        and value.get("type", TASK_TYPE) == TASK_TYPE
        and known(Text, value.get("class-name"))
    ]
