"""Publishing against moto's S3: whatever breaks or races, the pointer names a whole bundle."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from botocore.exceptions import ReadTimeoutError
from click.testing import CliRunner
from moto import mock_aws

from alpaca_labeler.handler import bundle, images, storage
from alpaca_labeler.main import main
from alpaca_labeler.models.registry import models
from alpaca_labeler.training import provenance, registry
from tests.support import bundles
from tests.support.aws import account
from tests.support.pets_photos import paint

STORE = "s3://models-bucket/models/alpaca"
POINTER = f"{STORE}/latest.json"


class Killed(BaseException):
    """The process ends here: nothing may catch it."""


@pytest.fixture(autouse=True)
def bucket(monkeypatch):
    with account(monkeypatch), mock_aws():
        storage.client().create_bucket(Bucket="models-bucket")
        yield


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a bundle of a day of January and returns (folder, version)."""

    def make(day, model=None, **more):
        model = model or f"model of day {day}".encode()
        card = bundle.Card(
            version="",
            attribute="alpaca",
            labels=("not alpaca", "alpaca"),
            threshold=0.5,
            review_band=(0.2, 0.8),
            input_size=224,
            preprocessing=images.PREPROCESSING_ID,
            calibration=(1.0, 0.0),
            sha256=hashlib.sha256(model).hexdigest(),
        )
        version = f"202601{day:02}T120000Z-{card.digest()}"
        card = replace(card, version=version)
        document = {
            "format": bundle.CARD_FORMAT,
            **{name: getattr(card, name) for name in bundle.Card.__slots__},
            "created": f"2026-01-{day:02}T12:00:00Z",
            "metrics": {"accuracy": {"value": 0.97, "low": 0.95, "high": 0.99}},
            **more,
        }
        folder = tmp_path / f"bundle-{day}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / bundle.MODEL_FILE).write_bytes(model)
        (folder / bundle.CARD_FILE).write_text(json.dumps(document))
        return str(folder), version

    return make


def pointer():
    return json.loads(storage.read(POINTER, 10_000))


def objects():
    return {item.source_ref: item.etag for item in storage.list_objects(f"{STORE}/")}


def current():
    """Return the version in use, which must load: the promise that every test here keeps."""
    return bundle.load(POINTER).card.version


def states():
    return {version.version: version for version in registry.versions(STORE)}


# --- publishing ----------------------------------------------------------------------------------


def test_a_published_bundle_is_loaded_through_the_pointer(make):
    folder, version = make(1)
    steps: list[str] = []
    done = registry.publish(folder, f"{STORE}/", say=steps.append)
    assert done.created == (bundle.MODEL_FILE, bundle.CARD_FILE)
    assert done.move.moved
    assert (done.move.before, done.move.after) == (None, version)
    assert bundle.load(done.uri).card.version == version == current()
    assert pointer()["sha256"] == bundle.load(folder).card.sha256
    assert pointer()["previous"] == []
    assert pointer()["moved_at"].endswith("Z")
    assert len(steps) == 4


def test_publishing_again_changes_nothing(make):
    folder, version = make(1)
    registry.publish(folder, STORE)
    before = objects()
    again = registry.publish(folder, STORE)
    assert again.created == ()
    assert not again.move.moved
    assert again.move.reason == "it already names this version"
    assert objects() == before
    assert current() == version


def test_the_card_is_written_after_the_model_and_the_pointer_last(make, monkeypatch):
    written = []
    client = storage.client()
    real = client._make_api_call

    def call(operation, parameters):
        if operation == "PutObject":
            written.append(parameters["Key"].rsplit("/", 1)[-1])
        return real(operation, parameters)

    monkeypatch.setattr(client, "_make_api_call", call)
    registry.publish(make(1)[0], STORE)
    assert written == [bundle.MODEL_FILE, bundle.CARD_FILE, registry.POINTER_FILE]


@pytest.fixture
def recorded(make):
    """Return a bundle's folder with the record of one photo, and that record."""
    photos = b"file,sha256,group,use,probability\ndogs/1.png,0a,0,trained,0.9\n"
    folder, version = make(1, dataset={"record": hashlib.sha256(photos).hexdigest()})
    Path(folder, "photos.csv").write_bytes(photos)
    return folder, version, photos


def test_a_record_is_published_before_the_card_and_read_from_there(recorded):
    folder, version, photos = recorded
    done = registry.publish(folder, STORE)
    assert done.created == ("model.tflite", "photos.csv", "model.json")
    assert storage.read(f"{STORE}/{version}/photos.csv", 1000) == photos
    known = provenance.load(POINTER).record
    assert known
    assert known.seen == {"0a"}
    assert registry.publish(POINTER, "s3://models-bucket/copy").created == done.created


def test_a_bundle_whose_record_was_left_behind_is_published_without(recorded):
    folder, _, _ = recorded
    Path(folder, "photos.csv").unlink()
    assert registry.publish(folder, STORE).created == ("model.tflite", "model.json")
    assert provenance.load(POINTER).record is None


def test_a_record_of_another_model_is_refused_before_anything_is_written(recorded):
    folder, _, photos = recorded
    Path(folder, "photos.csv").write_bytes(photos.replace(b"trained", b"held out"))
    with pytest.raises(bundle.BundleError, match=r"photos\.csv: its sha256 .* copy the bundle"):
        registry.publish(folder, STORE)
    assert objects() == {}


def test_other_content_under_the_same_version_is_refused(make):
    folder, version = make(1)
    registry.publish(folder, STORE)
    other, same_version = make(1, metrics={"accuracy": 0.5})
    assert same_version == version
    before = objects()
    with pytest.raises(
        registry.PublishError, match=r"model\.json: other content.*export the bundle"
    ):
        registry.publish(other, STORE)
    assert objects() == before


@pytest.mark.parametrize("there", [b"short", b"something longer than the model itself"])
def test_a_foreign_model_under_the_same_version_is_refused_before_the_card(make, there):
    folder, version = make(1)
    storage.write_if_absent(f"{STORE}/{version}/{bundle.MODEL_FILE}", there, "text/plain")
    with pytest.raises(registry.PublishError, match=r"model\.tflite: other content"):
        registry.publish(folder, STORE)
    assert list(objects()) == [f"{STORE}/{version}/{bundle.MODEL_FILE}"]


def test_a_damaged_bundle_is_never_uploaded(make, tmp_path):
    folder, _ = make(1)
    (tmp_path / folder / bundle.MODEL_FILE).write_bytes(b"cut")
    with pytest.raises(bundle.BundleError, match="sha256"):
        registry.publish(folder, STORE)
    assert objects() == {}


def test_a_version_that_would_lead_elsewhere_is_refused(make, tmp_path):
    folder, version = make(1)
    path = tmp_path / folder / bundle.CARD_FILE
    path.write_text(path.read_text().replace(version, f"../{version}"))
    with pytest.raises(bundle.BundleError, match="not a model version"):
        registry.publish(folder, STORE)
    assert objects() == {}


def test_a_published_bundle_can_be_published_elsewhere(make):
    folder, version = make(1)
    registry.publish(folder, STORE)
    copied = registry.publish(POINTER, "s3://models-bucket")
    assert copied.uri == f"s3://models-bucket/{version}/"
    assert bundle.load("s3://models-bucket/latest.json").card.version == version


def test_the_pointer_never_moves_back_by_publishing(make):
    old, old_version = make(1)
    new, new_version = make(2)
    registry.publish(new, STORE)
    done = registry.publish(old, STORE)
    assert done.created
    assert not done.move.moved
    assert "newer" in done.move.reason
    assert current() == new_version
    assert registry.promote(STORE, old_version).moved
    assert current() == old_version


def test_without_promotion_the_pointer_stays(make):
    done = registry.publish(make(1)[0], STORE, promote=False)
    assert done.created
    assert not done.move.moved
    assert POINTER not in objects()


def test_a_dry_run_writes_nothing_and_says_what_a_real_one_does(make):
    first, _ = make(1)
    second, second_version = make(2)
    would = registry.publish(first, STORE, dry_run=True)
    assert objects() == {}
    did = registry.publish(first, STORE)
    assert would == did
    before = objects()
    assert registry.publish(second, STORE, dry_run=True).move.moved
    assert objects() == before
    registry.publish(second, STORE, promote=False)
    before = objects()
    assert registry.promote(STORE, second_version, dry_run=True).after == second_version
    assert objects() == before
    registry.promote(STORE, second_version)
    before = objects()
    assert registry.rollback(STORE, dry_run=True).moved
    assert objects() == before
    assert current() == second_version


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models/alpaca", "s3://bucket/models/alpaca"),
        ("s3://", "s3://bucket/models/alpaca"),
        (POINTER, r"without latest\.json"),
        (f"{STORE}/20260101T120000Z-0a1b/", "without 20260101T120000Z-0a1b"),
    ],
)
def test_a_place_that_holds_no_versions_is_refused(uri, message):
    with pytest.raises(registry.PublishError, match=message):
        registry.versions(uri)


# --- promote, roll back, list --------------------------------------------------------------------


def test_rollback_walks_back_through_what_was_in_use(make):
    made = [registry.publish(make(day)[0], STORE).version for day in (1, 2, 3)]
    assert pointer()["previous"] == [made[1], made[0]]
    assert registry.rollback(STORE).after == made[1]
    assert registry.rollback(STORE).after == made[0]
    assert current() == made[0]
    assert pointer()["withdrawn"] == [made[1], made[2]]
    with pytest.raises(registry.PublishError, match="no version was in use before"):
        registry.rollback(STORE)


def test_publishing_again_does_not_undo_a_rollback_but_promoting_does(make):
    registry.publish(make(1)[0], STORE)
    folder, bad = make(2)
    registry.publish(folder, STORE)
    registry.rollback(STORE)
    done = registry.publish(folder, STORE)
    assert not done.move.moved
    assert "rolled back" in done.move.reason
    assert registry.promote(STORE, bad).moved
    assert current() == bad
    assert pointer()["withdrawn"] == []


def test_after_a_rollback_a_newer_version_moves_forward_again(make):
    first = registry.publish(make(1)[0], STORE).version
    registry.publish(make(2)[0], STORE)
    registry.rollback(STORE)
    third = registry.publish(make(3)[0], STORE).version
    assert current() == third
    assert pointer()["previous"] == [first]


def test_promoting_the_current_version_changes_nothing(make):
    version = registry.publish(make(1)[0], STORE).version
    before = objects()
    assert not registry.promote(STORE, version).moved
    assert objects() == before


def test_the_history_is_bounded_and_names_each_version_once(make, monkeypatch):
    monkeypatch.setattr(registry, "HISTORY_LENGTH", 3)
    made = [registry.publish(make(day)[0], STORE).version for day in range(1, 7)]
    assert pointer()["previous"] == made[4:1:-1]
    registry.promote(STORE, made[3])
    assert pointer()["previous"] == [made[5], made[4], made[2]]


def test_only_whole_bundles_are_promoted(make):
    folder, version = make(1)
    with pytest.raises(bundle.BundleError, match=version):
        registry.promote(STORE, version)
    model = bundle.load(folder).model
    storage.write_if_absent(f"{STORE}/{version}/{bundle.MODEL_FILE}", model, "text/plain")
    with pytest.raises(bundle.BundleError, match=r"model\.json"):
        registry.promote(STORE, version)
    with pytest.raises(registry.PublishError, match="not a model version"):
        registry.promote(STORE, "../elsewhere")
    assert POINTER not in objects()


def test_a_bundle_under_another_versions_name_is_not_promoted(make):
    uri = registry.publish(make(1)[0], STORE).uri
    for name in (bundle.MODEL_FILE, bundle.CARD_FILE):
        data = storage.read(uri + name, 10_000)
        storage.write_if_absent(f"{STORE}/20260109T000000Z-abc/{name}", data, "text/plain")
    with pytest.raises(registry.PublishError, match="publish it under its own version"):
        registry.promote(STORE, "20260109T000000Z-abc")
    assert "its card is of version" in states()["20260109T000000Z-abc"].problem


def test_rollback_refuses_a_version_that_is_gone(make):
    gone = registry.publish(make(1)[0], STORE)
    here = registry.publish(make(2)[0], STORE).version
    storage.delete([gone.uri + bundle.MODEL_FILE])
    with pytest.raises(registry.PublishError, match="no rollback to it"):
        registry.rollback(STORE)
    assert current() == here


def test_listing_shows_figures_the_current_one_and_what_is_wrong(make):
    assert registry.versions(STORE) == []
    first = registry.publish(make(1)[0], STORE).version
    second = registry.publish(make(2, metrics={"accuracy": 0.9})[0], STORE).version
    third = registry.publish(make(3, metrics="none", created=3)[0], STORE).version
    registry.rollback(STORE)
    storage.write_if_absent(f"{STORE}/20260109T000000Z-abc/{bundle.MODEL_FILE}", b"x", "text/plain")
    storage.write_if_absent(f"{STORE}/20260108T000000Z-abc/{bundle.CARD_FILE}", b"[]", "text/plain")
    storage.write_if_absent(f"{STORE}/notes/readme.txt", b"x", "text/plain")
    listed = registry.versions(STORE)
    assert [version.version for version in listed] == [
        "20260109T000000Z-abc",
        "20260108T000000Z-abc",
        third,
        second,
        first,
    ]
    assert listed[0].problem == "incomplete: no model.json"
    assert listed[1].problem == "model.json is not a model card"
    assert (listed[2].accuracy, listed[2].created, listed[2].withdrawn) == (None, None, True)
    assert listed[3].current
    assert listed[3].accuracy == registry.Accuracy(0.9, None, None)
    assert listed[4].accuracy == registry.Accuracy(0.97, 0.95, 0.99)
    assert listed[4].created == "2026-01-01T12:00:00Z"
    assert [version.problem for version in listed[2:]] == [None] * 3


def test_listing_names_a_pointer_to_nothing(make):
    done = registry.publish(make(1)[0], STORE)
    storage.delete([done.uri + bundle.MODEL_FILE, done.uri + bundle.CARD_FILE])
    [version] = registry.versions(STORE)
    assert version.current
    assert version.problem == "incomplete: no model.tflite and no model.json"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": 3}', b'{"version": "../x"}'])
def test_a_file_that_is_not_a_pointer_is_not_overwritten(make, content):
    storage.write_if_absent(POINTER, content, "text/plain")
    with pytest.raises(registry.PublishError, match="not a model pointer"):
        registry.publish(make(1)[0], STORE)
    assert storage.read(POINTER, 100) == content


# --- races ---------------------------------------------------------------------------------------


@pytest.fixture
def atomic(monkeypatch):
    """Answer one request at a time: S3's conditional writes are atomic, moto's may cross."""
    from moto.s3.responses import S3Response

    lock, answer = threading.Lock(), S3Response.key_response

    def one_at_a_time(self, *request):
        with lock:
            return answer(self, *request)

    monkeypatch.setattr(S3Response, "key_response", one_at_a_time)


@pytest.mark.usefixtures("atomic")
def test_two_publishers_at_a_time_leave_the_newest_in_use(make):
    bundles = [make(day) for day in range(1, 7)]
    start = threading.Barrier(len(bundles))

    def run(folder):
        start.wait()
        return registry.publish(folder, STORE)

    with ThreadPoolExecutor(len(bundles)) as pool:
        done = list(pool.map(run, [folder for folder, _ in bundles]))
    assert current() == bundles[-1][1]
    moved = [each.version for each in done if each.move.moved]
    assert [pointer()["version"], *pointer()["previous"]] == sorted(moved, reverse=True)


@pytest.mark.usefixtures("atomic")
def test_two_publishers_of_the_same_bundle_write_it_once(make):
    folder, version = make(1)
    start = threading.Barrier(4)

    def run(_):
        start.wait()
        return registry.publish(folder, STORE)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(run, range(4)))
    assert sorted(name for each in done for name in each.created) == ["model.json", "model.tflite"]
    assert sum(each.move.moved for each in done) == 1
    assert current() == version


@pytest.mark.parametrize("other_day", [2, 4])
def test_a_lost_race_is_read_and_decided_again(make, monkeypatch, other_day):
    first = registry.publish(make(1)[0], STORE).version
    folder, mine = make(3)
    other, theirs = make(other_day)
    between(monkeypatch, lambda: registry.publish(other, STORE))
    done = registry.publish(folder, STORE)
    assert done.move.before == theirs
    assert current() == max(mine, theirs)
    assert done.move.moved == (mine > theirs)
    assert pointer()["previous"] == ([theirs, first] if mine > theirs else [first])


def test_two_rollbacks_at_a_time_are_one_step(make, monkeypatch):
    made = [registry.publish(make(day)[0], STORE).version for day in (1, 2, 3)]
    between(monkeypatch, lambda: registry.rollback(STORE))
    assert registry.rollback(STORE).reason == "somebody else rolled it back meanwhile"
    assert current() == made[1]


def test_a_rollback_does_not_withdraw_what_was_published_meanwhile(make, monkeypatch):
    for day in (1, 2):
        registry.publish(make(day)[0], STORE)
    newer, version = make(3)
    between(monkeypatch, lambda: registry.publish(newer, STORE))
    with pytest.raises(registry.PublishError, match=f"to {version} meanwhile"):
        registry.rollback(STORE)
    assert current() == version


def test_a_race_that_never_ends_is_given_up_with_a_message(make, monkeypatch):
    def never(uri, *_, **__):
        raise storage.Conflict(uri)

    monkeypatch.setattr(storage, "write_if_unchanged", never)
    with pytest.raises(registry.PublishError, match="others keep moving it"):
        registry.publish(make(1)[0], STORE)


def between(monkeypatch, act):
    """Let `act` run once, after the pointer was read and before it is written."""
    real = storage.write_if_unchanged

    def write(*given, **named):
        monkeypatch.setattr(storage, "write_if_unchanged", real)
        act()
        return real(*given, **named)

    monkeypatch.setattr(storage, "write_if_unchanged", write)


# --- crashes and lost answers --------------------------------------------------------------------


def break_when(monkeypatch, when, error, *, done_first):
    """Raise `error` instead of the S3 call that `when(number, its parameters)` picks, or after."""
    client = storage.client()
    real = client._make_api_call
    calls = []

    def call(operation, parameters):
        calls.append(operation)
        if not when(len(calls) - 1, parameters):
            return real(operation, parameters)
        if done_first:
            real(operation, parameters)
        raise error

    monkeypatch.setattr(client, "_make_api_call", call)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("done_first", [False, True])
@pytest.mark.parametrize("job", ["publish", "promote", "rollback"])
def test_a_crash_at_any_call_leaves_a_whole_bundle_in_use(make, monkeypatch, job, done_first):
    whole = [registry.publish(make(day)[0], STORE).version for day in (1, 2)]
    for at in range(100):
        folder, version = make(at % 26 + 3, model=f"{at}".encode())
        if job == "promote":
            registry.publish(folder, STORE, promote=False)
        before = current()
        jobs: dict[str, Callable[[], object]] = {
            "publish": partial(registry.publish, folder, STORE),
            "promote": partial(registry.promote, STORE, version),
            "rollback": partial(registry.rollback, STORE),
        }
        run = jobs[job]
        with monkeypatch.context() as patch:
            calls = break_when(
                patch, lambda number, _, at=at: number == at, Killed(), done_first=done_first
            )
            try:
                run()
            except Killed:
                pass
            else:
                break
        after = current()
        expected = whole[0] if job == "rollback" else version
        assert after in {before, expected}
        if job != "rollback":
            run()  # the same command again finishes the job
            assert current() == version
        elif after != before:
            registry.promote(STORE, before)
    assert 3 <= at == len(calls)


@pytest.mark.parametrize("job", ["publish", "promote", "rollback"])
def test_a_move_whose_answer_is_lost_has_happened_once(make, monkeypatch, job):
    made = [registry.publish(make(day)[0], STORE).version for day in (1, 2, 3)]
    folder, newest = make(4)
    run, expected = {
        "publish": (lambda: registry.publish(folder, STORE).move, newest),
        "promote": (lambda: registry.promote(STORE, made[0]), made[0]),
        "rollback": (lambda: registry.rollback(STORE), made[1]),
    }[job]
    calls = break_when(
        monkeypatch,
        lambda _, parameters: "Body" in parameters and parameters["Key"].endswith("latest.json"),
        ReadTimeoutError(endpoint_url="the store"),
        done_first=True,
    )
    assert run().moved
    assert current() == expected
    assert calls.count("PutObject") == (3 if job == "publish" else 1)


def test_a_move_that_did_not_happen_is_an_error(make, monkeypatch):
    for day in (1, 2):
        registry.publish(make(day)[0], STORE)
    before = current()

    def lost(uri, *_, **__):
        raise storage.Transient(f"{uri}: timed out")

    monkeypatch.setattr(storage, "write_if_unchanged", lost)
    with pytest.raises(storage.Transient):
        registry.rollback(STORE)
    assert current() == before


def test_an_upload_sent_twice_by_the_client_meets_itself(make, monkeypatch):
    folder, version = make(1)
    real = storage.write_if_absent

    def twice(*given):
        real(*given)
        return real(*given)

    monkeypatch.setattr(storage, "write_if_absent", twice)
    assert registry.publish(folder, STORE).move.after == version == current()


# --- the command ---------------------------------------------------------------------------------


def alpaca(*words):
    return CliRunner().invoke(main, ["models", *words])


def test_the_command_publishes_lists_promotes_and_rolls_back(make):
    folder, first = make(1)
    newer, second = make(2)
    done = alpaca("publish", folder, STORE)
    assert (done.exit_code, done.stdout) == (0, f"{STORE}/{first}/\n")
    assert f"moved from nothing to {first}" in done.stderr
    done = alpaca("publish", newer, STORE, "--no-promote")
    assert f"stays at {first}; it was not asked to move" in done.stderr
    assert alpaca("promote", STORE, second).stdout == f"{second}\n"
    assert f"would move from {second} to {first}" in alpaca("rollback", STORE, "--dry-run").stderr
    assert alpaca("rollback", STORE).stdout == f"{first}\n"
    table = alpaca("list", STORE).stdout.splitlines()
    assert table[0].split() == ["VERSION", "CREATED", "ACCURACY", "STATE"]
    assert table[1].split()[0] == second
    assert table[1].endswith("0.970 (0.950 to 0.990)  rolled back")
    assert table[2].endswith("current")
    listed = json.loads(alpaca("list", STORE, "--json").stdout)
    assert [(each["version"], each["current"]) for each in listed] == [
        (second, False),
        (first, True),
    ]


def test_the_command_says_that_nothing_is_published():
    done = alpaca("list", STORE)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing is published" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("publish", "nowhere", STORE), "nowhere: no model bundle there"),
        (("list", "s3://no-such-bucket/models"), "no-such-bucket"),
        (("promote", STORE, "20260101T000000Z-abc"), "no model bundle there"),
        (("rollback", STORE), "nothing to roll back"),
    ],
)
def test_the_command_explains_errors_without_a_traceback(words, message):
    done = alpaca(*words)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert done.stdout == ""


def test_a_dry_run_into_a_missing_bucket_says_so(make):
    done = alpaca("publish", make(1)[0], "s3://no-such-bucket/models", "--dry-run")
    assert done.exit_code == 1
    assert "no-such-bucket" in done.stderr


@pytest.mark.parametrize("name", sorted(models.commands))
def test_every_help_page_shows_real_invocations(name):
    page = CliRunner().invoke(main, ["models", name, "--help"]).stdout
    assert re.search(rf"\n +alpaca models {name} (s3://|runs/|\.\.\./)", page)


# --- only what is better -------------------------------------------------------------------------


ALWAYS, NEVER = (0.0, 9.0), (0.0, -9.0)
"""Calibrations that make every photo an alpaca, or none."""


@pytest.fixture
def rivals(tmp_path):
    """Return the versions of two published bundles, and ten photos, nine of them alpacas.

    The first takes every photo for an alpaca, the second none; neither is in use.
    """
    for number in range(9):
        paint(tmp_path / "farm" / "alpaca" / f"{number}.png", dog=False, number=number)
    paint(tmp_path / "farm" / "not alpaca" / "0.png", dog=True, number=0)
    good = bundles.make(tmp_path / "good", day=1, calibration=ALWAYS)
    bad = bundles.make(tmp_path / "bad", day=2, calibration=NEVER)
    good, bad = (registry.publish(folder, STORE, promote=False).version for folder in (good, bad))
    return good, bad, str(tmp_path / "farm")


def promote(version, farm, *more):
    return alpaca("promote", STORE, version, "--require-better", str(farm), *more)


@pytest.mark.slow
def test_a_better_version_is_promoted_and_its_figures_are_shown(rivals):
    good, bad, farm = rivals
    registry.promote(STORE, bad)
    dry = promote(good, farm, "--dry-run")
    assert (dry.exit_code, current()) == (0, bad)
    assert f"would move from {bad} to {good}" in dry.stderr
    done = promote(good, farm)
    assert (done.exit_code, done.stdout, current()) == (0, f"{good}\n", good)
    assert "accuracy             0.100" in done.stderr
    assert "verdict              better" in done.stderr


def test_a_worse_version_is_refused_with_its_figures(rivals):
    good, bad, farm = rivals
    registry.promote(STORE, good)
    before = objects()
    done = promote(bad, farm)
    assert (done.exit_code, done.stdout) == (1, "")
    assert objects() == before
    assert "accuracy 0.100 against 0.900 on 10 photos, p = 0.0215: worse" in done.stderr
    assert "promote without --require-better" in done.stderr


@pytest.mark.slow
def test_undecided_is_not_better(rivals):
    good, bad, farm = rivals
    registry.promote(STORE, bad)
    for number in range(4, 9):
        Path(farm, "alpaca", f"{number}.png").unlink()
    done = promote(good, farm)
    assert (done.exit_code, current()) == (1, bad)
    assert "undecided" in done.stderr


def test_if_nothing_is_in_use_any_version_is_promoted(rivals):
    _, bad, farm = rivals
    assert promote(bad, farm).exit_code == 0
    assert current() == bad
    again = promote(bad, farm)
    assert again.exit_code == 0
    assert "it already names this version" in again.stderr
    assert "verdict" not in again.stderr


def test_photos_that_a_model_knows_prove_nothing(rivals, tmp_path):
    _, bad, farm = rivals
    registry.promote(STORE, bad)
    known = {
        hashlib.sha256(path.read_bytes()).hexdigest(): ("trained", "")
        for path in Path(farm).rglob("*.png")
    }
    knowing = bundles.make(tmp_path / "knowing", day=3, calibration=ALWAYS, record=known)
    version = registry.publish(knowing, STORE, promote=False).version
    done = promote(version, farm)
    assert (done.exit_code, current()) == (1, bad)
    assert "none of the 10 photos" in done.stderr
    assert "Traceback" not in done.output


def test_what_came_into_use_meanwhile_must_be_beaten_too(rivals):
    """The comparison takes its time, and someone else promotes a third version during it."""
    good, bad, _ = rivals
    other = registry.publish(
        bundles.make(Path(rivals[2]) / "x", day=4), STORE, promote=False
    ).version
    registry.promote(STORE, bad)
    asked = []

    def approve(in_use, candidate):
        asked.append((in_use, candidate))
        if len(asked) == 1:
            registry.promote(STORE, other)
        else:
            raise registry.PublishError("not better than that")

    with pytest.raises(registry.PublishError, match="not better than that"):
        registry.promote(STORE, good, approve=approve)
    assert asked == [(f"{STORE}/{version}/", f"{STORE}/{good}/") for version in (bad, other)]
    assert current() == other


def test_bundles_that_cannot_be_compared_are_one_line_of_error(rivals, pets, tmp_path):
    good, bad, farm = rivals
    registry.promote(STORE, bad)
    other = bundles.make(tmp_path / "other", day=3, labels=("cat", "dog"))
    version = registry.publish(other, STORE, promote=False).version
    for name, photos, complaint in (
        (version, farm, "only models of the same classes"),
        (good, str(pets), "its classes are 'cat photos' and 'dogs'"),
    ):
        done = promote(name, photos)
        assert (done.exit_code, current()) == (1, bad)
        assert complaint in done.stderr
        assert "Traceback" not in done.output
