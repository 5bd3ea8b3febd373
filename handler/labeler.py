"""References in, outcomes out: fetch, decode and classify, overlapped, in bounded memory.

One bad image never stops the rest: what can never be labelled becomes a failure row, what may work
later becomes no row at all.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from . import bundle, images, manifest_row, storage
from .bundle import Bundle
from .classifier import Classifier, Prediction
from .image_version import ImageVersion
from .manifest_row import Failure, Row

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_BYTES: Final = 100 * 2**20
"""Default limit on an encoded image: an uncompressed 33-megapixel TIFF still fits."""

FAILURE_CODES: Final[dict[type[storage.StorageError], str]] = {
    storage.NotFound: "not-found",
    storage.TooLarge: "too-large",
    storage.Unavailable: "unavailable",
}
"""Storage errors that are an answer. So is `Denied` for a file; on S3 the operator mends it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one image may make us do."""

    max_bytes: int = MAX_BYTES
    """Of the encoded image."""
    max_pixels: int = images.MAX_PIXELS
    """Width x height of the picture, checked before it is decoded."""
    held_bytes: int = 4 * MAX_BYTES
    """Of encoded images in memory at a time, over all threads."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image."""

    image: ImageVersion
    """As it was asked for."""
    row: Row | None
    """A label row or a failure row. None where another try may still label the image."""
    prediction: Prediction | None = None
    """Of a labelled image."""
    problem: str = ""
    """Why there is no label, for people."""


class Labeler:
    """Labels photos with one model.

    >>> Labeler().predict("tests/photos/alpaca.jpg").label
    'alpaca'
    """

    def __init__(
        self,
        model: str | Bundle = bundle.EMBEDDED,
        *,
        threads: int = 1,
        cores: int = 1,
        limits: Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Load a model: a bundle, or the URI of one (folder, `s3://` prefix or pointer).

        `threads` images are fetched at a time (more than one pays for S3, where waiting is most of
        it), and `cores` of them decoded and classified at a time.

        Raises `BundleError`.
        """
        self.bundle = model if isinstance(model, Bundle) else bundle.load(model)
        self.card = self.bundle.card
        self._limits = limits or Limits()
        self._clock = clock
        self._threads = threads
        self._classifiers: queue.SimpleQueue[Classifier] = queue.SimpleQueue()
        for _ in range(cores):
            self._classifiers.put(Classifier(self.bundle))
        self._held = _Budget(self._limits.held_bytes)

    def predict(self, image: bytes | str | os.PathLike[str] | npt.NDArray[np.uint8]) -> Prediction:
        """Label one image: encoded bytes, a path or `s3://` URI, or uint8 pixels.

        Pixels are RGB of shape (height, width, 3) or grey of shape (height, width), 0..255.

        Raises `ImageError` where it cannot be labelled and `StorageError` where it cannot be read.
        """
        if isinstance(image, np.ndarray):
            return self._classify(partial(images.from_array, image))[0]
        if not isinstance(image, bytes):
            image = storage.read(os.fspath(image), self._limits.max_bytes)
        return self._classify(self._decoder(image))[0]

    def label(
        self, requests: Iterable[ImageVersion], *, deadline: float | None = None
    ) -> Iterator[Outcome]:
        """Label images and yield an outcome each, in the order in which they are done.

        `requests` is read as it is needed, so it may be endless. After `deadline` (of
        `time.monotonic`) no more work is begun or waited for: what is left has an outcome without a
        row.
        """
        if self._threads == 1 and deadline is None:
            yield from map(self.label_one, requests)
        else:
            yield from self._label_overlapped(requests, deadline)

    def _label_overlapped(
        self, requests: Iterable[ImageVersion], deadline: float | None
    ) -> Iterator[Outcome]:
        waiting: dict[Future[Outcome], ImageVersion] = {}
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="label")
        try:
            for image in requests:
                if _seconds_left(deadline) == 0:
                    yield _out_of_time(image)
                    continue
                waiting[pool.submit(self.label_one, image)] = image
                if len(waiting) >= 2 * self._threads:
                    yield from _finished(waiting, deadline)
            while waiting and _seconds_left(deadline) != 0:
                yield from _finished(waiting, deadline)
            yield from map(_out_of_time, waiting.values())
        finally:
            # Past the deadline nobody waits for a download that hangs; its own time limit ends it.
            pool.shutdown(wait=deadline is None, cancel_futures=True)

    def label_one(self, image: ImageVersion) -> Outcome:
        """Label one image. Never raises for what is wrong with the image."""
        version = image
        try:
            with self._held.take(image.size or self._limits.max_bytes):
                fetched = storage.fetch(image, self._limits.max_bytes)
                version = fetched.version
                prediction, seen = self._classify(self._decoder(fetched.data))
        except images.ImageError as error:
            return self._failed(image, version, Failure(error.code, str(error)))
        except storage.StorageError as error:
            code = FAILURE_CODES.get(type(error))
            if isinstance(error, storage.Denied) and not storage.is_s3(image.source_ref):
                code = "unreadable"
            if code is None:
                return Outcome(image, None, problem=str(error))
            return self._failed(image, version, Failure(code, str(error)))
        row = manifest_row.label_row(
            version, (seen.width, seen.height), prediction, self.card, self._clock()
        )
        return Outcome(image, row, prediction)

    def _failed(self, image: ImageVersion, version: ImageVersion, failure: Failure) -> Outcome:
        row = manifest_row.failure_row(version, failure, self.card.version, self._clock())
        return Outcome(image, row, problem=failure.message)

    def _decoder(self, data: bytes) -> Callable[[int], images.ModelInput]:
        return partial(images.decode, data, max_pixels=self._limits.max_pixels)

    def _classify(
        self, decode: Callable[[int], images.ModelInput]
    ) -> tuple[Prediction, images.ModelInput]:
        # Decoding takes a turn too: it needs a core as much as inference does, and far more memory.
        classifier = self._classifiers.get()
        try:
            seen = decode(self.card.input_size)
            return classifier.predict(seen.pixels), seen
        finally:
            self._classifiers.put(classifier)


def _finished(
    waiting: dict[Future[Outcome], ImageVersion], deadline: float | None
) -> Iterator[Outcome]:
    done, _ = wait(waiting, timeout=_seconds_left(deadline), return_when=FIRST_COMPLETED)
    for future in done:
        del waiting[future]
        yield future.result()


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _out_of_time(image: ImageVersion) -> Outcome:
    return Outcome(image, None, problem=f"{image.source_ref}: no time left in this run")


class _Budget:
    """A number of bytes shared by threads: a taker waits until its part is free."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Hold `amount` bytes, or all there are where it is more, while the context lasts."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()
