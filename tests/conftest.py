"""Fixtures that more than one folder needs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A shell's background job ignores Ctrl-C, and would have the commands that tests start ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, however slow the machine: a test that failed fails again.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("house")


def pytest_collection_modifyitems(items):
    # Whole sessions of commands begin, so that no worker waits for one at the end.
    items.sort(key=lambda item: item.path.parent.name != "tests")
    for item in items:
        if {"chromium", "pages"} & {*item.fixturenames}:
            item.add_marker("browser")


@pytest.fixture(autouse=True)
def no_limit_of_an_earlier_command(monkeypatch):
    """A command sets this for all that it starts, and a process runs many tests."""
    monkeypatch.delenv("ALPACA_MAX_BYTES", raising=False)


@pytest.fixture
def aws(monkeypatch):
    """S3 and SQS in this process: moto, with credentials that open nothing."""
    from moto import mock_aws

    from alpaca_labeler import storage
    from tests.support.aws import account

    with account(monkeypatch), mock_aws():
        yield storage.client()


@pytest.fixture
def queue(aws):  # noqa: ARG001 - it starts moto
    """Give a client of SQS, and the URL of a queue."""
    import boto3

    sqs = boto3.client("sqs")
    return sqs, sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "900"})["QueueUrl"]


@pytest.fixture
def served(monkeypatch):
    """The same for processes that a test starts: moto's server on the loopback."""
    from alpaca_labeler import storage
    from tests.support.aws import account
    from tests.support.stacks import server

    with server() as endpoint, account(monkeypatch, endpoint):
        yield storage.client()


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder of real photos and weights: ALPACA_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("ALPACA_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real photos: {folder} is not there (set ALPACA_SHARED)")
    return folder


@pytest.fixture(scope="session")
def photos() -> Path:
    """Eight photos under free licences, one of them of an alpaca."""
    return Path(__file__).parent / "photos"


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium for the whole session; without one, the test is skipped."""
    from tests.support.browser import chromium

    with chromium() as running:
        yield running


@pytest.fixture
def pages(chromium):
    """Open pages: `pages(width=390).goto(...)`.

    Fails the test if a page logs an error, opens a dialog or asks any host but 127.0.0.1; a test
    that means to provoke one takes it out of `pages.wrong`.
    """
    from tests.support.browser import Pages

    opened = Pages(chromium)
    yield opened
    opened.close()
    assert opened.wrong == []
