"""`alpaca manifest`: shows, counts and converts, whatever is in the file."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.table import parts
from tests.alpaca_labeler.manifest.test_exports import FAILURE, row
from tests.support import runs


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = [
        {"source-ref": f"x {key} {number}", key: value}
        for key in ("labeler", "failure", "a-metadata")
        for number, value in enumerate((None, "text", {"confidence": "high", "probability": 7}))
    ]
    rows = [row(), row("n\x1b[2J\n", "not alpaca", **{"needs-review": True}), FAILURE, *odd]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))

    def run(*words, code=0):
        done = CliRunner().invoke(main, ["manifest", *words])
        assert done.exit_code == code, done.output
        return done

    return run


def test_show_prints_one_line_per_row_and_steers_no_terminal(run):
    output = run("show").stdout
    assert output.count("\n") == 12
    assert "\x1b" not in output
    assert "\n0.9000   alpaca        s3://b/a.jpg\n" in output
    assert run("show", "--label", "alpaca").stdout.count("\n") == 1
    assert run("show", "--needs-review").stdout.count("\n") == 1
    assert run("show", "--limit", "2", "--json").stdout.count("\n") == 2


def test_stats_counts_everything(run):
    counts = json.loads(run("stats", "--json").stdout)
    assert (counts["rows"], counts["needs_review"]) == (12, 1)
    assert counts["label"]["not alpaca"] == 1
    shown = run("stats").stdout
    assert "12 rows" in shown
    assert f"{counts['other_tasks']} of another kind of task, without a class name" in shown
    assert counts["other_tasks"] > 0


def test_an_export_has_its_name_only_once_it_is_whole(run, tmp_path):
    done = run("export", "--format", "csv", "-o", "labels.csv")
    assert "left out: a row without a class name" in done.stderr
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


def test_a_row_that_names_no_object_is_said_by_name_and_no_fault(run, tmp_path):
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row("s3://")) + "\n")
    assert run("prune", code=1).stderr == "Error: s3://: not of the form s3://bucket/key\n"
    for words in (["show"], ["stats"], ["export", "--format", "csv"]):
        run(*words)


# --- apply ---------------------------------------------------------------------------------------


def persons(row, **more):
    """The row as a person has it: the other label, a little later."""
    metadata = {
        **row["alpaca-metadata"],
        "class-name": "by hand",
        "confidence": 1.0,
        "human-annotated": "yes",
        "creation-date": "2027-01-01T00:00:00.000000",
    }
    return {**row, "alpaca": 1 - row["alpaca"], "alpaca-metadata": metadata, **more}


def write(path, *rows):
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))


def apply(*words, code=0):
    done = CliRunner().invoke(main, ["manifest", "apply", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


@pytest.mark.slow
def test_what_people_say_stays_when_photos_are_labelled_again(tmp_path, photos):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/broken.jpg").write_bytes(b"\xff\xd8\xff")
    runs.label("photos", cwd=tmp_path)
    by_model = runs.rows(tmp_path / "manifest.jsonl")
    failed = runs.rows(tmp_path / "failures.jsonl")["photos/broken.jpg"]
    name = next(iter(by_model))
    label = {key: by_model[name][key] for key in ("alpaca", "alpaca-metadata")}
    said = [
        persons(by_model[name]),
        persons({"source-ref": "photos/broken.jpg", **label, "labeler": failed["labeler"]}),
    ]
    write(tmp_path / "theirs.jsonl", *said)
    done = runs.alpaca("manifest", "apply", "theirs.jsonl", "manifest.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "2 applied\n")
    expected = {**by_model, **{each["source-ref"]: each for each in said}}
    assert runs.rows(tmp_path / "manifest.jsonl") == expected
    assert not (tmp_path / "failures.jsonl").exists()

    before = (tmp_path / "manifest.jsonl").read_bytes()
    assert runs.label("photos", cwd=tmp_path)["unchanged"] == len(expected)
    done = runs.alpaca("manifest", "apply", "theirs.jsonl", "manifest.jsonl", cwd=tmp_path)
    assert done.stderr == "0 applied\n2 there already\n"
    assert (tmp_path / "manifest.jsonl").read_bytes() == before

    runs.label("photos", "--relabel", cwd=tmp_path)
    again = runs.rows(tmp_path / "manifest.jsonl")
    assert {ref: again[ref] for ref in again if again[ref] in said} == {
        each["source-ref"]: each for each in said
    }


def test_what_people_say_stays_in_a_bucket_whatever_comes_late(tmp_path, aws):
    aws.create_bucket(Bucket="results")
    results = "s3://results/labels/"
    before = row("s3://photos/a.jpg", etag="e1", **{"last-modified": "2026-01-01T00:00:00Z"})
    parts.write(results, [before, FAILURE])
    write(tmp_path / "corrections.jsonl", persons(before))
    for words in ([], ["--dry-run"], []):
        apply(tmp_path / "corrections.jsonl", results, *words)

    def table():
        done = CliRunner().invoke(main, ["manifest", "cat", results])
        return [json.loads(line) for line in done.stdout.splitlines()]

    late = {**before, "labeler": {**before["labeler"], "model-version": "9-z"}}
    for step in ("cat", "compact", "late", "cat", "compact", "again", "compact"):
        if step == "late":
            parts.write(results, [late])
        if step == "again":
            done = apply(tmp_path / "corrections.jsonl", results)
            assert done.stderr == "0 applied\n1 there already\n"
        if step == "compact":
            CliRunner().invoke(main, ["manifest", "compact", results])
        assert table() == [persons(before)]


def test_apply_says_what_it_would_do(tmp_path):
    write(tmp_path / "m.jsonl", row(etag="e2"))
    write(tmp_path / "c.jsonl", persons(row(etag="e1")), persons(row("s3://b/z.jpg", etag="e")))
    before = (tmp_path / "m.jsonl").read_bytes()
    done = apply(tmp_path / "c.jsonl", tmp_path / "m.jsonl", "--dry-run")
    assert done.stderr.splitlines()[0] == "1 would be applied"
    assert done.stderr.splitlines()[1].startswith("1 skipped: the photo has another version")
    assert (tmp_path / "m.jsonl").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["c.jsonl", "m.jsonl"]


def test_apply_refuses_what_it_cannot_believe(tmp_path):
    write(tmp_path / "m.jsonl", row())
    write(tmp_path / "c.jsonl", row(), {**persons(row("n\x1b[2J")), "alpaca": "x"})
    before = (tmp_path / "m.jsonl").read_bytes()
    done = apply(tmp_path / "c.jsonl", tmp_path / "m.jsonl", code=1)
    assert "c.jsonl: line 2: the row of n\\x1b[2J has no label" in done.stderr
    assert (tmp_path / "m.jsonl").read_bytes() == before
    assert "no such manifest" in apply(tmp_path / "c.jsonl", tmp_path / "x.jsonl", code=2).stderr
    assert "a folder" in apply(tmp_path / "c.jsonl", tmp_path, code=2).stderr
    bucket = ["s3://results/labels/", "--failures", "f.jsonl"]
    assert "on this machine" in apply(tmp_path / "c.jsonl", *bucket, code=2).stderr


def test_apply_waits_for_nobody_who_writes_the_manifest(tmp_path):
    from alpaca_labeler.table.ledger import Ledger

    write(tmp_path / "m.jsonl", row())
    write(tmp_path / "c.jsonl", persons(row()))
    with Ledger(str(tmp_path / "m.jsonl"), str(tmp_path / "failures.jsonl")):
        done = apply(tmp_path / "c.jsonl", tmp_path / "m.jsonl", code=1)
    assert "another run is writing it" in done.stderr
