"""What the review's server gives to whom: pictures, pages, and what may be written."""

from __future__ import annotations

import io
import os
import socket
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from alpaca_labeler.main import main
from alpaca_labeler.review import photos as photos_module
from alpaca_labeler.review.photos import LONGEST, PhotoError, Photos
from alpaca_labeler.review.server import Server
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import open_table
from tests.support.reviews import ask, draw, said, served, session, tile_of, write


def shown(folder, **options):
    """The photos that a manifest in the folder may have shown."""
    return Photos(open_table(str(write(folder)), **options).shown)


def test_what_leaves_is_newly_encoded_upright_and_bare(tmp_path):
    picture = Image.new("RGB", (900, 300), "white")
    picture.paste("red", (0, 0, 450, 300))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    exif[0x010E] = "where I live"
    picture.save(tmp_path / "a.jpg", exif=exif, comment=b"my secret")
    data = shown(tmp_path).jpeg(Row("a.jpg"), "tile")
    seen = Image.open(io.BytesIO(data))
    assert seen.size == (round(LONGEST["tile"] / 3), LONGEST["tile"])
    green = np.asarray(seen)[..., 1]
    assert green[10, 60] < 60
    assert green[370, 60] > 200
    assert not seen.getexif()
    assert b"secret" not in data
    assert b"where" not in data


def test_a_photo_of_other_content_is_not_shown_whatever_it_is_called(folder):
    found = session(folder)
    dog = found.row(1, tile_of(found, "dog")["id"])
    photos = Photos(found.table.shown)
    os.utime(folder / "a/dog.png", (0, 0))
    assert photos.jpeg(dog, "tile")
    draw(folder / "a/dog.png", size=(90, 90))
    assert photos.jpeg(dog, "tile")  # what was seen before
    with pytest.raises(PhotoError, match="has changed since it was labelled"):
        photos.jpeg(dog, "large")
    with pytest.raises(PhotoError, match="has changed since it was labelled"):
        photos.jpeg(Row("a/dog.png", Read(size=1)), "tile")


def test_a_strangers_manifest_has_nothing_read_but_what_the_person_named(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("alpaca_labeler.storage.call", lambda uri, *_, **__: asked.append(uri))
    inbox, private = tmp_path / "inbox", tmp_path / "private"
    draw(private / "passport.png")
    draw(inbox / "in.png")
    os.mkfifo(inbox / "pipe")
    (inbox / "notes.png").write_text("secret")
    (inbox / "link.png").symlink_to(private / "passport.png")
    for name, says in {
        f"{private}/passport.png": f"add --allow {private} ",
        "../private/passport.png": f"add --allow {private} ",
        "file:..%2Fprivate%2Fpassport.png": f"add --allow {private} ",
        "link.png": f"add --allow {private} ",
        "/proc/self/environ": "--allow",
        "s3://bucket/beacon.jpg": "add --allow s3://bucket/",
        "notes.png": "not a JPEG",
        "pipe": "not a regular file",
        "http://example.org/x.jpg": "no such file",
        "a\x00b": "not a file name",
    }.items():
        with pytest.raises(PhotoError, match=says):
            shown(inbox).jpeg(Row(name), "tile")
    assert asked == []
    for options in ({"allowed": [str(private)]}, {"photos_root": str(tmp_path)}):
        assert shown(inbox, **options).jpeg(Row(f"{private}/passport.png"), "tile")
    assert shown(inbox).jpeg(Row(f"{inbox}/in.png"), "tile")


def test_pictures_are_kept_within_a_limit(tmp_path, monkeypatch):
    monkeypatch.setitem(photos_module.KEPT, "tile", 2)
    found = [Row(f"{number}.png") for number in range(3)]
    for each in found:
        draw(tmp_path / each.source_ref)
    photos = shown(tmp_path)
    for each in found:
        photos.jpeg(each, "tile")
        (tmp_path / each.source_ref).unlink()
    assert [photos.jpeg(each, "tile") for each in found[1:]]
    with pytest.raises(PhotoError):
        photos.jpeg(found[0], "tile")


@pytest.fixture
def server(folder):
    with served(folder) as running:
        yield running


def test_every_answer_forbids_what_the_page_does_not_need(server):
    for name in ("", "page.js", "list", "nothing", "photo?generation=1&id=0&size=tile"):
        _, headers, _ = ask(server, name)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Python" not in headers["Server"]


def test_only_who_knows_the_token_and_names_this_host_is_answered(server, folder):
    names = ("", "list", "page.js", "photo?generation=1&id=0&size=tile")
    with served(folder) as other:
        tokens = ["", "x", "%C3%BC", "%00", "a" * 5000, "..", server.token[:-1], other.token]
    assert len(server.token) >= 32
    for token in tokens:
        assert {ask(server, name, token=token)[0] for name in names} == {404}
    for host in (None, "", "example.org", "127.0.0.1", "127.0.0.1:1", "[::1]:80"):
        assert ask(server, "list", Host=host)[0] == 403
        assert ask(server, "decide", {}, Host=host)[0] == 403
    port = server.server_port
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "list", Host=f"localhost:{port}")[0] == 200
    says = ask(server, "", Host="localhost:8080")[2]["error"]
    assert f"use the same number on both sides: ssh -L {port}:localhost:{port} " in says


def test_what_starts_a_browser_leads_to_the_page_once(server):
    status, headers, _ = ask(server, None)
    assert (status, headers["Location"]) == (303, f"/{server.token}/")
    code = server.one_time_address.split("/")[3]
    assert ask(server, "", token=code[:-1])[0] == 404
    assert ask(server, "", {}, token=code)[0] == 404
    status, headers, _ = ask(server, "", token=code)
    assert (status, headers["Location"]) == (303, f"/{server.token}/")
    assert ask(server, "", token=code)[0] == 404


QUERIES = """
400 photo?generation=1&id=-1&size=tile
400 photo?generation=1&id=/etc/passwd&size=tile
400 photo?generation=1&id=9999999999999&size=tile
400 list?label='OR+1--
400 photo?generation=1&id=0&size=huge
400 tiles?generation=1&ids=1,x
400 tiles?generation=1&ids=
400 list?show=some
400 list?search=%ff
404 ../server.py
404 pages/page.js
404 /etc/passwd
404 page.js%00.css
404 photo/../../x
409 photo?generation=1&id=4&size=tile
409 photo?generation=7&id=0&size=tile
"""


def test_no_path_leads_anywhere_and_malformed_queries_are_refused(server):
    for status, name in map(str.split, QUERIES.strip().splitlines()):
        assert ask(server, name)[0] == int(status), name
    for name in ("search=" + "x" * 501, "&".join(f"a{n}=1" for n in range(30))):
        assert ask(server, f"list?{name}")[0] == 400


def wanted(*classes, since=0, generation=1):
    """A request to decide: the photos of each class."""
    return {"generation": generation, "since": since, "classes": list(classes)}


REFUSED: list[tuple[int, dict[str, Any]]] = [
    (403, {"Origin": None}),
    (403, {"Origin": "null"}),
    (403, {"Origin": "http://example.org"}),
    (403, {"Origin": "https://127.0.0.1:80"}),
    (415, {"Content_Type": "text/plain"}),
    (411, {"Content_Length": "-5"}),
    (411, {"Content_Length": "1e3"}),
    (413, {"Content_Length": "5000000"}),
    (413, {"Content_Length": "9" * 5000}),
    (411, {"Transfer_Encoding": "chunked"}),
]
BODIES = [b"", b"{", b"[]", b"5", b"\xff", b"[" * 4000, b'{"generation":1,"since":0}']
BODIES += [b'{"since":0}', wanted([0], [], since=-1)]
CLASSES = [None, [[0]], [0, 1], [[0.5], []], [[True], []], [["x"], []]]


def test_only_the_page_itself_writes_and_only_what_is_understood(server, folder):
    for status, headers in REFUSED:
        for name in ("decide", "undo"):
            assert ask(server, name, wanted([0], []), **headers)[0] == status
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, "decide", wanted([0], []), method=method)[0] >= 400
    for body in (*BODIES, *({**wanted(), "classes": classes} for classes in CLASSES)):
        assert ask(server, "decide", body)[0] == 400
    assert said(folder) == []


def test_another_device_is_answered_only_by_the_name_that_was_given(folder):
    found = session(folder)
    server = Server(found, Photos(found.table.shown), 0, "127.0.0.2")
    try:
        assert server.address == f"http://127.0.0.2:{server.server_port}/{server.token}/"
        assert server.hosts == {f"127.0.0.2:{server.server_port}"}
        with pytest.raises(ConnectionRefusedError):
            ask(server, "list")  # on 127.0.0.1
    finally:
        server.server_close()
    done = CliRunner().invoke(main, ["review", "--host", "0.0.0.0", str(folder / "manifest.jsonl")])
    assert (done.exit_code, "name the address" in done.stderr) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(main, ["review", "--port", port, str(folder / "manifest.jsonl")])
    assert f"--host 127.0.0.1 --port {port}: Address already in use" in done.stderr


def test_a_malformed_request_gets_no_traceback(server, capfd):
    for request in (
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"NONSENSE / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET " + b"/" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\n",
        b"GET http://example.org/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert b"html" not in answer.lower()
    assert ask(server, "list")[0] == 200
    assert capfd.readouterr().err == ""
