"""`alpaca manifest`: looks, counts and converts, whatever is in the file."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner
from test_exports import FAILURE, row

from cli.main import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = [{"source-ref": "x", key: value} for key in ("labeler", "failure", "a-metadata")
           for value in (None, "text", {"confidence": "high", "probability": 7})]  # fmt: skip
    rows = [row(), row("n\x1b[2J\n", "not alpaca", **{"needs-review": True}), FAILURE, *odd]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))

    def run(*words, code=0):
        done = CliRunner().invoke(main, ["manifest", *words])
        assert done.exit_code == code, done.output
        return done

    return run


def test_show_prints_a_line_a_row_and_steers_no_terminal(run):
    output = run("show").stdout
    assert output.count("\n") == 12
    assert "\x1b" not in output
    assert output.startswith("0.9000   alpaca        s3://b/a.jpg\n")
    assert run("show", "--label", "alpaca").stdout.count("\n") == 1
    assert run("show", "--needs-review").stdout.count("\n") == 1
    assert run("show", "--limit", "2", "--json").stdout.count("\n") == 2


def test_stats_counts_everything(run):
    counts = json.loads(run("stats", "--json").stdout)
    assert (counts["rows"], counts["needs_review"]) == (12, 1)
    assert counts["label"]["not alpaca"] == 1
    assert "12 rows" in run("stats").stdout


def test_an_export_has_its_name_only_once_it_is_whole(run, tmp_path):
    done = run("export", "--format", "csv", "-o", "labels.csv")
    assert "left out: without a label" in done.stderr
    before = (tmp_path / "labels.csv").read_bytes()
    with open(tmp_path / "manifest.jsonl", "a") as file:
        file.write("garbage\n")
    done = run("export", "--format", "csv", "-o", "labels.csv", code=1)
    assert "manifest.jsonl: line 13: not JSON" in done.stderr
    assert (tmp_path / "labels.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["labels.csv", "manifest.jsonl"]


def test_an_export_never_replaces_the_manifest(run, tmp_path):
    before = (tmp_path / "manifest.jsonl").read_bytes()
    done = run("export", "--format", "csv", "-o", "./manifest.jsonl", code=2)
    assert "name another file" in done.stderr
    assert (tmp_path / "manifest.jsonl").read_bytes() == before
    assert "none/x: No such file" in run("export", "--format", "csv", "-o", "none/x", code=1).stderr
