"""The root of every error whose message is meant for a person.

A module's own errors derive from it, so that code that shows errors to people (the `alpaca`
command, a notebook) catches one class. A message says what happened, to which file, and what to do
next.

    LabelerError
    |-- StorageError and its children    alpaca_labeler.storage
    |-- ImageError                       alpaca_labeler.photos.images
    |-- BundleError                      alpaca_labeler.model.bundle
    |-- ManifestError                    alpaca_labeler.table
    |-- SettingsError                    handler.settings
    |-- UnknownEvent, Unfinished         handler.events
    `-- each error of training and of the commands
"""

from __future__ import annotations

import os
import sys


class LabelerError(Exception):
    """Something that a person can act on. The message is one or two plain sentences."""


def install(*packages: str) -> str:
    """Return the command that adds packages to this very installation: pipx's, or a Python's."""
    import shlex
    import shutil

    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        return shlex.join(["pipx", "inject", "alpaca-labeler", *packages])
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return shlex.join([python, "-m", "pip", "install", *packages])
