"""What people said of photos goes into a data set once, and only for the photos they saw."""

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from alpaca_labeler import storage
from alpaca_labeler.photos.content import content_of
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row
from alpaca_labeler.training import relabel
from alpaca_labeler.training.description import DatasetError
from tests.support.pets_photos import CATS, DOGS, paint


def said(photo, label, *, content=None, minute=0):
    """The row of a decision about a photo as it is now, or about another content of it."""
    if content is None and os.path.exists(photo):
        with open(photo, "rb") as file:
            content = content_of(file.read())
    name = photo if storage.is_s3(str(photo)) else storage.to_source_ref(str(photo))
    row = Row(name, read=Read(content=content))
    return row.decided(label, "ada", datetime(2026, 12, 1, 12, minute, tzinfo=UTC))


@pytest.fixture
def write(tmp_path):
    """Write rows into a manifest and return its path."""

    def write(*rows, name="manifest.jsonl"):
        (tmp_path / name).write_bytes(b"".join(row.to_line() for row in rows))
        return str(tmp_path / name)

    return write


@pytest.fixture
def folder(tmp_path):
    """Photos that are not in the data set."""
    for number in range(3):
        paint(tmp_path / "new" / f"{number}.png", dog=True, number=100 + number)
    return tmp_path / "new"


@pytest.mark.parametrize("name", ["0.png", os.fsdecode(b"\xff.png")])
def test_new_photos_come_as_the_data_sets_own_with_the_label_of_the_person(
    data, write, folder, name
):
    photo = (folder / "0.png").rename(folder / name)
    done, counts = relabel.add(data, [write(said(photo, CATS))])
    assert counts == {"relabelled": 0, "confirmed": 0, "added": 1}
    assert done.skipped == data.skipped
    added = done.photos[-1]
    path = str(photo)
    assert (added.name, added.path) == (f"corrected/{storage.to_source_ref(path)}", path)
    assert (added.label, added.kind, added.corrected) == (0, "corrected", True)
    assert done.photos[:-1] == data.photos
    assert np.array_equal(done.pixels[:-1], data.pixels)
    assert done.fingerprint() != data.fingerprint()


def test_a_photo_of_the_data_set_is_known_by_its_picture_and_relabelled_in_its_place(
    data, write, pets, tmp_path
):
    """A program that writes a rating into a file changes neither the picture nor what was said."""
    wrong, right = pets / DOGS / "00.png", pets / CATS / "00.png"
    rating, rated = PngInfo(), tmp_path / "rated.png"
    rating.add_text("Rating", "5")
    Image.open(wrong).save(rated, pnginfo=rating)
    assert rated.read_bytes() != wrong.read_bytes()
    done, counts = relabel.add(data, [write(said(rated, CATS), said(right, CATS))])
    assert counts == {"relabelled": 1, "confirmed": 1, "added": 0}
    changed = [photo for photo in done.photos if photo.corrected]
    assert [(photo.name, photo.label, photo.kind) for photo in changed] == [
        (f"{CATS}/00.png", 0, CATS),
        (f"{DOGS}/00.png", 0, CATS),
    ]
    assert np.array_equal(done.pixels, data.pixels)
    finer = replace(data, photos=tuple(replace(photo, kind="poodle") for photo in data.photos))
    done, _ = relabel.add(finer, [write(said(wrong, CATS))])
    assert [(photo.kind, photo.label) for photo in done.photos if photo.corrected] == [
        ("poodle", 0)
    ]


def test_the_last_decision_counts_and_one_that_was_taken_back_does_not(
    data, write, folder, tmp_path
):
    first, second, third = (folder / f"{number}.png" for number in range(3))
    shutil.copy(second, tmp_path / "copy.png")
    one = write(said(first, CATS, minute=1), said(first, DOGS, minute=3), name="one.jsonl")
    two = write(
        said(first, CATS, minute=2),
        said(second, DOGS, minute=5),
        said(tmp_path / "copy.png", CATS, minute=4),
        said(third, CATS, minute=1),
        said(third, None, minute=2),
        name="two.jsonl",
    )
    done, counts = relabel.add(data, [one, two])
    assert (counts["added"], done.skipped) == (2, data.skipped)
    assert [photo.label for photo in done.photos[-2:]] == [1, 1]
    assert relabel.add(data, [two, one])[0].fingerprint() == done.fingerprint()


def test_a_photo_that_has_changed_is_gone_or_is_none_is_skipped_and_named(data, write, folder):
    stale, good, any_picture, half = (folder / f"{name}.png" for name in (0, 1, 2, "half"))
    half.write_bytes(good.read_bytes()[:60])
    gone = folder / "gone.png"
    rows = [said(photo, CATS) for photo in (stale, good, half, gone)]
    rows.append(said(any_picture, CATS, content=""))
    paint(stale, dog=False, number=7)
    done, counts = relabel.add(data, [write(*rows)])
    assert counts["added"] == 2
    _, first, *others = done.skipped
    assert first == f"{stale}: it has changed since a person decided"
    assert [line.split(": ")[0] for line in others] == [str(gone), str(half)]


def test_relative_names_start_at_the_manifest_or_at_the_photos_root(data, write, folder, tmp_path):
    table = write(said("new/0.png", CATS), said(folder / "1.png", CATS))
    assert relabel.add(data, [table])[1]["added"] == 2
    (tmp_path / "else").mkdir()
    moved = shutil.move(table, tmp_path / "else")
    assert relabel.add(data, [moved])[1]["added"] == 1
    assert relabel.add(data, [moved], photos_root=str(tmp_path))[1]["added"] == 2


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "no person has decided anything"),
        (b'{"source-ref": "a.png"\n', "line 1: not JSON"),
        (b'{"source-ref": "a", "dogs-metadata": {"class-name": "dogs"}}\n', "`alpaca review`"),
        (said("a.png", "llama").to_line(), "a.png is called 'llama', but the classes"),
        (said("gone/1.png", CATS).to_line(), r"none of the decisions .*gone/1\.png.*--photos-root"),
    ],
)
def test_a_manifest_without_a_usable_decision_is_refused(data, tmp_path, line, complaint):
    file = tmp_path / "manifest.jsonl"
    file.write_bytes(line)
    with pytest.raises(DatasetError, match=rf"manifest\.jsonl.*{complaint}"):
        relabel.add(data, [str(file)])
    with pytest.raises(DatasetError, match="no such file"):
        relabel.add(data, [str(tmp_path / "none.jsonl")])


def test_rows_of_other_tools_count_if_a_person_made_them(data, write, folder):
    """Ground Truth's own rows say nothing of the content: they are about the photo as it is."""
    line = (
        b'{"source-ref":"%b","dogs":0,"dogs-metadata":{"class-name":"%b","human-annotated":"%b"}}'
    )
    rows = [
        Row.from_line(line % (bytes(folder / name), CATS.encode(), by_person))
        for name, by_person in (("0.png", b"yes"), ("1.png", b"no"))
    ]
    assert relabel.add(data, [write(*rows)])[1]["added"] == 1


def test_a_class_must_not_vanish(data, write):
    rows = [said(photo.path, CATS) for photo in data.photos if photo.label]
    with pytest.raises(DatasetError, match="no photo of 'dogs' left"):
        relabel.add(data, [write(*rows)])


@pytest.fixture
def rows(aws, folder):
    """What was decided of two photos in a bucket."""
    aws.create_bucket(Bucket="farm")
    bodies = [(folder / f"{number}.png").read_bytes() for number in range(2)]
    for number, body in enumerate(bodies):
        aws.put_object(Bucket="farm", Key=f"{number}.png", Body=body)
    contents = map(content_of, bodies)
    return [said(f"s3://farm/{n}.png", CATS, content=content) for n, content in enumerate(contents)]


def test_decisions_in_a_bucket_are_about_its_photos(data, aws, rows, folder):
    aws.put_object(Bucket="farm", Key="1.png", Body=(folder / "2.png").read_bytes())
    rows.append(said("s3://farm/gone.png", CATS))
    table = b"".join(row.to_line() for row in sorted(rows, key=lambda row: row.source_ref))
    aws.put_object(Bucket="farm", Key="labels/manifest.jsonl", Body=table)
    done, counts = relabel.add(data, ["s3://farm/labels/"], photos_root=str(folder))
    assert counts["added"] == 1
    assert done.photos[-1].path == "s3://farm/0.png"
    skipped = [line.split(": ")[0] for line in done.skipped[1:]]
    assert skipped == ["s3://farm/1.png", "s3://farm/gone.png"]


@pytest.mark.parametrize("fault", [storage.Transient, storage.Denied])
def test_a_fault_that_passes_ends_the_run_and_is_not_skipped(data, write, rows, monkeypatch, fault):
    file, real = write(*rows), storage.fetch

    def fetch(image, limit):
        if image.source_ref.endswith("1.png"):
            raise fault(f"{image.source_ref}: SlowDown")
        return real(image, limit)

    monkeypatch.setattr(storage, "fetch", fetch)
    with pytest.raises(DatasetError, match=r"SlowDown.*run again"):
        relabel.add(data, [file])
