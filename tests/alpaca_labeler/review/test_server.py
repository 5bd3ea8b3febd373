"""What the review's server gives to whom: pictures, pages, and what may be written."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import threading

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler.review import server as server_module
from alpaca_labeler.review.photos import LONGEST, PhotoError, Photos
from tests.support.reviews import ask, draw, labels, said, served, session, tile_of, tiles

# --- photos --------------------------------------------------------------------------------------


def place(folder):
    """Where the photos of a folder lie."""
    return lambda name: str(folder / name) if "://" not in name else name


def test_what_leaves_is_newly_encoded_upright_and_bare(tmp_path):
    picture = Image.new("RGB", (900, 300), "white")
    picture.paste("red", (0, 0, 450, 300))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    exif[0x010E] = "where I live"
    picture.save(tmp_path / "a.jpg", exif=exif, comment=b"my secret")
    data = Photos(place(tmp_path)).jpeg({"source-ref": "a.jpg"}, "tile")
    seen = Image.open(io.BytesIO(data))
    assert seen.size == (round(LONGEST["tile"] / 3), LONGEST["tile"])
    green = np.asarray(seen)[..., 1]
    assert green[10, 60] < 60
    assert green[370, 60] > 200
    assert not seen.getexif()
    assert b"secret" not in data
    assert b"where" not in data


def test_a_photo_that_has_changed_since_is_not_shown(folder):
    found = session(folder)
    draw(folder / "a/dog.png", size=(90, 90))
    with pytest.raises(PhotoError, match="has changed since it was labelled"):
        Photos(place(folder)).jpeg(found.row(1, tile_of(found, "dog")["id"]), "tile")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/etc/passwd", "not a JPEG"),
        ("../" * 9 + "etc/passwd", "not a JPEG"),
        ("/dev/zero", "not a regular file"),
        ("pipe", "not a regular file"),
        ("a\x00b", "not a file name"),
        ("https://example.org/a.jpg", "no such file"),
        ("s3://", "not of the form"),
        ("gone.jpg", "no such file"),
    ],
)
def test_a_manifest_cannot_have_anything_but_pictures_shown(tmp_path, name, says):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PhotoError, match=says):
        Photos(place(tmp_path)).jpeg({"source-ref": name}, "tile")


def test_pictures_are_kept_within_a_limit(tmp_path):
    found = [{"source-ref": f"{number}.png"} for number in range(6)]
    for each in found:
        draw(tmp_path / each["source-ref"])
    one = len(Photos(place(tmp_path)).jpeg(found[0], "tile"))
    photos = Photos(place(tmp_path), cache_bytes=3 * one)
    for each in found:
        photos.jpeg(each, "tile")
        (tmp_path / each["source-ref"]).unlink()
    assert [photos.jpeg(each, "tile") for each in found[3:]]
    with pytest.raises(PhotoError):
        photos.jpeg(found[2], "tile")


# --- the server ----------------------------------------------------------------------------------


@pytest.fixture
def server(folder):
    with served(folder) as running:
        yield running


def test_every_answer_forbids_what_the_page_does_not_need(server):
    for name in ("", "page.js", "start", "nothing", "photo?generation=1&id=0&size=tile"):
        _, headers, _ = ask(server, name)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Python" not in headers["Server"]


def test_every_page_is_there_with_its_kind(server):
    kinds = {name: ask(server, name)[1].get_content_type() for name in server.pages}
    assert kinds.pop("") == "text/html"
    assert kinds.pop("page.css") == kinds.pop("colors.css") == "text/css"
    assert kinds.pop("icon.svg") == "image/svg+xml"
    assert set(kinds.values()) == {"text/javascript"}
    folder = os.path.join(os.path.dirname(server_module.__file__), "pages")
    assert len(server.pages) == len(os.listdir(folder)) + 1


@pytest.mark.parametrize("token", ["", "x", "%C3%BC", "%00", "a" * 5000, ".."])
def test_without_the_token_there_is_nothing(server, token):
    for name in ("", "start", "page.js", "photo?generation=1&id=0&size=tile"):
        assert ask(server, name, token=token)[0] == 404


def test_a_token_is_long_and_new_each_time(folder):
    with served(folder) as one, served(folder) as other:
        assert len(one.token) >= 32
        assert one.token != other.token
        assert ask(one, "", token=other.token)[0] == 404


@pytest.mark.parametrize("host", [None, "", "example.org", "127.0.0.1", "127.0.0.1:1", "[::1]:80"])
def test_a_request_to_another_host_is_refused(server, host):
    assert ask(server, "start", Host=host)[0] == 403
    assert ask(server, "decide", {}, Host=host)[0] == 403


def test_no_path_leads_anywhere(server):
    assert server.server_address[0] == "127.0.0.1"
    for name in (
        "../server.py ..%2fserver.py %2e%2e/server.py pages/page.js /etc/passwd page.js/ "
        "page.js%00.css index.html ./page.js photo/../../x"
    ).split():
        assert ask(server, name)[0] == 404


QUERIES = """
400 photo?generation=1&id=-1&size=tile
400 photo?generation=1&id=/etc/passwd&size=tile
400 photo?generation=1&id=9999999999999&size=tile
400 photo?generation=1&id=%C2%B2&size=tile
400 photo?generation=1&id=0&size=huge
400 tiles?generation=1
400 tiles?generation=1&ids=1,x
400 tiles?generation=1&ids=
400 list?sort=random
400 list?show=x
400 list?search=%ff
400 facts?id=
400 state
409 photo?generation=1&id=6&size=tile
409 photo?generation=7&id=0&size=tile
409 tiles?generation=7&ids=0
409 facts?generation=1&id=6
"""


def test_malformed_queries_and_those_about_rows_that_are_gone_are_refused(server):
    for status, name in map(str.split, QUERIES.strip().splitlines()):
        assert ask(server, name)[0] == int(status), name
    for name in ("search=" + "x" * 501, "&".join(f"a{n}=1" for n in range(30))):
        assert ask(server, f"list?{name}")[0] == 400


def test_photos_are_by_number_of_this_tables_rows(server):
    status, headers, body = ask(server, "photo?generation=1&id=0&size=large")
    assert (status, headers.get_content_type()) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(body)).size == (80, 60)
    found = tile_of(server.session, "broken")["id"]
    status, headers, body = ask(server, f"photo?generation=1&id={found}&size=tile")
    assert (status, headers.get_content_type()) == (200, "application/json")
    assert "no such file" in body["error"]


def wanted(*classes, since=0, generation=1):
    """A request to decide: the photos of each class."""
    return {"generation": generation, "since": since, "classes": list(classes)}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "https://127.0.0.1:80"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Length": "-5"}, 411),
        ({"Content_Length": "1e3"}, 411),
        ({"Content_Length": "5000000"}, 413),
        ({"Content_Length": "9" * 5000}, 413),
        ({"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_only_the_page_itself_writes(server, folder, headers, status):
    for name in ("decide", "undo", "reload"):
        assert ask(server, name, wanted([0], []), **headers)[0] == status
    assert said(folder) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_nothing_but_post_writes(server, folder, method):
    assert ask(server, "decide", wanted([0], []), method=method)[0] >= 400
    assert said(folder) == []


@pytest.mark.parametrize("given", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 4000, b'{"since":0}'])
def test_bodies_that_cannot_be_understood_are_refused(server, folder, given):
    assert ask(server, "decide", given)[0] == 400
    assert said(folder) == []


@pytest.mark.parametrize("classes", [None, [[0]], [0, 1], [[0.5], []], [[True], []], [["x"], []]])
def test_classes_that_cannot_be_understood_are_refused(server, folder, classes):
    assert ask(server, "decide", {**wanted(), "classes": classes})[0] == 400
    assert ask(server, "decide", wanted([0], [], since=-1))[0] == 400
    assert said(folder) == []


def test_the_wrong_host_is_told_how_to_forward_a_port(server):
    port = server.server_port
    assert ask(server, "start", Host=f"localhost:{port}")[0] == 200
    status, _, answer = ask(server, "", Host="localhost:8080")
    assert status == 403
    assert f"use the same number on both sides: ssh -L {port}:localhost:{port} " in answer["error"]


def test_a_decision_and_its_undoing_over_http(server, folder):
    dog = tile_of(server.session, "dog")["id"]
    status, _, answer = ask(server, "decide", wanted([dog], []))
    assert (status, answer["changed"], answer["undo"]) == (200, [[dog, 2]], True)
    assert said(folder) == [("a/dog.png", 0, "kim")]
    since = answer["since"]
    answer = ask(server, "undo", wanted(since=since))[2]
    assert (answer["ids"], answer["changed"], answer["undo"]) == ([dog], [[dog, 0]], False)
    assert ask(server, "reload", {})[0] == 200
    assert ask(server, "decide", wanted([dog], []))[0] == 409


def test_a_failure_is_decided_only_if_its_photo_can_be_seen(server, folder):
    late, gone = (tile_of(server.session, name)["id"] for name in ("late", "broken"))
    status, _, answer = ask(server, "decide", wanted([], [late, gone]))
    assert status == 200
    assert "no such file" in answer["refused"][0]
    [line] = (folder / "corrections.jsonl").read_bytes().splitlines()
    assert json.loads(line)["labeler"] | {"width": 80, "height": 60} == json.loads(line)["labeler"]
    assert labels(folder)["late.png"] == "dog"
    assert ask(server, "undo", wanted(since=1))[2]["text"] == "late.png has no label again"


def test_a_file_that_cannot_be_written_is_said_to_be(server, monkeypatch):
    def fails(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alpaca_labeler.table.jsonl.write", fails)
    status, _, answer = ask(server, "decide", wanted([0, 1], [2]))
    assert status == 507
    assert "corrections.jsonl: No space left on device" in answer["error"]
    assert server.session.progress() == (0, 0)


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
    assert ask(server, "start")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_browser_that_hangs_up_costs_nothing(server, capfd):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as client:
            client.sendall(
                f"GET /{server.token}/photo?generation=1&id=0&size=large HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{server.server_port}\r\n\r\n".encode()
            )
    assert ask(server, "start")[0] == 200
    assert capfd.readouterr().err == ""


def test_many_pages_at_once_lose_nothing(server, folder):
    def work(seed):
        mine, since = random.Random(seed), 0
        for _ in range(15):
            index, number = mine.randrange(2), mine.randrange(4)
            classes = [[number], []] if index == 0 else [[], [number]]
            status, _, answer = ask(server, "decide", wanted(*classes, since=since))
            assert status == 200, answer
            since = answer["since"]
            if mine.random() < 0.3:
                since = ask(server, "undo", wanted(since=since))[2]["since"]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tiles(server.session) == tiles(session(folder))
    table = labels(folder)
    assert all(tile["label"] == (table[tile["ref"]] or "") for tile in tiles(server.session))
