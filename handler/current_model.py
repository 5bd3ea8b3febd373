"""The model in use: loaded once for each environment, and again when its pointer moves.

A new bundle that cannot be used never replaces the one in use; an environment that starts then
takes the one that the pointer names as the previous.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import BundleError
from alpaca_labeler.pipeline.labeler import Labeler, Limits

from .settings import Settings

REFRESH_SECONDS: Final = 300
"""A pointer that moved is noticed within this time, for one HEAD request per function."""

THREADS: Final = 16
"""Images fetched at a time, which keeps one core busy while S3 answers."""


class CurrentModel:
    """Gives the labeler of the model that MODEL_URI names now."""

    def __init__(
        self,
        settings: Settings,
        *,
        warn: Callable[[str], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Load the model. `warn` is told when the pointer cannot be followed.

        `clock` returns seconds, also those in which Lambda has frozen the environment.

        Raises `BundleError` or `StorageError`.
        """
        self._settings = settings
        self._uri = settings.model or bundle.EMBEDDED
        self._warn = warn
        self._clock = clock
        self._checked = clock()
        # The stamp is read before the pointer, so that a move between the two is noticed.
        self._stamp = storage.stamp_of(self._uri) if self._is_pointer() else None
        try:
            self._labeler = self._load(self._uri)
        except BundleError as error:
            if not self._is_pointer():
                raise
            try:
                self._labeler = self._load(bundle.resolve(self._uri, "previous"))
            except BundleError:
                raise error from None
            self._stamp = None  # so that the next check tries again
            warn(f"the previous model, {self._labeler.card.version}, is in use: {error}")

    def labeler(self) -> Labeler:
        """Return the labeler in use, after checking the pointer if it is time to."""
        if self._is_pointer() and self._clock() - self._checked >= REFRESH_SECONDS:
            self._checked = self._clock()
            try:
                stamp = storage.stamp_of(self._uri)
                if stamp != self._stamp:
                    self._labeler = self._load(self._uri)
                    self._stamp = stamp
            except (BundleError, storage.StorageError) as error:
                self._warn(f"the model {self._labeler.card.version} stays in use: {error}")
        return self._labeler

    def _is_pointer(self) -> bool:
        return storage.is_s3(self._uri) and self._uri.endswith(".json")

    def _load(self, uri: str) -> Labeler:
        limits = Limits(max_pixels=self._settings.max_pixels)
        cores = self._settings.cores
        return Labeler(bundle.load(uri), threads=THREADS, cores=cores, limits=limits)
