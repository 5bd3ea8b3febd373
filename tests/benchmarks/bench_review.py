"""The review page on a large manifest: start, first paint, frame times while scrolling, memory.

    python tests/benchmarks/bench_review.py [--rows 100000]

The rows' photos are drawn, 640 x 480, each file under many names; one row in a hundred failed. The
page is scrolled from top to bottom in headless Chromium, half a window and five windows a frame.

Measured three times on 2026-11-24, on two shared cores, Chromium drawing in software on the same
two; three windows one after the other, 1280, 390 and 1280 pixels wide:

    the server answers        1.0 s after the command
    first paint               84 to 248 ms; rows by 0.6 s, the first photo by 0.8 s
    frames while it scrolls   median 16.7, p95 16.8, at most 83 ms; 5 of 23,505 over 50 ms
    elements in the page      at most 658
    memory of the server      65 MB with the rows read; after each window 102, 117 and 122 at most

Of that memory 32 MB are the pictures that are kept (`photos.CACHE_BYTES`). It is bounded: with
30,000 rows it stood at 106 MB from the fifth window to the eighth, and 25,000 different photos
asked for one after the other left it where the first 2,500 had.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.handler.bundle import Card
from alpaca_labeler.handler.classifier import decide
from alpaca_labeler.handler.image_version import ImageVersion
from alpaca_labeler.handler.manifest_row import Failure
from tests.support.browser import NARROW, WIDE, Pages, chromium

CARD = Card("1-a", "alpaca", ("not alpaca", "alpaca"), 0.5, (0.3, 0.7), 8, "", (1.0, 0.0), "")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FILES = 200
NAMES_EACH = 1000  # a file takes so many hard links and more, whatever the file system

PAINTS = "performance.getEntriesByType('paint').map(e => [e.name, e.startTime])"

ELEMENTS = "document.querySelectorAll('*').length"

SCROLL = """
async ([pixels, frames]) => {
  const gallery = document.getElementById("gallery");
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < frames; frame++) {
    gallery.scrollTop += pixels;
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
    if (gallery.scrollTop + gallery.clientHeight >= gallery.scrollHeight - 1) break;
  }
  return {times, bottom: gallery.scrollTop + gallery.clientHeight, of: gallery.scrollHeight};
}
"""


def draw(folder):
    """Draw the photos: soft shapes with some noise, as costly to decode as real ones."""
    noise = np.random.default_rng(1)
    folder.mkdir()
    for number in range(FILES):
        colours = noise.integers(40, 220, (6, 8, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(colours).resize((640, 480), Image.Resampling.BICUBIC))
        grain = noise.normal(0, 12, picture.shape)
        picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number:03}.jpg", quality=85)


def write(folder, rows):
    """Write the manifest and give each row its photo."""
    chance = random.Random(1)
    draw(folder / "drawn")
    with (
        open(folder / "manifest.jsonl", "wb") as good,
        open(folder / "failures.jsonl", "wb") as bad,
    ):
        for number in range(rows):
            name = f"photos/{number // NAMES_EACH:04}/{number:07}.jpg"
            drawn = folder / "drawn" / f"{number % FILES:03}.jpg"
            os.makedirs(folder / os.path.dirname(name), exist_ok=True)
            os.link(drawn, folder / name)
            version = ImageVersion(name, drawn.stat().st_size, "2026-01-01T00:00:00Z")
            if chance.random() < 0.01:
                failure = Failure("corrupt", "the image cannot be decoded: broken")
                bad.write(
                    manifest_row.encode(manifest_row.failure_row(version, failure, "1-a", NOON))
                )
            else:
                prediction = decide(CARD, chance.gauss(-1, 3))
                row = manifest_row.label_row(version, (640, 480), prediction, CARD, NOON)
                good.write(manifest_row.encode(row))


def memory(pid):
    """Resident megabytes of a process: (now, at most so far)."""
    with open(f"/proc/{pid}/status") as file:
        facts = dict(line.split(":", 1) for line in file)
    return tuple(int(facts[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def measure(page, address):
    """Print what one window sees."""
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".tile .name:not(:empty)", state="attached")
    rows = time.perf_counter() - began
    page.wait_for_selector(".tile img:not([hidden])")
    photo = time.perf_counter() - began
    paints = dict(page.evaluate(PAINTS))
    print(
        f"  first paint {paints['first-paint']:.0f} ms, with content "
        f"{paints['first-contentful-paint']:.0f} ms; rows {rows:.2f} s, a photo {photo:.2f} s"
    )
    page.wait_for_timeout(1500)
    height = page.evaluate("document.getElementById('gallery').clientHeight")
    for name, pixels, frames in (
        ("half a window a frame", height // 2, 600),
        ("five windows a frame, to the end", 5 * height, 10**6),
    ):
        found = page.evaluate(SCROLL, [pixels, frames])
        times = np.array(found["times"])
        print(
            f"  {name}: {len(times):,} frames, median {np.median(times):.1f}, "
            f"p95 {np.percentile(times, 95):.1f}, p99 {np.percentile(times, 99):.1f}, "
            f"max {times.max():.1f} ms; {(times > 50).sum()} over 50 ms; "
            f"at {found['bottom'] / found['of']:.0%}; {page.evaluate(ELEMENTS)} elements"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, rows)
        began = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "alpaca_labeler", "review", "--no-browser"],
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            address = server.stdout.readline().strip()
            print(f"{rows:,} rows: the server answers after {time.perf_counter() - began:.2f} s")
            print("memory {:.0f} MB, at most {:.0f}".format(*memory(server.pid)))
            with chromium() as browser:
                for width in (WIDE, NARROW, WIDE):
                    print(f"{width} pixels wide")
                    pages = Pages(browser)
                    measure(pages(width), address)
                    pages.close()
                    print("  memory {:.0f} MB, at most {:.0f}".format(*memory(server.pid)))
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


if __name__ == "__main__":
    main()
