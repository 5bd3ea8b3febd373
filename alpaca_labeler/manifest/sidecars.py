"""`alpaca manifest export --format xmp`: sidecars beside the photos, which are never written to."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from alpaca_labeler import storage
from alpaca_labeler.console import Failed, Progress, Refused, counted, printable, say, sentence
from alpaca_labeler.console.output import whole
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.manifest.out import LeftOut
from alpaca_labeler.manifest.xmp import EMPTY, Sidecar, XmpError
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import Table

MAX_BYTES: Final = 16 * 2**20
"""Of a sidecar. Lightroom's take some megabytes if they hold masks."""

SHARED: Final = "photos of different labels share it (--xmp-style darktable gives each its own)"

SAYS: Final = {
    "merged": "{}{} merged: nothing else in them changed",
    "taken back": "{}{} cleared of a label that no longer holds",
    "same": "{} said so already",
}

_UNWRITABLE: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Wish(NamedTuple):
    """What one photo wants its sidecar to say."""

    question: str
    labels: Collection[str]
    """Those that anybody gave to a photo, once all rows were read."""
    label: str
    who: str
    """The person who decided; empty if none did."""
    asked: bool
    """Whether the options ask for it. If not, only what no longer holds is taken back."""


def export(
    table: Table, *, adobe: bool, only: Collection[str], checked: bool, dry_run: bool
) -> None:
    """Write the sidecars of a folder's photos, and say what was done.

    Raises `Refused` for the manifest of a bucket, `Failed` if a sidecar cannot be written.
    """
    if storage.is_s3(table.name):
        raise Refused("sidecars lie beside photos in a folder; name the manifest of one")
    left_out, done, asked = Counter[str](), Counter[str](), list[Wish]()
    found = _wishes(table, left_out, adobe=adobe, only=only, checked=checked)
    with Progress("sidecars", len(found)) as progress:
        for path, wishes in sorted(found.items()):
            wish, problem = max(wishes, key=lambda wish: (wish.asked, wish.who)), ""
            try:
                if len({(each.question, each.label) for each in wishes}) > 1:
                    raise XmpError(SHARED)
                done[write(path, wish, dry_run=dry_run)] += 1
                asked += [wish] * wish.asked
            except XmpError as error:
                problem = f"{path}: {error}, so it stays as it is"
            except (LabelerError, OSError) as error:
                problem = sentence(error) or str(error)
            progress.step(problem)
            done["failed"] += bool(problem)
    for line in _summary(asked, done, " would be" * dry_run):
        say(printable(line))
    for reason, count in sorted(left_out.items()):
        say(f"{count:,} left out: {reason}")
    if done["failed"]:
        raise Failed(f"{counted(done['failed'], 'sidecar')} could not be written")
    if not asked and not done["taken back"]:
        raise Failed("there is no sidecar to write")


def _wishes(
    table: Table, left_out: Counter[str], *, adobe: bool, only: Collection[str], checked: bool
) -> dict[str, list[Wish]]:
    """Return what the sidecars are to say, by path; count in `left_out` who has none, and why."""
    wishes, labels = defaultdict[str, list[Wish]](list), defaultdict[str, set[str]](set)
    for row in table.rows():
        question = (row.attribute or "label").replace("|", "/")
        said = [row.label, row.answer and row.answer.label]
        said += [decision.label for decision in row.people.values()]
        labels[question] |= {label for label in said if label}
        try:
            photo = _photo(row, table)
        except LeftOut as reason:
            left_out[str(reason)] += 1
            continue
        asked = (not only or row.label in only) and (not checked or row.decision is not None)
        if not asked:
            left_out["not what --only or --checked asks for"] += 1
        who = row.decision.who or "a person" if row.decision else ""
        path = f"{os.path.splitext(photo)[0] if adobe else photo}.xmp"
        wishes[path].append(Wish(question, labels[question], row.label or "", who, asked))
    return wishes


def _photo(row: Row, table: Table) -> str:
    """Return the path of a photo whose sidecar can be written. Raises `LeftOut`."""
    if row.label is None:
        raise LeftOut("without a label")
    if storage.is_s3(row.source_ref):
        raise LeftOut("in a bucket, where no sidecar can lie beside it")
    folder = os.path.join(os.path.abspath(storage.to_path(table.place(""))), "")
    path = os.path.abspath(storage.to_path(table.place(row.source_ref)))
    if not path.startswith(folder):
        raise LeftOut("outside the manifest's folder")
    if not os.path.isfile(path):
        raise LeftOut("no longer there")
    who = row.decision.who if row.decision else ""
    if _UNWRITABLE.search(f"{row.attribute}{row.label}{who}"):
        raise LeftOut("with a label or name that XML cannot hold")
    return path


def _summary(asked: list[Wish], done: Counter[str], would_be: str) -> Iterator[str]:
    labels = Counter(wish.label for wish in asked)
    people = Counter(wish.who for wish in asked if wish.who)
    keywords = ", ".join(f"{label} {count:,}" for label, count in sorted(labels.items()))
    checked = ", ".join(f"{count:,} checked by {who}" for who, count in sorted(people.items()))
    if asked:
        total = counted(len(asked), "sidecar") + (would_be and f"{would_be} written")
        yield f"{total}: keyword {keywords}{'; ' * bool(checked)}{checked}"
    for outcome, text in SAYS.items():
        if done[outcome]:
            yield text.format(counted(done[outcome], "existing sidecar"), would_be)


def write(path: str, wish: Wish, *, dry_run: bool) -> str:
    """Write a sidecar, if that changes it, and return what was done.

    Raises `XmpError`, `StorageError` and `OSError`.
    """
    before = _read(path)
    if before is None and not wish.asked:
        return "left"
    sidecar = Sidecar(EMPTY if before is None else before)
    holds = wish.asked or wish.label in sidecar.said(wish.question, wish.labels)
    label, who = (wish.label, wish.who) if holds else ("", "")
    after = sidecar.saying(wish.question, label, who, wish.labels)
    if after == before:
        return "same" if wish.asked else "left"
    if not dry_run:
        _replace(path, before, after)
    return "new" if before is None else "merged" if holds else "taken back"


def _replace(path: str, before: bytes | None, after: bytes) -> None:
    if before is not None:
        with open(path, "ab"):  # a rename would also replace a file that is read-only
            pass
    with whole(path, "wb", durable=before is not None) as file:
        file.write(after)
        if _read(path) != before:
            raise XmpError("another program has just written it")


def _read(path: str) -> bytes | None:
    """Return the text of a sidecar; None if there is none. Raises `XmpError`, `StorageError`."""
    if os.path.islink(path):
        raise XmpError("it is a link")
    try:
        return storage.read(storage.to_source_ref(path), MAX_BYTES)
    except storage.NotFound:
        return None
