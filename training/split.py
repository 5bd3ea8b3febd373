"""Which photos belong together, on which side of a split they are, and how often each is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .arrays import Flags, Floats, Indices, Pixels
from .dataset import Dataset, named
from .description import DatasetError

HASH_DISTANCE = 16
"""Bits of 128 by which the hashes of one scene may differ. NOTES.md says what this finds."""
VALIDATION_FOLDS = 5
"""One split holds out one of as many folds."""
USEFUL_PHOTOS = 50
"""Photos per class with which a model is worth trying."""
SMALL_KIND = 25
"""In photos. A photo of a smaller kind is drawn as often as one of a kind of this size, so that no
photo is shown hundreds of times."""


def hashes(pixels: Pixels) -> Flags:
    """Return each photo's difference hash, shape (n, 128).

    A bit says whether a spot is brighter than its right or its lower neighbour. `pixels` is uint8
    (n, size, size, 3). A scaled, recompressed or brightened copy keeps its hash nearly.
    """
    grey = np.empty((len(pixels), 9, 9), np.int16)
    for number, photo in enumerate(pixels):
        small = Image.fromarray(photo).convert("L").resize((9, 9), Image.Resampling.BOX)
        grey[number] = np.asarray(small)
    across = grey[:, :8, 1:] > grey[:, :8, :-1]
    down = grey[:, 1:, :8] > grey[:, :-1, :8]
    return np.concatenate([across.reshape(-1, 64), down.reshape(-1, 64)], axis=1)


def groups(data: Dataset) -> Indices:
    """Return a group number for each photo, shape (n,): no split separates the photos of a group.

    Near-duplicates and their mirror images form groups. So do photos to which one of `data.groups`
    gives the same group.

    Raises `DatasetError`.
    """
    pairs = near_duplicates(data.pixels)
    for place, names in data.groups.items():
        members: dict[str, int] = {}
        for index, photo in enumerate(data.photos):
            if (name := named(photo.path, names)) is not None:
                pairs.append((members.setdefault(name, index), index))
        if not members:
            raise DatasetError(f"{place}: its groups name none of the {len(data.photos)} photos")
    group = np.arange(len(data.photos))
    for pair in pairs:
        low, high = sorted(group[[*pair]])
        if low != high:
            group[group == high] = low
    return group


def near_duplicates(pixels: Pixels) -> list[tuple[int, int]]:
    """Return the index pairs of photos that show the same picture, or its mirror image."""
    plain = hashes(pixels).astype(np.float32) * 2 - 1
    mirrored = hashes(pixels[:, :, ::-1]).astype(np.float32) * 2 - 1
    bits = plain.shape[1]
    pairs = []
    for index in range(len(plain)):
        for other in (plain, mirrored):
            # The product of two +-1 vectors counts equal bits minus different ones.
            distance = (bits - other[index + 1 :] @ plain[index]) / 2
            pairs += [
                (index, index + 1 + int(hit)) for hit in np.flatnonzero(distance <= HASH_DISTANCE)
            ]
    return pairs


def contradictions(data: Dataset, group: Indices) -> list[tuple[str, str]]:
    """Return the names of photos that show the same picture, but are of different classes.

    `group` is that of `groups`, shape (photos,).
    """
    truth = data.truth()
    used = np.array([not photo.excluded for photo in data.photos])
    of_both = np.intersect1d(group[used & (truth == 0)], group[used & (truth == 1)])
    at = np.flatnonzero(used & np.isin(group, of_both))
    return sorted(
        {
            (data.photos[at[first]].name, data.photos[at[second]].name)
            for first, second in near_duplicates(data.pixels[at])
            if truth[at[first]] != truth[at[second]]
        }
    )


def folds(strata: Sequence[object], group: Indices, count: int, seed: int) -> Indices:
    """Return a fold, 0..count-1, for each photo, shape (n,): stratified, with groups kept whole.

    Groups are assigned in order of size, the largest first, each to the fold that then leaves the
    strata most even.
    """
    names, stratum = np.unique([repr(value) for value in strata], return_inverse=True)
    members, group = np.unique(group, return_inverse=True)
    table = np.zeros((len(members), len(names)))
    np.add.at(table, (group, stratum), 1)
    share = table / table.sum(axis=0)
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    held = np.zeros((count, len(names)))
    fold = np.zeros(len(members), dtype=np.int64)
    for index in order:
        costs = 2 * held @ share[index]  # growth of the sum of squares, up to a constant
        best = np.flatnonzero(costs <= costs.min() + 1e-12)
        fold[index] = best[np.argmin(held[best].sum(axis=1))]
        held[fold[index]] += share[index]
    return fold[group]


def check_enough(data: Dataset, group: Indices, count: int) -> None:
    """Raise `DatasetError` unless every class can be in each of `count` folds."""
    truth = data.truth()
    for label, name in enumerate(data.labels):
        found, different = int((truth == label).sum()), len(np.unique(group[truth == label]))
        if different < count:
            alike = f", of {different} different scenes or sources" if different < found else ""
            raise DatasetError(
                f"{name!r} has {found} photo{'s' * (found > 1)}{alike}: each class needs at least "
                f"{count} that differ, to train on some and judge by others; {USEFUL_PHOTOS} per "
                "class make a model worth trying"
            )


def holdout(strata: Sequence[object], group: Indices, seed: int) -> tuple[Indices, Indices]:
    """Return training and validation indices: the latter is the most typical of five folds."""
    fold = folds(strata, group, VALIDATION_FOLDS, seed)
    total = Counter(strata)

    def unlike(number: int) -> float:
        held = Counter(value for value, of in zip(strata, fold, strict=True) if of == number)
        return sum(
            (held[value] / size - 1 / VALIDATION_FOLDS) ** 2 for value, size in total.items()
        )

    chosen = min(range(VALIDATION_FOLDS), key=unlike)
    return np.flatnonzero(fold != chosen), np.flatnonzero(fold == chosen)


def kinds(data: Dataset) -> Indices:
    """Return a number, from 0, for the class and kind of each photo, shape (photos,)."""
    return np.unique(data.strata(), return_inverse=True)[1]


def chances(data: Dataset, group: Indices, indices: Indices, positive_share: float) -> Floats:
    """Return the probability that each photo of `indices` is drawn, shape (n,), with the sum 1.

    The positive class gets `positive_share` (0..1), the other class the rest. Within a class, a
    kind's share grows with the square root of its number of photos, and so does a group's share
    (`split.groups`) within a kind: no large kind drowns a small one, and no source with a hundred
    photos drowns the others.
    """
    truth, kind, groups = data.truth()[indices], kinds(data)[indices], group[indices]
    result = np.zeros(len(indices))
    for label, share in ((1, positive_share), (0, 1 - positive_share)):
        of_label = truth == label
        for number in np.unique(kind[of_label]):
            at = np.flatnonzero(kind == number)
            _, place, size = np.unique(groups[at], return_inverse=True, return_counts=True)
            within = 1 / np.sqrt(size)[place]
            result[at] = within / within.sum() * len(at) / np.sqrt(max(len(at), SMALL_KIND))
        result[of_label] *= share / max(result[of_label].sum(), 1e-12)
    result /= result.sum()
    return result
