"""How often each photo is drawn: indices in, chances out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from .dataset import Dataset

    Indices = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

SMALL_KIND = 25
"""Photos. A kind with fewer is drawn as often per photo as one with so many, so that a single photo
is not shown hundreds of times."""


def kinds(data: Dataset) -> Indices:
    """Number the kinds of photos of each class from 0, shape (photos,)."""
    names = [f"{photo.label} {photo.kind}" for photo in data.photos]
    return np.unique(names, return_inverse=True)[1]


def chances(data: Dataset, group: Indices, indices: Indices, positive_share: float) -> Floats:
    """Return each photo's chance of being drawn, shape (n,), sum 1.

    The classes get their shares. Within a class a kind's chance is the square root of its number of
    photos, and within a kind a group's likewise (`split.groups`), so that no large kind drowns a
    small one, and no source with a hundred photos the others.
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
