"""What several commands share: options, and errors said in one sentence."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec

import click

from handler.manifest import ManifestError
from handler.storage import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what can go wrong on AWS into one sentence."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            command(*args, **kwargs)
        except (StorageError, ManifestError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        except (BotoCoreError, ClientError) as error:
            raise click.ClickException(f"AWS says: {error}") from error

    return run


def as_folder(uri: str) -> str:
    """Return a prefix with its slash at the end, so that `labels` is not also `labels-old`."""
    return f"{uri.rstrip('/')}/"
