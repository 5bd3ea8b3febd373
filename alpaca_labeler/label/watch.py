"""Folders that are watched: photos are labelled as they arrive, each for one append."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.console import printable, say, warn
from alpaca_labeler.label import sources
from alpaca_labeler.label.sort_into import Sorter
from alpaca_labeler.label.summary import Report, has_gone
from alpaca_labeler.photos.skip import Skipped
from alpaca_labeler.pipeline.pool import Workers
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.run import Run

WATCH_SECONDS: Final = 1.0
"""Between two scans."""


class Watch:
    """What arrives in folders, or changes there.

    A file has arrived once two scans in a row find it unchanged: it is no longer being written.
    """

    def __init__(self, paths: tuple[str, ...]) -> None:
        """Take note of what is there."""
        self.paths = paths
        self._away: set[str] = set()
        self._waiting: dict[str, ImageVersion] = {}
        self._known = self._scan()

    def arrived(self) -> list[ImageVersion]:
        """Scan the folders; return the photos that have arrived since the last time."""
        seen = self._scan()
        arrived = {name: image for name, image in self._waiting.items() if seen.get(name) == image}
        self._known.update(arrived)
        self._waiting = {
            name: image for name, image in seen.items() if self._known.get(name) != image
        }
        return [*arrived.values()]

    def again(self, image: ImageVersion) -> None:
        """Let a photo that could not be read arrive once more."""
        self._known.pop(image.source_ref, None)

    def _scan(self) -> dict[str, ImageVersion]:
        """Return the photos by name. What cannot be read is said once, and waited for."""
        skipped = Skipped()
        there = [path for path in self.paths if os.path.exists(path)]
        seen = {}
        with suppress(storage.StorageError):  # a path that has gone since
            seen = {image.source_ref: image for image in sources.find(there, skipped)}
        away = {*self.paths} - {*there} | {*skipped.folders}
        for path in sorted(away - self._away):
            warn(f"{printable(path)}: cannot be read now; waiting for it")
        for path in sorted(self._away - away):
            say(f"{printable(path)}: there again")
        self._away = away
        return seen


def label(watch: Watch, pool: Workers, run: Run, report: Report, sorter: Sorter | None) -> None:
    """Label what arrives until Ctrl-C."""
    say(f"watching {', '.join(map(printable, watch.paths))}; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(WATCH_SECONDS)
            arrived = {run.named(image): image for image in watch.arrived()}
            began = time.monotonic()
            for done in pool.label(arrived):
                name = done.image.source_ref
                if done.row is None or has_gone(done):
                    watch.again(arrived[done.image])
                    if done.row or name in report.unreached:
                        continue
                row = report.keep(done, run)
                label = "not reached" if row is None else row.label or "failed"
                say(f"{printable(label):<12}  {printable(name)}")
                if sorter and row:
                    sorter.put(row)
            report.seconds += (time.monotonic() - began) * bool(arrived)
