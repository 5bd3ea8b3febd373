import shutil

import numpy as np
import pytest

from alpaca_labeler.handler import images
from alpaca_labeler.training import dataset
from alpaca_labeler.training.dataset import DatasetError, Extra
from tests.support.pets_photos import CATS, DOGS, paint


def test_class_names_come_from_the_folders(pets):
    data = dataset.load(str(pets), 32)
    assert data.labels == (CATS, DOGS)
    assert [photo.label for photo in data.photos] == [0] * 12 + [1] * 8
    assert data.photos[0].name == f"{CATS}/00.png"
    assert data.photos[0].kind == CATS


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
    assert dataset.class_names(str(tmp_path))[1] == positive


def test_the_positive_class_can_be_named(pets):
    assert dataset.load(str(pets), 32, positive=CATS).labels == (DOGS, CATS)
    with pytest.raises(DatasetError, match="bird"):
        dataset.load(str(pets), 32, positive="bird")


def test_stray_files_are_skipped_and_named(pets):
    skipped = dataset.load(str(pets), 32).skipped
    assert [line.split(":")[0] for line in skipped] == [f"{CATS}/.DS_Store", f"{DOGS}/broken.png"]


def test_pixels_are_those_that_labelling_sees(pets):
    data = dataset.load(str(pets), 32)
    for photo, pixels in zip(data.photos, data.pixels, strict=True):
        with open(photo.path, "rb") as file:
            assert np.array_equal(images.decode(file.read(), 32).pixels, pixels)


def test_a_folder_with_another_number_of_classes_is_refused(pets, tmp_path):
    with pytest.raises(DatasetError, match="exactly two sub-folders"):
        dataset.load(str(pets / DOGS), 32)
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.load(str(tmp_path / "nowhere"), 32)


def test_a_class_without_photos_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    paint(tmp_path / "b" / "1.png", dog=True, number=1)
    with pytest.raises(DatasetError, match="no photo"):
        dataset.load(str(tmp_path), 32)


def test_extra_photos_know_their_kind(pets, tmp_path):
    paint(tmp_path / "more" / "poodle" / "1.png", dog=True, number=50)
    paint(tmp_path / "more" / "2.png", dog=True, number=51)
    data = dataset.load(str(pets), 32, extras=[Extra(DOGS, str(tmp_path / "more"))])
    assert [(photo.name, photo.kind) for photo in data.photos if photo.extra] == [
        ("extra/more/2.png", "more"),
        ("extra/more/poodle/1.png", "poodle"),
    ]
    for wrong in (Extra("bird", str(tmp_path)), Extra(DOGS, str(tmp_path / "none"))):
        with pytest.raises(DatasetError, match="--extra"):
            dataset.load(str(pets), 32, extras=[wrong])


def test_the_fingerprint_follows_names_and_contents_but_not_the_place(pets, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pets, copy)
    first = dataset.load(str(pets), 32).fingerprint()
    assert dataset.load(str(copy), 64).fingerprint() == first
    paint(copy / DOGS / "00.png", dog=True, number=99)
    changed = dataset.load(str(copy), 32).fingerprint()
    (copy / DOGS / "00.png").rename(copy / DOGS / "99.png")
    assert len({first, changed, dataset.load(str(copy), 32).fingerprint()}) == 3
