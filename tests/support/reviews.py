"""A manifest of drawn photos, and a review of it that is served on a thread of its own."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from msgspec import structs
from PIL import Image, ImageDraw

from alpaca_labeler.model.bundle import Card
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.photos.content import content_of
from alpaca_labeler.review.index import Query
from alpaca_labeler.review.photos import Photos
from alpaca_labeler.review.server import Server
from alpaca_labeler.review.session import Session
from alpaca_labeler.table.facts import Answer, Failure, Read, timestamp
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import open_table

CARD = Card("1-a", "pet", ("cat", "dog"), 0.5, (0.4, 0.6), 8, "", (1.0, 0.0), "")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def draw(path, colour="teal", size=(80, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).ellipse((10, 10, size[0] - 10, size[1] - 10), fill=colour)
    picture.save(path)


def row(name, logit=2.0, *, minute=0, card=CARD):
    read = Read(timestamp(NOON + timedelta(minutes=minute)), width=80, height=60)
    said = decide(card, logit)
    answer = Answer(
        card.version,
        said.label,
        said.index,
        card.attribute,
        said.probability,
        card.threshold,
        said.needs_review,
    )
    return Row(name, read, answer)


def failure(name):
    return Row(name, Read(timestamp(NOON)), Answer("1-a", failure=Failure("corrupt", "cut <b>off")))


def of(photo, row):
    """Return a row that has read what is in the file `photo` now."""
    return replace(row, read=structs.replace(row.read, content=content_of(photo.read_bytes())))


def write(folder, *rows, name="manifest.jsonl"):
    """Write rows as `alpaca label` leaves them: sorted."""
    lines = sorted(rows, key=lambda each: each.source_ref)
    (folder / name).write_bytes(b"".join(each.to_line() for each in lines))
    return folder / name


def session(folder, *, classes=None, annotator="kim"):
    return Session(open_table(str(folder / "manifest.jsonl")), classes or {}, annotator)


def rows(folder):
    """Name: row of the table as every command reads it."""
    return {row.source_ref: row for row in open_table(str(folder / "manifest.jsonl")).rows()}


def labels(folder):
    return {name: row.label for name, row in rows(folder).items()}


def said(folder):
    """(name, index, annotator) of each decision that stands."""
    decided = [row for row in rows(folder).values() if row.decision]
    return [(row.source_ref, row.index, row.decision.who) for row in decided]


def tiles(found, **query):
    ids = found.select(Query(**query))["ids"]
    return found.tiles(found.generation, ids)


def tile_of(found, name):
    return tiles(found, search=name)[0]


@contextmanager
def served(folder):
    """Serve a review of the folder's manifest."""
    found = session(folder)
    server = Server(found, Photos(found.table.shown))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(server, name, body=None, *, token=None, method=None, **headers):
    """Send one request as the page would, but for what is given; return (status, headers, body)."""
    sent = {"Host": f"127.0.0.1:{server.server_port}"}
    if body is not None:
        sent |= {"Content-Type": "application/json", "Origin": f"http://{sent['Host']}"}
        body = body if isinstance(body, bytes) else json.dumps(body)
    sent |= {key.replace("_", "-"): value for key, value in headers.items()}
    sent = {key: value for key, value in sent.items() if value is not None}
    method = method or ("GET" if body is None else "POST")
    path = f"/{server.token if token is None else token}" + ("" if name is None else f"/{name}")
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    with closing(connection):  # also when the server is killed within an answer
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if body is not None and "Content-Length" not in sent:
            sent["Content-Length"] = str(len(body))
        for key, value in sent.items():
            connection.putheader(key, value)
        connection.endheaders(body.encode() if isinstance(body, str) else body)
        with connection.getresponse() as answer:
            content = answer.read()
    if content and answer.headers.get_content_type() == "application/json":
        content = json.loads(content)
    return answer.status, answer.headers, content
