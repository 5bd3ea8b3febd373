"""Types of arguments: photos, manifests, bundles. Each checks and completes its values."""

from __future__ import annotations

import os
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from alpaca_labeler import storage
from alpaca_labeler.console import Refused, printable
from alpaca_labeler.pipeline.done import MAX_BYTES, MAX_BYTES_ENV
from alpaca_labeler.storage import files


class Place(click.ParamType[str]):
    """A file or folder on this machine, or an address in S3 however people write it."""

    name = "path"

    def __init__(self, *, missing: str = "", in_s3: bool | None = None) -> None:
        """`missing` is the error for a path that does not exist, if that is one.

        `in_s3` allows addresses in S3 alone, or paths alone; None allows both.
        """
        self._missing, self._in_s3 = missing, in_s3

    def convert(
        self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None
    ) -> str:
        """Return a path or an `s3://` URI. Raises `Refused`."""
        try:
            place = files.as_uri(value)
        except storage.StorageError as error:
            raise Refused(printable(str(error))) from error
        wrong = ""
        if not place:
            raise Refused("an empty name names nothing; give a file, a folder or an s3:// address")
        if storage.is_s3(place):
            wrong = "give a file or folder on this machine" if self._in_s3 is False else ""
        elif self._in_s3:
            wrong = "give an address in S3, as s3://bucket/prefix/"
        elif self._missing:
            wrong = self._why_not(place)
        if wrong:
            raise Refused(printable(f"{place}: {wrong}"))
        return place

    def _why_not(self, place: str) -> str:
        """Return why a path cannot be used; empty if something is there."""
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return self._missing
        except OSError as error:  # a mount may be dead, or a folder above locked
            return f"cannot be read ({error.strerror})"
        return ""

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete paths; buckets are not asked."""
        return [] if self._in_s3 else [CompletionItem(incomplete, type="file")]


class Local(click.Path):
    """A file or folder on this machine, checked as `click.Path` does."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        return super().convert(Place(in_s3=False).convert(value, param, ctx), param, ctx)


PHOTOS: Final = Place(missing="there is no such file or folder")
MANIFEST: Final = Place()
BUCKET: Final = Place(in_s3=True)
BUNDLE: Final = Place()
NAME_OR_FILE: Final = Place(in_s3=False)
FILE: Final = Local(exists=True, dir_okay=False)
FOLDER: Final = Local(exists=True, file_okay=False)
NEW_FILE: Final = Local(dir_okay=False)
NEW_FOLDER: Final = Local(file_okay=False)

model_option = click.option(
    "--model",
    default="embedded",
    show_default=True,
    type=BUNDLE,
    metavar="BUNDLE",
    help="A model bundle: a folder, or an s3:// prefix or its latest.json.",
)


def _limit(_ctx: click.Context, _param: click.Parameter, value: int) -> None:
    os.environ[MAX_BYTES_ENV] = str(value)


max_bytes_option = click.option(
    "--max-bytes",
    type=click.IntRange(1),
    metavar="N",
    default=MAX_BYTES,
    show_default=True,
    envvar=MAX_BYTES_ENV,
    expose_value=False,
    callback=_limit,
    help="Largest file that is read as a photo.",
)

photos_root_option = click.option(
    "--photos-root",
    metavar="FOLDER",
    type=FOLDER,
    help="Folder that relative names start from.  [default: the manifest's folder]",
)
