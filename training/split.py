"""Group photos that belong together, and split them by group: pixels in, indices out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .arrays import Flags, Indices, Pixels
from .dataset import Dataset, named
from .description import DatasetError

HASH_DISTANCE = 16
"""Bits of 128 by which the hashes of one scene may differ. NOTES.md says what this finds."""
VALIDATION_SHARE = 0.2
"""Share of the photos that one split holds out."""
USEFUL_PHOTOS = 50
"""Photos per class with which a model is worth trying."""


def hashes(pixels: Pixels) -> Flags:
    """Return each photo's difference hash, shape (n, 128).

    A bit says whether a spot is brighter than its right or its lower neighbour. `pixels` is uint8
    (n, size, size, 3). A scaled, recompressed or brightened copy keeps its hash nearly.
    """
    grey = np.stack(
        [
            np.asarray(Image.fromarray(photo).convert("L").resize((9, 9), Image.Resampling.BOX))
            for photo in pixels
        ]
    ).astype(np.int16)
    across = grey[:, :8, 1:] > grey[:, :8, :-1]
    down = grey[:, 1:, :8] > grey[:, :-1, :8]
    return np.concatenate([across.reshape(-1, 64), down.reshape(-1, 64)], axis=1)


def groups(data: Dataset) -> Indices:
    """Return a group number for each photo, shape (n,): no split separates the photos of a group.

    Near-duplicates and their mirror images form groups. So do photos to which one of `data.groups`
    gives the same group.

    Raises `DatasetError`.
    """
    photos = data.photos
    parents = list(range(len(photos)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    def join(first: int, second: int) -> None:
        parents[max(root(first), root(second))] = min(root(first), root(second))

    for first, second in near_duplicates(data.pixels):
        join(first, second)
    for place, names in data.groups.items():
        members: dict[str, int] = {}
        for index, photo in enumerate(photos):
            if (group := named(photo.path, names)) is not None:
                join(members.setdefault(group, index), index)
        if not members:
            raise DatasetError(f"{place}: its groups name none of the {len(photos)} photos")
    return np.array([root(index) for index in range(len(photos))])


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
    truth, found = data.truth(), []
    used = np.array([not photo.excluded for photo in data.photos])
    for number in np.unique(group):
        at = np.flatnonzero((group == number) & used)
        if len(np.unique(truth[at])) > 1:
            found += [
                (data.photos[first].name, data.photos[second].name)
                for first, second in {
                    *map(
                        tuple,
                        at[np.array(near_duplicates(data.pixels[at]), int).reshape(-1, 2)].tolist(),
                    )
                }
                if truth[first] != truth[second]
            ]
    return sorted(found)


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


def holdout(
    strata: Sequence[object], group: Indices, seed: int, *, share: float = VALIDATION_SHARE
) -> tuple[Indices, Indices]:
    """Return training and validation indices: the latter is the most typical of 1/share folds."""
    count = round(1 / share)
    fold = folds(strata, group, count, seed)
    total = Counter(strata)

    def unlike(number: int) -> float:
        held = Counter(value for value, of in zip(strata, fold, strict=True) if of == number)
        return sum((held[value] / size - 1 / count) ** 2 for value, size in total.items())

    chosen = min(range(count), key=unlike)
    return np.flatnonzero(fold != chosen), np.flatnonzero(fold == chosen)
