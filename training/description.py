"""What a data set consists of: a folder with one sub-folder per class, or one TOML file.

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
import itertools
import json
import os
import re
import shlex
import tomllib
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.model import bundle
from alpaca_labeler.photos import skip

_NEGATION = re.compile(r"(?:not|no|non)[ _-]+(.+)", re.IGNORECASE)
_SPLIT_ORDER: Final = ("train", "val", "dev", "hold", "", "test")
"""What the names of a split's parts contain: first what to train on, then what to judge by, and
last what should be kept to test the finished model."""
_UNKNOWN: Final = _SPLIT_ORDER.index("")


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


def attribute(label: str) -> str:
    """Return a class name as a label attribute: "Cat photos" -> "cat-photos".

    Raises `DatasetError` if rows already have a key of that name.
    """
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "label"
    if name in bundle.RESERVED or name.endswith("-metadata"):
        raise DatasetError(
            f"the class {label!r} cannot be the one to find: rows of a manifest already have a key "
            f"{name!r}. Rename the folder, or name the other class with --positive"
        )
    return name


def read(source: str, positive: str | None = None, validation: str | None = None) -> Description:
    """Read a folder with one sub-folder per class, or a file that describes more.

    `positive` names the class of index 1, which is otherwise the one that the other negates
    ("alpaca" beside "not alpaca"), else the last by name. With three or more classes it must be
    named: the others together are "not" that class, and each is a kind. `validation` is a folder
    like `source`, whose photos are held out.

    Raises `DatasetError`.
    """
    if os.path.isfile(source):
        folders, told = _read_file(source)
    else:
        folders, told = _class_folders(source, positive), {}
    names = {folder.label for folder in folders}
    if validation is not None:
        held_out = _class_folders(validation, positive)
        if {folder.label for folder in held_out} != names:
            raise DatasetError(
                f"--validation {validation}: its classes are not those of {source}, "
                f"{_listed(names)}"
            )
        folders += [
            replace(folder, name=f"validation/{folder.name}", held_out=True) for folder in held_out
        ]
    labels = _labels(names, source, positive)
    for place, folder in enumerate(folders):
        if folder.label not in labels:  # of three or more: a kind of "not" the one to find
            folders[place] = replace(folder, label=labels[0], kind=folder.kind or folder.label)
    return Description(labels, tuple(folders), **told)


def _labels(found: Collection[str], source: str, positive: str | None) -> tuple[str, str]:
    """Return the two classes: negative, positive."""
    names = sorted(found)
    if len(names) < 2:
        raise DatasetError(
            f"{source}: there is no class in it, and a data set has at least two, each in a "
            "sub-folder of its own"
            if not names
            else f"{source}: there is one class, {names[0]!r}, and a data set has at least two, "
            "each in a sub-folder of its own. Put photos of everything else into a second one"
        )
    if positive is not None and same(positive) not in names:
        raise DatasetError(
            f"{source}: there is no class {positive!r} in it: its classes are {_listed(names)}"
        )
    if len(names) > 2:
        if positive is None:
            raise DatasetError(
                f"{source}: found the classes {_listed(names)}, and a model tells two apart. "
                f"--positive {shlex.quote(names[0])} trains {names[0]!r} against all others"
            )
        return (f"not {same(positive)}", same(positive))
    index = names.index(_positive(*names) if positive is None else same(positive))
    return (names[1 - index], names[index])


def _listed(names: Collection[str]) -> str:
    *first, last = map(repr, sorted(names))
    return f"{', '.join(first)} and {last}" if first else last


def _positive(first: str, second: str) -> str:
    for name, other in ((first, second), (second, first)):
        negated = _NEGATION.fullmatch(name)
        if negated and negated[1].casefold() == other.casefold():
            return other
    return second


# --- a folder ------------------------------------------------------------------------------------


def _class_folders(source: str, positive: str | None) -> list[Folder]:
    """Return the folders of all classes.

    Raises `DatasetError` for a folder that cannot be read, or whose sub-folders are the parts of a
    split: several with the same sub-folders. `positive` may say that they are classes after all.
    """
    names = [name for name in _sub_folders(source) if not _is_output(os.path.join(source, name))]
    parts = _parts_of_split(source, names)
    if parts and (positive is None or same(positive) not in map(same, names)):
        train, *held_out = (shlex.quote(os.path.join(source, name)) for name in parts)
        words = [train, *(f"--validation {folder}" for folder in held_out[:1])]
        raise DatasetError(
            f"{source}: {_listed(names)} are the parts of a split or several sources, not classes: "
            f"{_listed(parts)} hold folders of classes. Train on one and judge by another: alpaca "
            f"train {' '.join(words)}. If they are classes, name the one to find with --positive"
        )
    return [
        Folder(str(Path(source, name)), same(name), same(name)) for name in sorted(names, key=same)
    ]


def _sub_folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from error
    return [name for name in found if skip.by_folder(name) is None]


def _is_output(folder: str) -> bool:
    """Tell whether a folder holds models that were trained or begun, and no photos."""
    path = Path(folder)
    return any(
        any(path.glob(mark)) for mark in (bundle.CARD_FILE, f"*/{bundle.CARD_FILE}")
    ) and not any(file.suffix.lower() in skip.SUFFIXES for file in path.rglob("*"))


def _parts_of_split(source: str, names: Sequence[str]) -> list[str]:
    """Return the folders that hold the same sub-folders, or all with some if they are called parts.

    The first is to be trained on, the second to be judged by.
    """
    inside = {name: {*_sub_folders(os.path.join(source, name))} for name in names}
    alike = {
        name
        for one, other in itertools.combinations(names, 2)
        if len(inside[one] & inside[other]) > 1
        and (inside[one] <= inside[other] or inside[other] <= inside[one])
        for name in (one, other)
    }
    if not alike and all(_rank(name) != _UNKNOWN for name in names):
        alike = {name for name in names if len(inside[name]) > 1}  # the others are not sorted
    return sorted(alike, key=lambda name: (_rank(name), name))


def _rank(name: str) -> int:
    known = (at for at, word in enumerate(_SPLIT_ORDER) if word and word in name.casefold())
    return next(known, _UNKNOWN)


# --- a file --------------------------------------------------------------------------------------


def _read_file(source: str) -> tuple[list[Folder], dict[str, Any]]:
    try:
        table = tomllib.loads(Path(source).read_text("utf-8"))
        folders = [_folder(**each) for each in table.pop("photos")]
        card = dict(table.pop("card", {}))
        lists = [table.get("groups", []), table.get("exclude", []), card.get("weaknesses", [])]
        for texts in [*lists, *table.get("scenes", [])]:
            if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
                raise ValueError(f"{texts!r} is no list of texts")
        groups = {file: _groups(file) for file in table.pop("groups", ())}
        for number, names in enumerate(table.pop("scenes", ())):
            groups.setdefault(source, {}).update({same(name): f"{number}" for name in names})
        excluded = frozenset(map(same, table.pop("exclude", ())))
        json.dumps(card, allow_nan=False)
        if table:
            raise ValueError(f"unknown: {', '.join(table)}")
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
    return folders, {"groups": groups, "excluded": excluded, "card": card}


def _folder(folder: str, kind: str = "", **more: str) -> Folder:
    label = more.pop("class")
    if more or not label:
        raise ValueError(f"unknown: {', '.join(more) or 'a class without a name'}")
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
