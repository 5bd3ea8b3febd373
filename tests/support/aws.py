"""An account that opens nothing, for tests of what talks to S3 and SQS."""

from __future__ import annotations

from contextlib import contextmanager

from alpaca_labeler import storage
from alpaca_labeler.storage import requeue

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
FOREIGN = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


def forget_clients():
    """Let the next call make a client for the environment of that moment."""
    storage._new_client.cache_clear()
    requeue._client.cache_clear()


def forget_function():
    """Let the function read its environment again: settings, model and clients."""
    from alpaca_labeler.handler import app

    app._settings.cache_clear()
    app._model.cache_clear()
    forget_clients()


@contextmanager
def account(monkeypatch, endpoint=None):
    """Use the account for a while: of moto in this process, or of a server at `endpoint`."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    if endpoint is not None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    forget_clients()
    try:
        yield
    finally:
        forget_clients()
