"""References in, results out: fetch, decode and classify, overlapped, in bounded memory.

One bad image never stops the rest: an image that can never be labelled gets a failure row, one that
may work later gets no row at all.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Final, TypeVar

import numpy as np
from msgspec import structs
from PIL import Image

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import Bundle
from alpaca_labeler.model.classifier import Classifier, Prediction
from alpaca_labeler.photos import images
from alpaca_labeler.photos.content import content_of
from alpaca_labeler.pipeline import cores
from alpaca_labeler.pipeline.done import MAX_BYTES, Done, as_read, out_of_time
from alpaca_labeler.storage import files
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.facts import DECODER_CODES, Answer, Failure, Read
from alpaca_labeler.table.row import Row

if TYPE_CHECKING:
    import numpy.typing as npt

    Encoded = bytes | bytearray | memoryview | IO[bytes]
    ImageSource = Encoded | str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD: Final = 3
"""Items per thread that are worked on or wait for a thread."""

FAILURE_CODES: Final[dict[type[storage.StorageError], str]] = {
    storage.NotFound: "not-found",
    storage.TooLarge: "too-large",
    storage.Unavailable: "unavailable",
}
"""Storage errors that become a failure row, as `Denied` does for a file."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work one image may cause."""

    max_bytes: int = MAX_BYTES
    """Size of the encoded image."""
    max_pixels: int = images.MAX_PIXELS
    """Width x height of the picture, checked before it is decoded."""
    decode_seconds: int = 0
    """If decoding takes longer, SIGALRM ends this process, a worker; 0 is no limit."""
    held_bytes: int = 4 * MAX_BYTES
    """Total size of the encoded images in memory at a time; a larger image is alone."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What `Labeler.predict_many` yields for an image that cannot be labelled."""

    error: LabelerError


class Labeler:
    """Labels photos with one model. Threads may share one.

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

        `threads` images are fetched at a time (more than one helps with S3, which is mostly
        waiting), and `cores` of them decoded and classified at a time. Raises `BundleError`.
        """
        self.bundle = model if isinstance(model, Bundle) else bundle.load(model)
        self.card = self.bundle.card
        self.limits = limits or Limits()
        self.cores = cores
        self._clock = clock
        self._threads = threads
        self._classifiers: queue.SimpleQueue[Classifier] = queue.SimpleQueue()
        self._classifier_count = 0
        self._grow(cores)

    def _grow(self, cores: int) -> None:
        for _ in range(self._classifier_count, cores):
            self._classifiers.put(Classifier(self.bundle))
            self._classifier_count += 1

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
        return self._decide(self._source(image))[0]

    def predict_many(
        self, images: Iterable[ImageSource], *, workers: int | None = None
    ) -> Iterator[Prediction | Failed]:
        """Label many images and yield a result for each, in their order.

        `images` is any iterable of what `predict` takes, and may be endless: it is read as results
        are asked for. `workers` images are worked on at a time, by default one per usable core, and
        at most `AHEAD` times as many are in memory. What cannot be labelled yields a `Failed`.
        """
        workers = workers or cores.usable()
        self._grow(workers)
        for _, result in _overlapped(self._predict_or_fail, images, workers, in_order=True):
            if result is not None:
                yield result

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
            name = files.as_uri(os.fspath(image))
            return self._decoder(_fetch(ImageVersion(name), max_bytes).data)
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
    ) -> Iterator[Done]:
        """Label images and yield what became of each, in the order in which they finish.

        `requests` may be endless. After `deadline` (of `time.monotonic`) no more work is begun or
        waited for: the images that are left get no row.
        """
        if self._threads == 1 and deadline is None:
            yield from map(self.label_one, requests)
            return
        work = partial(self.label_one, deadline=deadline)
        for image, done in _overlapped(
            work,
            requests,
            self._threads,
            size=lambda image: image.size or self.limits.max_bytes,
            most=self.limits.held_bytes,
            deadline=deadline,
        ):
            yield done or out_of_time(image)

    def label_one(self, image: ImageVersion, deadline: float | None = None) -> Done:
        """Label one image. Never raises for what is wrong with the image.

        After `deadline` it is not decoded, and gets no row.
        """
        read = as_read(image, self._clock())
        try:
            fetched = _fetch(image, self.limits.max_bytes)
            read = as_read(fetched.version, fetched.at or self._clock(), content_of(fetched.data))
            prediction, seen = self._decide(self._decoder(fetched.data), deadline)
        except images.ImageError as error:
            decoder = images.DECODER if error.code in DECODER_CODES else ""
            return self._failed(image, read, Failure(error.code, _valid(error), decoder))
        except storage.StorageError as error:
            code = FAILURE_CODES.get(type(error))
            if isinstance(error, storage.Denied) and not storage.is_s3(image.source_ref):
                code = "unreadable"
            remedy = "; --max-bytes raises it" if code == "too-large" else ""
            failed = self._failed(image, read, Failure(code or "denied", _valid(error) + remedy))
            if code:
                return failed
            refused = failed.row if isinstance(error, storage.Denied) else None
            return Done(image, None, str(error), refused=refused)
        read = structs.replace(
            read, width=seen.width, height=seen.height, taken=seen.taken, camera=seen.camera
        )
        card, p = self.card, prediction
        answer = Answer(card.version, p.label, p.index, card.attribute, p.probability)
        answer = structs.replace(answer, threshold=card.threshold, needs_review=p.needs_review)
        return Done(image, Row(image.source_ref, read, answer))

    def _failed(self, image: ImageVersion, read: Read, failure: Failure) -> Done:
        answer = Answer(self.card.version, failure=failure)
        return Done(image, Row(image.source_ref, read, answer), failure.message)

    def _decoder(self, data: bytes) -> Callable[[int], images.ModelInput]:
        return partial(images.decode, data, max_pixels=self.limits.max_pixels)

    def _decide(
        self, decode: Callable[[int], images.ModelInput], deadline: float | None = None
    ) -> tuple[Prediction, images.ModelInput]:
        # Decoding holds a classifier too: it needs a core as inference does, and far more memory.
        classifier = self._classifiers.get()
        try:
            if _seconds_left(deadline) == 0:
                raise storage.Transient("no time left in this run")
            if self.limits.decode_seconds:
                signal.alarm(self.limits.decode_seconds)
            seen = decode(self.card.input_size)
            return classifier.predict(seen.pixels), seen
        finally:
            if self.limits.decode_seconds:
                signal.alarm(0)
            self._classifiers.put(classifier)


def _valid(error: Exception) -> str:
    """Return an error's text. Libraries may quote a file's name, which need not be valid text."""
    return str(error).encode(errors="backslashreplace").decode()


def _fetch(image: ImageVersion, max_bytes: int) -> files.Fetched:
    """Raise `StorageError`: whatever goes wrong before there are bytes is no verdict on them."""
    try:
        return storage.fetch(image, max_bytes)
    except storage.StorageError:
        raise
    except Exception as error:  # libraries for networks and credentials raise nearly anything
        raise storage.Transient(f"{image.source_ref}: cannot be fetched ({error!r})") from error


def _overlapped(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    *,
    size: Callable[[Item], int] = lambda _: 0,
    most: int = 0,
    in_order: bool = False,
    deadline: float | None = None,
) -> Iterator[tuple[Item, Result | None]]:
    """Do some work on items in threads; yield (item, result) as they finish, or in their order.

    Items are read as they are needed, and worked on at the same time as long as their sizes are at
    most `most` in total. After `deadline` nothing is begun or waited for, and the result is None.
    """
    waiting: dict[Future[Result], Item] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="label")

    def finished() -> Iterator[tuple[Item, Result]]:
        futures = [next(iter(waiting))] if in_order else waiting
        done, _ = wait(futures, timeout=_seconds_left(deadline), return_when=FIRST_COMPLETED)
        for future in done:
            yield waiting.pop(future), future.result()

    def is_full(item: Item) -> bool:
        held = sum(map(size, waiting.values())) + size(item)
        return len(waiting) >= AHEAD * threads or (bool(waiting) and held > most)

    try:
        for item in items:
            while is_full(item) and _seconds_left(deadline) != 0:
                yield from finished()
            if _seconds_left(deadline) == 0:
                yield item, None
            else:
                waiting[pool.submit(work, item)] = item
        while waiting and _seconds_left(deadline) != 0:
            yield from finished()
        for item in waiting.values():
            yield item, None
    finally:
        # After the deadline nothing waits for a download that hangs: its own time limit ends it.
        pool.shutdown(wait=deadline is None, cancel_futures=True)


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
