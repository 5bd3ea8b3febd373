"""How long does a person wait who works with 100,000 rows: a resumed run, a report, a page?

    python tests/benchmarks/bench_review.py [ROWS]

The page is seen by headless Chromium, if there is one: it is opened, scrolled half a window per
frame, turned to its end, and all that is shown is decided at once and taken back.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import harness
from tests.support.browser import WIDE, Pages, chromium, find_chromium, until

SCROLL = """
async () => {
  const main = document.getElementById("main");
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  while (times.length < 600 && main.scrollTop + main.clientHeight < main.scrollHeight - 1) {
    main.scrollTop += main.clientHeight / 2;
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times;
}
"""


def measure(rows: int, times: int, scratch: Path) -> dict[str, harness.Ran]:
    """Return the median of each command over a folder of `rows` labelled files."""
    harness.say(f"commands over {rows:,} files")
    top, cores = scratch / "large", os.sched_getaffinity(0)
    harness.labelled(rows, top)
    table = top / "manifest.jsonl"
    commands: dict[str, list[object]] = {
        "`alpaca --help`": ["--help"],
        "`alpaca label`, all labelled before": ["label", top / "photos", "--manifest", table],
        "`alpaca report`": ["report", table, "-o", top / "report.html"],
    }
    before, found = table.stat().st_mtime_ns, {}
    for name, words in commands.items():
        ran = [harness.run(harness.alpaca(*words), cores, watch=True) for _ in range(times)]
        found[name] = sorted(ran, key=lambda one: one.seconds)[times // 2]
    assert table.stat().st_mtime_ns == before, "the resumed run found something to do"
    found |= page(top)
    return found


def page(top: Path) -> dict[str, harness.Ran]:
    """Review that folder: the server's start, and what a window sees."""
    began = time.perf_counter()
    words = harness.alpaca("review", top / "manifest.jsonl", "--no-browser")
    server = harness.start(words, os.sched_getaffinity(0), stdout=subprocess.PIPE)
    assert server.stdout
    try:
        address = server.stdout.readline().strip()
        found = {"`alpaca review`, ready": time.perf_counter() - began}
        if find_chromium():
            with chromium() as browser:
                pages = Pages(browser)
                found |= see(pages(WIDE), address)
                pages.close()
        return {
            name: harness.Ran(seconds, harness.peak(server.pid)) for name, seconds in found.items()
        }
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def see(page: Any, address: str) -> dict[str, float]:
    """Return the seconds until a page shows each thing."""
    found = {}

    def timed(what: str, does: Callable[[], object], true: Callable[[], object]) -> None:
        began = time.perf_counter()
        does()
        until(page, true)
        found[f"its page: {what}"] = time.perf_counter() - began

    def decided() -> int:
        return int(page.locator(".tile.decided").count())

    def decide() -> None:
        for key in ("Control+a", "a"):
            page.keyboard.press(key)

    shown = "[...document.querySelectorAll('.tile img')].some(image => image.naturalWidth)"
    timed("a photo", lambda: page.goto(address), lambda: page.evaluate(shown))
    page.wait_for_timeout(1000)
    frames = statistics.median(page.evaluate(SCROLL))
    found["its page: a frame of scrolling"] = frames / 1000
    last = page.locator("#next")
    timed("its end", lambda: page.keyboard.press("End"), last.is_disabled)
    timed("all that is shown decided", decide, lambda: decided() > 10)
    timed("and taken back", lambda: page.keyboard.press("z"), lambda: not decided())
    return found


def section(rows: int, found: dict[str, harness.Ran]) -> str:
    """Return the table of all that was measured."""
    lines = [[name, ran.seconds, ran.megabytes or None] for name, ran in found.items()]
    table = harness.table(("whole process", "seconds", "memory, MB"), lines)
    return f"## A folder of {rows:,} rows\n\n{table}"


if __name__ == "__main__":
    count = int(sys.argv[1]) if sys.argv[1:] else 100_000
    with tempfile.TemporaryDirectory() as folder:
        print(section(count, measure(count, 1, Path(folder))))
