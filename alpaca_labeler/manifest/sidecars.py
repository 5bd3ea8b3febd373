"""`alpaca manifest export --format xmp`: sidecars beside the photos, which are never written to."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

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

SHARED: Final = "photos of different labels share it (--format xmp gives each its own)"

SAYS: Final = {
    "merged": "{}{} merged: nothing else in them changed",
    "cleared": "{}{} cleared of a label that is not asked for",
    "same": "{} said so already",
}

QUESTION: Final = "label"
"""Of rows that name no attribute."""

_UNWRITABLE: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Plan:
    """What is to be written, by the path of the sidecar."""

    wishes: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    """(question, label) of its photos; an empty label takes back what was said."""
    labels: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Those that anybody gave, by question."""
    left_out: Counter[str] = field(default_factory=Counter)


def planned(table: Table, asked: Callable[[Row], bool], *, adobe: bool) -> Plan:
    """Find the sidecars of a folder's photos, and what they are to say. Raises `Refused`.

    `asked` tells whose labels are wanted: those of others are taken back. An `adobe` sidecar is
    called IMG_1.xmp, any other IMG_1.jpg.xmp.
    """
    if storage.is_s3(table.name):
        raise Refused("sidecars lie beside photos in a folder; name the manifest of one")
    plan = Plan()
    for row in table.rows():
        question = (row.attribute or QUESTION).replace("|", "/")
        said = [row.label, row.answer and row.answer.label]
        said += [decision.label for decision in row.people.values()]
        plan.labels[question] |= {label for label in said if label}
        try:
            photo = _photo(row, table)
        except LeftOut as reason:
            plan.left_out[str(reason)] += 1
            continue
        path = f"{os.path.splitext(photo)[0] if adobe else photo}.xmp"
        plan.wishes[path].add((question, (row.label or "") if asked(row) else ""))
    return plan


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
    if _UNWRITABLE.search(f"{row.attribute}{row.label}"):
        raise LeftOut("with a label that XML cannot hold")
    return path


def export(plan: Plan, *, dry_run: bool) -> None:
    """Write the sidecars and say what was done. Raises `Failed` if one cannot be written."""
    done, keywords = Counter[str](), Counter[str]()
    with Progress("sidecars", len(plan.wishes)) as progress:
        for path, wishes in sorted(plan.wishes.items()):
            problem = ""
            try:
                if len(wishes) > 1:
                    raise XmpError(SHARED)
                [(question, label)] = wishes
                done[write(path, question, label, plan.labels[question], dry_run=dry_run)] += 1
                keywords[label] += 1
            except XmpError as error:
                problem = f"{path}: {error}, so it stays as it is"
            except (LabelerError, OSError) as error:
                problem = sentence(error) or str(error)
            progress.step(problem)
            done["failed"] += bool(problem)
    del keywords[""]
    _summarize(done, keywords, " would be" * dry_run)
    for reason, count in sorted(plan.left_out.items()):
        say(f"{count:,} left out: {reason}")
    if done["failed"]:
        raise Failed(f"{counted(done['failed'], 'sidecar')} could not be written")
    if not keywords and not done["cleared"]:
        raise Failed("there is no sidecar to write")


def _summarize(done: Counter[str], keywords: Counter[str], would_be: str) -> None:
    if keywords:
        total = counted(keywords.total(), "sidecar") + (would_be and f"{would_be} written")
        each = ", ".join(f"{label} {count:,}" for label, count in sorted(keywords.items()))
        say(printable(f"{total}: keyword {each}"))
    for outcome, text in SAYS.items():
        if done[outcome]:
            say(text.format(counted(done[outcome], "existing sidecar"), would_be))


def write(path: str, question: str, label: str, labels: Collection[str], *, dry_run: bool) -> str:
    """Write a sidecar, if that changes it, and return what was done.

    `labels` are as `Sidecar.saying` takes them. Raises `XmpError`, `StorageError` and `OSError`.
    """
    before = _read(path)
    if before is None and not label:
        return ""
    after = Sidecar(EMPTY if before is None else before).saying(question, label, labels)
    if after == before:
        return "same" if label else ""
    if not dry_run:
        _replace(path, before, after)
    return "new" if before is None else "merged" if label else "cleared"


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
