"""How long does a person wait who has labelled 100,000 photos: help, a resumed run, a report?"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import harness

DRAWN = 200
"""Files behind the rows: each has many names, since links cost no disk."""


def measure(rows: int, times: int, scratch: Path) -> dict[str, harness.Ran]:
    """Return the median of each command over a folder of `rows` labelled files."""
    harness.say(f"commands over {rows:,} files")
    top, cores = scratch / "large", os.sched_getaffinity(0)
    labelled(rows, top)
    table = top / "manifest.jsonl"
    commands: dict[str, list[object]] = {
        "`alpaca --help`": ["--help"],
        "`alpaca label`, all labelled before": ["label", top / "photos", "--manifest", table],
        "`alpaca report`": ["report", table, "-o", top / "report.html"],
    }
    before, found = table.read_bytes(), {}
    for name, words in commands.items():
        ran = [harness.run(harness.alpaca(*words), cores, watch=True) for _ in range(times)]
        found[name] = sorted(ran, key=lambda one: one.seconds)[times // 2]
    assert table.read_bytes() == before, "the resumed run found something to do"
    return found


def labelled(count: int, top: Path) -> None:
    """Make `top/photos` of `count` files and `top/manifest.jsonl`, of a run that labelled all."""
    from alpaca_labeler.label import sources
    from alpaca_labeler.model import bundle
    from alpaca_labeler.photos.content import content_of
    from alpaca_labeler.photos.skip import Skipped
    from alpaca_labeler.table.facts import Answer, Read, timestamp
    from alpaca_labeler.table.row import Row

    (top / "drawn").mkdir(parents=True)
    contents: dict[int, str] = {}
    for number, path in enumerate(harness.photos(640, DRAWN, top / "drawn")):
        contents[os.stat(path).st_ino] = content_of(Path(path).read_bytes())
        for copy in range(number, count, DRAWN):
            name = top / f"photos/{copy // 1000:04}/IMG_{copy:07}.jpg"
            name.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, name)
    card, at = bundle.load().card, timestamp(datetime.now(UTC))
    found = sources.find([str(top / "photos")], Skipped())
    with (top / "manifest.jsonl").open("wb") as file:
        for number, image in enumerate(sorted(found, key=lambda image: image.source_ref)):
            content = contents[os.stat(image.source_ref).st_ino]
            read = Read(at, content, size=image.size, last_modified=image.last_modified)
            index = number % 2
            answer = Answer(card.version, card.labels[index], index, card.attribute, index, 0.5)
            file.write(Row(os.path.relpath(image.source_ref, top), read, answer).to_line())


def section(rows: int, found: dict[str, harness.Ran]) -> str:
    """Return the table of all that was measured."""
    lines = [[name, ran.seconds, ran.megabytes or None] for name, ran in found.items()]
    table = harness.table(("whole process", "seconds", "memory, MB"), lines)
    return f"## A folder of {rows:,} rows\n\n{table}"
