"""What training sees of a photo, and what is kept of it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler.training.dataset import DatasetError
from alpaca_labeler.training.views import MIRRORED, PLAIN, make, view

SIDE = 96


class Same:
    """Frozen layers that change nothing."""

    def __init__(self, size):
        self.output = np.empty((0, size, size, 3))

    def predict_on_batch(self, pixels):
        return pixels


@pytest.fixture(scope="module")
def settings(tiny):
    return tiny.augmentation


@pytest.fixture(scope="module")
def made(data, settings):
    return make(Same(32), data, settings, seed=1)


@pytest.fixture(scope="module")
def ramp():
    """Red grows to the right, green downwards; blue does not change."""
    red, green = np.meshgrid(np.linspace(0, 255, SIDE), np.linspace(0, 255, SIDE))
    return Image.fromarray(np.stack([red, green, red * 0 + 99], -1).astype(np.uint8))


def test_the_photo_itself_and_its_mirror_image_come_first(data, made, settings):
    assert made.shape == (len(data.photos), settings.views + 2, 32, 32, 3)
    assert np.array_equal(made[:, PLAIN], data.pixels)
    assert np.array_equal(made[:, MIRRORED], data.pixels[:, :, ::-1])


def test_no_two_views_are_alike_and_a_seed_makes_the_same_again(data, made, settings):
    for photo in made:
        assert len({one.tobytes() for one in photo}) == len(photo)
    assert np.array_equal(made, make(Same(32), data, settings, seed=1))
    other = make(Same(32), data, settings, seed=2)
    assert np.array_equal(made[:, :2], other[:, :2])
    assert not np.array_equal(made[:, 2:], other[:, 2:])


def test_without_changes_a_view_is_the_photo_or_its_mirror_image(ramp, settings):
    still = replace(
        settings,
        crop=1.0,
        stretch=0.0,
        rotation=0.0,
        brightness=0.0,
        contrast=0.0,
        colour=0.0,
        grey=0.0,
    )
    plain = np.asarray(ramp)
    found = {
        np.asarray(view(ramp, SIDE, still, np.random.default_rng(seed))).tobytes()
        for seed in range(20)
    }
    assert found == {plain.tobytes(), plain[:, ::-1].tobytes()}


def test_a_crop_shows_no_less_than_its_share_and_stays_inside(ramp, settings):
    crops = replace(
        settings,
        crop=0.25,
        stretch=0.3,
        rotation=0.0,
        brightness=0.0,
        contrast=0.0,
        colour=0.0,
        grey=0.0,
    )
    seen = []
    for seed in range(200):
        pixels = np.asarray(view(ramp, 48, crops, np.random.default_rng(seed))).astype(float)
        assert (pixels[..., 2] == 99).all()  # nothing from beyond the edge
        seen.append(np.ptp(pixels[..., 0]) / 255 * np.ptp(pixels[..., 1]) / 255)
    assert 0.2 < min(seen) < 0.35
    assert 0.9 < max(seen) <= 1.0


def test_a_share_of_the_views_is_grey(ramp, settings):
    half = replace(settings, grey=0.5)
    grey = sum(
        np.ptp(np.asarray(view(ramp, 32, half, np.random.default_rng(seed))), axis=-1).max() == 0
        for seed in range(200)
    )
    assert 70 <= grey <= 130


def test_a_photo_that_has_changed_or_gone_is_named(data, settings, tmp_path):
    gone = replace(data.photos[0], path=str(tmp_path / "gone.png"))
    changed = replace(data.photos[0], path=data.photos[1].path)
    for photo, says in ((gone, "gone.png"), (changed, "has changed")):
        with pytest.raises(DatasetError, match=says) as refusal:
            make(Same(32), replace(data, photos=(photo, *data.photos[1:])), settings, seed=1)
        assert photo.name in str(refusal.value)
