"""One labelling process: `pool` starts it with `python -P -m PACKAGE.worker FD`.

It is a separate process, so that a crash inside a native decoder costs one image and not the run.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from alpaca_labeler.model.bundle import Bundle
    from alpaca_labeler.photos.images import ImageError

BYTES_PER_PIXEL: Final = 12
"""Memory per pixel of the limit that a worker may take; what decodes is allowed 10."""

ROOM: Final = 384 * 2**20
"""Bytes of memory that a worker may take for all else: metadata, threads, the model's tensors."""


@dataclass(frozen=True, slots=True)
class Job:
    """The first message to a worker."""

    model: str | Bundle
    threads: int
    max_bytes: int
    max_pixels: int
    decode_seconds: int = 120
    """A worker that takes longer to decode one image is taken to hang, and ends itself."""
    folder: str = ""
    """Folder that relative names of images start from; empty for the current one."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker's answer once its model is loaded."""

    model_version: str
    labels: tuple[str, str]
    decoder: str
    """`images.DECODER`: a photo that another one could not read is worth another try."""


def serve(parent: Connection) -> None:
    """Label batches, and show photos, until the parent hangs up.

    If the model is unusable, send the error's text.
    """
    from alpaca_labeler import storage
    from alpaca_labeler.model.bundle import BundleError
    from alpaca_labeler.photos import images
    from alpaca_labeler.pipeline.labeler import Labeler, Limits

    job: Job = parent.recv()
    limits = Limits(
        max_bytes=job.max_bytes, max_pixels=job.max_pixels, decode_seconds=job.decode_seconds
    )
    try:
        labeler = Labeler(job.model, threads=job.threads, limits=limits)
    except BundleError as error:
        parent.send(str(error))
        return
    if job.folder:  # only now: the model's path is relative to the folder that we started in
        os.chdir(job.folder)
    parent.send(Ready(labeler.card.version, labeler.card.labels, images.DECODER))
    _silence_libraries()
    _limit_memory(job)
    while True:
        work, more = parent.recv()
        if isinstance(work, bytes):
            parent.send(_shown(work, more, job))
            continue
        if more:
            storage.use_credentials(more)
        for done in labeler.label(work):
            parent.send(done)


def _shown(data: bytes, longest: int, job: Job) -> bytes | ImageError:
    """Make a JPEG of a photo, for a page."""
    from alpaca_labeler.photos import images

    signal.alarm(job.decode_seconds)
    try:
        return images.jpeg(images.picture(data, longest, max_pixels=job.max_pixels))
    except images.ImageError as error:
        return error
    finally:
        signal.alarm(0)


def _limit_memory(job: Job) -> None:
    """Let a photo of a kind that nobody thought of end this process, not use up the machine.

    What the model has taken does not count. Where that is not known, nothing is done.
    """
    with suppress(OSError, ValueError, AttributeError, TypeError):
        with open("/proc/self/status", encoding="ascii") as file:
            [held] = re.findall(r"VmData:\s+(\d+) kB", file.read())
        files = (4 if job.threads > 1 else 2) * job.max_bytes
        most = int(held) * 1024 + ROOM + files + BYTES_PER_PIXEL * job.max_pixels
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _silence_libraries() -> None:
    """Keep what native decoders print off the terminal: libtiff's warnings name no file.

    Python's own messages stay, and the parent reports a crash.
    """
    terminal = os.dup(sys.stderr.fileno())
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    sys.stderr = os.fdopen(terminal, "w", buffering=1, errors="backslashreplace")


def main() -> None:
    """Serve on the inherited file descriptor."""
    # The classes must be pickled under the name by which the parent knows them, not as __main__'s.
    from alpaca_labeler.pipeline import worker

    try:
        worker.serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):  # the parent is done, or dead
        return


if __name__ == "__main__":
    main()
