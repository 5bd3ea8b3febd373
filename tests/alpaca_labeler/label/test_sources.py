"""From what is typed to the images that are meant."""

from __future__ import annotations

import os

import pytest

from alpaca_labeler.handler.storage import NotFound
from alpaca_labeler.label.sources import Skipped, find


def names(*paths):
    return sorted(image.source_ref for image in find(paths, Skipped()))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.jpg", "a/b/2.PNG", "a/b/.h/3.jpg", "a/note.txt", "c/4.heic"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        open(name, "w").close()


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["a"], ["a/1.jpg", "a/b/2.PNG"]),
        (["a/"], ["a/1.jpg", "a/b/2.PNG"]),
        (["."], ["./a/1.jpg", "./a/b/2.PNG", "./c/4.heic"]),
        (["a", "a/b"], ["a/1.jpg", "a/b/2.PNG"]),
        (["a/b", "a/"], ["a/1.jpg", "a/b/2.PNG"]),
        (["a", "a", "a/"], ["a/1.jpg", "a/b/2.PNG"]),
        (["a/1.jpg", "a", "a/1.jpg"], ["a/1.jpg", "a/b/2.PNG"]),
        (["a", "a/b/.h"], ["a/1.jpg", "a/b/.h/3.jpg", "a/b/2.PNG"]),
        (["a", "a/note.txt"], ["a/1.jpg", "a/b/2.PNG", "a/note.txt"]),
    ],
)
@pytest.mark.usefixtures("tree")
def test_paths_are_kept_as_typed_and_each_image_comes_once(paths, found):
    assert names(*paths) == found


@pytest.mark.usefixtures("tree")
def test_a_path_that_is_not_there_is_an_error():
    with pytest.raises(NotFound, match="nowhere"):
        names("nowhere")


def test_overlapping_prefixes_give_each_object_once(aws):
    aws.create_bucket(Bucket="farm")
    for key in ("x/1.jpg", "x/2", "x/.hidden.jpg", "x/notes.txt", "x/folder/", "y/3.JPG"):
        aws.put_object(Bucket="farm", Key=key, Body=b"")
    skipped = Skipped()
    paths = ["s3://farm/x/", "s3://farm/", "s3://farm/y/3.JPG", "s3://farm/"]
    found = [image.source_ref for image in find(paths, skipped)]
    assert found == ["s3://farm/x/1.jpg", "s3://farm/x/2", "s3://farm/y/3.JPG"]
    assert skipped.others == 3
