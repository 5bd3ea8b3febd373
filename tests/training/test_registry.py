"""Publishing against moto's S3: whatever breaks or races, the pointer names a whole bundle."""

import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import pytest
from botocore.exceptions import ReadTimeoutError
from click.testing import CliRunner
from moto import mock_aws

from alpaca_labeler import storage
from alpaca_labeler.main import main
from alpaca_labeler.model import bundle
from alpaca_labeler.storage.upload import Upload
from alpaca_labeler.training import provenance, registry
from tests.support.aws import account
from tests.support.bundles import write

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
    """Return a function that writes a bundle of a day of December and returns (folder, version)."""
    number = count()

    def make(day, **more):
        more = {"metrics": {"accuracy": {"value": 0.97}}, **more}
        folder = write(tmp_path / f"{next(number)}", f"model {day}".encode(), day=day, **more)
        return folder, bundle.load(folder).card.version

    return make


@pytest.fixture
def published(make):
    """Return a function that publishes a bundle of a day and returns its version."""

    def publish(day, *, promote=True):
        folder, version = make(day)
        registry.publish(folder, STORE, promote=promote)
        return version

    return publish


def put(folder, version):
    """Copy a bundle to a version's place, as no command does."""
    for file in Path(folder).iterdir():
        storage.write_if_absent(f"{STORE}/{version}/{file.name}", file.read_bytes(), "text/plain")


def pointer():
    return json.loads(storage.read(POINTER, 10_000))


def objects():
    return {item.source_ref: item.etag for item in storage.list_objects(f"{STORE}/")}


def current():
    """Return the version in use, which must load: the promise that every test here keeps."""
    return bundle.load(POINTER).card.version


def test_a_published_bundle_is_loaded_through_the_pointer(make):
    folder, version = make(1)
    steps: list[str] = []
    uri = registry.publish(folder, f"{STORE}/", say=steps.append)
    assert steps[-1] == f"{POINTER}: moved from nothing to {version}"
    assert bundle.load(uri).card.version == version == current()
    assert pointer()["sha256"] == bundle.load(folder).card.sha256
    assert pointer()["previous"] is None
    before = objects()
    assert registry.publish(folder, STORE, say=steps.append) == uri
    assert steps[-1] == f"{POINTER}: stays at {version}; it already names this version"
    assert objects() == before
    assert len(steps) == 2 * 5


def test_only_a_whole_bundle_is_uploaded_and_its_record_read_from_there(make):
    photos = b"file,sha256,group,use,probability\ndogs/1.png,0a,0,trained,0.9\n"
    folder, version = make(1, dataset={"record": hashlib.sha256(photos).hexdigest()})
    Path(folder, "photos.csv").write_bytes(photos.replace(b"trained", b"held out"))
    damaged, _ = make(2)
    Path(damaged, bundle.MODEL_FILE).write_bytes(b"cut")
    for bad, says in ((folder, r"photos\.csv: its sha256 .* copy the bundle"), (damaged, "sha256")):
        with pytest.raises(bundle.BundleError, match=says):
            registry.publish(bad, STORE)
        assert objects() == {}
    Path(folder, "photos.csv").write_bytes(photos)
    registry.publish(folder, STORE)
    assert storage.read(f"{STORE}/{version}/photos.csv", 1000) == photos
    known = provenance.load(POINTER).record
    assert known
    assert known.seen == {"0a"}
    registry.publish(POINTER, "s3://models-bucket")  # a copy of what is published
    assert provenance.load("s3://models-bucket/latest.json").record == known


def test_other_content_under_the_same_version_is_refused(make):
    folder, version = make(1)
    registry.publish(folder, STORE)
    other, same_version = make(1, metrics={})
    assert same_version == version
    before = objects()
    with pytest.raises(registry.PublishError, match=r"model\.json: other content.*export the"):
        registry.publish(other, STORE)
    assert objects() == before


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


def test_promoting_the_previous_version_rolls_back_and_publishing_does_not_undo_it(make, published):
    old, (folder, bad) = published(1), make(2)
    registry.publish(folder, STORE)
    assert pointer()["previous"] == old
    steps: list[str] = []
    registry.promote(STORE, old, say=steps.append)
    assert steps == [f"{POINTER}: moved from {bad} to {old}"]
    registry.publish(folder, STORE, say=steps.append)
    assert "newer version is or was in use" in steps[-1]
    assert current() == old
    newest = published(3)
    assert (current(), pointer()["previous"]) == (newest, old)
    registry.promote(STORE, bad)
    assert current() == bad


def test_a_pointer_of_release_0_2_is_understood(published):
    newest = published(2)
    old = {"version": newest, "previous": ["20260101T000000Z-abc"], "withdrawn": []}
    storage.delete([POINTER])
    storage.write_if_absent(POINTER, json.dumps(old).encode(), "application/json")
    assert published(4) == current()
    assert pointer()["previous"] == newest


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
    other = "20261209T000000Z-abc"
    put(folder, other)
    with pytest.raises(registry.PublishError, match="publish it under its own version"):
        registry.promote(STORE, other)
    assert POINTER not in objects()


def test_a_model_that_answers_another_question_is_refused_whichever_command_it_is(make, published):
    version = published(1)
    goats, other = make(2, labels=["sheep", "goat"])
    for act in (registry.publish, partial(registry.publish, promote=False)):
        with pytest.raises(registry.PublishError, match=r"'alpaca', and 20.+ 'sheep' and 'goat'"):
            act(goats, STORE)
    put(goats, other)
    with pytest.raises(registry.PublishError, match="another question"):
        registry.promote(STORE, other)
    assert current() == version


def test_listing_shows_accuracy_the_current_one_and_what_is_missing(make):
    assert registry.versions(STORE) == []
    folder, good = make(1)
    registry.publish(folder, STORE)
    bare, without = make(2, metrics="none")
    registry.publish(bare, STORE)
    for path in ("20261207T000000Z-abc/model.tflite", "notes/readme.txt", "model.json"):
        storage.write_if_absent(f"{STORE}/{path}", b"[]", "text/plain")

    def listed():
        return [tuple(version.values()) for version in registry.versions(STORE)]

    assert listed() == [
        ("20261207T000000Z-abc", False, None, ["model.json"]),
        (without, True, None, []),
        (good, False, 0.97, []),
    ]
    storage.delete([f"{STORE}/{without}/{name}" for name in ("model.tflite", "model.json")])
    assert (without, True, None, ["model.tflite", "model.json"]) in listed()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": 3}', b'{"version": "../x"}'])
def test_a_file_that_is_not_a_pointer_is_not_overwritten(make, content):
    storage.write_if_absent(POINTER, content, "text/plain")
    with pytest.raises(registry.PublishError, match="not a model pointer"):
        registry.publish(make(1)[0], STORE)
    assert storage.read(POINTER, 100) == content


def test_concurrent_publishers_leave_the_newest_in_use_and_write_each_file_once(make, monkeypatch):
    from moto.s3.responses import S3Response

    lock, answer = threading.Lock(), S3Response.key_response

    def one_at_a_time(self, *request):  # S3's conditional writes are atomic, moto's may cross
        with lock:
            return answer(self, *request)

    monkeypatch.setattr(S3Response, "key_response", one_at_a_time)
    bundles = [make(day) for day in range(1, 5)] * 2
    start = threading.Barrier(len(bundles))
    steps: list[str] = []

    def run(folder):
        start.wait()
        registry.publish(folder, STORE, say=steps.append)

    with ThreadPoolExecutor(len(bundles)) as pool:
        [*pool.map(run, [folder for folder, _ in bundles])]
    assert current() == bundles[-1][1]
    assert sum("uploaded" in line for line in steps) == 2 * 4
    moved = sorted(line.split()[-1] for line in steps if "moved from" in line)
    assert len({*moved}) == len(moved)
    assert pointer()["previous"] == (moved[-2] if len(moved) > 1 else None)


def test_a_race_that_never_ends_is_given_up_with_a_message(make, monkeypatch):
    monkeypatch.setattr(Upload, "commit", Mock(side_effect=storage.Conflict(POINTER)))
    with pytest.raises(registry.PublishError, match="others keep moving it"):
        registry.publish(make(1)[0], STORE)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Killed(), ReadTimeoutError(endpoint_url="the store")])
@pytest.mark.parametrize("event", ["before", "after"])
@pytest.mark.parametrize("job", ["publish", "promote"])
def test_a_crash_or_lost_answer_at_any_call_leaves_a_whole_bundle_in_use(
    make, published, job, event, fault
):
    published(1)
    events = storage.client().meta.events
    for at in count():
        folder, version = make(at + 2)
        run: Callable[[], object] = partial(registry.publish, folder, STORE)
        if job == "promote":
            registry.publish(folder, STORE, promote=False)
            run = partial(registry.promote, STORE, version)
        calls: list[str] = []

        def break_one(model, calls=calls, at=at, **_):
            calls.append(model.name)
            if len(calls) == at + 1:
                raise fault

        before = current()
        events.register(f"{event}-call.s3", break_one)
        try:
            run()
        except (Killed, storage.StorageError, bundle.BundleError):
            assert current() in {before, version}
        finally:
            events.unregister(f"{event}-call.s3", break_one)
        run()  # the same command again finishes the job
        assert current() == version
        if len(calls) <= at:
            break
    assert at >= 3


def alpaca(*words):
    return CliRunner().invoke(main, ["models", *words])


def test_the_command_publishes_lists_and_promotes(make):
    assert "nothing is published" in alpaca("list", STORE).stderr
    (folder, first), (newer, second) = make(1), make(2)
    assert alpaca("publish", folder, STORE).stdout == f"{STORE}/{first}/\n"
    assert "moved" not in alpaca("publish", newer, STORE, "--no-promote").stderr
    assert alpaca("promote", STORE, second).stdout == f"{second}\n"
    table = [line.split() for line in alpaca("list", STORE).stdout.splitlines()]
    assert table[0] == ["VERSION", "ACCURACY", "STATE"]
    assert table[1:] == [[second, "0.970", "current"], [first, "0.970"]]
    listed = json.loads(alpaca("list", STORE, "--json").stdout)
    assert [each["current"] for each in listed] == [True, False]
