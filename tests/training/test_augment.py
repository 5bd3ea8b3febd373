"""What training sees of a photo."""

import numpy as np
import pytest
from msgspec.structs import replace

pytest.importorskip("tensorflow")

from alpaca_labeler.training.keras import augment

SIDE = 96


@pytest.fixture(scope="module")
def still(small):
    """Settings that change nothing."""
    none = dict.fromkeys(("stretch", "rotation", "brightness", "contrast", "fade", "grey"), 0.0)
    return replace(small.augmentation, crop=1.0, flip=False, **none)


@pytest.fixture(scope="module")
def ramp():
    """Red grows to the right, green downwards; blue does not change."""
    red, green = np.meshgrid(np.linspace(0, 255, SIDE), np.linspace(0, 255, SIDE))
    return np.stack([red, green, red * 0 + 99], -1).astype(np.uint8)[np.newaxis]


def draws(settings, ramp, count, *, size=SIDE):
    photos = np.repeat(ramp, count, axis=0).astype(np.float32)
    seen = augment.build(settings, size, seed=1)(photos, training=True)
    return np.asarray(seen).clip(0, 255).astype(np.uint8).astype(float)


def test_every_other_photo_is_mirrored_if_so_set_and_else_stays_what_it_is(still, ramp):
    assert np.array_equal(draws(still, ramp, 2), [ramp[0], ramp[0]])
    seen = draws(replace(still, flip=True), ramp, 100)
    mirrored = sum(np.array_equal(one, ramp[0, :, ::-1]) for one in seen)
    assert 30 < mirrored < 70
    assert mirrored + sum(np.array_equal(one, ramp[0]) for one in seen) == 100


def test_a_crop_shows_no_less_than_its_share_and_stays_inside(still, ramp):
    seen = draws(replace(still, crop=0.25, stretch=0.3), ramp, 200, size=48)
    assert seen.shape == (200, 48, 48, 3)
    assert (seen[..., 2] == 99).all()  # nothing from beyond the edge
    area = np.ptp(seen[..., 0], axis=(1, 2)) * np.ptp(seen[..., 1], axis=(1, 2)) / 255**2
    assert 0.2 < area.min() < 0.35
    assert 0.9 < area.max() <= 1.0


def test_a_share_of_the_photos_is_grey(still, ramp):
    seen = draws(replace(still, grey=0.5), ramp, 200)
    assert 70 <= (np.ptp(seen, axis=-1).max(axis=(1, 2)) == 0).sum() <= 130


@pytest.mark.parametrize("change", ["rotation", "brightness", "contrast", "fade"])
def test_each_setting_changes_photos(still, ramp, change):
    first, second = draws(replace(still, **{change: 0.2}), ramp, 2)
    assert not np.array_equal(first, second)
