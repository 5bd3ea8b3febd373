from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from alpaca_labeler.training.keras import network
from alpaca_labeler.training.keras.network import NetworkError


@pytest.fixture(scope="module")
def made(tiny):
    return network.build(tiny, None)


def test_layers_before_the_named_one_and_batch_normalisation_stay_frozen(made):
    network.unfreeze(made, "block_16_project")
    base = made.get_layer(network.BASE)
    learning = {layer.name for layer in base.layers if layer.trainable_weights}
    assert learning == {"block_16_project", "Conv_1"}
    network.unfreeze(made, "151")
    assert {layer.name for layer in base.layers if layer.trainable_weights} == {"Conv_1"}
    for wrong in ("block_99", "999"):
        with pytest.raises(NetworkError, match=wrong):
            network.unfreeze(made, wrong)


def test_one_size_or_any_size_is_the_same_network(made, tiny, data):
    fixed = network.build(tiny, None, 32)
    fixed.set_weights(made.get_weights())
    pixels = data.pixels[:4].astype(np.float32)
    expected = made.predict_on_batch(pixels)
    np.testing.assert_allclose(fixed.predict_on_batch(pixels), expected, rtol=1e-5, atol=1e-6)
    bare = network.build(tiny, None, 32, rescale=False)
    bare.set_weights(made.get_weights())
    found = bare.predict_on_batch(pixels / 127.5 - 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_auxiliary_head_shares_all_other_layers(made):
    trainer = network.with_kinds(made, 3)
    assert trainer.output[network.LOGIT].shape == (None, 1)
    assert trainer.output[network.KIND].shape == (None, 3)
    assert len(trainer.weights) == len(made.weights) + 2


def test_weights_that_cannot_be_had_are_refused_with_how_to_get_them(tiny, tmp_path, monkeypatch):
    with pytest.raises(NetworkError, match="--weights"):
        network.build(tiny, str(tmp_path / "none.h5"))
    lost = Mock(side_effect=OSError("no route to host"))
    monkeypatch.setattr(keras.applications, "MobileNetV2", lost)
    with pytest.raises(NetworkError, match=r"--weights FILE") as refusal:
        network.build(tiny, "imagenet")
    assert network.WEIGHTS_URL in str(refusal.value)
