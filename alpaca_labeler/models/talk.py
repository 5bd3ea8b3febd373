"""What a training says while it works: nothing is silent for longer than ten seconds."""

from __future__ import annotations

import io
import math
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from alpaca_labeler.console import Progress, is_quiet, say

if TYPE_CHECKING:
    from alpaca_labeler.training.report import Epoch

SILENCE: Final = 5.0
"""Seconds after which a sign of life is printed."""


class Talk:
    """Prints what is done, and how long it has taken if that is slow. A context manager."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._over = threading.Event()
        self._explained = False
        # A descriptor of its own: libraries are kept from writing to stderr for some time.
        try:
            self._stderr = None if is_quiet() else os.dup(sys.stderr.fileno())
        except (OSError, io.UnsupportedOperation):
            self._stderr = None

    def __enter__(self) -> Self:
        if self._stderr is not None:
            threading.Thread(target=self._show_life, args=(self._stderr,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def say(self, text: str) -> None:
        """Print a line on stderr, unless --quiet."""
        self._last = time.monotonic()
        say(text)

    def epoch(self, epoch: Epoch) -> None:
        """Print an epoch in at most 80 columns; the first with what its figures are."""
        if not self._explained:
            self._explained = True
            self.say("per epoch: loss, 0 at best, and share right, in training and held out")
        text = f"{epoch.phase:11} {epoch.epoch:3}/{epoch.epochs:<3} loss {epoch.loss:.3f}"
        text += f" right {epoch.accuracy:.3f}"
        if not math.isnan(epoch.val_loss):
            text += f"  held out {epoch.val_loss:.3f} {epoch.val_accuracy:.3f}"
        left = epoch.seconds_left
        self.say(f"{text}  {f'{left / 60:.0f} min' if left >= 90 else f'{left:.0f} s'} left")

    def _show_life(self, stderr: int) -> None:
        while not self._over.wait(1):
            now = time.monotonic()
            if now - self._last >= SILENCE and Progress.shown is None:
                self._last = now
                os.write(stderr, f"... {now - self._began:.0f} s so far\n".encode())
        os.close(stderr)
