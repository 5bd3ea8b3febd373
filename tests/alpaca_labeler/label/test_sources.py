"""From what is typed to the images that are meant."""

from __future__ import annotations

import os

import pytest

from alpaca_labeler.label.sources import find
from alpaca_labeler.photos.skip import Skipped
from alpaca_labeler.storage import NotFound, Unavailable
from tests.support.permissions import without_overrides


def names(*paths):
    return sorted(image.source_ref for image in find(paths, Skipped()))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.jpg", "a/b/2.PNG", "a/b/.h/3.jpg", "a/note.txt", "c/4.heic"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        open(name, "w").close()
    os.symlink("a", "to-a")


WHOLE = ("a", "a/", "a a/b", "a/b a/", "a a a/", "a/1.jpg a a/1.jpg", "a ./a c/../a/", "a to-a")


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        *((paths, "a/1.jpg a/b/2.PNG") for paths in WHOLE),
        (".", "./a/1.jpg ./a/b/2.PNG ./c/4.heic"),
        (". ./to-a", "./c/4.heic ./to-a/1.jpg ./to-a/b/2.PNG"),
        ("a a/b/.h", "a/1.jpg a/b/.h/3.jpg a/b/2.PNG"),
        ("a a/note.txt", "a/1.jpg a/b/2.PNG a/note.txt"),
        ("to-a a/b", "a/b/2.PNG to-a/1.jpg"),
        ("a/b to-a/b/2.PNG", "to-a/b/2.PNG"),
        ("a/1.jpg ./a/1.jpg to-a/1.jpg", "a/1.jpg"),
    ],
)
@pytest.mark.usefixtures("tree")
def test_paths_are_kept_as_typed_and_each_image_comes_once(paths, found):
    assert names(*paths.split()) == found.split()


@pytest.mark.usefixtures("tree")
def test_what_is_skipped_is_counted_once_too():
    once, often = Skipped(), Skipped()
    list(find(["a"], once))
    list(find(["a", "./a", "to-a"], often))
    assert often.counts == once.counts
    assert once.counts.total() == 2


@pytest.mark.usefixtures("tree")
def test_a_path_that_is_not_there_or_cannot_be_looked_at_is_an_error():
    with pytest.raises(NotFound, match="nowhere"):
        names("nowhere")
    os.chmod("a/b", 0)
    with without_overrides(), pytest.raises(Unavailable, match=r"a/b/2\.PNG: cannot be read"):
        names("a/b/2.PNG")


def test_overlapping_prefixes_give_each_object_once(aws):
    aws.create_bucket(Bucket="farm")
    for key in ("x/1.jpg", "x/2", "x/.hidden.jpg", "x/notes.txt", "x/folder/", "y/3.JPG"):
        aws.put_object(Bucket="farm", Key=key, Body=b"")
    skipped = Skipped()
    paths = ["s3://farm/x/", "s3://farm/", "s3://farm/y/3.JPG", "s3://farm/"]
    found = [image.source_ref for image in find(paths, skipped)]
    assert found == ["s3://farm/x/1.jpg", "s3://farm/x/2", "s3://farm/y/3.JPG"]
    assert skipped.counts.total() == 3


TREE = (
    "a.jpg",
    "raw/DSC_1.NEF",
    "raw/1.CR3",
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
    "#recycle/a.jpg",
    "P.photoslibrary/originals/0/a.heic",
    "P.photoslibrary/resources/a.jpg",
    "x/.thumbnails/a.jpg",
    "x/._a.jpg",
    "x/.IMG_1.HEIC.icloud",
    "x/IMG_2.jpg.nextcloud",
    "x/notes.txt",
    "immich/thumbs/kim/ab/1.jpg",
    "immich/thumbs/kim/cd/2.jpg",
    "nc/files_trashbin/a.jpg",
)


def test_a_folder_and_a_bucket_hold_the_same_photos_and_skip_the_same(aws, tmp_path, monkeypatch):
    aws.create_bucket(Bucket="farm")
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"words")
        aws.put_object(Bucket="farm", Key=name, Body=b"words")
    monkeypatch.chdir(tmp_path)
    here, there = Skipped(), Skipped()
    photos = {image.source_ref.removeprefix("./") for image in find(["."], here)}
    keys = {image.source_ref.removeprefix("s3://farm/") for image in find(["s3://farm/"], there)}
    assert photos == keys
    assert photos == {"a.jpg", "raw/DSC_1.NEF", "raw/1.CR3", "P.photoslibrary/originals/0/a.heic"}
    assert here.counts == there.counts
    away = {"x/.IMG_1.HEIC.icloud", "x/IMG_2.jpg.nextcloud"}
    assert {name.removeprefix("./") for name in here.not_downloaded} == away
    assert {name.removeprefix("s3://farm/") for name in there.not_downloaded} == away
