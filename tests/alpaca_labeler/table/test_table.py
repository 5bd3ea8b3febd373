"""One door to rows: a manifest or a bucket, read in one way."""

import os

import pytest

from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import Elsewhere, TableError, open_table


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(row.to_line() for row in rows))


def test_photos_are_where_their_manifest_is(tmp_path, monkeypatch):
    write(tmp_path / "farm/manifest.jsonl", Row("a.jpg"))
    (tmp_path / "link.jsonl").symlink_to("farm/manifest.jsonl")
    monkeypatch.chdir(tmp_path)
    for name in ("farm/manifest.jsonl", "link.jsonl"):
        table = open_table(name)
        assert table.place("in/a.jpg") == f"{tmp_path}/farm/in/a.jpg"
        assert table.place("/else/a.jpg") == "/else/a.jpg"
        assert table.place("s3://b/a.jpg") == "s3://b/a.jpg"
    assert open_table("farm/manifest.jsonl", photos_root="x").place("a.jpg") == "x/a.jpg"


@pytest.fixture
def places(tmp_path):
    """Photos beside the manifest, in two folders elsewhere, and links to those."""
    for name in ("inbox/a.jpg", "album/b.jpg", "album-2/c.jpg"):
        write(tmp_path / name)
    write(tmp_path / "inbox/manifest.jsonl")
    os.symlink(tmp_path / "album/b.jpg", tmp_path / "inbox/link.jpg")
    os.symlink(tmp_path / "album", tmp_path / "inbox/folder")
    return tmp_path


OUTSIDE = (
    "../album/b.jpg {}/album/b.jpg file:..%2Falbum%2Fb.jpg in/../../album/b.jpg link.jpg "
    "folder/b.jpg /proc/self/environ s3://photos/a.jpg"
).split()


@pytest.mark.parametrize("name", OUTSIDE)
def test_only_photos_beside_the_manifest_are_shown(places, name):
    with pytest.raises(Elsewhere, match=r"add --allow \S+ to show it"):
        open_table(str(places / "inbox/manifest.jsonl")).shown(name.format(places))


def test_what_a_person_allows_is_shown_too(places):
    manifest, album = str(places / "inbox/manifest.jsonl"), str(places / "album")
    inside = f"{places}/inbox/a.jpg"
    for given in ({}, {"allowed": [album, "s3://photos/in"]}, {"photos_root": album}):
        table = open_table(manifest, **given)
        assert table.shown(inside) == inside
        if given:  # folder by folder: what only begins alike is another one
            assert table.shown(f"{album}/b.jpg") == f"{album}/b.jpg"
            with pytest.raises(Elsewhere) as failed:
                table.shown(f"{places}/album-2/c.jpg")
            assert failed.value.folder == f"{places}/album-2"
    assert open_table(manifest, photos_root=album).shown("b.jpg") == f"{album}/b.jpg"
    table = open_table(manifest, allowed=["s3://photos/in"])
    assert table.shown("s3://photos/in/a.jpg") == "s3://photos/in/a.jpg"
    for name in ("s3://photos/inner/a.jpg", "s3://photos2/in/a.jpg"):
        with pytest.raises(Elsewhere):
            table.shown(name)


def test_a_bucket_shows_what_is_in_it(places):
    table = open_table("s3://farm/labels/", allowed=["s3://photos/"])
    for name in ("s3://farm/a.jpg", "s3://photos/a.jpg"):
        assert table.shown(name) == name
    for name in ("s3://farm2/a.jpg", str(places / "inbox/a.jpg"), "a.jpg"):
        with pytest.raises(Elsewhere):
            table.shown(name)


def test_a_table_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(TableError, match="`alpaca label FOLDER` writes one"):
        open_table(str(tmp_path / "manifest.jsonl"))
    assert [*open_table(str(tmp_path / "manifest.jsonl"), missing_ok=True).rows()] == []
    with pytest.raises(TableError, match="not a file; name a manifest"):
        open_table(str(tmp_path), missing_ok=True)
