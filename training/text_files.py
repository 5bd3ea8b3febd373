"""Read tables that people write by hand or save from a spreadsheet, in any encoding.

Excel saves CSV with a byte order mark or in the system's 8-bit code page, and separates by `;` if a
comma is the decimal point. Windows editors save UTF-16.
"""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from pathlib import Path
from typing import Final

from ..handler.errors import LabelerError

_SEPARATORS: Final = ",;\t"
_ENCODINGS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class TextFileError(LabelerError):
    """A text file cannot be read. The message names it and what to do."""


def read(path: str) -> str:
    """Return a file's text, decoded by its byte order mark, else as UTF-8, else as Windows-1252.

    Raises `TextFileError`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TextFileError(f"{path}: cannot be read ({error.strerror})") from error
    if data.startswith(b"PK\3\4"):
        raise TextFileError(f"{path}: a workbook, not text; save it as CSV")
    for mark, encoding in _ENCODINGS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if b"\0" in data:
        raise TextFileError(f"{path}: not a text file; save it as UTF-8 text or CSV")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def rows(path: str) -> tuple[list[str], list[dict[str, str]]]:
    """Return a table's columns, in lower case, and its rows by column.

    The separator is a comma, semicolon or tab: the one that its first line has most of.

    Raises `TextFileError`.
    """
    text = read(path)
    first, _, rest = text.partition("\n")
    if first.strip().lower() in {f"sep={separator}" for separator in _SEPARATORS}:
        text, first = rest, rest.partition("\n")[0]  # skip a hint for Excel
    separator = max(_SEPARATORS, key=first.count)
    try:
        head, *body = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    except (csv.Error, ValueError) as error:  # ValueError: there is not even a first line
        raise TextFileError(f"{path}: not a CSV file with a first line of columns") from error
    columns = [name.strip().lower() for name in head]
    return columns, [dict(zip(columns, map(str.strip, cells), strict=False)) for cells in body]


def same(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), so that both spellings of é compare equal."""
    return unicodedata.normalize("NFC", name)
