import math
import re
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from msgspec import structs

pytest.importorskip("tensorflow")

import keras

from alpaca_labeler.training import recipe as recipes
from alpaca_labeler.training import split
from alpaca_labeler.training.keras import fit, network, reader
from alpaca_labeler.training.report import Epoch
from tests.support.pets_photos import SMALL, small_base


def silent(_):
    return None


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "MobileNetV2", small_base)
        yield


@pytest.fixture(scope="module")
def begin(data, small, trained):
    """Where the session's one whole training began."""
    return fit.start(data, split.groups(data), small, None, seed=trained.outcome.settings.seed)


TRAIN, HELD = np.arange(20).reshape(-1, 2).T


def weights_of(result):
    return np.concatenate([weight.ravel() for weight in result.network.get_weights()])


def test_the_same_seed_gives_the_same_model(begin, trained):
    outcome, first = trained.outcome, trained.outcome.fit
    train, held = outcome.trained_on, outcome.judged_on
    again = fit.fit(begin, train, held, seed=outcome.settings.seed, progress=silent)
    assert np.array_equal(weights_of(first), weights_of(again))
    phases = [(epoch.phase, epoch.epoch, epoch.epochs) for epoch in first.history]
    assert phases == [("frozen", 1, 1), ("fine-tuning", 1, 2), ("fine-tuning", 2, 2)]
    assert [epoch.loss for epoch in again.history] == [epoch.loss for epoch in first.history]


def test_without_validation_the_last_epoch_is_kept_and_other_seeds_differ(begin, trained):
    seen: list[Epoch] = []
    result = fit.fit(begin, trained.outcome.trained_on, None, seed=43, progress=seen.append)
    assert result.epochs == 2
    assert all(math.isnan(epoch.val_loss) for epoch in seen)
    assert seen[-1].seconds_left == 0 < seen[-2].seconds_left
    assert not np.array_equal(weights_of(trained.outcome.fit), weights_of(result))


@pytest.mark.parametrize(("spread", "kept"), [(fit.SPREAD, 0), (1e9, 2)])
def test_the_last_epoch_that_is_not_clearly_worse_is_kept_even_if_ctrl_c_ends_training(
    data, begin, monkeypatch, spread, kept
):
    """A rate that destroys, and Ctrl-C after the second of many epochs: the head is best.

    Its loss is computed without Keras, and is the one that Keras would find.
    """

    def press(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "SPREAD", spread)
    wild = {"learning_rate": 0.5, "cosine": False, "ema": 0.0, "label_smoothing": 0.0, "epochs": 9}
    recipe = structs.replace(
        begin.recipe, fine_tuning=structs.replace(begin.recipe.fine_tuning, **wild)
    )
    result = fit.fit(replace(begin, recipe=recipe), TRAIN, HELD, seed=2, progress=press)
    assert result.interrupted
    assert result.epochs == kept
    assert [epoch.phase for epoch in result.history] == ["frozen", "fine-tuning", "fine-tuning"]
    best, *worse = (epoch.val_loss for epoch in result.history)
    assert min(worse) > 1.01 * best
    of_kept = [best, *worse][kept]
    truth, logits = data.truth()[HELD], fit.logits(result.network, data, HELD)
    assert (np.logaddexp(0, logits) - truth * logits).mean() == pytest.approx(of_kept, rel=1e-3)


def test_a_recipe_of_zeros_trains(data, begin, tmp_path):
    """Whatever a recipe may leave out: the average of weights, kinds, decay, smoothing, cosine."""
    text = re.sub(r"(ema|kinds|weight_decay|label_smoothing|warmup) = .*", r"\1 = 0", SMALL)
    text = re.sub(r"(crop|flip|rotation|brightness|contrast|fade|grey) = .*", "", text)
    none = "crop = 1\nflip = false\nrotation = 0\nbrightness = 0\ncontrast = 0\nfade = 0\ngrey = 0"
    text = text.replace("[augmentation]", f"[augmentation]\n{none}").replace("logistic", "gradient")
    file = tmp_path / "zeros.toml"
    file.write_text(text.replace("true", "false"))
    zeros = fit.start(data, begin.group, recipes.load(str(file)), None, seed=42)
    assert len(fit.fit(zeros, TRAIN, HELD, seed=42, progress=silent).history) == 3


def test_only_the_layers_from_the_named_one_on_learn(begin, trained):
    start = network.build(begin.recipe, None).get_layer(network.BASE)
    base = trained.outcome.fit.network.get_layer(network.BASE)
    for layer, before in zip(base.layers, start.layers, strict=True):
        pairs = zip(layer.get_weights(), before.get_weights(), strict=True)
        same = all(np.array_equal(one, other) for one, other in pairs)
        assert same == (layer.name != "second"), layer.name


def test_photos_are_shown_at_each_size_with_their_labels_and_kinds(data, begin, small):
    chosen = np.array([[0, 1, 12]] * 3)
    how = small.augmentation
    batches = [*reader.drawn(begin.source, data, chosen, sizes=(32, 64), how=how, seed=1)]
    assert [images.shape for images, _ in batches] == [(3, 32, 32, 3)] * 2 + [(3, 64, 64, 3)]
    for _, targets in batches:
        assert targets[network.LOGIT].numpy().ravel().tolist() == [0, 0, 1]
        assert targets[network.KIND].numpy().tolist() == [0, 0, 1]


def test_photos_are_drawn_by_their_chances(begin, monkeypatch):
    drawn = Mock(wraps=reader.drawn)
    monkeypatch.setattr(reader, "drawn", drawn)
    chances = np.array([0.5, 0.0, 0.5])
    monkeypatch.setattr(split, "chances", lambda *_: chances)
    fit.fit(begin, np.array([0, 1, 12]), None, seed=1, progress=silent)
    shown = np.concatenate([call.args[2].ravel() for call in drawn.call_args_list])
    assert {*shown.tolist()} == {0, 12}
    assert len(shown) == 2 * 10  # epochs, and a batch of at most `repeats` x 3 photos
