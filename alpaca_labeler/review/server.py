"""The page's server: for anyone who knows the token in its address.

Every request names the token and this host; what writes comes from the page itself. No path is ever
taken from a request: pages are by name from a fixed list, photos by their number.
"""

from __future__ import annotations

import hmac
import importlib.resources
import secrets
import sys
from collections.abc import Callable
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.review.index import CLASSES, SHOW, Query
from alpaca_labeler.review.photos import LONGEST, PhotoError, Photos
from alpaca_labeler.review.session import Outdated, Session

_SCRIPT: Final = "text/javascript; charset=utf-8"
_STYLE: Final = "text/css; charset=utf-8"
PAGES: Final = {
    "": ("review/pages/index.html", "text/html; charset=utf-8"),
    "colors.css": ("report/pages/colors.css", _STYLE),
    "page.css": ("review/pages/page.css", _STYLE),
    "icon.svg": ("review/pages/icon.svg", "image/svg+xml"),
    **{
        name: (f"review/pages/{name}", _SCRIPT)
        for name in ("page.js", "frame.js", "server.js", "grid.js")
    },
}

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # the photos are the user's, and stay out of a browser's files
}

MAX_BODY: Final = 2**20
"""Bytes of a request: the numbers of some ten thousand photos."""
MAX_SEARCH: Final = 500
IDLE_SECONDS: Final = 60

_JSON: Final = "application/json"
_SEE_OTHER: Final = 303


class _Answer(Exception):
    """Ends a request with a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Server(ThreadingHTTPServer):
    """Serves one session until `shutdown`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, session: Session, photos: Photos, port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        """Listen on `port` of `host`; 0 is any free one. Raises `OSError`.

        `host` is the name or IPv4 address that a browser asks for, so that no other site's page
        reaches us under a name of its own.
        """
        self.session = session
        self.photos = photos
        self.token = secrets.token_urlsafe(24)
        code = secrets.token_urlsafe(24)
        self.codes = {code: True}
        """Each leads to the page once."""
        super().__init__((host, port), _Handler)
        names = {host, "localhost"} if host == "127.0.0.1" else {host}
        self.hosts = {f"{name}:{self.server_port}" for name in names}
        self.address, self.one_time_address = (
            f"http://{host}:{self.server_port}/{each}/" for each in (self.token, code)
        )
        """Where a browser finds the page; any user of this machine sees how one was started."""
        folder = importlib.resources.files("alpaca_labeler")
        self.pages = {
            name: ((folder / file).read_bytes(), kind) for name, (file, kind) in PAGES.items()
        }

    def handle_error(self, *_: object) -> None:
        """Ignore a browser that went away; report any other error in one line."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"review: {type(error).__name__}: {error}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "alpaca"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = 2**16

    def do_GET(self) -> None:
        """Answer with a page, a list, a row or a photo."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Do what the page asks for."""
        self._answer(self._post)

    def _answer(self, find: Callable[[str, str], tuple[bytes, str]]) -> None:
        try:
            name, query = self._name()
            body, kind = find(name, query)
            status = 200
        except _Answer as error:
            status, (body, kind) = error.status, _said(str(error))
            self.close_connection = True  # its body may not have been read
        except Outdated:
            status, (body, kind) = 409, _said("outdated")
        except LabelerError as error:
            status, (body, kind) = 422, _said(str(error))
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:
            reason = f"{self.server.session.table.name}: {error.strerror or error}"
            status, (body, kind) = 507, _said(reason)
        self._send(status, body, kind)

    def _name(self) -> tuple[str, str]:
        """Return (what is asked for below the token, the query)."""
        if self.headers.get("Host") not in self.server.hosts:
            port = self.server.server_port
            raise _Answer(
                403,
                f"this page answers only at {max(self.server.hosts)}. If you forward a port, use "
                f"the same number on both sides: ssh -L {port}:localhost:{port} HOST",
            )
        path, _, query = self.path.partition("?")
        token, slash, name = path.removeprefix("/").partition("/")
        is_ours = hmac.compare_digest(token.encode(), self.server.token.encode())
        codes = self.server.codes
        if self.command == "GET" and (not slash if is_ours else codes.pop(token, False)):
            raise _Answer(_SEE_OTHER, "the page has another address")
        if not is_ours:
            raise _Answer(404, "there is nothing here")
        return name, query

    def _get(self, name: str, query: str) -> tuple[bytes, str]:
        if name in self.server.pages:
            return self.server.pages[name]
        session = self.server.session
        try:
            asked = parse_qs(query, keep_blank_values=True, max_num_fields=20, errors="strict")
        except ValueError:
            raise _Answer(400, "the query cannot be read") from None
        if name not in {"list", "tiles", "photo"}:
            raise _Answer(404, "there is nothing here")
        given = {key: values[-1] for key, values in asked.items()}
        generation = _integer(given, "generation") if "generation" in given else 0
        answers: dict[str, Callable[[], object]] = {
            "list": lambda: session.select(_query(given), given.get("photo", "")),
            "tiles": lambda: session.tiles(generation, _integers(given.get("ids", "").split(","))),
        }
        if name in answers:
            return _json(answers[name]())
        number, size = _integer(given, "id"), given.get("size", "")
        row = session.row(generation, number)
        if size not in LONGEST:
            raise _Answer(400, "no such size")
        try:
            return self.server.photos.jpeg(row, size), "image/jpeg"
        except PhotoError as error:  # an ordinary answer, not a fault of the page
            return _said(str(error))

    def _post(self, name: str, _query: str) -> tuple[bytes, str]:
        if self.headers.get("Origin") not in {f"http://{host}" for host in self.server.hosts}:
            raise _Answer(403, "only the page itself may write")
        body = self._body()
        session = self.server.session
        generation, since = _integer(body, "generation"), _integer(body, "since")
        if name == "decide":
            wanted = _wanted(body.get("classes"))
            check = body.get("check") is True
            return _json(session.decide(generation, since, wanted, check=check))
        if name == "undo":
            return _json(session.undo(since))
        raise _Answer(404, "there is nothing here")

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != _JSON:
            raise _Answer(415, "only JSON is accepted")
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdigit()):
            raise _Answer(411, "Content-Length is missing")
        if len(length) > len(str(MAX_BODY)) or int(length) > MAX_BODY:
            raise _Answer(413, f"more than {MAX_BODY:,} bytes")
        try:
            body = orjson.loads(self.rfile.read(int(length)))
        except orjson.JSONDecodeError:
            raise _Answer(400, "not JSON") from None
        if not isinstance(body, dict):
            raise _Answer(400, "not a JSON object")
        return body

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if status == _SEE_OTHER:
            self.send_header("Location", f"/{self.server.token}/")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(
        self, code: int, message: str | None = None, _explain: str | None = None
    ) -> None:
        """Answer a malformed request as any other, without a page of HTML."""
        self.close_connection = True
        self._send(code, *_said(message or "no"))

    def log_message(self, *_: object) -> None:
        """Log nothing: the terminal is for the user."""


def _json(value: object) -> tuple[bytes, str]:
    return orjson.dumps(value), _JSON


def _said(reason: str) -> tuple[bytes, str]:
    return _json({"error": reason.encode(errors="backslashreplace").decode()})


def _integer(given: dict[str, Any], name: str) -> int:
    value = given.get(name)
    if isinstance(value, str) and len(value) <= 12 and value.isascii() and value.isdigit():
        return int(value)
    if type(value) is int and 0 <= value < 10**12:
        return value
    raise _Answer(400, f"{name} is not a number")


def _integers(found: object) -> list[int]:
    if not isinstance(found, list):
        raise _Answer(400, "ids is not a list")
    return [_integer({"id": each}, "id") for each in found]


def _wanted(classes: object) -> dict[int, int]:
    """Return the class index of each photo, given the photos of each class."""
    if not isinstance(classes, list) or len(classes) != len(CLASSES):
        raise _Answer(400, "classes is not a list with one list per class")
    return {number: index for index in CLASSES for number in _integers(classes[index])}


def _query(given: dict[str, str]) -> Query:
    query = Query(**{f.name: given[f.name] for f in fields(Query) if f.name in given})
    if (
        query.show not in SHOW
        or query.label not in {"", *map(str, CLASSES)}
        or len(query.search) > MAX_SEARCH
    ):
        raise _Answer(400, "no such list")
    return query
