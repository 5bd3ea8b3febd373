"""What a data set consists of: a folder with a sub-folder for each class, or one TOML file.

The file is for photos that lie in several folders. Its paths start at the current folder:

    groups = ["farm/SOURCES.csv"]        # columns file and group (or source): photos that belong
    scenes = [["1.jpg", "2.jpg"]]        # together; so do these
    exclude = ["3.jpg"]                  # never trained on, but counted in every figure
    [[photos]]
    folder = "farm/sheep"
    class = "not alpaca"
    kind = "sheep"                       # without it, each sub-folder is a kind
    [card]                               # what only people can say; it goes on the model's card
    weaknesses = ["Lambs were hardly seen."]

A photo is named by the end of its path, as far as that is needed to tell it from others.
"""

from __future__ import annotations

import csv
import json
import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.photos import skip

SPLIT_NAMES: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "test", "testing"), "held out"),
}
"""Names of folders in data sets that are already split."""
_NEGATION = re.compile(r"(?:not|no|non)[ _-]+(.+)", re.IGNORECASE)


def same(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), so that both spellings of é compare equal."""
    return unicodedata.normalize("NFC", name)


class DatasetError(LabelerError):
    """Photos cannot be trained on. The message names what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of photos of one class."""

    path: str
    label: str
    """Its class, in Unicode's composed form (NFC)."""
    name: str
    """What the names of its photos begin with."""
    kind: str = ""
    """Kind of all its photos; empty: each sub-folder is a kind."""
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """A data set before any photo is read. `name` in it is the end of a photo's path."""

    labels: tuple[str, str]
    """Class names in index order: negative, positive; in Unicode's composed form (NFC)."""
    folders: tuple[Folder, ...]
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For each place that tells groups, such as a CSV file: name -> group."""
    excluded: frozenset[str] = frozenset()
    """Names of photos that are not trained on, but count in every figure."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What goes on the model's card beside its figures."""


def read(source: str, positive: str | None = None, validation: str | None = None) -> Description:
    """Read a folder with one sub-folder for each of two classes, or a file that describes more.

    `positive` names the class of index 1, which is otherwise the one that the other negates
    ("alpaca" beside "not alpaca"), else the last by name. `validation` is a folder like `source`,
    whose photos are held out.

    Raises `DatasetError`.
    """
    if os.path.isfile(source):
        found = _read_file(source, positive)
    else:
        classes = _class_folders(source)
        found = Description(_labels([*classes], source, positive), _folders(classes))
    if validation is None:
        return found
    classes = _class_folders(validation)
    if {*classes} != {*found.labels}:
        raise DatasetError(
            f"--validation {validation}: its classes are not those of {source}, "
            f"{found.labels[0]!r} and {found.labels[1]!r}"
        )
    held_out = _folders(classes, prefix="validation/", held_out=True)
    return Description(
        found.labels, (*found.folders, *held_out), found.groups, found.excluded, found.card
    )


def _labels(names: list[str], source: str, positive: str | None) -> tuple[str, str]:
    """Return the two classes: negative, positive."""
    names = sorted(names)
    if len(names) == 1:
        raise DatasetError(
            f"{source}: there is one class, {names[0]!r}; a data set has two, each in a sub-folder "
            "of its own. Put photos of everything else into a second one"
        )
    if len(names) != 2:
        found = ", ".join(map(repr, names)) or "none"
        raise DatasetError(
            f"{source}: a data set has exactly two sub-folders, one per class; found {found}"
        )
    if positive is None:
        positive = _positive(names[0], names[1])
    elif same(positive) not in names:
        raise DatasetError(f"--positive {positive}: the classes are {names[0]!r} and {names[1]!r}")
    positive = same(positive)
    return (names[1 - names.index(positive)], positive)


def _positive(first: str, second: str) -> str:
    for name, other in ((first, second), (second, first)):
        negated = _NEGATION.fullmatch(name)
        if negated and negated[1].casefold() == other.casefold():
            return other
    return second


# --- a folder ------------------------------------------------------------------------------------


def _class_folders(source: str) -> dict[str, str]:
    """Map the name of each class, in Unicode's composed form, to the path of its folder.

    Raises `DatasetError` for a folder that cannot be read, or that holds a split and no classes.
    """
    try:
        found = [entry.name for entry in os.scandir(source) if entry.is_dir()]
    except OSError as error:
        raise DatasetError(f"{source}: cannot be read ({error.strerror})") from error
    names = [name for name in found if skip.by_folder(name) is None]
    splits = {
        use: os.path.join(source, name)
        for name in sorted(names, reverse=True)
        if (use := SPLIT_NAMES.get(name.casefold()))
    }
    if len(splits) == 2 and all(name.casefold() in SPLIT_NAMES for name in names):
        raise DatasetError(
            f"{source}: {', '.join(sorted(names))} are a split, not classes. Train with that split "
            f"by: alpaca train {splits['train']} --validation {splits['held out']}"
        )
    return {same(name): os.path.join(source, name) for name in names}


def _folders(
    classes: Mapping[str, str], prefix: str = "", *, held_out: bool = False
) -> tuple[Folder, ...]:
    return tuple(
        Folder(str(Path(classes[label])), label, f"{prefix}{label}", held_out=held_out)
        for label in sorted(classes)
    )


# --- a file --------------------------------------------------------------------------------------


def _read_file(source: str, positive: str | None) -> Description:
    try:
        table = tomllib.loads(Path(source).read_text("utf-8"))
        folders = tuple(_folder(**each) for each in table.pop("photos"))
        groups = {file: _groups(file) for file in table.pop("groups", ())}
        for number, names in enumerate(table.pop("scenes", ())):
            groups.setdefault(source, {}).update({same(name): f"{number}" for name in names})
        excluded = frozenset(map(same, table.pop("exclude", ())))
        card = dict(table.pop("card", {}))
        json.dumps(card, allow_nan=False)
        if table or not isinstance(card.get("weaknesses", []), list):
            raise ValueError(f"unknown: {', '.join(table) or 'weaknesses that are no list'}")
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise DatasetError(
            f"{source}: not the description of a data set ({error}). It is a TOML file with "
            "[[photos]], each with folder, class and perhaps kind, and with groups, scenes, "
            "exclude and [card], if you like"
        ) from error
    for each in folders:
        if not os.path.isdir(each.path):
            raise DatasetError(
                f"{source}: there is no folder {each.path}; its paths start at the current folder"
            )
    labels = _labels([*{each.label for each in folders}], source, positive)
    return Description(labels, folders, groups, excluded, card)


def _folder(folder: str, kind: str = "", **more: str) -> Folder:
    label = more.pop("class")
    if more:
        raise ValueError(f"unknown: {', '.join(more)}")
    path = str(Path(folder))
    return Folder(path, same(label), path, same(kind))


def _groups(file: str) -> dict[str, str]:
    """Read a CSV file as spreadsheets save it: the end of a photo's path -> its group."""
    try:
        text = Path(file).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text; save it as CSV in UTF-8") from error
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = list(csv.DictReader(text.splitlines(), delimiter=separator))
    column = "group" if rows and "group" in rows[0] else "source"
    if not rows or not {"file", column} <= {*rows[0]}:
        raise ValueError(f"{file} needs the columns file and group, or source")
    return {same(row["file"]): row[column] for row in rows if row["file"] and row[column]}
