import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.photos import images
from alpaca_labeler.training import dataset, description
from alpaca_labeler.training.description import DatasetError
from alpaca_labeler.training.split import groups
from tests.support.pets_photos import CATS, DOGS, paint


def test_class_names_come_from_the_folders_and_pixels_are_those_that_labelling_sees(pets):
    data = dataset.load(str(pets), 32)
    assert data.labels == (CATS, DOGS)
    assert [photo.label for photo in data.photos] == [0] * 12 + [1] * 8
    assert (data.photos[0].name, data.photos[0].kind) == (f"{CATS}/00.png", CATS)
    for photo, pixels in zip(data.photos, data.pixels, strict=True):
        with open(photo.path, "rb") as file:
            assert np.array_equal(images.decode(file.read(), 32).pixels, pixels)
    assert dataset.load(str(pets), 32, positive=CATS).labels == (DOGS, CATS)


@pytest.fixture
def copy(pets, tmp_path):
    """The pets, to be changed."""
    return Path(shutil.copytree(pets, tmp_path / "pets"))


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("alpaca", "not alpaca"), "alpaca"),
        (("zebra", "not-zebra"), "zebra"),
        (("Not_Zebra", "zebra"), "zebra"),
        (("no smile", "smile"), "smile"),
        (("cat", "dog"), "dog"),
        (("cat", "not dog"), "not dog"),
    ],
)
def test_the_positive_class_is_the_one_that_the_other_negates(tmp_path, names, positive):
    for name in names:
        (tmp_path / name).mkdir()
    assert description.read(str(tmp_path)).labels[1] == positive


def test_files_that_are_not_photos_are_named_and_system_files_are_not(copy):
    hidden = "@eaDir", "__MACOSX/cat photos", f"{CATS}/@eaDir/00.png", f"{CATS}/.thumbnails"
    for number, name in enumerate(hidden):
        paint(copy / name / "1.png", dog=False, number=number)
    data = dataset.load(str(copy), 32)
    assert [line.split(":")[0] for line in data.skipped] == [f"{DOGS}/broken.png"]
    assert len(data.photos) == 20


def test_folders_with_the_same_sub_folders_are_no_classes(pets, tmp_path):
    """Structure decides; the names only say which of them to train on."""
    for names, train, held in (
        (("training_set", "test_set"), "training_set", "test_set"),
        (("dev", "train"), "train", "dev"),
        (("2023", "2024"), "2023", "2024"),
        (("site B", "site A"), "'{}/site A'", "'{}/site B'"),
        (("test", "train", "valid"), "train", "valid"),
    ):
        source = tmp_path / "-".join(names)
        for name in names:
            shutil.copytree(pets, source / name)
        first, second = (
            name.format(source) if "'" in name else f"{source}/{name}" for name in (train, held)
        )
        with pytest.raises(DatasetError, match="not classes") as refusal:
            description.read(str(source))
        assert f"alpaca train {first} --validation {second}." in str(refusal.value)
    flat = tmp_path / "2023-2024" / "2024"
    shutil.copytree(flat, tmp_path / "flat" / "train")
    shutil.copytree(flat / DOGS, tmp_path / "flat" / "test")
    with pytest.raises(DatasetError, match=r"alpaca train \S*flat/train\. If they are classes"):
        description.read(str(tmp_path / "flat"))
    assert description.read(str(tmp_path / "2023-2024"), "2024").labels == ("2023", "2024")


def test_models_inside_the_data_set_are_no_class(copy):
    run = copy / "runs" / "first"
    run.mkdir(parents=True)
    (run / "model.json").touch()
    assert description.read(str(copy)).labels == (CATS, DOGS)
    (run / "1.jpg").touch()
    with pytest.raises(DatasetError, match="'cat photos', 'dogs' and 'runs'"):
        description.read(str(copy))


def test_of_three_classes_the_others_are_kinds_of_not_the_one_to_find(copy):
    paint(copy / "birds" / "gulls" / "1.png", dog=False, number=77)
    with pytest.raises(DatasetError, match="--positive birds trains 'birds' against all others"):
        dataset.load(str(copy), 32)
    data = dataset.load(str(copy), 32, positive=DOGS, validation=str(copy))
    assert data.labels == ("not dogs", DOGS)
    kinds = {(photo.label, photo.kind) for photo in data.photos}
    assert kinds == {(0, "birds"), (0, CATS), (1, DOGS)}


def test_photos_of_a_validation_folder_are_held_out(pets, copy):
    data = dataset.load(str(pets), 32, validation=str(copy))
    assert [photo.held_out for photo in data.photos] == [False] * 20 + [True] * 20
    assert data.photos[20].name == f"validation/{CATS}/00.png"
    (copy / DOGS).rename(copy / "wolves")
    with pytest.raises(DatasetError, match="its classes are not those"):
        dataset.load(str(pets), 32, validation=str(copy))


def test_two_spellings_of_one_letter_are_one_class(tmp_path):
    composed, decomposed = "n\u00e9", "ne\u0301"
    paint(tmp_path / decomposed / "1.png", dog=True, number=1)
    paint(tmp_path / "other" / "1.png", dog=False, number=1)
    for name in (composed, decomposed):
        data = dataset.load(str(tmp_path), 32, positive=name)
        assert data.labels == ("other", composed)
        assert [photo.label for photo in data.photos] == [1, 0]


def test_a_photo_that_changes_or_goes_while_it_is_read_is_named(data, tmp_path):
    assert dataset.at_size(data, 48).shape == (20, 48, 48, 3)
    gone = replace(data.photos[0], path=str(tmp_path / "gone.png"))
    changed = replace(data.photos[0], path=data.photos[1].path)
    for photo, says in ((gone, "gone.png"), (changed, "it changed")):
        with pytest.raises(DatasetError, match=says) as refusal:
            dataset.at_size(replace(data, photos=(photo, *data.photos[1:])), 48)
        assert photo.name in str(refusal.value)


def test_folders_that_are_no_two_classes_of_photos_are_refused(copy, tmp_path):
    shutil.rmtree(copy / CATS)
    (copy / CATS).mkdir()
    with pytest.raises(DatasetError, match="there are no photos of 'cat photos'"):
        dataset.load(str(copy), 32)
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.load(str(tmp_path / "nowhere"), 32)


def test_the_fingerprint_follows_names_and_contents_but_not_the_place(pets, copy):
    first = dataset.load(str(pets), 32).fingerprint()
    assert dataset.load(str(copy), 64).fingerprint() == first
    paint(copy / DOGS / "00.png", dog=True, number=99)
    changed = dataset.load(str(copy), 32).fingerprint()
    (copy / DOGS / "00.png").rename(copy / DOGS / "99.png")
    assert len({first, changed, dataset.load(str(copy), 32).fingerprint()}) == 3


DESCRIPTION = """
groups = ["groups.csv"]
scenes = [["00.png", "01.png"]]
exclude = ["cat photos/03.png"]
photos = [
  {folder = "cat photos", class = "cat photos"},
  {folder = "dogs", class = "dogs", kind = "hounds"},
  {folder = "more", class = "dogs"},
]
card = {licence = "MIT"}
"""


@pytest.fixture
def described(copy, tmp_path, monkeypatch):
    """The pets, two dogs more, and a file in another folder that describes them all."""
    paint(copy / "more" / "poodle" / "né.png", dog=True, number=50)
    paint(copy / "more" / "2.png", dog=True, number=51)
    (copy / "groups.csv").write_text("file;source\nne\u0301.png;x\n2.png;x\n")
    monkeypatch.chdir(copy)  # where its paths start
    file = tmp_path / "pets.toml"
    file.write_text(DESCRIPTION)
    return file


def test_a_file_describes_folders_classes_kinds_groups_and_the_card(described):
    data = dataset.load(str(described), 32)
    assert (data.labels, data.card) == ((CATS, DOGS), {"licence": "MIT"})
    assert [(photo.name, photo.kind) for photo in data.photos[-3:]] == [
        (f"{DOGS}/07.png", "hounds"),
        ("more/2.png", "more"),
        ("more/poodle/né.png", "poodle"),
    ]
    assert [photo.name for photo in data.photos if photo.excluded] == [f"{CATS}/03.png"]
    group = groups(data)
    assert group[20] == group[21]
    assert group[0] == group[1] == group[12] == group[13] != group[2]  # cats and dogs 00 and 01
    assert dataset.load(str(described), 32, positive=CATS).labels == (DOGS, CATS)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("photos = [", "photos = {", "not the description"),
        ("photos = [", "fotos = [", "not the description"),
        ('folder = "more"', 'folder = "less"', "there is no folder less; its paths start at"),
        ('class = "dogs", kind', 'klass = "dogs", kind', "not the description"),
        ("card = ", "cart = ", "unknown: cart"),
        ('"MIT"', "2026-01-01", "not the description"),
        ('"MIT"', '"MIT", weaknesses = "lambs"', "'lambs' is no list of texts"),
        ('"MIT"', '"MIT", weaknesses = [3]', "is no list of texts"),
        ('["cat photos/03.png"]', '"cat photos/03.png"', "is no list of texts"),
        ('[["00.png", "01.png"]]', '["00.png", "01.png"]', "'00.png' is no list of texts"),
        ('class = "cat photos"', 'class = ""', "a class without a name"),
        ('"cat photos/03.png"', '"99.png"', "no photo is called 99.png"),
        ('"groups.csv"', '"none.csv"', "none.csv: cannot be read"),
        ('class = "cat photos"', 'class = "dogs"', "there is one class"),
    ],
)
def test_a_description_with_a_fault_is_refused_with_what_it_needs(described, old, new, complaint):
    described.write_text(DESCRIPTION.replace(old, new))
    with pytest.raises(LabelerError, match=complaint):
        dataset.load(str(described), 32)


@pytest.mark.parametrize("text", ["name,group\n1.jpg,x\n", "\xff"])
def test_a_groups_file_that_says_nothing_is_refused(described, text):
    Path("groups.csv").write_text(text, encoding="latin-1")
    with pytest.raises(LabelerError, match=r"groups\.csv"):
        dataset.load(str(described), 32)


def test_the_built_in_models_photos_are_all_found(shared_folder, monkeypatch):
    monkeypatch.chdir(shared_folder)
    told = description.read(str(Path(description.__file__).with_name("builtin.toml")))
    assert told.labels == ("not alpaca", "alpaca")
    assert len({folder.path.split("/")[0] for folder in told.folders}) == 4
    assert len(told.groups) == 4
