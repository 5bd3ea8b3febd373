"""How often each photo is drawn for training: indices in, probabilities out."""

from __future__ import annotations

import numpy as np

from .arrays import Floats, Indices
from .dataset import Dataset

SMALL_KIND = 25
"""In photos. A photo of a smaller kind is drawn as often as one of a kind of this size, so that no
photo is shown hundreds of times."""


def kinds(data: Dataset) -> Indices:
    """Return a number, from 0, for the class and kind of each photo, shape (photos,)."""
    names = [f"{photo.label} {photo.kind}" for photo in data.photos]
    return np.unique(names, return_inverse=True)[1]


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
