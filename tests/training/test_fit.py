import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from alpaca_labeler.training import dataset
from alpaca_labeler.training.dataset import Dataset, Photo
from alpaca_labeler.training.description import DatasetError
from alpaca_labeler.training.keras import fit, network, reader


def silent(_):
    return None


def small_base(_recipe, _weights, size):
    """A base of two layers, the same every time, in place of MobileNetV2's 154."""
    x = pixels = keras.Input((size, size, 3))
    for filters, name in ((8, "first"), (16, "second")):
        x = keras.layers.Conv2D(filters, 3, strides=2, name=name)(x)
        x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
        x = keras.layers.ReLU(6.0)(x)
    base = keras.Model(pixels, x, name=network.BASE)
    random = np.random.default_rng(5)
    base.set_weights([abs(random.normal(0, 0.3, w.shape)) for w in base.get_weights()])
    return base


@pytest.fixture(scope="module", autouse=True)
def _small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "_base", small_base)
        yield


@pytest.fixture(scope="module")
def begin(data, tiny):
    recipe = replace(tiny, fine_tuning=replace(tiny.fine_tuning, from_layer="second"))
    return fit.start(data, np.arange(20), recipe, None, seed=42)


TRAIN, HELD = np.arange(20).reshape(-1, 2).T


@pytest.fixture(scope="module")
def first(begin):
    return fit.fit(begin, TRAIN, HELD, seed=42, progress=silent)


def tuned(begin, **settings):
    recipe = begin.recipe
    tuning = replace(recipe.fine_tuning, **settings)
    return replace(begin, recipe=replace(recipe, fine_tuning=tuning))


def weights_of(result):
    return np.concatenate([weight.ravel() for weight in result.network.get_weights()])


def test_the_same_seed_gives_the_same_model_and_another_seed_another(begin, first):
    again = fit.fit(begin, TRAIN, HELD, seed=42, progress=silent)
    other = fit.fit(begin, TRAIN, HELD, seed=43, progress=silent)
    assert np.array_equal(weights_of(first), weights_of(again))
    assert not np.array_equal(weights_of(first), weights_of(other))
    assert [(epoch.phase, epoch.epoch, epoch.epochs) for epoch in first.history] == [
        ("frozen", 1, 1),
        ("fine-tuning", 1, 2),
        ("fine-tuning", 2, 2),
    ]
    assert [epoch.loss for epoch in again.history] == [epoch.loss for epoch in first.history]


def held_out_loss(data, made, held):
    truth, logits = data.truth()[held], fit.logits(made.network, data, held)
    return (np.logaddexp(0, logits) - truth * logits).mean()


def test_the_best_epoch_is_kept_even_if_ctrl_c_ends_training(data, begin):
    """A rate that destroys, and Ctrl-C after the second of many epochs."""

    def press(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    wild = tuned(begin, learning_rate=0.5, cosine=False, ema=0.0, label_smoothing=0.0, epochs=9)
    result = fit.fit(wild, TRAIN, HELD, seed=2, progress=press)
    assert result.interrupted
    assert [epoch.phase for epoch in result.history] == ["frozen", "fine-tuning", "fine-tuning"]
    assert max(epoch.val_loss for epoch in result.history) > 1.01 * result.history[0].val_loss
    best = min(epoch.val_loss for epoch in result.history)
    assert held_out_loss(data, result, HELD) == pytest.approx(best, rel=1e-3)


def test_a_head_that_fine_tuning_makes_worse_is_kept(data, begin):
    """The loss of the head alone is the one that Keras would find, and counts as an epoch."""
    wild = tuned(begin, learning_rate=0.5, cosine=False, ema=0.0, label_smoothing=0.0, epochs=1)
    head = fit.fit(tuned(wild, epochs=0), TRAIN, HELD, seed=2, progress=silent)
    assert held_out_loss(data, head, HELD) == pytest.approx(head.history[0].val_loss, rel=1e-3)
    result = fit.fit(wild, TRAIN, HELD, seed=2, progress=silent)
    if result.history[1].val_loss > result.history[0].val_loss:
        assert result.epochs == 0
        assert np.array_equal(weights_of(result), weights_of(head))
    else:
        assert result.epochs == 1


def test_without_validation_the_last_epoch_is_kept(begin):
    seen: list[fit.Epoch] = []
    result = fit.fit(begin, TRAIN, None, seed=42, progress=seen.append)
    assert result.epochs == 2
    assert all(math.isnan(epoch.val_loss) for epoch in seen)
    assert seen[-1].seconds_left == 0 < seen[-2].seconds_left


def test_training_stops_when_patience_ends(begin):
    hopeless = tuned(begin, learning_rate=1e-12, cosine=False, ema=0.0, patience=1, epochs=9)
    assert len(fit.fit(hopeless, TRAIN, HELD, seed=2, progress=silent).history) < 9


def test_only_the_layers_from_the_named_one_on_learn(begin, first):
    start = network.build(begin.recipe, None).get_layer(network.BASE)
    base = first.network.get_layer(network.BASE)
    for layer, before in zip(base.layers, start.layers, strict=True):
        pairs = zip(layer.get_weights(), before.get_weights(), strict=True)
        same = all(np.array_equal(one, other) for one, other in pairs)
        assert same == (layer.name != "second"), layer.name


def test_photos_are_drawn_in_order_and_shown_at_each_size(begin, tiny):
    draws = np.array([[0, 1], [2, 3], [12, 13]])
    batches = [*begin.drawn.batches(draws, tiny, (32, 32, 64), seed=1)]
    assert [images.shape for images, _ in batches] == [(2, 32, 32, 3)] * 2 + [(2, 64, 64, 3)]
    labels = [targets[network.LOGIT].numpy().ravel().tolist() for _, targets in batches]
    assert labels == [[0, 0], [0, 0], [1, 1]]


# --- the reader of Keras -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(pets, tmp_path_factory):
    """The pets without the broken photo."""
    folder = tmp_path_factory.mktemp("whole") / "pets"
    shutil.copytree(pets, folder)
    (folder / "dogs" / "broken.png").unlink()
    return folder, dataset.load(str(folder), 32)


def test_a_photo_that_only_keras_reads_is_named(pets, data, begin):
    recipe = replace(begin.recipe, reader="keras")
    with pytest.raises(DatasetError, match=r"broken\.png: Keras takes it for a photo"):
        reader.from_directory(str(pets), data, recipe, seed=42)


@pytest.fixture(scope="module")
def by_keras(whole, begin):
    recipe = begin.recipe
    recipe = replace(recipe, reader="keras", head=replace(recipe.head, method="gradient"))
    return recipe, reader.from_directory(f"{whole[0]}/", whole[1], recipe, seed=42)


def test_the_split_and_the_labels_are_keras_own(whole, by_keras):
    (_, data), (_, split) = whole, by_keras
    assert (len(split.train_indices), len(split.validation_indices)) == (16, 4)
    assert not {*split.train_indices} & {*split.validation_indices}
    labels = [targets[network.LOGIT].numpy().ravel() for _, targets in split.validation]
    assert np.concatenate(labels).tolist() == data.truth()[split.validation_indices].tolist()


def test_the_positive_class_may_be_the_first(whole, by_keras):
    (folder, data), (recipe, _) = whole, by_keras
    turned = tuple(replace(photo, label=1 - photo.label) for photo in data.photos)
    split = reader.from_directory(str(folder), replace(data, photos=turned), recipe, seed=42)
    labels = [targets[network.LOGIT].numpy().ravel() for _, targets in split.validation]
    assert np.concatenate(labels).tolist() == [
        turned[index].label for index in split.validation_indices
    ]


def test_both_phases_learn_from_what_keras_read(whole, by_keras):
    (_, data), (recipe, split) = whole, by_keras
    begin = fit.start(data, np.arange(20), recipe, None, seed=42)
    result = fit.fit_directory(begin, split, seed=42, progress=silent)
    assert [(epoch.phase, epoch.epoch) for epoch in result.history] == [
        ("frozen", 1),
        ("fine-tuning", 1),
        ("fine-tuning", 2),
    ]


def test_the_split_of_the_real_data_set_is_262_to_65(shared_folder, tiny):
    folder = shared_folder / "dataset"
    labels = ("not alpaca", "alpaca")
    photos = tuple(
        Photo(f"{name}/{path.name}", str(path), label, name, sha256="")
        for label, name in enumerate(labels)
        for path in sorted((folder / name).glob("*.jpg"))
    )
    data = Dataset(labels, photos, np.zeros((len(photos), 1, 1, 3), np.uint8), ())
    split = reader.from_directory(str(folder), data, replace(tiny, reader="keras"), seed=42)
    assert (len(split.train_indices), len(split.validation_indices)) == (262, 65)
