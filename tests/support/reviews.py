"""A manifest of drawn photos, and a review of it that is served on a thread of its own."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from PIL import Image, ImageDraw

from alpaca_labeler.model.bundle import Card
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.review.index import Query
from alpaca_labeler.review.photos import Photos
from alpaca_labeler.review.server import Server
from alpaca_labeler.review.session import Session
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.manifest_row import Failure
from alpaca_labeler.table.table import open_corrections, open_table

CARD = Card("1-a", "pet", ("cat", "dog"), 0.5, (0.4, 0.6), 8, "", (1.0, 0.0), "")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def draw(path, colour="teal", size=(80, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).ellipse((10, 10, size[0] - 10, size[1] - 10), fill=colour)
    picture.save(path)


def row(name, logit=2.0, *, size=None, minute=0, card=CARD):
    version = ImageVersion(name, size, "2026-01-01T00:00:00Z")
    made = NOON + timedelta(minutes=minute)
    return manifest_row.label_row(version, (80, 60), decide(card, logit), card, made)


def failure(name, *, size=None, code="corrupt", message="broken <b>off</b>"):
    version = ImageVersion(name, size, "2026-01-01T00:00:00Z")
    return manifest_row.failure_row(version, Failure(code, message), "1-a", NOON)


def write(folder, *rows, name="manifest.jsonl"):
    """Write rows as `alpaca label` leaves them: sorted, failures apart."""
    for file, chosen in (
        (name, [r for r in rows if "failure" not in r]),
        ("failures.jsonl", [r for r in rows if "failure" in r]),
    ):
        lines = sorted(chosen, key=lambda each: each["source-ref"])
        if lines or file == name:
            (folder / file).write_bytes(b"".join(map(manifest_row.encode, lines)))
    return folder / name


def session(folder, *, classes=None, annotator="kim", **options):
    table = open_table(str(folder / "manifest.jsonl"))
    return Session(table, open_corrections(table), classes or {}, annotator, **options)


def said(folder):
    """(name, index, annotator) of each decision in the file."""
    path = folder / "corrections.jsonl"
    rows = map(json.loads, path.read_bytes().splitlines()) if path.exists() else []
    return [
        (r["source-ref"], r["pet"], r["labeler"]["annotator"])
        for r in rows
        if manifest_row.is_human(r)
    ]


def labels(folder):
    """Name: label of each row of the table as every command reads it."""
    rows = open_table(str(folder / "manifest.jsonl")).rows()
    return {row["source-ref"]: manifest_row.label(row) for row in rows}


def tiles(found, **query):
    ids = found.select(Query(**query))["ids"]
    return found.tiles(found.generation, ids)


def tile_of(found, name):
    return tiles(found, search=name)[0]


@contextmanager
def served(folder, **options):
    """Serve a review of the folder's manifest."""
    server = Server(
        session(folder, **options), Photos(open_table(str(folder / "manifest.jsonl")).place)
    )
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
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    sent = {"Host": f"127.0.0.1:{server.server_port}"}
    if body is not None:
        sent |= {"Content-Type": "application/json", "Origin": f"http://{sent['Host']}"}
        body = body if isinstance(body, bytes) else json.dumps(body)
    sent |= {key.replace("_", "-"): value for key, value in headers.items()}
    sent = {key: value for key, value in sent.items() if value is not None}
    method = method or ("GET" if body is None else "POST")
    path = f"/{server.token if token is None else token}/{name}"
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    if body is not None and "Content-Length" not in sent:
        sent["Content-Length"] = str(len(body))
    for key, value in sent.items():
        connection.putheader(key, value)
    connection.endheaders(body.encode() if isinstance(body, str) else body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if content and answer.headers.get_content_type() == "application/json":
        content = json.loads(content)
    return answer.status, answer.headers, content
