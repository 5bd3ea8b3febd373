"""`alpaca manifest`: shows, counts and converts, whatever is in the file."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.table import bucket
from alpaca_labeler.table.table import open_table
from tests.support.rows import failure, human, label

RESULTS = "s3://results/labels/"
HOSTILE = "n\x1b[2J\x9b31m\u202e\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = [
        {"source-ref": f"x {key} {number}", key: value}
        for key in ("labeler", "failure", "a-metadata")
        for number, value in enumerate((None, "text", {"confidence": "high", "probability": 7}))
    ]
    two = {f"{key}-metadata": {"class-name": key} for key in ("cat", "dog")}
    unsure = replace(label("", probability=0.45), source_ref=HOSTILE)
    rows = [label("a.jpg"), unsure, failure("f.jpg"), human("h.jpg", was="alpaca")]
    foreign = [*odd, {"source-ref": "z", **two}]
    lines = [row.to_line() for row in rows] + [msgspec.json.encode(row) + b"\n" for row in foreign]
    (tmp_path / "manifest.jsonl").write_bytes(b"".join(lines))

    def run(*words, code=0):
        done = CliRunner().invoke(main, ["manifest", *words])
        assert done.exit_code == code, done.output
        return done

    return run


def test_show_prints_one_line_per_row_and_steers_no_terminal(run):
    output = run("show").stdout
    assert output.count("\n") == 14
    assert "\n0.9000   alpaca        s3://photos/a.jpg\n" in output
    assert "\nfailed   corrupt       s3://photos/f.jpg\nperson   not           s3://ph" in output
    printed = run("show", "--json").stdout
    for text in (output, printed):
        assert text.replace("\n", "").isprintable()
    assert json.loads(printed.splitlines()[0])["source-ref"] == HOSTILE
    for words, name in ((["--label", "alpaca"], "a.jpg"), (["--failed"], "f.jpg")):
        assert run("show", *words).stdout.endswith(f"s3://photos/{name}\n")
        assert run("show", *words).stdout.count("\n") == 1
    assert run("show", "--needs-review").stdout.count("\n") == 1
    assert run("show", "--limit", "2", "--json").stdout.count("\n") == 2
    said = "there is no label 'x'; the labels are: alpaca, cat, not"
    assert said in run("show", "--label", "x", code=2).stderr


def test_stats_counts_everything(run):
    assert json.loads(run("stats", "--json").stdout) == {
        "rows": 14,
        "needs_review": 1,
        "progress": {
            "decided": 1,
            "changed": 1,
            "left": 3,
            "wrong_left": 1.0,
            "checked": 0,
            "checked_wrong": 0,
            "checked_right": None,
        },
        "ambiguous": 1,
        "other_tasks": 9,
        "label": {"alpaca": 1, "cat": 1, "not": 2},
        "by": {"model": 3, "person": 1},
        "model": {"1-a": 3, "unknown": 1},
        "failure": {"corrupt": 1},
        "probability": {"0.45": 1, "0.90": 1},
    }
    shown = run("stats").stdout
    for said in (
        "14 rows, 1 needs review\n",
        "\n1 of 4 decided, 1 changed; about 1 wrong in the 3 left\n",
        "1 with several labels, of which the first counts\n",
        "9 of another kind of task, without a class name\n",
    ):
        assert said in shown


def test_an_export_has_its_name_only_once_it_is_whole(run, tmp_path):
    done = run("export", "--format", "csv", "-o", "labels.csv")
    assert "left out: a row without a class name" in done.stderr
    assert "1 with several labels, of which the first counts" in done.stderr
    before = (tmp_path / "labels.csv").read_bytes()
    with open(tmp_path / "manifest.jsonl", "a") as file:
        file.write("garbage\n")
    done = run("export", "--format", "csv", "-o", "labels.csv", code=1)
    assert "manifest.jsonl: line 15: not JSON" in done.stderr
    assert (tmp_path / "labels.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["labels.csv", "manifest.jsonl"]
    assert "none/x: No such file" in run("export", "--format", "csv", "-o", "none/x", code=1).stderr


@pytest.mark.parametrize("where", ["folder", "bucket", "compacted"])
def test_what_a_person_decides_is_in_every_command_with_no_step_between(run, aws, tmp_path, where):
    name = "manifest.jsonl" if where == "folder" else RESULTS
    if where == "folder":
        (tmp_path / name).write_bytes(b"".join(label(each).to_line() for each in "abc"))
    else:
        aws.create_bucket(Bucket="results")
        bucket.write(name, [label(each) for each in "abc"])
    table = open_table(name)
    row = next(table.rows())
    table.append([row.decided("not", "kim", datetime.now(UTC), index=0)])
    if where == "compacted":
        bucket.compact(RESULTS, pause=0)
    assert json.loads(run("stats", name, "--json").stdout)["label"] == {"alpaca": 2, "not": 1}
    assert "person   not           s3://photos/a\n" in run("show", name).stdout
    done = run("export", name, "--format", "csv")
    assert "s3://photos/a,not," in done.stdout
    assert "\n1 of 3 decided, 1 changed; " in done.stderr
    printed = json.loads(run("show", name, "--json").stdout.splitlines()[0])
    assert printed["alpaca-metadata"]["class-name"] == "not"
    assert printed["labeler"]["answer"]["label"] == "alpaca"
    done = CliRunner().invoke(main, ["report", name, "--no-photos", "-o", "report.html"])
    assert done.exit_code == 0
    assert "1 of 3 decided, 1 changed; fewer than" in (tmp_path / "report.html").read_text()
    table.append([next(table.rows()).decided(None, "kim", datetime.now(UTC))])
    assert json.loads(run("stats", name, "--json").stdout)["label"] == {"alpaca": 3}
