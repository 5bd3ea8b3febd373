"""References in, outcomes out: fetch, decode and classify, overlapped, in bounded memory.

One bad image never stops the rest: an image that can never be labelled gets a failure row, one that
may work later gets no row at all.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from . import bundle, cores, images, manifest_row, storage
from .bundle import Bundle
from .classifier import Classifier, Prediction
from .errors import LabelerError
from .image_version import ImageVersion
from .manifest_row import Failure, Row

if TYPE_CHECKING:
    import numpy.typing as npt

    ImageSource = (
        bytes
        | bytearray
        | memoryview
        | str
        | os.PathLike[str]
        | IO[bytes]
        | Image.Image
        | npt.NDArray[np.uint8]
    )

MAX_BYTES: Final = 100 * 2**20
"""Default limit on an encoded image: an uncompressed 33-megapixel TIFF still fits."""

FAILURE_CODES: Final[dict[type[storage.StorageError], str]] = {
    storage.NotFound: "not-found",
    storage.TooLarge: "too-large",
    storage.Unavailable: "unavailable",
}
"""Storage errors that become a failure row. So does `Denied` for a file; on S3 the image is tried
again once the operator has repaired the permission, unless other images of the batch can be read.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work one image may cause."""

    max_bytes: int = MAX_BYTES
    """Size of the encoded image."""
    max_pixels: int = images.MAX_PIXELS
    """Width x height of the picture, checked before it is decoded."""
    decode_seconds: int = 0
    """If decoding one image takes longer, SIGALRM ends this process, which must be a worker; 0 is
    no limit. An exception cannot end a native decoder that hangs."""
    held_bytes: int = 4 * MAX_BYTES
    """Total size of the encoded images in memory at a time, over all threads."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result for one image."""

    image: ImageVersion
    """The image as requested."""
    row: Row | None
    """A label row or a failure row. None if another try may still label the image."""
    prediction: Prediction | None = None
    """Set for a labelled image."""
    problem: str = ""
    """Why there is no label, for people."""
    refused: Row | None = None
    """If S3 denied this image: the failure row to write if it did not deny the others."""

    @property
    def label(self) -> str | None:
        """The class of a labelled image."""
        return self.prediction.label if self.prediction else None


def _utc_now() -> datetime:  # a lambda could not be pickled
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Failed:
    """What `Labeler.predict_many` yields for an image that cannot be labelled."""

    error: LabelerError
    """Says what is wrong with the image, for people."""


class Labeler:
    """Labels photos with one model. Threads may share one; it can be pickled.

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
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Load a model: a bundle, or the URI of one (folder, `s3://` prefix or pointer).

        `threads` images are fetched at a time (more than one helps with S3, which is mostly
        waiting), and `cores` of them decoded and classified at a time.

        Raises `BundleError`.
        """
        self.bundle = model if isinstance(model, Bundle) else bundle.load(model)
        self.card = self.bundle.card
        self.limits = limits or Limits()
        self.cores = cores
        self._clock = clock
        self._threads = threads
        self._start()

    def _start(self) -> None:
        self._classifiers: queue.SimpleQueue[Classifier] = queue.SimpleQueue()
        self._classifier_count = 0
        for _ in range(self.cores):
            self._add_classifier()
        self._held = _Budget(self.limits.held_bytes)

    def _add_classifier(self) -> None:
        self._classifiers.put(Classifier(self.bundle))
        self._classifier_count += 1

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be pickled: interpreters and locks."""
        own = ("_classifiers", "_classifier_count", "_held")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def predict(self, image: ImageSource) -> Prediction:
        """Label one image.

        `image` is one of:

        - encoded bytes (JPEG, PNG, WebP, ...), or an open binary file of them
        - a path, or a `file://` or `s3://bucket/key` URI
        - a Pillow image
        - pixels: uint8, 0..255, RGB of shape (height, width, 3) or grey of shape (height, width)

        A large JPEG is scaled while it is decoded, so the same photo given as decoded pixels may
        have a slightly different probability (by less than 0.01 as a rule).

        Raises `ImageError` if it cannot be labelled and `StorageError` if it cannot be read.
        """
        return self._classify(self._source(image))[0]

    def predict_many(
        self, images: Iterable[ImageSource], *, workers: int | None = None
    ) -> Iterator[Prediction | Failed]:
        """Label many images and yield a result for each, in their order.

        `images` is any iterable of what `predict` takes, and may be endless: it is read as results
        are asked for. `workers` images are read, decoded and classified at a time, by default one
        per core that this process may use; at most three times as many are in memory. An image
        that cannot be labelled yields a `Failed` with the error, and the rest goes on.
        """
        workers = workers or cores.usable()
        while self._classifier_count < workers:
            self._add_classifier()
        waiting: deque[Future[Prediction | Failed]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")
        try:
            for image in images:
                waiting.append(pool.submit(self._predict_or_fail, image))
                if len(waiting) >= 3 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _predict_or_fail(self, image: ImageSource) -> Prediction | Failed:
        try:
            return self.predict(image)
        except LabelerError as error:
            return Failed(error)

    def _source(self, image: ImageSource) -> Callable[[int], images.ModelInput]:
        max_bytes, max_pixels = self.limits.max_bytes, self.limits.max_pixels
        if isinstance(image, np.ndarray):
            return partial(images.from_array, image)
        if isinstance(image, Image.Image):
            return partial(images.from_picture, image, max_pixels=max_pixels)
        if isinstance(image, str | os.PathLike):
            name = os.fspath(image)
            if name.startswith(("http://", "https://")):
                raise storage.NotFound(
                    f"{name}: web addresses are not read; download the image and give its bytes"
                )
            return self._decoder(storage.read(name, max_bytes))
        if hasattr(image, "read"):
            data = image.read(max_bytes + 1)
            if isinstance(data, str):
                raise images.ImageError("unsupported", "the file is open as text: open it as 'rb'")
            image = data
        if not isinstance(image, bytes | bytearray | memoryview):
            raise images.ImageError(
                "unsupported",
                f"{type(image).__name__} is not an image: give bytes, a path, an open binary file, "
                "a Pillow image, a uint8 array or an s3:// URI; predict_many takes several",
            )
        if len(image) > max_bytes:
            raise storage.TooLarge(f"the image has more bytes than the limit of {max_bytes:,}")
        return self._decoder(bytes(image))

    def label(
        self, requests: Iterable[ImageVersion], *, deadline: float | None = None
    ) -> Iterator[Outcome]:
        """Label images and yield an outcome for each, in the order in which they finish.

        `requests` is read as it is needed, so it may be endless. After `deadline` (of
        `time.monotonic`) no more work is begun or waited for: the images that are left get an
        outcome without a row.
        """
        if self._threads == 1 and deadline is None:
            yield from map(self.label_one, requests)
        else:
            yield from self._label_overlapped(requests, deadline)

    def _label_overlapped(
        self, requests: Iterable[ImageVersion], deadline: float | None
    ) -> Iterator[Outcome]:
        waiting: dict[Future[Outcome], ImageVersion] = {}
        over = threading.Event()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="label")
        try:
            for image in requests:
                if _seconds_left(deadline) == 0:
                    yield _out_of_time(image)
                    continue
                waiting[pool.submit(self.label_one, image, over)] = image
                if len(waiting) >= 2 * self._threads:
                    yield from _finished(waiting, deadline)
            while waiting and _seconds_left(deadline) != 0:
                yield from _finished(waiting, deadline)
            yield from map(_out_of_time, waiting.values())
        finally:
            # After the deadline nothing waits for a download that hangs: its own time limit ends
            # it. What has arrived is not decoded, which would take time from the next batch.
            over.set()
            pool.shutdown(wait=deadline is None, cancel_futures=True)

    def label_one(self, image: ImageVersion, over: threading.Event | None = None) -> Outcome:
        """Label one image. Never raises for what is wrong with the image.

        Once `over` is set, the image is not decoded and gets no row.
        """
        version = image
        try:
            with self._held.take(image.size or self.limits.max_bytes):
                fetched = storage.fetch(image, self.limits.max_bytes)
                version = fetched.version
                prediction, seen = self._classify(self._decoder(fetched.data), over)
        except images.ImageError as error:
            decoder = images.DECODER if error.code in manifest_row.DECODER_CODES else ""
            return self._failed(image, version, Failure(error.code, str(error), decoder))
        except storage.StorageError as error:
            code = FAILURE_CODES.get(type(error))
            if isinstance(error, storage.Denied) and not storage.is_s3(image.source_ref):
                code = "unreadable"
            if code is None:
                refused = None
                if isinstance(error, storage.Denied):
                    refused = self._failed(image, version, Failure("denied", str(error))).row
                return Outcome(image, None, problem=str(error), refused=refused)
            return self._failed(image, version, Failure(code, str(error)))
        row = manifest_row.label_row(
            version, (seen.width, seen.height), prediction, self.card, self._clock()
        )
        return Outcome(image, row, prediction)

    def _failed(self, image: ImageVersion, version: ImageVersion, failure: Failure) -> Outcome:
        row = manifest_row.failure_row(version, failure, self.card.version, self._clock())
        return Outcome(image, row, problem=failure.message)

    def _decoder(self, data: bytes) -> Callable[[int], images.ModelInput]:
        return partial(images.decode, data, max_pixels=self.limits.max_pixels)

    def _classify(
        self,
        decode: Callable[[int], images.ModelInput],
        over: threading.Event | None = None,
    ) -> tuple[Prediction, images.ModelInput]:
        # Decoding holds a classifier too: it needs a core as inference does, and far more memory.
        classifier = self._classifiers.get()
        try:
            if over is not None and over.is_set():
                raise storage.Transient("no time left in this run")
            with _ended_after(self.limits.decode_seconds):
                seen = decode(self.card.input_size)
            return classifier.predict(seen.pixels), seen
        finally:
            self._classifiers.put(classifier)


@contextmanager
def _ended_after(seconds: int) -> Iterator[None]:
    if not seconds:
        yield
        return
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


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
    """A number of bytes shared by threads: `take` waits until enough of them are free."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Hold `amount` bytes, or the total if that is less, while the context lasts."""
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
