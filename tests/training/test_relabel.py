"""What people said of photos goes into a data set once, and only for the photos they saw."""

import os
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest

from alpaca_labeler import storage
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.corrections import withdrawal
from alpaca_labeler.training import dataset, relabel
from alpaca_labeler.training.description import DatasetError
from tests.support.pets_photos import CATS, DOGS, paint


def person(source_ref, label, *, minute=0, **facts):
    """A person's row, as `alpaca review` writes it; `facts` are of the version that was seen."""
    return {
        "source-ref": str(source_ref),
        "dogs": int(label == DOGS),
        "dogs-metadata": {
            "class-name": label,
            "confidence": 1.0,
            "type": manifest_row.TASK_TYPE,
            "job-name": "labeling-job/review",
            "human-annotated": "yes",
            "creation-date": manifest_row.timestamp(datetime(2026, 12, 1, 12, minute, tzinfo=UTC)),
        },
        "labeler": {"model-version": "20261123T225144Z-7f2733da33b9", **facts},
    }


def seen(path):
    """What a row says of the version of a file."""
    status = os.stat(path)
    return {"size": status.st_size, "last-modified": storage.file_time(status.st_mtime_ns)}


@pytest.fixture
def write(tmp_path):
    """Write rows into a new corrections file and return its path."""

    def write(*rows, name="corrections.jsonl"):
        (tmp_path / name).write_bytes(b"".join(map(manifest_row.encode, rows)))
        return str(tmp_path / name)

    return write


@pytest.fixture
def folder(tmp_path):
    """Photos that are not in the data set."""
    for number in range(3):
        paint(tmp_path / "new" / f"{number}.png", dog=True, number=100 + number)
    return tmp_path / "new"


def test_new_photos_come_as_the_data_sets_own_with_the_label_of_the_person(data, write, folder):
    photo = folder / "0.png"
    done = relabel.add(data, [write(person(photo, CATS, **seen(photo)))])
    assert (done.relabelled, done.confirmed, done.added, done.skipped) == (0, 0, 1, ())
    added = done.data.photos[-1]
    assert (added.name, added.path) == (f"corrected/{photo}", str(photo))
    assert (added.label, added.kind, added.corrected) == (0, "corrected", True)
    assert done.data.photos[:-1] == data.photos
    assert np.array_equal(done.data.pixels[:-1], data.pixels)
    assert done.data.fingerprint() != data.fingerprint()


def test_a_photo_of_the_data_set_is_relabelled_in_its_place(data, write, pets):
    wrong, right = pets / CATS / "03.png", pets / DOGS / "01.png"
    done = relabel.add(data, [write(person(wrong, DOGS), person(right, DOGS))])
    assert (done.relabelled, done.confirmed, done.added) == (1, 1, 0)
    assert len(done.data.photos) == len(data.photos) == len(done.data.pixels)
    changed = {photo.name: photo for photo in done.data.photos if photo.corrected}
    assert changed.keys() == {f"{CATS}/03.png", f"{DOGS}/01.png"}
    assert changed[f"{CATS}/03.png"].label == 1
    assert changed[f"{CATS}/03.png"].kind == DOGS
    assert data.photos[3].label == 0


def test_a_copy_of_a_photo_of_the_data_set_is_that_photo(data, write, pets, tmp_path):
    copy = tmp_path / "copy of 03.png"
    shutil.copy(pets / CATS / "03.png", copy)
    done = relabel.add(data, [write(person(copy, DOGS))])
    assert (done.relabelled, done.added) == (1, 0)


def test_photos_keep_their_finer_kind(pets, write, tmp_path):
    shutil.copytree(pets, tmp_path / "pets")
    poodle = tmp_path / "pets" / DOGS / "poodle" / "1.png"
    paint(poodle, dog=True, number=50)
    data = dataset.load(str(tmp_path / "pets"), 32)
    done = relabel.add(data, [write(person(poodle, CATS))])
    [photo] = [photo for photo in done.data.photos if photo.corrected]
    assert (photo.kind, photo.label) == ("poodle", 0)


def test_a_copied_photo_is_the_one_that_was_corrected(data, write, folder):
    photo = folder / "0.png"
    said = person(photo, CATS, **seen(photo), etag=storage.digest_of(str(photo)))
    os.utime(photo, (1, 1))
    assert relabel.add(data, [write(said)]).added == 1
    paint(photo, dog=False, number=7)
    with pytest.raises(DatasetError, match="changed since it was corrected"):
        relabel.add(data, [write(said)])


def test_a_correction_that_was_withdrawn_does_not_count(data, write, folder):
    one, two = folder / "0.png", folder / "1.png"
    rows = [person(one, CATS, minute=1), person(two, CATS, minute=1)]
    back = withdrawal(rows[0], datetime(2026, 12, 1, 12, 2, tzinfo=UTC))
    done = relabel.add(data, [write(*rows, back)])
    assert done.skipped == (f"{one}: the correction was withdrawn",)
    assert done.added == 1
    assert relabel.add(data, [write(*rows, back, person(one, DOGS, minute=3))]).added == 2


def test_the_last_correction_of_a_person_counts(data, write, folder, tmp_path):
    first, second = folder / "0.png", folder / "1.png"
    shutil.copy(second, tmp_path / "copy.png")
    one = write(person(first, CATS, minute=1), person(first, DOGS, minute=3), name="one.jsonl")
    two = write(
        person(first, CATS, minute=2),
        person(second, DOGS, minute=5),
        person(tmp_path / "copy.png", CATS, minute=4),
        name="two.jsonl",
    )
    done = relabel.add(data, [one, two])
    assert done.added == 2
    assert [photo.label for photo in done.data.photos[-2:]] == [1, 1]
    assert relabel.add(data, [two, one]).data.fingerprint() == done.data.fingerprint()


@pytest.mark.parametrize(
    "facts", [{"size": 1}, {"last-modified": "2020-01-01T00:00:00.000000000Z"}]
)
def test_a_photo_that_has_changed_since_is_skipped_and_named(data, write, folder, facts):
    stale, good = folder / "0.png", folder / "1.png"
    done = relabel.add(
        data,
        [write(person(stale, CATS, **{**seen(stale), **facts}), person(good, CATS, **seen(good)))],
    )
    assert done.added == 1
    assert done.skipped == (f"{stale}: the photo has changed since it was corrected",)
    assert done.data.skipped == (*data.skipped, *done.skipped)


def test_a_file_that_is_gone_or_not_a_photo_is_skipped_and_named(data, write, folder):
    (folder / "half.png").write_bytes((folder / "0.png").read_bytes()[:60])
    done = relabel.add(
        data,
        [write(*(person(folder / name, CATS) for name in ("0.png", "gone.png", "half.png")))],
    )
    assert done.added == 1
    assert [line.split(": ")[0].rsplit("/", 1)[-1] for line in done.skipped] == [
        "gone.png",
        "half.png",
    ]


def test_relative_names_start_at_the_photos_root(data, write, folder):
    file = write(person("new/0.png", CATS), person(folder / "1.png", CATS))
    done = relabel.add(data, [file], photos_root=str(folder.parent))
    assert done.added == 2


def test_names_that_are_not_utf_8_are_found(data, write, folder):
    path = os.fsdecode(bytes(folder) + b"/\xff.png")
    shutil.copy(folder / "0.png", path)
    done = relabel.add(data, [write(person(storage.to_source_ref(path), CATS))])
    assert (done.added, done.skipped) == (1, ())
    done.data.fingerprint()


def test_if_nothing_can_be_used_the_remedy_is_named(data, write):
    with pytest.raises(
        DatasetError, match=r"none of the corrections .*gone/1\.png.* --photos-root"
    ):
        relabel.add(data, [write(person("gone/1.png", CATS))])


def test_a_class_of_another_data_set_is_refused_by_name(data, write, folder):
    with pytest.raises(DatasetError, match=r"corrections\.jsonl: .*0\.png is called 'llama', but"):
        relabel.add(data, [write(person(folder / "0.png", "llama"))])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "it has no row by a person"),
        (b'{"source-ref": "a.png"\n', "line 1: not JSON"),
        (b'{"source-ref": "a.png", "dogs-metadata": {"class-name": "dogs"}}\n', "`alpaca review`"),
    ],
)
def test_a_file_that_holds_no_corrections_is_refused(data, tmp_path, content, complaint):
    file = tmp_path / "corrections.jsonl"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"corrections\.jsonl: .*{complaint}"):
        relabel.add(data, [str(file)])
    with pytest.raises(DatasetError, match="no such file"):
        relabel.add(data, [str(tmp_path / "none.jsonl")])


def test_rows_of_strange_shapes_are_one_line_of_error(data, write, folder):
    for name in (None, 7, ["cats"], {"a": 1}):
        row = person(folder / "0.png", CATS)
        row["dogs-metadata"]["class-name"] = name
        with pytest.raises(DatasetError, match="is called"):
            relabel.add(data, [write(row)])
    odd = person(folder / "0.png", CATS, size="big", etag=7, **{"last-modified": []})
    assert relabel.add(data, [write(odd)]).added == 1


def test_a_class_must_not_vanish(data, write):
    rows = [person(photo.path, CATS) for photo in data.photos if photo.label]
    with pytest.raises(DatasetError, match="no photo of 'dogs' left"):
        relabel.add(data, [write(*rows)])


# --- photos in a bucket --------------------------------------------------------------------------


@pytest.fixture
def bucket(aws, folder):
    aws.create_bucket(Bucket="farm")
    for number in range(2):
        aws.put_object(
            Bucket="farm", Key=f"{number}.png", Body=(folder / f"{number}.png").read_bytes()
        )
    return aws


def test_photos_in_a_bucket_are_told_by_their_etag(data, bucket, write, folder):
    etags = [
        storage.fetch(ImageVersion(f"s3://farm/{number}.png"), 10**6).version.etag
        for number in range(2)
    ]
    bucket.put_object(Bucket="farm", Key="1.png", Body=(folder / "2.png").read_bytes())
    rows = [person(f"s3://farm/{number}.png", CATS, etag=etag) for number, etag in enumerate(etags)]
    rows.append(person("s3://farm/gone.png", CATS))
    done = relabel.add(data, [write(*rows)], photos_root=str(folder))
    assert done.added == 1
    assert done.data.photos[-1].path == "s3://farm/0.png"
    assert [line.split(": ")[0] for line in done.skipped] == [
        "s3://farm/1.png",
        "s3://farm/gone.png",
    ]


@pytest.mark.parametrize("fault", [storage.Transient, storage.Denied])
@pytest.mark.usefixtures("bucket")
def test_a_fault_that_passes_ends_the_run_and_is_not_skipped(data, write, monkeypatch, fault):
    file = write(person("s3://farm/0.png", CATS), person("s3://farm/1.png", CATS))
    real = storage.fetch

    def fetch(image, limit):
        if image.source_ref.endswith("1.png"):
            raise fault(f"{image.source_ref}: SlowDown")
        return real(image, limit)

    monkeypatch.setattr(storage, "fetch", fetch)
    with pytest.raises(DatasetError, match=r"SlowDown.*run again"):
        relabel.add(data, [file])
