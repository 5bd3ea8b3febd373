"""The functions that AWS calls. Each reads its event, has the work done, and answers.

    label      any trigger's event -> rows, as one part of the table
    compact    on a schedule: parts -> manifest and failures

On Lambda the settings are checked and the model is loaded at start, so that a mistake there is an
init error; elsewhere both happen at the first call.
"""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from alpaca_labeler import storage
from alpaca_labeler.storage import requeue
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import bucket
from alpaca_labeler.table.row import Row, padded

from . import events, settings
from .events import Batch
from .settings import Settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from alpaca_labeler.pipeline.done import Done
    from alpaca_labeler.pipeline.labeler import Labeler

    from .current_model import CurrentModel

RESERVED_SECONDS: Final = 10.0
"""Time of an invocation that is kept for writing the part and answering: two slow S3 calls."""
RESERVED_SHARE: Final = 0.25
"""If the function's timeout is short, `RESERVED_SECONDS` is cut to this share of the time."""

DECODE_SECONDS: Final = 40
"""Longest time to decode one image in a separate process. Two images that take this long leave time
for the others."""

# Both read POWERTOOLS_SERVICE_NAME, the stack's name, and the logger reads LOG_LEVEL.
logger = Logger()
metrics = Metrics(namespace="AlpacaLabeler")


@functools.cache
def _settings() -> Settings:
    return settings.from_environment(os.environ)


@functools.cache
def _model() -> CurrentModel:
    try:
        from .current_model import CurrentModel  # NumPy, Pillow, LiteRT: not for `compact`
    except ImportError as error:
        raise settings.SettingsError(
            f"the package's libraries do not load on {platform.machine()}: it was built for another"
            " architecture; run `sam build` and `sam deploy` with the same Architecture"
        ) from error

    def warn(problem: str) -> None:
        logger.error(problem)
        metrics.add_metric("ModelNotFollowed", MetricUnit.Count, 1)

    return CurrentModel(_settings(), warn=warn)


@logger.inject_lambda_context
def label(event: dict[str, Any], context: LambdaContext) -> events.Event:
    """Label the images that an event names, and answer in the form its sender expects.

    Raises `UnknownEvent` for an event of an unknown kind, and `Unfinished` if images must be tried
    again and an error is the only way to say so.
    """
    batch = events.parse(event, within=_settings().input)
    left = context.get_remaining_time_in_millis() / 1000
    deadline = time.monotonic() + left - min(RESERVED_SECONDS, RESERVED_SHARE * left)
    rows, unfinished = process(batch, _model().labeler(), _settings().results, deadline=deadline)
    if time.monotonic() >= deadline:
        # A decoder that hangs never gives its interpreter back: the next call loads another.
        _model.cache_clear()
    for id_, problem in batch.unreadable:
        logger.error("cannot be read as a request", extra={"id": id_, "problem": problem})
    queue = _settings().queue
    queued = _hand_back(batch, rows, unfinished, queue) if queue else 0
    return events.answer(batch, rows, {} if queued else unfinished, queued)


def process(
    batch: Batch, labeler: Labeler, results: str, *, deadline: float | None
) -> tuple[int, dict[str, str]]:
    """Label a batch's images, each once, and write their rows as one part below `results`.

    Returns (number of rows, source-ref -> why it must be tried again). An image that is gone by
    now, as after a renamed upload, is in neither. Never raises because of an image. If the part
    cannot be written, all images must be tried again.
    """
    rows: list[Row] = []
    gone: list[str] = []
    unfinished: dict[str, str] = {}
    refused: list[Row] = []
    images = _each_once(request.image for request in batch.requests)
    label = partial(_label_isolated, labeler) if batch.isolated else labeler.label
    for found in label(images, deadline=deadline):
        if found.row is None:
            unfinished[found.image.source_ref] = found.problem
            if found.refused is not None:
                refused.append(found.refused)
        elif found.row.failure and found.row.failure.code == "not-found":
            gone.append(found.image.source_ref)
        else:
            rows.append(found.row)
    if not all(row.failure for row in rows):
        # S3 let us read others, so our role works: these belong to another account, or the reader
        # must pay.
        rows += refused
        for row in refused:
            del unfinished[row.source_ref]
    try:
        if rows:
            bucket.write(results, rows)
    except storage.StorageError as error:
        logger.exception("the part was not written")
        unfinished |= {row.source_ref: str(error) for row in rows}
        rows = []
    _report(rows, unfinished, gone)
    return len(rows), unfinished


def _label_isolated(
    labeler: Labeler, images: list[ImageVersion], *, deadline: float | None
) -> Iterator[Done]:
    from alpaca_labeler.pipeline.pool import Workers
    from alpaca_labeler.pipeline.worker import Job

    limits = labeler.limits
    job = Job(labeler.bundle, 1, limits.max_bytes, limits.max_pixels, DECODE_SECONDS)
    with Workers(job, labeler.cores, ahead=1) as workers:
        workers.ready()
        yield from workers.label(images, deadline=deadline)


def _hand_back(batch: Batch, rows: int, unfinished: dict[str, str], queue: str) -> int:
    """Have unfinished images tried again soon; return how many a direct caller need not repeat.

    A direct caller would repeat its whole batch for one slow image, so the queue takes what is
    left. If no image at all was labelled, the images are not the cause, and the caller must wait.
    """
    try:
        if batch.messages:
            again = batch.again(unfinished)
            requeue.soon(queue, (batch.messages[id_] for id_ in again))
        elif rows:
            images = _each_once(request.image for request in batch.requests)
            return requeue.send(queue, (i for i in images if i.source_ref in unfinished))
    except storage.StorageError as error:
        logger.warning("nothing could be handed to the queue", extra={"problem": str(error)})
    return 0


def _each_once(images: Iterable[ImageVersion]) -> list[ImageVersion]:
    """Keep the latest of several announcements of one image."""
    chosen: dict[str, ImageVersion] = {}
    for image in images:
        other = chosen.setdefault(image.source_ref, image)
        if other == image:
            continue
        if other.sequencer and image.sequencer:
            later = padded(image.sequencer) > padded(other.sequencer)
            chosen[image.source_ref] = image if later else other
        else:  # which one is later is unknown, so neither size may refuse the download
            chosen[image.source_ref] = ImageVersion(image.source_ref)
    return [*chosen.values()]


def _report(rows: list[Row], unfinished: dict[str, str], gone: list[str]) -> None:
    failures = [(row.source_ref, row.failure) for row in rows if row.failure]
    for name, failure in failures:
        facts = {"image": name, "code": failure.code, "problem": failure.message}
        logger.info("cannot be labelled", extra=facts)
    for source_ref in gone:
        logger.info("gone: not there any more", extra={"image": source_ref})
    for source_ref, problem in unfinished.items():
        logger.warning("to be tried again", extra={"image": source_ref, "problem": problem})
    _count(
        Labelled=len(rows) - len(failures),
        Failed=len(failures),
        Gone=len(gone),
        Retried=len(unfinished),
        NeedsReview=sum(row.needs_review for row in rows),
    )


def _count(**numbers: int) -> None:
    for name, number in numbers.items():
        metrics.add_metric(name, MetricUnit.Count, number)
    metrics.flush_metrics()


@logger.inject_lambda_context
def compact(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001
    """Merge the waiting parts into the manifest, if that is worth its cost.

    The event is not read. Raises `StorageError` or `ManifestError`; the next call tries again.
    """
    done = bucket.compact(_settings().results, max_age=_settings().compact_after_seconds)
    for part in done.broken:
        logger.error("a part cannot be read and stays where it is", extra={"problem": part})
    _count(Compacted=int(done.parts > 0), PartsMerged=done.parts, BrokenParts=len(done.broken))
    answer = {**asdict(done), "broken": len(done.broken)}
    logger.info("compacted", extra=answer)
    return answer


if "AWS_LAMBDA_RUNTIME_API" in os.environ:
    _settings()
    storage.client()
    if os.environ.get("_HANDLER", "").endswith(".label"):
        _model()
