"""Find the photos of one burst: same folder, taken seconds apart, and alike.

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
        self._stopped = False
        self._count = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bursts", daemon=True)

    def wait(self) -> None:
        """Start reading dates and pictures, and wait up to `PATIENCE` for the end."""
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()
        self._done.wait(PATIENCE)

    def reading(self) -> int | None:
        """Return how many photos have been read, while there are more to read."""
        return None if self._thread.ident is None or self._done.is_set() else self._count

    def stop(self) -> None:
        """Stop reading: the table is read again."""
        self._stopped = True

    def _run(self) -> None:
        with self._lock:
            found = self._index.ask("SELECT id, name FROM photo ORDER BY folder, folded")
        local = [(number, name) for number, name in found if not storage.is_s3(name)]
        while local and not self._stopped:
            some, local = local[:_BATCH], local[_BATCH:]
            dates = [(_taken(self._place(name)), number) for number, name in some]
            with self._lock:
                self._index.write("UPDATE photo SET taken = ? WHERE id = ?", dates)
            self._count += len(some)
        with self._lock:
            taken = self._index.ask(
                "SELECT id, name, folder, taken FROM photo "
                "WHERE taken NOT NULL ORDER BY folder, taken, folded"
            )
        # The number of a burst is that of its first photo.
        bursts: dict[int, int] = {}
        hashes = lru_cache(2)(self._hash)
        for (number, name, folder, time), (after, its_name, *its) in pairwise(taken):
            if self._stopped:
                return
            if its[0] == folder and _seconds(time, its[1]) <= SECONDS:
                unlike = hashes(name) != hashes(its_name)
                if np.count_nonzero(unlike) <= split.HASH_DISTANCE:
                    bursts[after] = bursts.setdefault(number, number)
        with self._lock:
            of = [(burst, number) for number, burst in bursts.items()]
            self._index.write("UPDATE photo SET burst = ? WHERE id = ?", of)
        self._done.set()

    def _hash(self, name: str) -> npt.NDArray[Any]:
        try:
            data = storage.fetch(ImageVersion(self._place(name)), MAX_BYTES).data
            return split.hashes(images.decode(data, _SIDE).pixels[np.newaxis])
        except (storage.StorageError, images.ImageError):
            return np.full((1, 128), np.nan)  # unlike every photo, itself included


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
