import pytest

from alpaca_labeler import storage
from alpaca_labeler.table import manifest_row, parts
from tests.support.fake_s3 import FakeS3, error
from tests.support.rows import failure, human, label

RESULTS = "s3://results/labels/"


@pytest.fixture
def s3(monkeypatch):
    fake = FakeS3()
    monkeypatch.setattr(storage, "client", lambda: fake)
    return fake


def test_a_batch_delivered_again_in_another_order_writes_the_same_part(s3):
    first = parts.write(RESULTS, [label("a"), failure("b")])
    again = parts.write(RESULTS, [failure("b", minute=9), label("a", minute=9)])
    assert first == again
    [stored] = s3.objects.values()
    assert [
        manifest_row.created(manifest_row.parse(line)) for line in stored.body.splitlines()
    ] == (["2026-01-02T00:00:00.000000"] * 2)


@pytest.mark.parametrize(
    "other", [label("b"), label("a", 2), label("a", logit=0.5), failure("a")], ids=str
)
@pytest.mark.usefixtures("s3")
def test_a_part_with_another_outcome_has_another_name(other):
    assert parts.write(RESULTS, [label("a")]) != parts.write(RESULTS, [other])


def test_the_rows_of_a_part_are_in_the_order_of_their_source_refs(s3):
    parts.write(RESULTS, [label("b"), label("a"), label("A")])
    [stored] = s3.objects.values()
    refs = [manifest_row.parse(line)["source-ref"] for line in stored.body.splitlines()]
    assert refs == sorted(refs)


@pytest.mark.usefixtures("s3")
def test_a_person_who_says_it_again_later_says_something_new():
    first = parts.write(RESULTS, [human("a", minute=1)])
    assert parts.write(RESULTS, [human("a", minute=1)]) == first
    assert parts.write(RESULTS, [human("a", minute=2)]) != first


@pytest.mark.parametrize("content", [b"", b"damaged", manifest_row.encode(label("a", 2))])
def test_a_part_that_holds_something_else_is_not_believed(s3, content):
    uri = parts.write(RESULTS, [label("a")])
    s3.objects[storage.split_s3(uri)].body = content
    with pytest.raises(storage.Conflict, match="do not match its name"):
        parts.write(RESULTS, [label("a")])


def test_a_part_that_is_compacted_while_it_is_compared_is_written_again(s3, monkeypatch):
    uri = parts.write(RESULTS, [label("a")])

    def gone(**_):
        s3.objects.clear()
        raise error("NoSuchKey", 404)

    monkeypatch.setattr(s3, "get_object", gone)
    assert parts.write(RESULTS, [label("a")]) == uri
    assert [*s3.objects] == [storage.split_s3(uri)]
