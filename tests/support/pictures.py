"""Make the pictures of the README from tests/photos: `python -m tests.support.pictures`.

A real run in a terminal as SVG, and a screenshot of the real review page in a headless Chromium.
"""

from __future__ import annotations

import html
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.browser import Pages, chromium, reviewing, until

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs/pictures"

COLUMNS = 80
SESSION = ("alpaca label photos/", "alpaca manifest stats", "alpaca manifest show --limit 4")
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#f2cc60", "34": "#79c0ff", "36": "#76e3ea"}
STYLES = {code: f' fill="{colour}"' for code, colour in COLOURS.items()}
STYLES |= {"1": ' font-weight="bold"'}
LINE, TOP, LEFT, CHARACTER = 19, 44, 18, 8.4  # pixels


def run(command: str, folder: Path) -> str:
    """Run a command in a terminal of its own and return what the terminal showed."""
    words = f"{shlex.quote(sys.executable)} -m alpaca_labeler {command.removeprefix('alpaca ')}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(COLUMNS), "TERM": "xterm"}
    in_terminal = ["script", "--quiet", "--return", "--command", words, os.devnull]
    return subprocess.check_output(in_terminal, cwd=folder, env=environment, text=True)


def settled(text: str) -> list[str]:
    """Return the lines that stay: a progress bar overwrites its own."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [re.sub(r"\x1b\[(\?25[hl]|[0-9;]*[KJ])", "", line.split("\r")[-1]) for line in lines]


def spans(line: str) -> str:
    """Return a line with its colours and bold as SVG."""
    out, style = "", ""
    first, *rest = re.split(r"\x1b\[([0-9;]*)m", line)
    for codes, text in zip(["", *rest[::2]], [first, *rest[1::2]], strict=True):
        for code in codes.split(";"):
            style = "" if code in {"", "0"} else style + STYLES.get(code, "")
        out += f"<tspan{style}>{html.escape(text)}</tspan>" if text else ""
    return out


def drawing(lines: list[str]) -> str:
    """Return terminal lines as an SVG picture."""
    width, height = LEFT * 2 + round(COLUMNS * CHARACTER), TOP + LINE * len(lines) + 12
    rows = "\n".join(
        f'<text x="{LEFT}" y="{TOP + LINE * number}" xml:space="preserve">{spans(line)}</text>'
        for number, line in enumerate(lines, 1)
    )
    dots = "".join(
        f'<circle cx="{LEFT + 6 + 20 * n}" cy="20" r="6" fill="#484f58"/>' for n in range(3)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="ui-monospace, Menlo, Consolas, monospace" '
        f'font-size="14" fill="#e6edf3"><title>A terminal session of alpaca</title>'
        f'<rect width="{width}" height="{height}" rx="10" fill="#0d1117"/>{dots}\n{rows}\n</svg>\n'
    )


def screenshot(folder: Path, target: Path) -> None:
    """Take a picture of the review page of a folder that has been labelled."""
    with chromium() as browser, reviewing(folder) as address:
        pages = Pages(browser)
        page = pages(width=1280)
        page.goto(address)
        shown = "[...document.images].filter((image) => image.naturalWidth).length === 8"
        until(page, lambda: page.evaluate(shown))
        page.screenshot(path=target)
        pages.close()


def main() -> None:
    """Make both pictures."""
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "tests/photos", folder / "photos")
        lines: list[str] = []
        for command in SESSION:
            lines += [f"\x1b[1m$ {command}\x1b[0m", *settled(run(command, folder))]
        (TARGET / "session.svg").write_text(drawing(lines), encoding="utf-8")
        screenshot(folder, TARGET / "review.png")


if __name__ == "__main__":
    main()
