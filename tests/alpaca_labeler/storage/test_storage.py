"""S3 as moto plays it, stores that are not AWS, and errors as one small tree."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
import time
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import Mock

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    LoginRefreshRequired,
    MissingDependencyException,
    NoCredentialsError,
    ReadTimeoutError,
    SSOTokenLoadError,
)
from botocore.parsers import ResponseParserError

from alpaca_labeler import storage
from alpaca_labeler.storage import s3_body
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.storage.upload import Upload
from tests.support import fake_s3
from tests.support.aws import account

BUCKET = "s3://photos"


@pytest.fixture
def s3(aws):
    aws.create_bucket(Bucket="photos")
    return aws


def refusal(code, status=400, message=""):
    error = fake_s3.error(code, status)
    error.response["Error"]["Message"] = message
    return error


@pytest.fixture
def answers(monkeypatch):
    """Give a function that makes a client whose every operation gives the next of its answers."""

    def play(*answers):
        client = Mock(side_effect=answers)
        for operation in ("get_object", "put_object", "delete_objects"):
            setattr(client, operation, client)
        monkeypatch.setattr(storage, "client", lambda: client)
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)
        return client

    return play


# --- S3: reading ---------------------------------------------------------------------------------


KEYS = "a.jpg a+b%20c.jpg ü/アルパカ.jpg ../up.jpg a//b.jpg /leading.jpg #?&=.jpg".split()
KEYS += ["with space.jpg", "new\nline.jpg", "x" * 1024, "é" * 512]


@pytest.mark.parametrize("key", KEYS)
def test_any_key_is_listed_and_read_under_its_own_name(s3, key):
    s3.put_object(Bucket="photos", Key=key, Body=b"pixels")
    [listed] = storage.list_objects(f"{BUCKET}/")
    assert listed.source_ref == f"{BUCKET}/{key}"
    fetched = storage.fetch(listed, 100)
    assert fetched.data == b"pixels"
    assert fetched.version == listed


def test_a_listing_continues_after_each_page(s3, monkeypatch):
    for number in range(7):
        s3.put_object(Bucket="photos", Key=f"{number}.jpg", Body=b"")
    real = s3.list_objects_v2
    monkeypatch.setattr(s3, "list_objects_v2", lambda **named: real(MaxKeys=2, **named))
    names = [item.source_ref for item in storage.list_objects(f"{BUCKET}/")]
    assert names == [f"{BUCKET}/{number}.jpg" for number in range(7)]


@pytest.mark.usefixtures("s3")
def test_what_is_not_there_is_not_found():
    no_buckets = ("s3://no-such-bucket/a.jpg", "s3://", "s3:///a", "s3://x y/a")
    for uri in (f"{BUCKET}/none.jpg", *no_buckets):
        with pytest.raises(storage.NotFound):
            storage.read(uri, 10)
    for uri in no_buckets:
        with pytest.raises(storage.NotFound):
            list(storage.list_objects(uri))


def test_an_object_over_the_limit_is_not_downloaded(answers):
    client = answers({"Body": io.BytesIO(), "ContentLength": 11})
    with pytest.raises(storage.TooLarge, match="11 bytes"):
        storage.read(f"{BUCKET}/large.jpg", 10)
    with pytest.raises(storage.TooLarge):  # an announced size asks nothing
        storage.fetch(ImageVersion(f"{BUCKET}/large.jpg", size=11), 10)
    assert client.call_count == 1


@pytest.fixture
def store(monkeypatch):
    """Start a store on this machine: `store(answer)`; answer(request) gives its answers.

    An answer is (status, body, headers); a request has `command`, `path` and `headers`. A body that
    is a function writes its bytes itself, as slowly and as few as it likes.
    """

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append(f"{self.command} {self.path}")
                status, body, headers = answer(self)
                self.send_response(status)
                if isinstance(body, str):
                    headers = {**headers, "Content-Length": len(body)}
                for name, value in headers.items():
                    self.send_header(name, str(value))
                self.end_headers()
                if not isinstance(body, str):
                    with suppress(OSError):  # the reader has had enough
                        body(self.wfile)
                elif self.command != "HEAD":
                    self.wfile.write(body.encode())

            do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *_):
                pass

        asked: list[str] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        using.callback(server.server_close)
        using.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        using.enter_context(account(monkeypatch, f"http://127.0.0.1:{server.server_port}"))
        return asked

    with ExitStack() as using:
        yield start


@pytest.fixture
def server(store):
    """Serve every object by a function that writes its bytes, of a promised length or none."""

    def start(write, length=None):
        promised = {} if length is None else {"Content-Length": length}
        store(lambda _: (200, write, {"ETag": '"abc"'} | promised))

    return start


def trickle(file):
    """A byte now and then, for longer than anybody waits."""
    for _ in range(2000):
        file.write(b"x")
        file.flush()
        time.sleep(0.01)


def test_what_trickles_in_is_given_up_in_time(server, monkeypatch):
    monkeypatch.setattr(s3_body, "DOWNLOAD_SECONDS", 0.3)
    server(trickle, 10**6)
    began = time.monotonic()
    with pytest.raises(storage.Transient, match=r"s3://photos/slow\.jpg: still arriving"):
        storage.read(f"{BUCKET}/slow.jpg", 10**7)
    with pytest.raises(storage.Transient, match=r"slow\.jsonl: less than a MiB arrived"):
        storage.stream(f"{BUCKET}/slow.jsonl")[1].read()
    assert 0.6 <= time.monotonic() - began < 10  # the whole object would take 20 s


def test_a_table_may_take_its_time_while_it_gets_on(server, monkeypatch):
    def steady(file):
        for _ in range(8):
            file.write(bytes(2**20))
            time.sleep(0.1)

    monkeypatch.setattr(s3_body, "DOWNLOAD_SECONDS", 0.5)
    server(steady, 8 * 2**20)
    stamp, table = storage.stream(f"{BUCKET}/large.jsonl")
    with table:
        assert len(table.read()) == 8 * 2**20
    assert stamp == storage.Stamp('"abc"', None)


def test_an_object_without_an_end_ends_at_the_limit(server):
    sent = []

    def flood(file):
        while True:
            sent.append(file.write(bytes(2**16)))

    server(flood)
    with pytest.raises(storage.TooLarge, match=r"endless\.jpg: over the limit of 1,000,000 bytes"):
        storage.read(f"{BUCKET}/endless.jpg", 10**6)
    assert sum(sent) < 2**25  # what fits into the buffers between the two, and no more


@pytest.mark.parametrize("says_its_length", [True, False])
def test_an_object_that_arrives_whole_is_read_as_it_is(server, says_its_length):
    content = os.urandom(3 * 2**20 + 1)
    server(lambda file: file.write(content), len(content) if says_its_length else None)
    fetched = storage.fetch(ImageVersion(f"{BUCKET}/a.jpg"), 2**22)
    assert fetched.data == content
    assert fetched.version.etag == "abc"


def test_an_object_that_breaks_off_is_not_taken_for_whole(server):
    server(lambda file: file.write(b"half"), 8)
    with pytest.raises(storage.Transient, match="broke off"):
        storage.read(f"{BUCKET}/a.jpg", 100)


def test_the_sequencer_is_kept_only_for_the_version_that_was_read(s3):
    s3.put_bucket_versioning(Bucket="photos", VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket="photos", Key="a", Body=b"old")
    new = s3.put_object(Bucket="photos", Key="a", Body=b"new")

    def announced(put, **version):
        image = ImageVersion(f"{BUCKET}/a", etag=put["ETag"].strip('"'), sequencer="0A", **version)
        return storage.fetch(image, 10).version

    assert announced(new).sequencer == "0A"
    assert announced(new, version_id=new["VersionId"]).sequencer == "0A"
    found = announced(old, version_id=old["VersionId"])
    assert (found.sequencer, found.version_id) == (None, new["VersionId"])


# --- S3: conditional writes ----------------------------------------------------------------------


def write(body=b""):
    return storage.write_if_absent(f"{BUCKET}/part", body, "text/plain")


@pytest.mark.usefixtures("s3")
def test_write_if_absent_never_replaces():
    assert (write(b"one"), write(b"two")) == (True, False)
    assert storage.read(f"{BUCKET}/part", 10) == b"one"


@pytest.fixture
def fake(monkeypatch):
    client = fake_s3.FakeS3()
    monkeypatch.setattr(storage, "client", lambda: client)
    return client


MANIFEST = f"{BUCKET}/manifest"
in_parts_or_whole = pytest.mark.parametrize("part_bytes", [100, 2], ids=["whole", "in parts"])


def upload(uri, data, etag, part_bytes):
    with Upload(uri, etag, "text/plain", part_bytes) as new:
        for byte in data:
            new.write(bytes([byte]))
        new.commit()


@in_parts_or_whole
def test_an_upload_replaces_only_what_its_writer_has_read(fake, part_bytes):
    upload(MANIFEST, b"first", None, part_bytes)
    stamp = storage.stamp_of(MANIFEST)
    first = stamp.etag if stamp else None
    upload(MANIFEST, b"second", first, part_bytes)
    for etag in (None, first, '"0"'):
        with pytest.raises(storage.Conflict, match="changed by somebody else"):
            upload(MANIFEST, b"third", etag, part_bytes)
    with pytest.raises(storage.Conflict):  # what it replaces is gone
        upload(f"{BUCKET}/gone", b"third", first, part_bytes)
    assert storage.read(MANIFEST, 10) == b"second"
    assert fake.uploads == {}


@in_parts_or_whole
def test_an_upload_whose_answer_was_lost_knows_its_own_object(fake, part_bytes):
    def sent_twice(real):
        def send(**arguments):
            real(**arguments)
            raise fake.error("PreconditionFailed", 412)  # boto3 has sent it again by itself

        return send

    for name in ("put_object", "complete_multipart_upload"):
        setattr(fake, name, sent_twice(getattr(fake, name)))
    upload(MANIFEST, b"first", None, part_bytes)
    assert storage.read(MANIFEST, 10) == b"first"


def test_two_writes_that_meet_are_tried_again_but_not_for_ever(answers):
    conflict = refusal("ConditionalRequestConflict", 409)
    client = answers(conflict, conflict, {}, *[conflict] * 9)
    assert write()
    assert client.call_count == 3
    with pytest.raises(storage.Transient):
        write()
    assert client.call_count == 8


# --- S3: errors ----------------------------------------------------------------------------------


HEADER = "Invalid header value b'AWS4-HMAC-SHA256 Credential=5ecret/2026, Signature=5ecret'"
SSE_C = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be "
    "provided to retrieve the object."
)


KINDS: dict[type[storage.StorageError], list[BaseException]] = {
    storage.Transient: [
        *(refusal(code) for code in ("RequestTimeout", "SomethingNew")),
        *(refusal("SlowDown", 503), refusal("InternalError", 500)),
        refusal("KMS.ThrottlingException", 400, "Rate exceeded"),
        *(EndpointConnectionError(endpoint_url="http://s3"), ConnectionResetError()),
        *(HTTPClientError(error=ValueError(HEADER)), ValueError(HEADER), RuntimeError(HEADER)),
        *(ResponseParserError("Unable to parse response"), RecursionError(), KeyError("Body")),
        refusal("InvalidRequest", 400, "Missing header"),
    ],
    storage.Denied: [
        *(refusal(code, 403) for code in ("AccessDenied", "InvalidAccessKeyId", "403")),
        *(NoCredentialsError(), refusal("PermanentRedirect", 301)),
        refusal("AccessDenied", 403, "not authorized to perform: kms:Decrypt"),
        refusal("ExpiredToken", 400, "The provided token has expired"),
        refusal("RequestTimeTooSkewed", 403, "The difference between"),
        refusal("NotImplemented", 501, "A header implies"),
    ],
    storage.NotFound: [refusal("NoSuchKey", 404), refusal("NoSuchBucket", 404)],
    storage.Unavailable: [
        *(refusal("InvalidObjectState", 403), refusal("KMS.DisabledException", 400, "disabled.")),
        refusal("AccessDenied", 403, "Bucket is a Requester Pays bucket"),
    ],
}
NO_STORE = "AttributeError.*AWS_ENDPOINT_URL"


@pytest.mark.parametrize(
    ("error", "ours", "words"),
    [
        *((error, ours, "") for ours, errors in KINDS.items() for error in errors),
        (
            refusal("InvalidRequest", 400, SSE_C),
            storage.Unavailable,
            "InvalidRequest: The object was",
        ),
        (SSOTokenLoadError(profile_name="x", error_msg="n"), storage.Denied, "`aws sso login`"),
        (LoginRefreshRequired(), storage.Denied, "run `aws login`"),
        (MissingDependencyException(msg="pip install"), storage.Denied, "pip install"),
        (EOFError("EOF when reading a line"), storage.Denied, "MFA code"),
        (ValueError("Invalid timestamp"), storage.Transient, "came not from S3"),
        (refusal("500", 500, "Internal Server Error"), storage.Transient, "came not from S3"),
        (AttributeError("'str' object has no get"), storage.Transient, NO_STORE),
    ],
)
def test_each_error_is_of_its_kind_says_what_to_do_and_tells_no_secret(answers, error, ours, words):
    answers(error)
    with pytest.raises(storage.StorageError, match=f"^{BUCKET}/a.jpg: [^\n]+$") as caught:
        storage.read(f"{BUCKET}/a.jpg", 10)
    assert type(caught.value) is ours
    assert re.search(words, str(caught.value))
    assert "5ecret" not in str(caught.value)
    if ours is storage.Denied and isinstance(error, ClientError):
        # What S3 says itself is passed on.
        assert error.response["Error"]["Message"] in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AWS_ENDPOINT_URL", "no url", "not set up correctly: Invalid endpoint"),
        ("AWS_PROFILE", "nobody", "no usable AWS credentials"),
        ("AWS_PROFILE", "line", "not set up correctly .AttributeError.; check AWS_ENDPOINT_URL"),
        ("AWS_PROFILE", "sso", "run `aws sso login`"),
    ],
)
def test_a_wrong_setup_is_for_the_operator_to_repair(monkeypatch, tmp_path, variable, value, words):
    (tmp_path / "config").write_text(CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it has read another configuration
    with account(monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name)
        monkeypatch.setenv(variable, value)
        with pytest.raises(storage.Denied, match=words):
            storage.read("s3://bucket/key", 10)


CONFIG = """
[profile line]
s3 = use_accelerate_endpoint = true
[profile sso]
sso_session = work
sso_account_id = 123456789012
sso_role_name = x
[sso-session work]
sso_region = us-east-1
sso_start_url = https://127.0.0.1:1/start
"""


# --- stores that are not AWS ---------------------------------------------------------------------


def listing(*keys, facts="<Size>5</Size>", truncated="false"):
    contents = "".join(f"<Contents><Key>{key}</Key>{facts}</Contents>" for key in keys)
    head = f"<ListBucketResult><Name>photos</Name><IsTruncated>{truncated}</IsTruncated>"
    return f"{head}{contents}</ListBucketResult>"


def test_an_object_without_etag_is_known_by_its_content_and_never_replaced(store):
    store(lambda _: (200, "pixels", {"Content-Type": "image/jpeg"}))
    version = storage.fetch(ImageVersion(f"{BUCKET}/a.jpg"), 10).version
    assert version == ImageVersion(
        f"{BUCKET}/a.jpg", 6, etag=f"sha256:{hashlib.sha256(b'pixels').hexdigest()}"
    )
    with pytest.raises(storage.Denied, match="no ETag"):
        storage.stamp_of(f"{BUCKET}/manifest.jsonl")


def test_a_listing_may_lack_facts_and_a_token(store):
    first = listing("a.jpg", "b.jpg", facts="", truncated="true")
    last = listing("c.jpg", facts="")
    store(lambda asked: (200, last if "start-after=b.jpg" in asked.path else first, {}))
    expected = [ImageVersion(f"{BUCKET}/{name}.jpg") for name in "abc"]
    assert [*storage.list_objects(f"{BUCKET}/")] == expected


@pytest.mark.parametrize(
    ("page", "options", "error", "words"),
    [
        (listing("a.jpg", truncated="true"), {}, storage.Denied, "does not list it"),
        (listing("b", "a"), {"in_order": True}, storage.Denied, "in the order of their names"),
        (listing(), {"missing_ok": False}, storage.NotFound, f"{BUCKET}/: there is no object with"),
    ],
    ids=["without an end", "out of order", "empty"],
)
def test_a_listing_that_cannot_serve_is_refused(store, page, options, error, words):
    store(lambda _: (200, page, {}))
    with pytest.raises(error, match=words):
        [*storage.list_objects(f"{BUCKET}/", **options)]
    if options:  # without them it serves
        assert len([*storage.list_objects(f"{BUCKET}/")]) == page.count("<Key>")


@pytest.mark.parametrize(
    "page",
    [
        "<html><body>Please log in</body></html>",
        "<!DOCTYPE html><html><br><p>Console</html>",
        '{"error": "no such route"}',
        listing("a.jpg")[:-30],
        listing("a.jpg").replace("Key>", "Cay>"),
        listing("a.jpg", facts="<LastModified>yesterday</LastModified>"),
        listing("a.jpg", facts="<Size>much</Size>"),
    ],
    ids=["XML too", "no XML", "JSON", "cut", "no names", "odd date", "odd size"],
)
def test_an_answer_of_another_server_is_not_taken_for_one_of_s3(store, page):
    kinds = {"<html": "text/html", "<!DOC": "text/html", '{"err': "application/json"}
    store(lambda _: (200, page, {"Content-Type": kinds.get(page[:5], "application/xml")}))
    with pytest.raises(storage.StorageError, match="not from S3"):
        [*storage.list_objects(f"{BUCKET}/")]
    if page[:5] in kinds:
        with pytest.raises(storage.StorageError, match="not from S3 but from a web page or an"):
            storage.read(f"{BUCKET}/a.jpg", 1000)
        # With an ETag it is an object that is a web page.
        store(lambda _: (200, page, {"Content-Type": kinds[page[:5]], "ETag": '"1"'}))
        assert storage.read(f"{BUCKET}/a.jpg", 1000) == page.encode()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_an_endpoint_that_redirects_is_named(store, status):
    asked = store(lambda _: (status, "", {"Location": "https://me:5ecret@other:1/photos/a.jpg"}))
    for act in (storage.stamp_of, lambda uri: storage.read(uri, 10)):
        with pytest.raises(storage.Denied, match=r"a\.jpg: the endpoint redirects to ") as caught:
            act(f"{BUCKET}/a.jpg")
        assert "5ecret" not in str(caught.value)
    assert len(asked) == 2


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_store_that_deletes_one_at_a_time_deletes_all(store, status):
    refusal = "<Error><Code>MissingContentMD5</Code><Message>Content-Md5.</Message></Error>"

    asked = store(lambda one: (status, refusal, {}) if one.command == "POST" else (204, "", {}))
    storage.delete([f"{BUCKET}/a", f"{BUCKET}/b"])
    assert asked[-2:] == ["DELETE /photos/a", "DELETE /photos/b"]


def test_a_refused_or_unanswered_deletion_is_not_tried_one_at_a_time(store, answers):
    asked = store(lambda _: (403, "<Error><Code>AccessDenied</Code></Error>", {}))
    with pytest.raises(storage.Denied):
        storage.delete([f"{BUCKET}/a", f"{BUCKET}/b"])
    assert len(asked) == 1
    answers(ReadTimeoutError(endpoint_url="http://s3"))
    with pytest.raises(storage.Transient, match="s3://photos/a"):
        storage.delete([f"{BUCKET}/a"])


def test_who_pays_for_reading_says_so(store, monkeypatch):
    def answer(request):
        if request.headers.get("x-amz-request-payer") != "requester":
            return 403, "<Error><Code>AccessDenied</Code><Message>Denied</Message></Error>", {}
        return 200, listing("a.jpg"), {}

    store(answer)
    with pytest.raises(storage.Denied, match="set AWS_REQUEST_PAYER=requester"):
        [*storage.list_objects(f"{BUCKET}/")]
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    assert len([*storage.list_objects(f"{BUCKET}/")]) == 1
