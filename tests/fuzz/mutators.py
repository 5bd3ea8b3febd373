"""How an input is changed. Each mutator takes bytes and a `random.Random`, and returns bytes."""

from __future__ import annotations

import json
import zlib
from random import Random
from typing import Any

TOKENS = (
    *(bytes([255, marker]) for marker in (0xD8, 0xD9, 0xDA, 0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE1)),
    *b"IHDR IDAT PLTE tRNS acTL fcTL zTXt iCCP eXIf VP8X VP8L ALPH ANMF ftyp meta iloc".split(),
    *b'II*\0 MM\0* GIF89a .. / %2F %00 " \\ { [ } ] = null 1e999 -1'.split(),
    *(b"\0", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\xff\xfe", b"\xff\xff\xff\xff"),
)
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, -0.0, 1e308, float("inf"), float("nan")),
    *(2**31, 2**63, 2**64, 10**400, [], {}, [[]], [None], {"": None}, {"source-ref": "a"}),
    *("", " ", "x" * 3000, "\ud800", "\u202e", "\0", "\n", '"', "=1+1", "../../x", "null", "%"),
    *("s3://", "s3:///", "s3://photos/", "file:///%00", "%FF", "%ED%A0%80", "a+b%2B", "yes", "no"),
    *("2026-13-45T99:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
    *("aws:sqs", "aws:s3", "1-a", "ObjectCreated:Put"),
)


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """Change a few places without any idea of what they mean."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 9))):
        # Headers decide more than pixels: half of all changes fall into the first 200 bytes.
        at = rng.randrange(min(len(data), 200 if rng.random() < 0.5 else len(data)) + 1)
        size = rng.choice((1, 2, 4, rng.randrange(64) + 1))
        new = rng.choice(
            (
                b"",  # cut
                bytes(byte ^ (1 << rng.randrange(8)) for byte in data[at : at + 1]),
                rng.randbytes(size),
                rng.choice(TOKENS),
                data[at : at + size] * rng.choice((2, 3, 50)),
                data[rng.randrange(len(data) + 1) :][:size],
            )
        )
        skipped = rng.choice((len(new), len(new), 0, size))
        end = data[at + skipped :] if rng.random() < 0.95 else b""
        data = data[:at] + new + end
    return data


def mutate_picture(data: bytes, rng: Random) -> bytes:
    """Change bytes; a PNG whose checksums are wrong is refused at once, so half get new ones."""
    data = mutate_bytes(data, rng)
    if rng.random() < 0.5 or not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = data[:8], 8
    while (end := at + 8 + int.from_bytes(data[at : at + 4])) + 4 <= len(data):
        out += data[at:end] + zlib.crc32(data[at + 4 : end]).to_bytes(4)
        at = end + 4
    return out + data[at:]


def mutate_json(data: bytes, rng: Random) -> bytes:
    """Change values, keys and nesting; sometimes the text itself."""
    try:
        document = json.loads(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            document = _mutate_value(document, rng)
        text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    changed = text.encode(errors="surrogatepass")
    return mutate_bytes(changed, rng) if rng.random() < 0.2 else changed


def _mutate_value(value: Any, rng: Random) -> Any:
    if isinstance(value, str) and value[:1] in "{[" and rng.random() < 0.7:  # an event in a message
        return mutate_json(value.encode(errors="replace"), rng).decode(errors="replace")
    if not (isinstance(value, dict | list) and value and rng.random() < 0.9):
        if rng.random() < 0.05:
            for _ in range(rng.choice((2, 200, 600, 1200))):
                value = [value]
            return value
        return rng.choice(HOSTILE)
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


def mutate_lines(data: bytes, rng: Random) -> bytes:
    """Change a file of lines: its rows, their order, its end, its encoding."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        fate = rng.randrange(9)
        if fate < 4:
            lines[at] = mutate_json(lines[at], rng)
        elif fate == 4:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif fate == 5:
            rng.shuffle(lines)
        elif fate == 6:  # a key that is there twice
            lines[at] = lines[at][:-1] + b',"source-ref":' + rng.choice((b'"a"}', b"1}", b'"b"}'))
        elif fate == 7:
            form = rng.choice(("utf-16", "latin-1", "utf-8-sig", "utf-7", "shift-jis"))
            lines[at] = lines[at].decode(errors="replace").encode(form, errors="replace")
        else:
            lines[at] = mutate_bytes(lines[at], rng)
        data = rng.choice((b"\n", b"\n", b"\n", b"\n", b"\r\n", b"")).join(lines)
    return data
