"""Labelling in processes that are replaced when they die: a decoder's crash costs one image.

The command line always labels this way, and pages get their pictures so; the function does if an
image may have killed an earlier call. The standard library's pools cannot say which image it was.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from typing import Final, Self

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.pipeline.done import Done, as_read, max_bytes, out_of_time
from alpaca_labeler.pipeline.worker import Job, Ready
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.facts import Answer, Failure
from alpaca_labeler.table.row import Row

AHEAD: Final = 8
"""Images per thread that a worker is given at a time: few enough that all cores end together."""

START_SECONDS: Final = 60.0
IMAGE_SECONDS: Final = 120.0
"""A worker that gives no answer for this long is taken to hang, and is replaced. One that hangs in
a decoder ends itself (`Job.decode_seconds`)."""


class WorkerError(LabelerError):
    """Labelling is impossible: the model cannot be used, or a worker does not start."""


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    link: Connection
    given: dict[str, ImageVersion] = field(default_factory=dict)
    """Images that it has been given and has not answered, by source-ref."""
    heard: float = field(default_factory=time.monotonic)


class Workers:
    """A fixed number of labelling processes. A context manager: leaving it ends them."""

    def __init__(self, job: Job, count: int, *, ahead: int = AHEAD) -> None:
        """Start `count` processes; they load the model while the caller goes on.

        Each is given `ahead` images per thread at a time. If one kills it, all are tried alone.
        """
        self._job = job
        self._batch = ahead * job.threads
        self._workers = [_start(job) for _ in range(count)]
        self._ready: Ready | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            _end(worker)

    def ready(self) -> Ready:
        """Wait for the workers and say what model they have loaded. Raises `WorkerError`."""
        for worker in self._workers:
            self._ready = _greet(worker)
        if self._ready is None:
            raise WorkerError("no worker was asked for")
        return self._ready

    def label(
        self, images: Iterable[ImageVersion], *, deadline: float | None = None
    ) -> Iterator[Done]:
        """Label images and yield the result for each, as they come. Call `ready` before.

        An image that kills its worker, or on which it hangs, gets a failure row. After `deadline`
        (of `time.monotonic`) the images that are left get no row. Raises `WorkerError` if a
        replacement cannot be started.
        """
        source = iter(images)
        suspects: deque[ImageVersion] = deque()
        while True:
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                given = [image for worker in self._workers for image in worker.given.values()]
                yield from map(out_of_time, (*given, *suspects, *source))
                return
            for worker in self._workers:
                # Half a batch ahead, so that no worker ever waits for the next one.
                if len(worker.given) <= self._batch // 2:
                    self._give(worker, source, suspects)
            busy = [worker for worker in self._workers if worker.given]
            if not busy:
                return
            for link in wait([worker.link for worker in busy], timeout=min(1.0, left)):
                worker = next(worker for worker in busy if worker.link is link)
                yield from self._hear(worker, suspects)
            for worker in busy:
                if worker.given and time.monotonic() - worker.heard > IMAGE_SECONDS:
                    yield from self._replace(worker, suspects, slow=True)

    def _give(
        self, worker: _Worker, source: Iterator[ImageVersion], suspects: deque[ImageVersion]
    ) -> None:
        # An image that a worker had when it died is sent alone: it may be the cause.
        if suspects:
            if worker.given:
                return
            batch = [suspects.popleft()]
        else:
            batch = list(itertools.islice(source, self._batch))
        if not batch:
            return
        if not worker.given:
            worker.heard = time.monotonic()
        worker.given.update((image.source_ref, image) for image in batch)
        try:
            worker.link.send((batch, _credentials(batch)))
        except OSError:
            return  # it has died; the next wait finds its end of the link closed

    def _hear(self, worker: _Worker, suspects: deque[ImageVersion]) -> Iterator[Done]:
        try:
            done: Done = worker.link.recv()
        except Exception:  # it was killed, before or within an answer, which may be any bytes
            yield from self._replace(worker, suspects)
        else:
            worker.heard = time.monotonic()
            worker.given.pop(done.image.source_ref, None)
            yield done

    def _replace(
        self, worker: _Worker, suspects: deque[ImageVersion], *, slow: bool = False
    ) -> Iterator[Done]:
        hung = _end(worker) == -signal.SIGALRM
        given = list(worker.given.values())
        worker.given.clear()
        if len(given) == 1:
            yield self._culprit(given[0], hung=hung, slow=slow)
        else:
            suspects.extend(given)
        fresh = _start(self._job)
        worker.process, worker.link = fresh.process, fresh.link
        _greet(worker)

    def _culprit(self, image: ImageVersion, *, hung: bool, slow: bool) -> Done:
        seconds = self._job.decode_seconds if hung else IMAGE_SECONDS
        code, reason = "crashed", "crashed the decoder"
        if hung or slow:
            code, reason = "timeout", f"was not decoded within {seconds:.0f} s"
        failure = Failure(code, f"{image.source_ref}: {reason}")
        if slow and storage.is_s3(image.source_ref):
            return Done(image, None, failure.message)  # the network may have been slow
        version = self._ready.model_version if self._ready else ""
        read = as_read(image, datetime.now(UTC))
        row = Row(image.source_ref, read, Answer(version, failure=failure))
        return Done(image, row, failure.message)


_IDLE: Final[list[_Worker]] = []


def jpeg(data: bytes, longest: int) -> bytes:
    """Return a photo as a JPEG for a page, whole and upright. For use by any thread.

    A worker makes it, so that a hostile photo costs itself alone. Raises `ImageError`.
    """
    from alpaca_labeler.model.bundle import EMBEDDED
    from alpaca_labeler.photos import images

    try:
        worker = _IDLE.pop()
    except IndexError:
        worker = _start(Job(EMBEDDED, 1, max_bytes(), images.MAX_PIXELS))
        atexit.register(_end, worker)
        _greet(worker)
    try:
        worker.link.send((data, longest))
        made: bytes | images.ImageError = worker.link.recv()
    except Exception as error:  # as in `_hear`
        _end(worker)
        raise images.ImageError("crashed", "it crashed the decoder") from error
    _IDLE.append(worker)
    if isinstance(made, images.ImageError):
        raise made
    return made


def _credentials(batch: list[ImageVersion]) -> tuple[str | None, ...]:
    """Return what a worker needs to read a batch, so that only this process asks for a code."""
    if any(storage.is_s3(image.source_ref) for image in batch):
        with suppress(Exception):  # the worker fails in the same way, and says of which photo
            return storage.credentials()
    return ()


def _start(job: Job) -> _Worker:
    ours, theirs = socket.socketpair()
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    with theirs:
        process = subprocess.Popen(
            # -P: a file called numpy.py in a folder of photos must not be imported.
            [sys.executable, "-P", "-m", "alpaca_labeler.pipeline.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            # On Lambda the package is not installed, and -P leaves the working directory out.
            # NumPy's linear algebra, which labelling never uses, takes 50 ms to start its threads.
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which decides about the rest
        )
    link = Connection(ours.detach())
    with suppress(OSError):  # it has died; `_greet` says so
        link.send(job)
    return _Worker(process, link)


def _greet(worker: _Worker) -> Ready:
    if not worker.link.poll(START_SECONDS):
        raise WorkerError(f"a worker did not start within {START_SECONDS:.0f} s")
    try:
        answer: Ready | str = worker.link.recv()
    except (EOFError, OSError) as error:
        raise WorkerError("a worker died while it started; see its message above") from error
    if isinstance(answer, str):
        raise WorkerError(answer)
    worker.heard = time.monotonic()
    return answer


def _end(worker: _Worker) -> int:
    """Kill a worker, which has nothing to clean up; return its exit code."""
    worker.link.close()
    if worker.process.poll() is None:
        os.kill(worker.process.pid, signal.SIGKILL)
    return worker.process.wait()
