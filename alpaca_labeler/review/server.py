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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qs

import msgspec

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.review.index import CLASSES, Query
from alpaca_labeler.review.photos import PhotoError, Photos
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
IDLE_SECONDS: Final = 60

_JSON: Final = "application/json"
_SEE_OTHER: Final = 303


T = TypeVar("T")
_Number = Annotated[int, msgspec.Meta(ge=0, lt=10**12)]


class _List(Query, frozen=True):
    photo: str = ""


class _Tiles(msgspec.Struct):
    generation: _Number
    ids: list[_Number]


class _Photo(msgspec.Struct):
    generation: _Number
    id: _Number
    size: Literal["tile", "large", "full"]


class _Undo(msgspec.Struct):
    generation: _Number
    since: _Number


class _Decide(_Undo):
    classes: tuple[list[_Number], list[_Number]]
    """Numbers of the photos that are to be of each class."""
    check: bool = False


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
            parsed = parse_qs(query, keep_blank_values=True, max_num_fields=20, errors="strict")
        except ValueError:
            raise _Answer(400, "the query cannot be read") from None
        if name not in {"list", "tiles", "photo"}:
            raise _Answer(404, "there is nothing here")
        given = {key: values[-1] for key, values in parsed.items()}
        if name == "list":
            wanted = _typed(_List, given)
            return _json(session.select(wanted, wanted.photo))
        if name == "tiles":
            tiles = _typed(_Tiles, given | {"ids": given.get("ids", "").split(",")})
            return _json(session.tiles(tiles.generation, tiles.ids))
        asked = _typed(_Photo, given)
        row = session.row(asked.generation, asked.id)
        try:
            return self.server.photos.jpeg(row, asked.size), "image/jpeg"
        except PhotoError as error:  # an ordinary answer, not a fault of the page
            return _said(str(error))

    def _post(self, name: str, _query: str) -> tuple[bytes, str]:
        if self.headers.get("Origin") not in {f"http://{host}" for host in self.server.hosts}:
            raise _Answer(403, "only the page itself may write")
        session = self.server.session
        if name == "decide":
            body = self._body(_Decide)
            wanted = {number: index for index in CLASSES for number in body.classes[index]}
            return _json(session.decide(body.generation, body.since, wanted, check=body.check))
        if name == "undo":
            return _json(session.undo(self._body(_Undo).since))
        raise _Answer(404, "there is nothing here")

    def _body(self, kind: type[T]) -> T:
        if self.headers.get_content_type() != _JSON:
            raise _Answer(415, "only JSON is accepted")
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdigit()):
            raise _Answer(411, "Content-Length is missing")
        if len(length) > len(str(MAX_BODY)) or int(length) > MAX_BODY:
            raise _Answer(413, f"more than {MAX_BODY:,} bytes")
        try:
            return msgspec.json.decode(self.rfile.read(int(length)), type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _Answer(400, str(error)) from None

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
    return msgspec.json.encode(value), _JSON


def _said(reason: str) -> tuple[bytes, str]:
    return _json({"error": reason.encode(errors="backslashreplace").decode()})


def _typed(kind: type[T], given: dict[str, Any]) -> T:
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _Answer(400, str(error)) from None
