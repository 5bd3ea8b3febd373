from dataclasses import replace

import numpy as np
import pytest

from alpaca_labeler.training import sampling


@pytest.fixture
def flock(data):
    """Eight dogs, twelve cats, and 150 cats more of two kinds, 120 of them from one source."""
    sheep = [replace(data.photos[0], kind="sheep")] * 100
    goats = [replace(data.photos[0], kind="goat")] * 50
    photos = (*data.photos, *sheep, *goats)
    group = np.arange(len(photos))
    group[20:110] = 20  # 90 sheep
    return replace(data, photos=photos), group


def test_each_class_gets_its_share_and_each_kind_the_root_of_its_number(flock):
    data, group = flock
    everything = np.arange(len(data.photos))
    chances = sampling.chances(data, group, everything, 0.4)
    kind = np.array([photo.kind for photo in data.photos])
    assert chances.sum() == pytest.approx(1)
    assert chances[data.truth() == 1].sum() == pytest.approx(0.4)
    ratio = chances[kind == "sheep"].sum() / chances[kind == "goat"].sum()
    assert ratio == pytest.approx((100 / 50) ** 0.5)
    one_of_a_small_kind = chances[kind == "cat photos"].sum() / chances[kind == "goat"].sum()
    assert one_of_a_small_kind == pytest.approx(12 / 25**0.5 / 50**0.5)


def test_a_large_source_does_not_drown_the_others_of_its_kind(flock):
    data, group = flock
    chances = sampling.chances(data, group, np.arange(len(data.photos)), 0.4)
    assert chances[20:110].sum() / chances[110] == pytest.approx(90**0.5)


def test_only_the_named_photos_are_drawn(flock):
    data, group = flock
    chosen = np.array([0, 1, 12, 13, 130])
    assert sampling.chances(data, group, chosen, 0.5).shape == (5,)


def test_kinds_of_two_classes_are_two(data):
    other = replace(data.photos[-1], kind=data.photos[0].kind)
    kinds = sampling.kinds(replace(data, photos=(*data.photos, other)))
    assert len(set(kinds.tolist())) == 3
