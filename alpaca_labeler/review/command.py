"""`alpaca review`: serve the page for one table until Ctrl-C."""

from __future__ import annotations

import getpass
import shlex
import webbrowser
from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import counted, few, printable
from alpaca_labeler.console.manifest import shown_manifest_argument
from alpaca_labeler.table.table import Table

if TYPE_CHECKING:
    from alpaca_labeler.review.session import Session


@click.command()
@click.option(
    "--annotator", metavar="NAME", help="Who decides.  [default: your name on this system]"
)
@click.option(
    "--labels",
    nargs=2,
    metavar="NO YES",
    help="Names of the two classes, if the manifest does not show both.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="The page's port. To forward it, use the same number on both sides: "
    "ssh -L 8080:localhost:8080 HOST.  [default: a free one]",
)
@click.option(
    "--host",
    metavar="NAME",
    default="127.0.0.1",
    help="This machine's name or address in a network that you trust, to review on a tablet there: "
    "anyone who has the printed address sees the photos and decides, and nothing is encrypted.  "
    "[default: this machine only]",
)
@click.option("--no-browser", is_flag=True, help="Only print the page's address.")
@shown_manifest_argument
def review(
    *,
    table: Table,
    annotator: str | None,
    labels: tuple[str, str] | None,
    port: int,
    host: str,
    no_browser: bool,
) -> None:
    """Correct labels in a browser, many at once.

    \b
        alpaca review
        alpaca review labels.jsonl --photos-root /mnt/photos
        alpaca review s3://results/labels/ --allow s3://photos/ --annotator kim
        alpaca review --host 192.168.1.20

    MANIFEST is a file, by default manifest.jsonl, or a bucket's results. The page is served to
    anyone who knows its address, on this machine only unless --host says more. Each decision is
    written at once and counts at once; several people may decide about one manifest. Ctrl-C ends
    it, and says about how many labels are still wrong.
    """
    from alpaca_labeler.review.photos import Photos
    from alpaca_labeler.review.server import Server
    from alpaca_labeler.review.session import Session

    session = Session(table, dict(enumerate(labels or ())), annotator or _user())
    _check(session)
    if host in {"", "0.0.0.0"}:  # noqa: S104 - refused
        raise click.UsageError(f"--host {host}: name the address that the other device asks for")
    try:
        server = Server(session, Photos(table.shown), port, host.lower())
    except OSError as error:
        where = printable(f"--host {host} --port {port}")
        raise click.ClickException(f"{where}: {error.strerror}; choose another") from error
    try:
        click.echo(f"{counted(len(session.index), 'photo')}. Ctrl-C ends the review.", err=True)
        click.echo(server.address)
        if not no_browser:
            webbrowser.open(server.one_time_address)
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo(_farewell(session), err=True)
    finally:
        server.server_close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def _check(session: Session) -> None:
    source = session.table.name
    if len(session.index) == 0:
        raise click.ClickException(f"{source}: no rows to review")
    if set(session.classes) != {0, 1}:
        known = few(session.classes.values())
        raise click.ClickException(
            f"{source}: its rows do not name both classes ({known or 'none'}); name them with "
            "--labels NO YES"
        )


def _farewell(session: Session) -> str:
    progress = session.index.progress
    lines = [f"{progress}."]
    if check := progress.check():
        lines.append(f"{check}.")
    if progress.decided:
        name = printable(shlex.quote(session.table.name))
        lines += [
            "Every command counts that. Next:",
            f"  alpaca report {name} --open",
            f"  alpaca manifest export {name} --format csv -o labels.csv",
        ]
    return "\n" + "\n".join(lines)
