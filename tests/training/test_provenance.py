import csv
import hashlib
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alpaca_labeler.model.bundle import BundleError
from alpaca_labeler.training import provenance
from alpaca_labeler.training.dataset import Dataset, Photo


def photo(name, label=0, **more):
    sha256 = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
    return Photo(name, f"/photos/{name}", label, "kind", sha256, **more)


PHOTOS = (
    photo("cat/1.png"),
    photo("cat/2.png"),
    photo("cat/wrong.png", excluded=True),
    photo("cat/scene of wrong.png"),
    photo("dog/1.png", 1),
    photo("corrected/a,\n=b\udcff.png", 1, corrected=True),
)


@pytest.fixture
def table():
    """Four trained photos, one that is excluded beside one of its scene, one held out."""
    data = Dataset(("cat", "dog"), PHOTOS, np.zeros((6, 1, 1, 3), np.uint8), ())
    outcome: Any = SimpleNamespace(  # as much of an Outcome as the table reads
        trained_on=np.array([0, 2, 3, 4, 5]),
        judged_on=np.array([1, 2]),
        judged=SimpleNamespace(probabilities=np.array([0.25, 0.0])),
    )
    return provenance.table(outcome, data, np.array([0, 1, 2, 2, 4, 5]))


def test_a_record_tells_how_each_photo_was_used_and_which_count_as_seen(table):
    lines = list(csv.DictReader(io.StringIO(table.decode(), newline="")))
    uses = ["trained", "held out", "excluded", "trained", "trained", "trained"]
    assert [line["use"] for line in lines] == uses
    assert [line["probability"] for line in lines] == ["", "0.25", "0.0", "", "", ""]
    assert [line["label"] for line in lines] == ["cat"] * 4 + ["dog"] * 2
    assert [line["corrected"] for line in lines] == [""] * 5 + ["yes"]
    assert lines[5]["file"] == "corrected/a,\n=b\\udcff.png"
    # A photo counts as seen with another of its group.
    known = provenance.parse(table, "photos.csv")
    assert known.seen == {photo.sha256 for photo in PHOTOS} - {PHOTOS[1].sha256}
    assert known.judged == {PHOTOS[1].sha256: 0.25, PHOTOS[2].sha256: 0.0}


@pytest.mark.parametrize("line", ["a,0,trained,half", "a", "a,0,used,0.5", "\xff"])
def test_a_file_that_is_not_a_record_is_refused_by_name(line):
    data = f"sha256,group,use,probability\n{line}\n".encode("latin-1")
    for text in (data, b"file,sha256\na,b\n"):
        with pytest.raises(BundleError, match=r"here/photos\.csv: not a record"):
            provenance.parse(text, "here/photos.csv")
