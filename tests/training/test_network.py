from unittest.mock import Mock

import pytest

pytest.importorskip("tensorflow")

import keras

from alpaca_labeler.training.keras import network
from alpaca_labeler.training.keras.network import NetworkError


def test_what_learns_begins_with_a_layer_of_that_name_or_number(small):
    made = network.build(small, None)
    base = made.get_layer(network.BASE)
    network.unfreeze(made, "151")
    assert {layer.name for layer in base.layers if layer.trainable_weights} == {"Conv_1"}
    for wrong in ("block_99", "999"):
        with pytest.raises(NetworkError, match=wrong):
            network.unfreeze(made, wrong)


def test_weights_that_cannot_be_had_are_refused_with_how_to_get_them(small, tmp_path, monkeypatch):
    with pytest.raises(NetworkError, match="--weights"):
        network.build(small, str(tmp_path / "none.h5"))
    lost = Mock(side_effect=OSError("no route to host"))
    monkeypatch.setattr(keras.applications, "MobileNetV2", lost)
    with pytest.raises(NetworkError, match=r"--weights FILE") as refusal:
        network.build(small, "imagenet")
    assert network.WEIGHTS_URL in str(refusal.value)
