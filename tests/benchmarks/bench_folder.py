"""How long does a person wait who has labelled 100,000 photos: for help, for a resumed run?"""

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
    drawn = harness.photos(640, DRAWN, top / "drawn")
    contents = [content_of(Path(path).read_bytes()) for path in drawn]
    card, at = bundle.load().card, timestamp(datetime.now(UTC))
    with (top / "manifest.jsonl").open("wb") as file:
        for number in range(count):
            name = f"photos/{number // 1000:04}/IMG_{number:07}.jpg"
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(drawn[number % DRAWN], top / name)
            [image] = sources.find([str(top / name)], Skipped())
            content, index = contents[number % DRAWN], number % 2
            read = Read(at, content, size=image.size, last_modified=image.last_modified)
            answer = Answer(card.version, card.labels[index], index, card.attribute, index, 0.5)
            file.write(Row(name, read, answer).to_line())


def section(rows: int, found: dict[str, harness.Ran]) -> str:
    """Return the table of all that was measured."""
    lines = [[name, ran.seconds, ran.megabytes or None] for name, ran in found.items()]
    table = harness.table(("whole process", "seconds", "memory, MB"), lines)
    return f"## A folder of {rows:,} rows\n\n{table}"
