"""Which photos were taken in one burst: same folder, seconds apart, and alike.

Dates come from the files' headers, likeness from the pictures: both are read in the background when
a page first asks, and only of photos on this machine.
"""

from __future__ import annotations

import os
import stat
import threading
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alpaca_labeler.handler import images, storage
from alpaca_labeler.handler.image_version import ImageVersion
from alpaca_labeler.handler.labeler import MAX_BYTES
from alpaca_labeler.review.photos import exif
from alpaca_labeler.training import split

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from alpaca_labeler.review.index import Index

SECONDS: Final = 5.0
"""Between two photos of a burst, at most."""
PATIENCE: Final = 3.0
"""Seconds that a list waits; then it shows what is known so far."""
_BATCH: Final = 200
_SIDE: Final = 32
"""Pixels; the hash looks at 9."""


class Bursts:
    """Reads when photos were taken, and finds the bursts among them."""

    def __init__(self, index: Index, place: Callable[[str], str], lock: threading.RLock) -> None:
        """`lock` is held while the index is used."""
        self._index, self._place, self._lock = index, place, lock
        self._wanted = threading.Event()
        self._stopped = False
        self._counts = [0, 0]
        self._done = [threading.Event(), threading.Event()]
        self._thread = threading.Thread(target=self._run, name="bursts", daemon=True)

    def wait(self, *, compare: bool) -> None:
        """Read dates, and `compare` pictures if asked; wait for that a moment."""
        if compare:
            self._wanted.set()
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()
        self._done[compare].wait(PATIENCE)

    def reading(self, *, compare: bool) -> int | None:
        """Return how many photos have been read, while there are more to read."""
        if self._thread.ident is None or self._done[compare].is_set():
            return None
        return self._counts[self._done[0].is_set()]

    def stop(self) -> None:
        """Read no further: the table is read again."""
        self._stopped = True
        self._wanted.set()

    def _run(self) -> None:
        with self._lock:
            found = self._index.ask("SELECT id, name FROM photo ORDER BY folder, folded")
        local = [(number, name) for number, name in found if not storage.is_s3(name)]
        for at in range(0, len(local), _BATCH):
            dates = [
                (_taken(self._place(name)), number) for number, name in local[at : at + _BATCH]
            ]
            if self._stopped:
                return
            with self._lock:
                self._index.write("UPDATE photo SET taken = ? WHERE id = ?", dates)
            self._counts[0] += len(dates)
        self._done[0].set()
        self._wanted.wait()
        with self._lock:
            taken = self._index.ask(
                "SELECT id, name, folder, taken FROM photo "
                "WHERE taken IS NOT NULL ORDER BY folder, taken, folded"
            )
        # The number of a burst is that of its first photo.
        bursts: dict[int, int] = {}
        hashes = lru_cache(2)(self._hash)
        for (number, name, folder, time), (after, next_name, its_folder, its_time) in pairwise(
            taken
        ):
            if self._stopped:
                return
            self._counts[1] += 1
            if folder == its_folder and _seconds(time, its_time) <= SECONDS:
                first, second = hashes(name), hashes(next_name)
                if np.count_nonzero(first != second) <= split.HASH_DISTANCE:
                    bursts[after] = bursts.setdefault(number, number)
        with self._lock:
            self._index.write(
                "UPDATE photo SET burst = ? WHERE id = ?", ((b, n) for n, b in bursts.items())
            )
        self._done[1].set()

    def _hash(self, name: str) -> npt.NDArray[Any]:
        try:
            data = storage.fetch(ImageVersion(self._place(name)), MAX_BYTES).data
            return split.hashes(images.decode(data, _SIDE).pixels[np.newaxis])
        except (storage.StorageError, images.ImageError):
            return np.full((1, 128), np.nan)  # like nothing, itself included


def _taken(place: str) -> str | None:
    try:
        # Opening a pipe would wait for its writer for ever.
        handle = os.open(storage.to_path(place), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            return (stat.S_ISREG(os.fstat(handle).st_mode) and exif(file)[0]) or None
    except (OSError, ValueError):
        return None


def _seconds(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()
