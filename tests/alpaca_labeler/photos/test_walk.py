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


def test_system_folders_and_hidden_files_are_skipped_and_other_names_left_to_the_caller(found):
    assert found("top/a.jpg", "top/notes.txt", "top/@eaDir/a.jpg", "top/b/.x.jpg") == (
        ["top/a.jpg", "top/notes.txt"],
        [(Kind.HIDDEN, "top/b/.x.jpg"), (Kind.SYSTEM, "top/@eaDir")],
        [],
    )


def test_a_photo_library_gives_each_photo_once(found):
    inside = "top/P.photoslibrary"
    paths, skipped, _ = found(
        f"{inside}/originals/0/a.heic",
        f"{inside}/resources/derivatives/a.jpeg",
        f"{inside}/database/x.jpg",
    )
    assert paths == [f"{inside}/originals/0/a.heic"]
    assert skipped == [(Kind.SYSTEM, f"{inside}/database"), (Kind.SYSTEM, f"{inside}/resources")]


def test_a_photo_library_that_is_named_itself_gives_each_photo_once(found):
    paths, *_ = found("P.photoslibrary/resources/a.jpg", tops=["P.photoslibrary"])
    assert paths == []


def test_what_is_named_is_read_whatever_it_is_called(found):
    assert found("@eaDir/.x/a.jpg", tops=["@eaDir/.x"])[0] == ["@eaDir/.x/a.jpg"]


def test_links_to_files_and_folders_are_followed(found):
    paths, skipped, _ = found("real/1.jpg", "top/farm -> ../real", "top/2.jpg -> ../real/1.jpg")
    assert (paths, skipped) == (["top/2.jpg", "top/farm/1.jpg"], [])


@pytest.mark.parametrize(
    "link",
    [
        "top/a/self -> .",
        "top/a/up -> ..",
        "top/a/root -> /",
        "top/z -> a",
        "top/0 -> a",
        "top/a/other -> ../../top/b",
    ],
)
def test_links_into_or_around_what_is_read_anyway_are_skipped(found, link):
    paths, skipped, _ = found("top/a/1.jpg", "top/b/2.jpg", link)
    assert paths == ["top/a/1.jpg", "top/b/2.jpg"]
    assert skipped == [(Kind.LINK, link.partition(" ")[0])]


def test_two_links_to_one_folder_or_into_it_give_its_photos_once(found):
    paths, skipped, _ = found(
        "real/in/1.jpg", "top/0 -> ../real/in", "top/1 -> ../real", "top/2 -> ../real"
    )
    assert paths == ["top/1/in/1.jpg"]
    assert skipped == [(Kind.LINK, "top/0"), (Kind.LINK, "top/2")]


def test_a_link_into_a_skipped_folder_is_followed(found):
    assert found("top/.store/1.jpg", "top/new -> .store")[0] == ["top/new/1.jpg"]


def test_folders_that_link_to_each_other_end(found):
    paths, skipped, _ = found(
        "a/1.jpg", "a/to -> ../b", "b/2.jpg", "b/to -> ../a", "top/in -> ../a"
    )
    assert paths == ["top/in/1.jpg", "top/in/to/2.jpg"]
    assert skipped == [(Kind.LINK, "top/in/to/to")]


@pytest.mark.parametrize("target", ["nowhere", "x"])
def test_a_link_to_nothing_or_to_itself_is_a_file_that_cannot_be_read(found, target):
    assert found(f"top/x -> {target}") == (["top/x"], [], [])


def test_other_tops_and_paths_apart_are_not_found_twice(found):
    names = ("top/a/1.jpg", "top/2.jpg", "b/3.jpg", "top/to -> ../b")
    paths, skipped, _ = found(*names, tops=["./top", "b"], apart=["top/a"])
    assert (paths, skipped) == (["./top/2.jpg", "b/3.jpg"], [(Kind.LINK, "./top/to")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named(found, tmp_path):
    (tmp_path / "top/no").mkdir(parents=True)
    (tmp_path / "top/no").chmod(0)
    assert found("top/1.jpg") == (["top/1.jpg"], [], ["top/no"])
