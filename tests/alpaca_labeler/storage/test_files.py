"""Names, and files as the system has them."""

from __future__ import annotations

import errno
import os
import socket
from unittest.mock import Mock

import pytest

from alpaca_labeler import storage
from alpaca_labeler.storage import files
from alpaca_labeler.storage.image_version import ImageVersion


def test_a_file_is_read_with_its_size_and_time(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    fetched = storage.fetch(ImageVersion(str(path)), 5)
    assert fetched.data == b"12345"
    assert fetched.version == ImageVersion(str(path), 5, "2023-11-14T22:13:20.123456789Z")


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


KINDS = {errno.EACCES: storage.Denied, errno.ENAMETOOLONG: storage.Unavailable}
KINDS |= dict.fromkeys((errno.EIO, errno.ESTALE, errno.EMFILE), storage.Transient)


@pytest.mark.parametrize(("number", "kind"), KINDS.items())
def test_a_disk_that_may_recover_is_asked_again(monkeypatch, number, kind):
    monkeypatch.setattr(os, "open", Mock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(storage.StorageError, match=r"a\.jpg") as caught:
        storage.read("a.jpg", 10)
    assert type(caught.value) is kind


def test_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(storage.TooLarge, match="1,099,511,627,776"):
        storage.read(str(path), 100)


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
    assert files.file_time(nanoseconds)
    assert files.file_time(nanoseconds) != files.file_time(nanoseconds + 1)


def test_join_keeps_one_slash():
    assert storage.join("s3://b/x/", "n") == storage.join("s3://b/x", "n") == "s3://b/x/n"
    assert storage.join("", "n") == "n"
    assert storage.join("/", "n") == "/n"


# --- addresses as people write them --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://bucket/a b+c.jpg", "s3://bucket/a b+c.jpg"),
        ("S3://bucket/prefix/", "s3://bucket/prefix/"),
        ("s3a://bucket/prefix/", "s3://bucket/prefix/"),
        ("s3n://bucket", "s3://bucket"),
        ("arn:aws:s3:::bucket/prefix/", "s3://bucket/prefix/"),
        ("arn:aws-us-gov:s3:::bucket/", "s3://bucket/"),
        ("https://bucket.s3.amazonaws.com/a%20b%2Bc+d.jpg", "s3://bucket/a b+c d.jpg"),
        ("https://my.bucket.s3.eu-west-1.amazonaws.com/k", "s3://my.bucket/k"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/k", "s3://bucket/k"),
        ("https://s3-eu-west-1.amazonaws.com/bucket/", "s3://bucket/"),
        ("https://b.s3.dualstack.us-west-2.amazonaws.com/k", "s3://b/k"),
        ("https://b.s3.cn-north-1.amazonaws.com.cn/k", "s3://b/k"),
        *((f"file://{host}/photos/a%20b.jpg", "/photos/a b.jpg") for host in ("", "localhost")),
        *((path, path) for path in ("photos/", "C: and D://", "-")),
    ],
)
def test_addresses_are_understood_as_people_write_them(text, uri):
    assert files.as_uri(text) == uri


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gs://bucket/k", "gs:// cannot be read"),
        ("https://example.com/a.jpg", "web addresses cannot be read"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=1", "web addresses cannot be read"),
        ("https://n-123.s3-accesspoint.eu-west-1.amazonaws.com/k", "web addresses cannot be read"),
        ("arn:aws:s3:eu-west-1:123456789012:accesspoint/name", "name the bucket behind it"),
        *((text, "not of the form s3://bucket/key") for text in ("s3://", "s3:///key", "s3:/b")),
        ("file://nas/photos", "on another machine"),
        ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "not of the form s3://bucket/key"),
    ],
)
def test_other_addresses_are_refused_in_one_line(text, why):
    with pytest.raises(storage.StorageError, match=f"^[^\n]*{why}[^\n]*$"):
        files.as_uri(text)


def test_a_folder_that_is_called_like_an_address_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gs:/photos").mkdir(parents=True)
    assert files.as_uri("gs://photos") == "gs://photos"
