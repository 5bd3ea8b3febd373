"""S3 as moto plays it, files as the system has them, and errors as one small tree."""

from __future__ import annotations

import errno
import io
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.handler import storage
from alpaca_labeler.handler.image_version import ImageVersion
from tests.support.aws import account

BUCKET = "s3://photos"


@pytest.fixture
def s3(aws):
    aws.create_bucket(Bucket="photos")
    return aws


class Answers:
    """An S3 client whose every operation gives the next of these answers."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    def __getattr__(self, operation):
        def call(**_arguments):
            self.calls.append(operation)
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def refusal(code, status=400, message=None):
    said = {"Code": code} | ({"Message": message} if message else {})
    answer = {"Error": said, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Operation")


@pytest.fixture
def answers(monkeypatch):
    def play(*answers):
        client = Answers(*answers)
        monkeypatch.setattr(storage, "client", lambda: client)
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)
        return client

    return play


# --- S3: reading ---------------------------------------------------------------------------------


KEYS = [
    "a.jpg",
    "with space.jpg",
    "a+b%20c.jpg",
    "ü/アルパカ.jpg",
    "new\nline.jpg",
    "../up.jpg",
    "a//b.jpg",
    "/leading.jpg",
    "#?&=.jpg",
    "x" * 1024,
    "é" * 512,
]


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
    for uri in (
        f"{BUCKET}/none.jpg",
        "s3://no-such-bucket/a.jpg",
        "s3://",
        "s3:///a",
        "s3://x y/a",
    ):
        with pytest.raises(storage.NotFound):
            storage.read(uri, 10)
        with pytest.raises(storage.NotFound):
            list(storage.list_objects(uri if "none" not in uri else "s3://none-at-all/"))


def test_an_object_over_the_limit_is_not_downloaded(answers):
    class Body:
        def close(self):
            pass

        def read(self, _size):
            raise AssertionError("downloaded")

    answers({"Body": Body(), "ContentLength": 11})
    with pytest.raises(storage.TooLarge, match="11 bytes"):
        storage.read(f"{BUCKET}/large.jpg", 10)


def serve(handler, monkeypatch, using):
    """Answer S3's calls by a handler of `http.server`, until the stack `using` is left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    using.callback(server.server_close)
    using.callback(server.shutdown)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    using.enter_context(account(monkeypatch, f"http://127.0.0.1:{server.server_port}"))


@pytest.fixture
def server(monkeypatch):
    """Serve every object of a bucket by a function that writes its bytes: `server(write, length)`.

    What is written may be less than the length that was promised, or come slowly; without a length
    it ends with the connection.
    """

    def start(write, length=None):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.send_header("ETag", '"abc"')
                self.send_header("Last-Modified", "Sat, 31 Jan 2026 12:00:00 GMT")
                self.end_headers()
                with suppress(OSError):  # the reader has had enough
                    write(self.wfile)

            def log_message(self, *_):
                pass

        serve(Handler, monkeypatch, using)

    with ExitStack() as using:
        yield start


def trickle(file):
    """A byte now and then, for longer than anybody waits."""
    for _ in range(2000):
        file.write(b"x")
        file.flush()
        time.sleep(0.01)


def test_an_object_that_trickles_in_is_given_up_in_time(server, monkeypatch):
    monkeypatch.setattr(storage, "DOWNLOAD_SECONDS", 0.3)
    server(trickle, 10**6)
    began = time.monotonic()
    with pytest.raises(storage.Transient, match=r"s3://photos/slow\.jpg: still arriving"):
        storage.read(f"{BUCKET}/slow.jpg", 10**7)
    assert 0.3 <= time.monotonic() - began < 10  # the whole object would take 20 s


def test_a_table_that_trickles_in_is_given_up_in_time(server, monkeypatch):
    monkeypatch.setattr(storage, "DOWNLOAD_SECONDS", 0.3)
    server(trickle, 10**6)
    with pytest.raises(storage.Transient, match=r"slow\.jsonl: less than a MiB arrived"):
        storage.download(f"{BUCKET}/slow.jsonl", io.BytesIO())


def test_a_table_may_take_its_time_while_it_gets_on(server, monkeypatch):
    def steady(file):
        for _ in range(8):
            file.write(bytes(2**20))
            time.sleep(0.1)

    monkeypatch.setattr(storage, "DOWNLOAD_SECONDS", 0.5)
    server(steady, 8 * 2**20)
    table = io.BytesIO()
    storage.download(f"{BUCKET}/large.jsonl", table)
    assert table.tell() == 8 * 2**20


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


def test_an_announced_size_over_the_limit_asks_nothing(answers):
    client = answers()
    with pytest.raises(storage.TooLarge):
        storage.fetch(ImageVersion(f"{BUCKET}/large.jpg", size=11), 10)
    assert client.calls == []


def test_the_sequencer_is_kept_only_for_the_version_that_was_read(s3):
    s3.put_bucket_versioning(Bucket="photos", VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket="photos", Key="a", Body=b"old")
    new = s3.put_object(Bucket="photos", Key="a", Body=b"new")

    def announced(put, *, with_version=True):
        version_id = put["VersionId"] if with_version else None
        image = ImageVersion(
            f"{BUCKET}/a", etag=put["ETag"].strip('"'), version_id=version_id, sequencer="0A"
        )
        return storage.fetch(image, 10).version

    assert announced(new).sequencer == "0A"
    assert announced(new, with_version=False).sequencer == "0A"
    assert announced(old).sequencer is None
    assert announced(old).version_id == new["VersionId"]


# --- S3: conditional writes ----------------------------------------------------------------------


@pytest.mark.usefixtures("s3")
def test_write_if_absent_never_replaces():
    assert storage.write_if_absent(f"{BUCKET}/part", b"one", "text/plain")
    assert not storage.write_if_absent(f"{BUCKET}/part", b"two", "text/plain")
    assert storage.read(f"{BUCKET}/part", 10) == b"one"


@pytest.mark.usefixtures("s3")
def test_write_if_unchanged_refuses_another_state():
    uri = f"{BUCKET}/manifest"
    storage.write_if_unchanged(uri, b"one", None, "text/plain", mark="1")
    first = storage.stamp_of(uri)
    assert first
    assert first.mark == "1"
    storage.write_if_unchanged(uri, b"two", first.etag, "text/plain", mark="2")
    for etag in (None, first.etag):
        with pytest.raises(storage.Conflict):
            storage.write_if_unchanged(uri, b"three", etag, "text/plain", mark="3")
    assert storage.read(uri, 10) == b"two"


@pytest.mark.usefixtures("s3")
def test_a_write_whose_answer_was_lost_knows_its_own_object():
    uri = f"{BUCKET}/manifest"
    storage.write_if_unchanged(uri, b"one", None, "text/plain", mark="1")
    storage.write_if_unchanged(uri, b"one", None, "text/plain", mark="1")  # sent again


@pytest.mark.usefixtures("s3")
def test_a_replaced_object_that_is_gone_is_a_conflict():
    with pytest.raises(storage.Conflict):
        storage.write_if_unchanged(f"{BUCKET}/gone", b"", '"0"', "text/plain", mark="1")


def test_two_writes_that_meet_are_tried_again(answers):
    conflict = refusal("ConditionalRequestConflict", 409)
    client = answers(conflict, conflict, {})
    assert storage.write_if_absent(f"{BUCKET}/part", b"", "text/plain")
    assert len(client.calls) == 3


def test_two_writes_that_meet_for_ever_are_for_later(answers):
    client = answers(*[refusal("ConditionalRequestConflict", 409)] * 9)
    with pytest.raises(storage.Transient):
        storage.write_if_absent(f"{BUCKET}/part", b"", "text/plain")
    assert len(client.calls) == 5


# --- S3: errors ----------------------------------------------------------------------------------


SSE_C = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be "
    "provided to retrieve the object."
)


def test_what_s3_says_itself_is_passed_on(answers):
    answers(refusal("InvalidRequest", 400, SSE_C))
    with pytest.raises(storage.Unavailable, match="InvalidRequest: The object was stored using"):
        storage.read("s3://photos/a.jpg", 10)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (refusal("SlowDown", 503), storage.Transient),
        (refusal("InternalError", 500), storage.Transient),
        (refusal("RequestTimeout", 400), storage.Transient),
        (refusal("SomethingNew", 400), storage.Transient),
        (EndpointConnectionError(endpoint_url="http://s3"), storage.Transient),
        (ConnectionResetError(), storage.Transient),
        (refusal("AccessDenied", 403), storage.Denied),
        (refusal("InvalidAccessKeyId", 403), storage.Denied),
        (refusal("403", 403), storage.Denied),
        (NoCredentialsError(), storage.Denied),
        (refusal("NoSuchKey", 404), storage.NotFound),
        (refusal("NoSuchBucket", 404), storage.NotFound),
        (refusal("InvalidObjectState", 403), storage.Unavailable),
        (refusal("PermanentRedirect", 301), storage.Denied),
        (refusal("KMS.DisabledException", 400, "arn:...:key/x is disabled."), storage.Unavailable),
        (refusal("KMS.ThrottlingException", 400, "Rate exceeded"), storage.Transient),
        (refusal("InvalidRequest", 400, SSE_C), storage.Unavailable),
        (refusal("InvalidRequest", 400, "Missing header"), storage.Transient),
        (
            refusal("AccessDenied", 403, "not authorized to perform: kms:Decrypt"),
            storage.Denied,
        ),
        (refusal("AccessDenied", 403, "Bucket is a Requester Pays bucket"), storage.Unavailable),
        (refusal("AccessDenied", 403, "Access Denied"), storage.Denied),
    ],
)
def test_each_error_is_of_its_kind_and_names_the_object(answers, error, ours):
    answers(error)
    with pytest.raises(storage.StorageError, match=f"{BUCKET}/a.jpg") as caught:
        storage.read(f"{BUCKET}/a.jpg", 10)
    assert type(caught.value) is ours


# --- stores that are not AWS ---------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch):
    """Start a store on this machine: `store(answer)`; answer(request) gives its answers.

    An answer is (status, body, headers); a request has `method`, `path` and `headers`.
    """

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                asked.append(f"{self.command} {self.path}")
                status, body, headers = answer(self)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *_):
                pass

        asked: list[str] = []
        serve(Handler, monkeypatch, using)
        return asked

    with ExitStack() as using:
        yield start


def listing(*keys, facts="<Size>5</Size>", truncated="false", more=""):
    contents = "".join(f"<Contents><Key>{key}</Key>{facts}</Contents>" for key in keys)
    return (
        f"<ListBucketResult><Name>photos</Name><IsTruncated>{truncated}</IsTruncated>{more}"
        f"{contents}</ListBucketResult>"
    )


def test_a_listing_may_leave_out_what_is_optional(store):
    store(lambda _: (200, listing("a.jpg", facts=""), {}))
    assert [*storage.list_objects(f"{BUCKET}/")] == [ImageVersion(f"{BUCKET}/a.jpg")]


def test_an_object_without_etag_and_date_is_known_by_its_content(store):
    store(lambda _: (200, "pixels", {"Content-Type": "image/jpeg"}))
    version = storage.fetch(ImageVersion(f"{BUCKET}/a.jpg"), 10).version
    assert version == ImageVersion(f"{BUCKET}/a.jpg", 6, etag=storage.digest(b"pixels"))


def test_a_table_without_an_etag_is_not_replaced(store):
    store(lambda _: (200, "", {}))
    with pytest.raises(storage.Denied, match="no ETag"):
        storage.stamp_of(f"{BUCKET}/manifest.jsonl")


def test_a_listing_without_a_token_goes_on_after_the_last_name(store):
    def answer(request):
        if "start-after=b.jpg" in request.path:
            return 200, listing("c.jpg"), {}
        return 200, listing("a.jpg", "b.jpg", truncated="true"), {}

    store(answer)
    names = [image.source_ref for image in storage.list_objects(f"{BUCKET}/")]
    assert names == [f"{BUCKET}/{name}.jpg" for name in "abc"]


def test_a_listing_that_never_ends_is_refused(store):
    store(lambda _: (200, listing("a.jpg", truncated="true"), {}))
    with pytest.raises(storage.Denied, match="does not list it"):
        [*storage.list_objects(f"{BUCKET}/")]


def test_a_listing_out_of_order_is_refused_if_order_is_needed(store):
    store(lambda _: (200, listing("b.jpg", "a.jpg"), {}))
    assert len([*storage.list_objects(f"{BUCKET}/")]) == 2
    with pytest.raises(storage.Denied, match="in the order of their names"):
        [*storage.list_objects(f"{BUCKET}/", in_order=True)]


def test_nothing_under_a_name_is_said(store):
    store(lambda _: (200, listing(), {}))
    assert [*storage.list_objects(f"{BUCKET}/typo/")] == []
    with pytest.raises(storage.NotFound, match="photos/typo/: there is no object with that name"):
        [*storage.list_objects(f"{BUCKET}/typo/", missing_ok=False)]


@pytest.mark.parametrize(
    "page",
    ["<html><body>Please log in</body></html>", "<!DOCTYPE html><html><br><p>Console</html>"],
    ids=["XML too", "no XML"],
)
@pytest.mark.parametrize(
    "act",
    [
        lambda: [*storage.list_objects(f"{BUCKET}/")],
        lambda: storage.read(f"{BUCKET}/a.jpg", 1000),
    ],
    ids=["listing", "object"],
)
def test_a_web_page_is_not_taken_for_an_answer(store, page, act):
    store(lambda _: (200, page, {"Content-Type": "text/html"}))
    with pytest.raises(storage.StorageError, match="not from S3 but from a web page; set AWS_"):
        act()


def test_an_object_that_is_a_web_page_is_read(store):
    store(lambda _: (200, "<html>", {"Content-Type": "text/html", "ETag": '"1"'}))
    assert storage.read(f"{BUCKET}/a.html", 10) == b"<html>"


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_store_that_deletes_one_at_a_time_deletes_all(store, status):
    refusal = "<Error><Code>MissingContentMD5</Code><Message>Content-Md5.</Message></Error>"

    def answer(request):
        return (status, refusal, {}) if request.command == "POST" else (204, "", {})

    asked = store(answer)
    storage.delete([f"{BUCKET}/a", f"{BUCKET}/b"])
    assert [line for line in asked if line.startswith("DELETE")] == [
        "DELETE /photos/a",
        "DELETE /photos/b",
    ]


def test_a_deletion_without_an_answer_is_for_later(answers):
    answers(ReadTimeoutError(endpoint_url="http://s3"))
    with pytest.raises(storage.Transient, match="s3://photos/a"):
        storage.delete([f"{BUCKET}/a"])


def test_a_refused_deletion_is_not_tried_one_at_a_time(store):
    asked = store(lambda _: (403, "<Error><Code>AccessDenied</Code></Error>", {}))
    with pytest.raises(storage.Denied):
        storage.delete([f"{BUCKET}/a", f"{BUCKET}/b"])
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (400, "ExpiredToken", "The provided token has expired"),
        (403, "RequestTimeTooSkewed", "The difference between the request time and the current"),
        (501, "NotImplemented", "A header you provided implies functionality"),
    ],
)
def test_what_no_retry_repairs_keeps_the_sentence_of_the_store(store, status, code, sentence):
    error = f"<Error><Code>{code}</Code><Message>{sentence}</Message></Error>"
    store(lambda _: (status, error, {}))
    with pytest.raises(storage.Denied, match=f"{code}: {sentence}"):
        storage.read(f"{BUCKET}/a.jpg", 10)


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


# --- files ---------------------------------------------------------------------------------------


def test_a_file_is_read_with_its_size_and_time(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    fetched = storage.fetch(ImageVersion(str(path)), 5)
    assert fetched.data == b"12345"
    digest = "sha256:5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
    assert fetched.version == ImageVersion(str(path), 5, "2023-11-14T22:13:20.123456789Z", digest)
    assert storage.digest_of(str(path)) == digest


def test_a_pipe_a_socket_a_folder_and_a_loop_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.symlink("loop", tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("pipe", "socket", "", "loop"):
            with pytest.raises(storage.Unavailable):
                storage.read(str(tmp_path / name), 10)


@pytest.mark.parametrize("name", ["none", "file/inside", "nul\0byte"])
def test_a_name_without_a_file_is_not_found(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(storage.NotFound):
        storage.read(f"{tmp_path}/{name}", 10)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, storage.Denied),
        (errno.ENAMETOOLONG, storage.Unavailable),
        (errno.EIO, storage.Transient),
        (errno.ESTALE, storage.Transient),
        (errno.EMFILE, storage.Transient),
    ],
)
def test_a_disk_that_may_recover_is_asked_again(monkeypatch, number, kind):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(storage.StorageError, match=r"a\.jpg") as caught:
        storage.read("a.jpg", 10)
    assert type(caught.value) is kind


def test_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(storage.TooLarge, match="1,099,511,627,776"):
        storage.read(str(path), 100)


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_a_source_ref_is_text_and_leads_back_to_its_file(name):
    path = os.fsdecode(name)
    source_ref = storage.to_source_ref(path)
    source_ref.encode()
    assert os.path.abspath(storage.to_path(source_ref)) == os.path.abspath(path)


@pytest.mark.parametrize("path", ["s3://bucket/key", "file:///etc/passwd"])
def test_a_file_named_like_a_uri_is_not_taken_for_one(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"local")
    source_ref = storage.to_source_ref(path)
    assert not storage.is_s3(source_ref)
    assert storage.read(source_ref, 10) == b"local"


@pytest.mark.parametrize("nanoseconds", [0, -1, 10**30, -(10**30), 253402300800 * 10**9])
def test_any_time_has_a_name(nanoseconds):
    assert storage.file_time(nanoseconds)
    assert storage.file_time(nanoseconds) != storage.file_time(nanoseconds + 1)


def test_join_keeps_one_slash():
    assert storage.join("s3://b/x/", "n") == storage.join("s3://b/x", "n") == "s3://b/x/n"
    assert storage.join("", "n") == "n"
    assert storage.join("/", "n") == "/n"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AWS_ENDPOINT_URL", "no url", "not set up correctly"),
        ("AWS_PROFILE", "nobody", "no usable AWS credentials"),
    ],
)
def test_a_wrong_setup_is_for_the_operator_to_repair(monkeypatch, variable, value, words):
    monkeypatch.setenv(variable, value)
    storage._new_client.cache_clear()
    with pytest.raises(storage.Denied, match=words):
        storage.read("s3://bucket/key", 10)
    storage._new_client.cache_clear()


# --- addresses as people write them --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://bucket/a b+c.jpg", "s3://bucket/a b+c.jpg"),
        ("S3://bucket/prefix/", "s3://bucket/prefix/"),
        ("s3a://bucket/prefix/", "s3://bucket/prefix/"),
        ("s3n://bucket", "s3://bucket"),
        ("arn:aws:s3:::bucket/prefix/", "s3://bucket/prefix/"),
        ("https://bucket.s3.amazonaws.com/a%20b%2Bc.jpg", "s3://bucket/a b+c.jpg"),
        ("https://my.bucket.s3.eu-west-1.amazonaws.com/k", "s3://my.bucket/k"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/k", "s3://bucket/k"),
        ("https://s3-eu-west-1.amazonaws.com/bucket/", "s3://bucket/"),
        ("https://b.s3.dualstack.us-west-2.amazonaws.com/k", "s3://b/k"),
        ("https://b.s3.cn-north-1.amazonaws.com.cn/k", "s3://b/k"),
        ("file:///photos/a%20b.jpg", "/photos/a b.jpg"),
        ("photos/", "photos/"),
        ("C: and D://", "C: and D://"),
        ("-", "-"),
    ],
)
def test_addresses_are_understood_as_people_write_them(text, uri):
    assert storage.as_uri(text) == uri


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gs://bucket/k", "gs:// cannot be read"),
        ("https://example.com/a.jpg", "web addresses cannot be read"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=1", "web addresses cannot be read"),
        ("https://n-123.s3-accesspoint.eu-west-1.amazonaws.com/k", "web addresses cannot be read"),
        ("arn:aws:s3:eu-west-1:123456789012:accesspoint/name", "name the bucket behind it"),
        ("s3://", "not of the form s3://bucket/key"),
        ("s3:///key", "not of the form s3://bucket/key"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "not of the form s3://bucket/key"),
    ],
)
def test_other_addresses_are_refused_in_one_line(text, why):
    with pytest.raises(storage.StorageError) as caught:
        storage.as_uri(text)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_called_like_an_address_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gs:/photos").mkdir(parents=True)
    assert storage.as_uri("gs://photos") == "gs://photos"
