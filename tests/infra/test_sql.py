"""The views over labels/ say what `alpaca manifest cat` says, whatever has been compacted."""

from __future__ import annotations

import base64
import itertools
import json
import random
import re
from pathlib import Path

import duckdb
import pytest

from alpaca_labeler.handler import compaction, manifest_row, pair, parts, storage
from tests.support.cloudformation import deployed
from tests.support.fake_s3 import FakeS3
from tests.support.rows import failure, human, label

SQL = Path(__file__).parents[2] / "infra/sql"
RESULTS = "s3://results/labels/"
COLUMNS = (
    "source_ref",
    "label",
    "confidence",
    "probability",
    "by_person",
    "needs_review",
    "failure",
    "failure_message",
    "model_version",
    "etag",
)


def view():
    """Return the query of Athena's view, without its comments."""
    lines = (SQL / "labels.sql").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("--")) + "\n"


def of_duckdb(sql):
    """Spell Athena's functions as DuckDB does."""
    sql = sql.replace("json_extract_scalar(", "json_extract_string(").replace("min_by(", "arg_min(")
    return re.sub(r'\["([\w-]+)"\]', r'."\1"', sql)


@pytest.fixture
def s3(monkeypatch):
    fake = FakeS3()
    monkeypatch.setattr(storage, "client", lambda: fake)
    monkeypatch.setattr(pair, "DIGITS", 1)
    return fake


def expected():
    """Return what `manifest cat` gives, as the columns of the view."""
    for line, _ in compaction.table(RESULTS):
        row = manifest_row.parse(line)
        if manifest_row.is_gone(row):
            continue
        labeler, failed = manifest_row.block(row, "labeler"), manifest_row.block(row, "failure")
        yield (
            row["source-ref"],
            manifest_row.label(row),
            manifest_row.confidence(row),
            labeler.get("probability"),
            manifest_row.is_human(row),
            labeler.get("needs-review", False),
            failed.get("code"),
            failed.get("message"),
            labeler.get("model-version", ""),
            labeler.get("etag"),
        )


def by_view(s3, folder):
    for (bucket, key), stored in s3.objects.items():
        if bucket == "results":
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stored.body)
    script = (SQL / "labels.duckdb.sql").read_text(encoding="utf-8")
    with duckdb.connect() as database:
        database.execute(script.replace("s3://RESULTS/labels/", f"{folder}/labels/"))
        return database.execute(
            f"SELECT {', '.join(COLUMNS)} FROM labels ORDER BY source_ref"
        ).fetchall()


def variants(chosen):
    """Make rows of a few photos: versions, models, people, failures; some unnamed, some gone."""
    for _ in range(chosen.randrange(2, 40)):
        name, number = chosen.choice('ab"ü\\'), chosen.randrange(1, 4)
        make = chosen.choice([label, label, failure, human])
        row = make(name, number, minute=chosen.randrange(10))
        facts = row["labeler"]
        facts["model-version"] = chosen.choice(["1-a", "2-b"])
        if chosen.random() < 0.2:
            facts["etag"] = None
        if chosen.random() < 0.4:
            facts["sequencer"] = None
        if make is label and chosen.random() < 0.1:
            facts["withdrawn"] = f"2026-01-02T00:0{chosen.randrange(10)}:00.000000"
        if chosen.random() < 0.15:
            row = manifest_row.gone(row, f"2026-01-01T00:0{chosen.randrange(1, 5)}:00Z")
        yield row


@pytest.mark.parametrize("seed", range(25))
def test_the_view_gives_what_manifest_cat_gives(s3, tmp_path, seed):
    chosen = random.Random(seed)
    for number, row in enumerate(variants(chosen)):
        parts.write(RESULTS, [row])
        if number and chosen.random() < 0.1:
            compaction.compact(RESULTS, pause=0, divide_bytes=chosen.choice([10**9, 3000]))
    assert by_view(s3, tmp_path) == [*expected()]


def test_the_view_reads_a_divided_table_with_parts_that_wait(s3, tmp_path):
    rows = [(label if number % 5 else failure)(f"{number:03}") for number in range(100)]
    parts.write(RESULTS, rows)
    compaction.compact(RESULTS, pause=0, divide_bytes=1000)
    parts.write(RESULTS, [human("001"), label("002", 2), label("005"), label("new")])
    assert len({key for _, key in s3.objects if "/manifest/" in key}) == 16
    found = by_view(s3, tmp_path)
    assert len(found) == 101
    assert found == [*expected()]


def test_the_views_of_athena_and_duckdb_are_one_query():
    script = (SQL / "labels.duckdb.sql").read_text(encoding="utf-8")
    assert script.endswith(of_duckdb(view()).rstrip() + ";\n")


# --- what Athena=yes makes -----------------------------------------------------------------------


def test_without_it_nothing_is_made():
    assert not [name for name, (kind, _) in deployed().items() if "::Glue::" in kind]


def test_the_view_of_the_template_is_the_one_that_is_tested():
    resources = deployed(Athena="yes")
    _, database = resources["LabelsDatabase"]
    _, lines = resources["LinesTable"]
    _, labels = resources["LabelsView"]
    assert lines["TableInput"]["StorageDescriptor"]["Location"].endswith("/labels/")
    assert lines["TableInput"]["Name"] == "lines"
    text = labels["TableInput"]["ViewOriginalText"]
    encoded = text.removeprefix("/* Presto View: ").removesuffix(" */")
    definition = json.loads(base64.b64decode(encoded))
    assert definition["originalSql"] == view()
    assert definition["schema"] == database["DatabaseInput"]["Name"] == "farm"
    described = labels["TableInput"]["StorageDescriptor"]["Columns"]
    trino = {"string": "varchar"}
    assert definition["columns"] == [
        {"name": column["Name"], "type": trino.get(column["Type"], column["Type"])}
        for column in described
    ]
    names = [column["Name"] for column in described]
    assert names == [*COLUMNS, "created"]
    assert [*itertools.filterfalse(view().__contains__, names)] == []
