"""`alpaca review`: serve the page for one manifest until Ctrl-C."""

from __future__ import annotations

import getpass
import os
import tempfile
import webbrowser
from typing import TYPE_CHECKING

import click

from alpaca_labeler.arguments import FOLDER, MANIFEST, NEW_FILE
from alpaca_labeler.console import as_folder, printable
from alpaca_labeler.handler import compaction, storage
from alpaca_labeler.table.ledger import Ledger
from alpaca_labeler.table.table import beside, open_corrections, open_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alpaca_labeler.review.index import Index
    from alpaca_labeler.review.session import Session, Source


@click.command()
@click.argument("source", metavar="[MANIFEST]", default="manifest.jsonl", type=MANIFEST)
@click.option(
    "--corrections",
    "corrections_path",
    type=NEW_FILE,
    metavar="FILE",
    help="Where corrections go.  [default: corrections.jsonl beside the manifest]",
)
@click.option(
    "--annotator", metavar="NAME", help="Who corrects.  [default: your name on this system]"
)
@click.option(
    "--labels",
    nargs=2,
    metavar="NO YES",
    help="Names of the two classes, for a manifest that does not show both.",
)
@click.option(
    "--photos-root",
    default=".",
    metavar="FOLDER",
    type=FOLDER,
    help="Where relative names begin.  [default: the current folder]",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option("--no-browser", is_flag=True, help="Only print the page's address.")
def review(
    *,
    source: str,
    corrections_path: str | None,
    annotator: str | None,
    labels: tuple[str, str] | None,
    photos_root: str,
    port: int,
    no_browser: bool,
) -> None:
    """Correct labels in a browser.

    \b
        alpaca review
        alpaca review labels.jsonl --photos-root /mnt/photos
        alpaca review s3://results/labels/ --annotator kim

    MANIFEST is a file, by default manifest.jsonl, with its failures.jsonl beside it, or a bucket's
    results. The page is served on this machine only, to whoever knows its address. Each correction
    is written at once; several people may write one file. Ctrl-C ends it.
    """
    from alpaca_labeler.review.photos import Photos
    from alpaca_labeler.review.server import Server
    from alpaca_labeler.review.session import Session

    on_s3 = storage.is_s3(source)
    found = _bucket(as_folder(source)) if on_s3 else _files(source)
    corrections = open_corrections(open_table(source), corrections_path)
    session = Session(
        found,
        corrections,
        dict(enumerate(labels or ())),
        annotator or _user(),
    )
    _check(session, source)
    server = Server(session, Photos(photos_root), port)
    try:
        click.echo(f"{len(session.index):,} rows. Ctrl-C ends the review.", err=True)
        click.echo(server.address)
        if not no_browser:
            webbrowser.open(server.address)
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo(_farewell(session, corrections.path), err=True)
    finally:
        server.server_close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def _check(session: Session, source: str) -> None:
    if len(session.index) == 0:
        raise click.ClickException(f"{source}: no rows to review")
    if not session.index.attribute:
        raise click.ClickException(f"{source}: no row of it has a label that could be corrected")
    if set(session.classes) != {0, 1}:
        known = ", ".join(printable(name) for name in session.classes.values())
        raise click.ClickException(
            f"{source}: its rows do not name both classes ({known or 'none'}); name them with "
            "--labels NO YES"
        )


def _farewell(session: Session, corrections_path: str) -> str:
    if session.made == 0:
        return "\nNothing was corrected."
    path = printable(corrections_path)
    return (
        f"\n{session.made:,} correction{'s' * (session.made > 1)} in {path}. Next:\n"
        f"  alpaca train DATASET --corrections {path}"
    )


def _files(path: str) -> Source:
    from alpaca_labeler.review.index import Index
    from alpaca_labeler.review.session import Source

    failures = beside(path, "failures")
    seen: list[object] = []

    def state() -> list[object]:
        return [_state(path), _state(failures)]

    def read() -> Index:
        seen[:] = state()
        with open(path, "rb") as labels:
            files = [(labels, path)]
            if os.path.exists(failures) and not os.path.samefile(failures, path):
                files.append((open(failures, "rb"), failures))  # noqa: SIM115 - closed below
            try:
                index = Index(files)
            finally:
                for file, _ in files[1:]:
                    file.close()
        if index.settled:
            return index
        # Rows as a run leaves them that was killed, or of another tool: first one an image.
        return _spooled(Ledger(path, failures).table(), path)

    return Source(path, read, lambda: state() != seen)


def _bucket(results: str) -> Source:
    from alpaca_labeler.review.session import Source

    return Source(results, lambda: _spooled(compaction.table(results), results), lambda: False)


def _spooled(table: Iterable[tuple[bytes, bool]], name: str) -> Index:
    from alpaca_labeler.review.index import Index

    with tempfile.TemporaryFile() as file:
        file.writelines(line for line, _ in table)
        file.seek(0)
        return Index([(file, name)])


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
