"""The review page on a large manifest: start, first paint, frame times while scrolling, memory.

    python tests/benchmarks/bench_review.py [--rows 100000]

The rows' photos are drawn, 640 x 480, each file under many names; one row in a hundred failed. A
page is scrolled from top to bottom in headless Chromium, half a window per frame; then a filter and
another order are asked for, a page is turned, and all of it is decided at once.

Measured on 2026-11-25 on two idle cores; the lower and upper ends of six windows in two runs:

    the server answers        after 4.3 s, with 65 MB
    first paint               208 to 292 ms; rows after 1.3 to 1.7 s
    frames while it scrolls   median 50 to 83 ms at 1280 pixels, 25 to 33 ms at 390
    another label, order      0.6 to 0.7 s, 0.8 to 1.2 s
    a page decided, undone    0.4 to 0.7 s, 0.1 to 0.3 s
    elements in the page      3,634
    memory of the server      at most 114 MB after three windows
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

sys.path.insert(0, str(Path(__file__).parents[2]))

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.handler.bundle import Card
from alpaca_labeler.handler.classifier import decide
from alpaca_labeler.handler.image_version import ImageVersion
from alpaca_labeler.handler.manifest_row import Failure
from tests.support.browser import NARROW, WIDE, Pages, chromium, until

CARD = Card("1-a", "alpaca", ("not alpaca", "alpaca"), 0.5, (0.3, 0.7), 8, "", (1.0, 0.0), "")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FILES = 200
NAMES_EACH = 1000  # every file system allows at least this many hard links to a file

PAINTS = "performance.getEntriesByType('paint').map(e => [e.name, e.startTime])"

ELEMENTS = "document.querySelectorAll('*').length"

SCROLL = """
async ([pixels, frames]) => {
  const main = document.getElementById("main");
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < frames; frame++) {
    main.scrollTop += pixels;
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
    if (main.scrollTop + main.clientHeight >= main.scrollHeight - 1) break;
  }
  return {times, bottom: main.scrollTop + main.clientHeight, of: main.scrollHeight};
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


def timed(page, does, true):
    """Return the seconds until something is there, as a page sees it."""
    began = time.perf_counter()
    does()
    until(page, true)
    return time.perf_counter() - began


def measure(page, address):
    """Print what one window sees."""
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".tile .name:not(:empty)", state="attached", timeout=60_000)
    rows = time.perf_counter() - began
    until(page, lambda: page.evaluate("document.querySelector('.tile img').complete"))
    photo = time.perf_counter() - began
    paints = dict(page.evaluate(PAINTS))
    print(
        f"  first paint {paints['first-paint']:.0f} ms, with content "
        f"{paints['first-contentful-paint']:.0f} ms; rows {rows:.2f} s, a photo {photo:.2f} s"
    )
    page.wait_for_timeout(1500)
    height = page.evaluate("document.getElementById('main').clientHeight")
    found = page.evaluate(SCROLL, [height // 2, 600])
    times = np.array(found["times"])
    print(
        f"  half a window per frame: {len(times):,} frames, median {np.median(times):.1f}, "
        f"p95 {np.percentile(times, 95):.1f}, max {times.max():.1f} ms; "
        f"{(times > 50).sum()} over 50 ms; {page.evaluate(ELEMENTS)} elements"
    )
    active = page.locator(".tile.active .name")
    for what, does, true in (
        (
            "a label",
            lambda: page.goto(f"{address}?label=alpaca"),
            lambda: page.locator(".chip").count() == 1 and page.locator(".tile").count() > 0,
        ),
        (
            "another order",
            lambda: page.goto(f"{address}?sort=name"),
            lambda: page.locator(".tile").count() > 0 and active.text_content() == "0000000.jpg",
        ),
        (
            "the last page",
            lambda: page.keyboard.press("End"),
            lambda: page.locator("#next").is_disabled(),
        ),
        (
            "a page decided",
            lambda: [page.keyboard.press(key) for key in ("Control+a", "a")],
            lambda: page.locator(".tile.decided").count() > 100,
        ),
        (
            "undone",
            lambda: page.keyboard.press("z"),
            lambda: page.locator(".tile.decided").count() == 0,
        ),
    ):
        print(f"  {what}: {timed(page, does, true):.2f} s")


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
        assert server.stdout
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
