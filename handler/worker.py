"""One labelling process: `pool` starts it with `python -P -m PACKAGE.worker FD`.

It is a separate process, so that a crash inside a native decoder costs one image and not the run.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundle import Bundle
    from .image_version import ImageVersion
    from .manifest_row import Row


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


@dataclass(frozen=True, slots=True)
class Done:
    """Result for one image."""

    image: ImageVersion
    row: Row | None
    """None if another try may still label it; `problem` says why."""
    problem: str = ""
    label: str | None = None
    needs_review: bool = False
    refused: Row | None = None
    """As in `labeler.Outcome`."""


def serve(parent: Connection) -> None:
    """Label batches until the parent hangs up. If the model is unusable, send the error's text."""
    from . import images
    from .bundle import BundleError
    from .labeler import Labeler, Limits

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
    while True:
        batch: list[ImageVersion] = parent.recv()
        for outcome in labeler.label(batch):
            found = outcome.prediction
            parent.send(
                Done(
                    outcome.image,
                    outcome.row,
                    outcome.problem,
                    outcome.label,
                    found.needs_review if found else False,
                    outcome.refused,
                )
            )


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
    from . import worker

    try:
        worker.serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):  # the parent is done, or dead
        return


if __name__ == "__main__":
    main()
