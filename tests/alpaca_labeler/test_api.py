"""The public Python API: what a notebook or another project imports."""

from __future__ import annotations

import io
import itertools
import pickle
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alpaca_labeler
from alpaca_labeler import Failed, Labeler, LabelerError, Prediction
from alpaca_labeler.model.classifier import Classifier
from alpaca_labeler.pipeline.labeler import Limits

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def labeler():
    return Labeler()


def test_the_public_names_are_these_and_the_version_is_the_one_in_pyproject():
    names = {"Failed", "Labeler", "LabelerError", "Prediction", "__version__"}
    assert {*alpaca_labeler.__all__} == names
    assert names <= {*dir(alpaca_labeler)}
    assert all(getattr(alpaca_labeler, name) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = alpaca_labeler.nothing
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert alpaca_labeler.__version__ == project["version"]


def test_every_form_of_an_encoded_image_has_the_same_prediction(labeler, photos, aws):
    path = photos / "alpaca.jpg"
    data = path.read_bytes()
    aws.create_bucket(Bucket="photos")
    aws.put_object(Bucket="photos", Key="a b.jpg", Body=data)
    uris = f"file://{path}", "s3://photos/a b.jpg"
    with path.open("rb") as file:
        for image in (str(path), *uris, data, bytearray(data), file, io.BytesIO(data)):
            assert labeler.predict(image) == labeler.predict(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
def test_a_pillow_image_of_any_mode_is_labelled_and_left_as_it_is(labeler, photos, mode):
    with Image.open(photos / "alpaca.jpg") as opened:
        assert labeler.predict(opened) == labeler.predict(np.asarray(opened))
        image = opened.convert(mode)
    before = image.tobytes()
    assert labeler.predict(image).label == "alpaca"
    assert image.mode == mode
    assert image.tobytes() == before


def test_a_pillow_image_is_turned_as_its_file_is(labeler, photos):
    turned = Image.open(photos / "cat.png").convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise, which undoes the turn above
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    with Image.open(file) as image:
        assert labeler.predict(image) == labeler.predict(file.getvalue())
        upright = labeler.predict(photos / "cat.png").probability
        assert labeler.predict(image).probability == pytest.approx(upright, abs=0.01)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("https://example.org/a.jpg", "web addresses cannot be read"),
        (["a.jpg"], "list is not an image.*predict_many takes several"),
        (7, "int is not an image"),
        (None, "NoneType is not an image"),
        (io.StringIO("text"), "open it as 'rb'"),
        (np.zeros((4, 4, 4), np.uint8), "an array must be uint8"),
        (np.zeros((4, 4, 3), np.float32), "an array must be uint8"),
        (b"", "empty"),
        (b"no photo", "not a JPEG"),
        ("nowhere.jpg", "there is no such file"),
    ],
)
def test_what_is_not_taken_is_refused_plainly(labeler, image, said):
    with pytest.raises(LabelerError, match=said):
        labeler.predict(image)


def test_limits_hold_for_every_form(photos):
    strict = Labeler(limits=Limits(max_bytes=10, max_pixels=10))
    data = (photos / "cat.png").read_bytes()
    for image, unit in ((data, ""), (io.BytesIO(data), ""), (Image.new("RGB", (4, 4)), " pixels")):
        with pytest.raises(LabelerError, match=f"limit of 10{unit}"):
            strict.predict(image)


@pytest.mark.parametrize("workers", [1, 3])
def test_many_are_answered_in_order_and_a_bad_one_does_not_stop_the_rest(photos, workers):
    images = [photos / "alpaca.jpg", "nowhere.jpg", photos / "cat.png", b"no photo", 7] * 3
    results = [*Labeler().predict_many(images, workers=workers)]
    labels = [result.label for result in results if isinstance(result, Prediction)]
    assert labels == ["alpaca", "not alpaca"] * 3
    failed = {n: each for n, each in enumerate(results) if isinstance(each, Failed)}
    assert [*failed] == [1, 3, 4, 6, 8, 9, 11, 13, 14]
    assert "no such file" in str(failed[1].error)


def test_many_may_be_endless_and_only_a_few_are_taken_ahead(labeler, photos):
    taken = itertools.count()
    data = (photos / "cat.png").read_bytes()
    endless = labeler.predict_many((data for _ in taken), workers=2)
    for _ in range(4):
        assert next(endless).label == "not alpaca"
    endless.close()
    assert next(taken) <= 4 + 3 * 2


def test_many_are_labelled_at_the_same_time(monkeypatch, photos):
    both = threading.Barrier(2, timeout=20)
    real = Classifier.predict

    def predict(self, pixels):
        both.wait()  # passes only if two threads are here
        return real(self, pixels)

    monkeypatch.setattr(Classifier, "predict", predict)
    assert len([*Labeler().predict_many([photos / "cat.png"] * 4, workers=2)]) == 4


def test_an_error_of_the_callers_own_is_not_hidden(labeler):
    def broken():
        yield b"no photo"
        raise RuntimeError("mine")

    results = labeler.predict_many(broken(), workers=1)
    with pytest.raises(RuntimeError, match="mine"):
        list(results)


def test_answers_can_be_pickled(labeler, photos):
    prediction = labeler.predict(photos / "alpaca.jpg")
    assert pickle.loads(pickle.dumps(prediction)) == prediction
    [failed] = labeler.predict_many([b"no photo"])
    assert str(pickle.loads(pickle.dumps(failed)).error) == str(failed.error)
