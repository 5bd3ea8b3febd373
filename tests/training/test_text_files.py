"""What people save from spreadsheets and editors is read as they meant it."""

from __future__ import annotations

import pytest

from alpaca_labeler.training import text_files
from alpaca_labeler.training.text_files import TextFileError

TABLE = "file;group\r\nfarm/né.jpg;1\r\nb.jpg;2\r\n"


@pytest.mark.parametrize(
    "data",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        TABLE.encode("utf-16-be").join([b"\xfe\xff", b""]),
        TABLE.encode("cp1252"),
        TABLE.replace(";", ",").encode("utf-8-sig"),
        TABLE.replace(";", "\t").encode(),
        ("sep=;\r\n" + TABLE).encode(),
        TABLE.replace("file", " File ").encode(),
        TABLE.replace("\r\n", "\n").rstrip().encode(),
        TABLE.replace("farm/né.jpg", '"farm/né.jpg"').encode(),
    ],
    ids=range(11),
)
def test_a_table_is_read_as_excel_saves_it(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    columns, rows = text_files.rows(str(tmp_path / "t.csv"))
    assert columns == ["file", "group"]
    assert rows == [{"file": "farm/né.jpg", "group": "1"}, {"file": "b.jpg", "group": "2"}]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"PK\3\4 xlsx", "save it as CSV"), (b"a\0b", "not a text file"), (b"", "not a CSV file")],
)
def test_a_file_that_is_not_a_table_is_refused_by_name(tmp_path, data, reason):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(TextFileError, match=rf"t\.csv: .*{reason}"):
        text_files.rows(str(tmp_path / "t.csv"))
    with pytest.raises(TextFileError, match="cannot be read"):
        text_files.rows(str(tmp_path / "nowhere.csv"))
