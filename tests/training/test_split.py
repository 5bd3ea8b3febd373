from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler.training import split
from alpaca_labeler.training.dataset import Dataset, Photo
from alpaca_labeler.training.description import DatasetError


def described(pixels: np.ndarray, **more) -> Dataset:
    photos = (Photo(f"a/{n}.jpg", f"/x/a/{n}.jpg", 0, "a", "") for n in range(len(pixels)))
    return Dataset(("a", "b"), tuple(photos), pixels, (), **more)


def scenes(count: int) -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    how = (96, 96), Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(each).resize(*how)) for each in coarse])


def test_copies_and_mirror_images_are_one_group_and_other_photos_are_not():
    pixels = scenes(8)
    pixels[5] = pixels[2]
    pixels[6] = pixels[2][:, ::-1]
    pixels[7] = np.clip(pixels[0].astype(int) * 8 // 10 + 20, 0, 255)  # paler
    group = split.groups(described(pixels))
    assert group.tolist() == [0, 1, 2, 3, 4, 2, 2, 0]


def test_groups_name_photos_by_the_end_of_their_path():
    told = {
        "one.csv": {"a/1.jpg": "farm", "3.jpg": "farm", "0.jpg": "zoo"},
        "two.csv": {"0.jpg": "1", "4.jpg": "1"},
    }
    assert split.groups(described(scenes(5), groups=told)).tolist() == [0, 1, 2, 1, 0]
    with pytest.raises(DatasetError, match=r"other\.csv: its groups name none of the 5 photos"):
        split.groups(described(scenes(5), groups={"other.csv": {"5.jpg": "x"}}))


def test_folds_keep_groups_whole_and_classes_even():
    random = np.random.default_rng(0)
    group = random.integers(0, 60, 200)
    strata = [bool(value) for value in random.random(200) < 0.3]
    fold = split.folds(strata, group, 5, seed=1)
    assert all(len(set(fold[group == number])) == 1 for number in set(group))
    positives = Counter(fold[np.array(strata)])
    assert max(positives.values()) - min(positives.values()) <= 3
    assert np.array_equal(fold, split.folds(strata, group, 5, seed=1))
    assert not np.array_equal(fold, split.folds(strata, group, 5, seed=2))


def test_a_holdout_is_a_fifth_of_each_class():
    strata = [0] * 60 + [1] * 40
    train, held = split.holdout(strata, np.arange(100), seed=3)
    assert sorted([*train, *held]) == list(range(100))
    assert Counter(strata[index] for index in held) == {0: 12, 1: 8}


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
    chances = split.chances(data, group, np.arange(len(group)), 0.4)
    kind = np.array([photo.kind for photo in data.photos])
    assert chances.sum() == pytest.approx(1)
    assert chances[data.truth() == 1].sum() == pytest.approx(0.4)
    ratio = chances[kind == "sheep"].sum() / chances[kind == "goat"].sum()
    assert ratio == pytest.approx((100 / 50) ** 0.5)
    one_of_a_small_kind = chances[kind == "cat photos"].sum() / chances[kind == "goat"].sum()
    assert one_of_a_small_kind == pytest.approx(12 / 25**0.5 / 50**0.5)
    # Kinds of two classes are two, whatever they are called.
    same = replace(data.photos[12], kind=data.photos[0].kind)
    assert len({*split.kinds(replace(data, photos=(*data.photos[:20], same))).tolist()}) == 3
    # A large source does not drown the others of its kind.
    assert chances[20:110].sum() / chances[110] == pytest.approx(90**0.5)
