"""A real browser for the tests of pages: headless Chromium, and axe-core's judgement.

Chromium is the machine's own (`CHROMIUM`, or one on the path): Playwright's downloads are not used.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.runs import interrupt, start

NAMES = ("chromium", "chromium-browser", "google-chrome")

# Nothing but the page under test is to be asked for anything.
ARGUMENTS = "--disable-gpu --disable-quic --no-first-run --disable-sync".split()
ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]

WIDTHS = WIDE, _, NARROW = 1280, 768, 390
"""Widths that every page is held to: of a laptop's window to a phone, in CSS pixels."""


def find_chromium():
    """Return the path of the machine's Chromium, or None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium():
    """Run a headless Chromium with a new, empty profile. Skips the test if it is not installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install it, or name one with CHROMIUM")
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox needs more rights than a container gives.
        running = driver.chromium.launch(
            executable_path=path, args=ARGUMENTS, chromium_sandbox=False
        )
        yield running
        running.close()


@contextmanager
def reviewing(folder, *words):
    """Run `alpaca review` in a folder, yield the address that it prints, and end it with Ctrl-C."""
    process = start("review", "--no-browser", *words, cwd=folder)
    try:
        yield process.stdout.readline().strip()
    finally:
        _, said = interrupt(process)
    assert "Traceback" not in said, said


def until(page, true):
    """Wait, while the page goes on, until `true()` is true, and return it."""
    for _ in range(200):
        if found := true():
            return found
        page.wait_for_timeout(50)
    raise AssertionError("it did not happen")


@dataclass
class Pages:
    """Opens pages, and remembers what went wrong in them, such as a request to another host."""

    browser: Any
    wrong: list[str] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)

    def __call__(self, width=WIDE, **options):
        """Open an empty page: `width` CSS pixels, a phone if it is narrow."""
        narrow = width < 600
        context = self.browser.new_context(
            viewport={"width": width, "height": 844 if narrow else 800},
            has_touch=narrow,
            is_mobile=narrow,
            **options,
        )
        context.set_default_timeout(15_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(f"error in the page: {error}"))
        page.on("console", self._heard)
        page.on("request", self._asked)
        page.on("dialog", self._shown)
        return page

    def close(self):
        for context in self.contexts:
            context.close()

    def _heard(self, message):
        if message.type in {"error", "warning"}:
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request):
        if not request.url.startswith(("http://127.0.0.1:", "file://", "data:", "blob:")):
            self.wrong.append(f"request: {request.url}")

    def _shown(self, dialog):
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def violations(page):
    """Return what is wrong with a page as it is now, light and dark, one line each.

    That is what axe-core finds, `rule: element`, and that it has to be scrolled sideways.
    """
    from axe_playwright_python.sync_playwright import Axe

    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    found = ["it is too wide"] * page.evaluate(wide)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        found += [
            f"{scheme}: {rule['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
            for rule in Axe().run(page).response["violations"]
            for node in rule["nodes"]
        ]
    return found
