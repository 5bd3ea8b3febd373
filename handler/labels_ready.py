"""Announce that the table has changed: an EventBridge event after a commit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from . import storage

if TYPE_CHECKING:
    from .compaction import Compacted

SOURCE: Final = "alpaca-labeler"
DETAIL_TYPE: Final = "LabelsReady"


def announce(results: str, done: Compacted) -> None:
    """Send the event to the account's default bus. Raises `StorageError` if it was not accepted.

    Its detail holds the results' URI, what `done` counted, the mark of the table (which changes
    with its content) and the versions of the models behind the rows that were merged.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    detail = {
        "results": results,
        "labels": done.labels,
        "failures": done.failures,
        "parts": done.parts,
        "mark": done.mark,
        "model-versions": done.models,
    }
    entry = {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(detail)}
    try:
        answer = boto3.client("events").put_events(Entries=[entry])
    except (BotoCoreError, ClientError) as error:
        raise storage.Transient(f"{DETAIL_TYPE} of {results} was not sent: {error}") from error
    if answer["FailedEntryCount"]:
        raise storage.Transient(
            f"{DETAIL_TYPE} of {results} was not sent: {answer['Entries'][0]['ErrorMessage']}"
        )
