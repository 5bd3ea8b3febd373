"""How an input is changed. Each mutator takes bytes and a `random.Random`, and returns bytes."""

from __future__ import annotations

import json
import struct
import zlib
from random import Random
from typing import Any

INTERESTING = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65500, 65535, 2**31 - 1, 2**31)
TOKENS = (
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda",
    b"\xff\xc0",
    b"\xff\xc2",
    b"\xff\xc4",
    b"\xff\xdb",
    b"\xff\xdd",
    b"\xff\xe1",
    b"\xff\xed",
    b"IHDR",
    b"IDAT",
    b"PLTE",
    b"tRNS",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"zTXt",
    b"iCCP",
    b"eXIf",
    b"VP8X",
    b"VP8L",
    b"ALPH",
    b"ANIM",
    b"ANMF",
    b"ftyp",
    b"meta",
    b"iloc",
    b"iprp",
    b"ispe",
    b"mdat",
    b"II*\0",
    b"MM\0*",
    b"GIF89a",
    b"!\xff\x0b",
    b"\n",
    b"\r\n",
    b"\0",
    b"..",
    b"/",
    b"%2F",
    b"%00",
    b'"',
    b"\\",
    b"{",
    b"[",
    b"}",
    b"]",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\xff\xfe",
    b"=",
    b"null",
    b"1e999",
    b"-1",
)

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
    2**31,
    2**63,
    2**64,
    10**400,
    "",
    " ",
    "x" * 3000,
    "\ud800",
    "\u202e",
    "\0",
    "\n",
    '"',
    "=1+1",
    "../../x",
    "s3://",
    "s3:///",
    "s3://photos/",
    "file:///%00",
    "2026-13-45T99:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "yes",
    "no",
    "null",
    "%",
    "%FF",
    "%ED%A0%80",
    "a+b%2B",
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"source-ref": "a"},
    "aws:sqs",
    "aws:s3",
    "1-a",
    "ObjectCreated:Put",
)


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """Change a few places without any idea of what they mean."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 9))):
        data = rng.choice((_flip, _set, _number, _cut, _repeat, _token, _swap, _end))(data, rng)
    return data


def _place(data: bytes, rng: Random) -> int:
    # Headers decide more than pixels: half of all changes fall into the first 200 bytes.
    return rng.randrange(min(len(data), 200) if rng.random() < 0.5 else len(data)) if data else 0


def _flip(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return (
        data[:at] + bytes(b ^ (1 << rng.randrange(8)) for b in data[at : at + 1]) + data[at + 1 :]
    )


def _set(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _number(data: bytes, rng: Random) -> bytes:
    at, kind = _place(data, rng), rng.choice("BHI")
    size = struct.calcsize(kind)
    value = (rng.choice(INTERESTING) + rng.choice((-1, 0, 0, 1))) % 2 ** (8 * size)
    return data[:at] + struct.pack(rng.choice("<>") + kind, value) + data[at + size :]


def _cut(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 4, rng.randrange(64) + 1)) :]


def _repeat(data: bytes, rng: Random) -> bytes:
    at, size, times = _place(data, rng), rng.randrange(64) + 1, rng.choice((1, 1, 2, 50))
    return data[:at] + data[at : at + size] * times + data[at:]


def _token(data: bytes, rng: Random) -> bytes:
    at, token = _place(data, rng), rng.choice(TOKENS)
    return data[:at] + token + data[at + len(token) * rng.randrange(2) :]


def _swap(data: bytes, rng: Random) -> bytes:
    one, other = sorted((_place(data, rng), _place(data, rng)))
    size = rng.randrange(16) + 1
    return (
        data[:one]
        + data[other : other + size]
        + data[one + size : other]
        + data[one : one + size]
        + data[other + size :]
    )


def _end(data: bytes, rng: Random) -> bytes:
    return data[: _place(data, rng)]


def splice(data: bytes, other: bytes, rng: Random) -> bytes:
    """The beginning of one input and the end of another."""
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def mutate_picture(data: bytes, rng: Random) -> bytes:
    data = mutate_bytes(data, rng)
    # A PNG whose checksums are wrong is refused at once; half of them get further.
    return repair_png(data) if rng.random() < 0.5 else data


def repair_png(data: bytes) -> bytes:
    """Give every chunk of a PNG the checksum of what it holds now."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        out += [data[at:end], zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join(out) + data[at:]


def mutate_json(data: bytes, rng: Random) -> bytes:
    """Change values, keys and nesting; sometimes the text itself."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        document = _mutate_value(document, rng)
    try:
        text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    changed = text.encode(errors="surrogatepass")
    return mutate_bytes(changed, rng) if rng.random() < 0.2 else changed


def _mutate_value(value, rng: Random):
    if isinstance(value, str) and value[:1] in "{[" and rng.random() < 0.7:  # an event in a message
        return mutate_json(value.encode(errors="replace"), rng).decode(errors="replace")
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        value = value.copy()
        at = rng.choice([*value]) if isinstance(value, dict) else rng.randrange(len(value))
        fate = rng.random()
        if fate < 0.1:
            del value[at]
        elif fate < 0.2 and isinstance(value, dict):
            value[str(rng.choice(HOSTILE))] = value.pop(at)
        elif fate < 0.25 and isinstance(value, list):
            value += value * rng.choice((1, 1, 30))
        else:
            value[at] = _mutate_value(value[at], rng)
        return value
    if rng.random() < 0.05:
        for _ in range(rng.choice((2, 200, 600, 1200))):
            value = [value]
        return value
    return rng.choice(HOSTILE)


def mutate_lines(data: bytes, rng: Random) -> bytes:
    """Change a JSON Lines file: its rows, their order, its end, its encoding."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        fate = rng.randrange(10)
        if fate < 4:
            lines[at] = mutate_json(lines[at], rng)
        elif fate == 4:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif fate == 5:
            lines[at : at + 1] = [lines[at][: rng.randrange(len(lines[at]) + 1)]]
        elif fate == 6:
            rng.shuffle(lines)
        elif fate == 7:  # a key that is there twice
            twice = b'"source-ref":' + rng.choice((b'"a"', b"1", b'"b"')) + b",}"
            lines[at] = lines[at][:-1] + b"," + twice[:-2] + b"}"
        elif fate == 8:
            text = lines[at].decode(errors="replace")
            form = rng.choice(("utf-16", "latin-1", "utf-8-sig", "utf-7", "shift-jis"))
            lines[at] = text.encode(form, errors="replace")
        else:
            lines[at] = mutate_bytes(lines[at], rng)
        data = rng.choice((b"\n", b"\n", b"\n", b"\n", b"\r\n", b"")).join(lines)
    return data
