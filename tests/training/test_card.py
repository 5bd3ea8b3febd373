"""The name under which a class stands in the rows of a model."""

import pytest

from alpaca_labeler.training import card
from alpaca_labeler.training.dataset import DatasetError


@pytest.mark.parametrize(
    ("label", "name"),
    [("alpaca", "alpaca"), ("Cat photos!", "cat-photos"), ("Vicuña", "vicuna"), ("羊", "label")],
)
def test_a_class_name_becomes_an_attribute(label, name):
    assert card.attribute(label) == name


@pytest.mark.parametrize("label", ["failure", "Source ref", "labeler", "dog metadata"])
def test_a_class_name_that_rows_need_themselves_is_refused(label):
    with pytest.raises(DatasetError, match="--positive"):
        card.attribute(label)
