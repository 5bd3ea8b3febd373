"""Every photo below a folder once, and an end to every loop."""

from __future__ import annotations

import os

import pytest

from alpaca_labeler.photos import walk
from alpaca_labeler.photos.skip import Kind, Skip


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Make files, and links given as `name -> target`; return what is found below `tops`."""
    monkeypatch.chdir(tmp_path)

    def find(*names, tops=("top",), apart=()):
        for name in names:
            path, _, target = name.partition(" -> ")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if target:
                os.symlink(target, path)
            else:
                open(path, "w").close()
        skipped: list[Skip] = []
        unreadable: list[str] = []
        apart = {os.path.abspath(path) for path in apart}
        entries = walk.files(tops, skipped.append, unreadable.append, apart=apart)
        paths = sorted(entry.path for entry in entries)
        return paths, sorted((skip.kind, skip.place) for skip in skipped), unreadable

    return find


LIBRARY = "top/P.photoslibrary"
TREES = {
    "system folders and hidden files are skipped, other names left to the caller": (
        ["top/a.jpg", "top/notes.txt", "top/@eaDir/a.jpg", "top/b/.x.jpg"],
        ["top/a.jpg", "top/notes.txt"],
        [(Kind.HIDDEN, "top/b/.x.jpg"), (Kind.SYSTEM, "top/@eaDir")],
    ),
    "a photo library gives each photo once": (
        [f"{LIBRARY}/{name}" for name in ("originals/0/a.heic", "resources/a.jpg", "database/x")],
        [f"{LIBRARY}/originals/0/a.heic"],
        [(Kind.SYSTEM, f"{LIBRARY}/database"), (Kind.SYSTEM, f"{LIBRARY}/resources")],
    ),
    "links to files and folders are followed": (
        ["real/1.jpg", "top/farm -> ../real", "top/2.jpg -> ../real/1.jpg"],
        ["top/2.jpg", "top/farm/1.jpg"],
        [],
    ),
    **{
        f"a link into or around what is read anyway is skipped: {link}": (
            ["top/a/1.jpg", "top/b/2.jpg", f"top/{link}"],
            ["top/a/1.jpg", "top/b/2.jpg"],
            [(Kind.LINK, f"top/{link.partition(' ')[0]}")],
        )
        for link in ("a/self -> .", "a/up -> ..", "a/root -> /", "z -> a", "0 -> a", "a/o -> ../b")
    },
    "two links to one folder or into it give its photos once": (
        ["real/in/1.jpg", "top/0 -> ../real/in", "top/1 -> ../real", "top/2 -> ../real"],
        ["top/1/in/1.jpg"],
        [(Kind.LINK, "top/0"), (Kind.LINK, "top/2")],
    ),
    "a link into a skipped folder is followed": (
        ["top/.store/1.jpg", "top/new -> .store"],
        ["top/new/1.jpg"],
        [(Kind.HIDDEN, "top/.store")],
    ),
    "folders that link to each other end": (
        ["a/1.jpg", "a/to -> ../b", "b/2.jpg", "b/to -> ../a", "top/in -> ../a"],
        ["top/in/1.jpg", "top/in/to/2.jpg"],
        [(Kind.LINK, "top/in/to/to")],
    ),
    "a link to nothing is a file that cannot be read": (["top/x -> nowhere"], ["top/x"], []),
    "a link to itself is a file that cannot be read": (["top/x -> x"], ["top/x"], []),
}


@pytest.mark.parametrize(("names", "paths", "skipped"), TREES.values(), ids=TREES)
def test_each_photo_is_found_once_and_every_walk_ends(found, names, paths, skipped):
    assert found(*names) == (paths, skipped, [])


def test_what_is_named_is_read_whatever_it_is_called_but_a_photo_library_is_one(found):
    assert found("@eaDir/.x/a.jpg", tops=["@eaDir/.x"])[0] == ["@eaDir/.x/a.jpg"]
    assert found("P.photoslibrary/resources/a.jpg", tops=["P.photoslibrary"])[0] == []


def test_other_tops_and_paths_apart_are_not_found_twice(found):
    names = ("top/a/1.jpg", "top/2.jpg", "b/3.jpg", "top/to -> ../b")
    paths, skipped, _ = found(*names, tops=["./top", "b"], apart=["top/a"])
    assert (paths, skipped) == (["./top/2.jpg", "b/3.jpg"], [(Kind.LINK, "./top/to")])
