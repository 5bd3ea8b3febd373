import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from alpaca_labeler.training import dataset
from alpaca_labeler.training import recipe as recipes
from alpaca_labeler.training.dataset import Dataset, Photo
from alpaca_labeler.training.description import DatasetError
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
def begin(data, small):
    return fit.start(data, np.arange(20), small, None, seed=42)


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


def phases_of(result):
    return [(epoch.phase, epoch.epoch, epoch.epochs) for epoch in result.history]


def test_the_same_seed_gives_the_same_model(begin, first):
    again = fit.fit(begin, TRAIN, HELD, seed=42, progress=silent)
    assert np.array_equal(weights_of(first), weights_of(again))
    assert phases_of(first) == [("frozen", 1, 1), ("fine-tuning", 1, 2), ("fine-tuning", 2, 2)]
    assert [epoch.loss for epoch in again.history] == [epoch.loss for epoch in first.history]


def test_without_validation_the_last_epoch_is_kept_and_another_seed_gives_another_model(
    begin, first
):
    seen: list[Epoch] = []
    result = fit.fit(begin, TRAIN, None, seed=43, progress=seen.append)
    assert result.epochs == 2
    assert all(math.isnan(epoch.val_loss) for epoch in seen)
    assert seen[-1].seconds_left == 0 < seen[-2].seconds_left
    assert not np.array_equal(weights_of(first), weights_of(result))


def test_the_best_epoch_is_kept_even_if_ctrl_c_ends_training(data, begin):
    """A rate that destroys, and Ctrl-C after the second of many epochs: the head is best.

    Its loss is computed without Keras, and is the one that Keras would find.
    """

    def press(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    wild = tuned(begin, learning_rate=0.5, cosine=False, ema=0.0, label_smoothing=0.0, epochs=9)
    result = fit.fit(wild, TRAIN, HELD, seed=2, progress=press)
    assert result.interrupted
    assert result.epochs == 0
    assert [epoch.phase for epoch in result.history] == ["frozen", "fine-tuning", "fine-tuning"]
    best, *worse = (epoch.val_loss for epoch in result.history)
    assert min(worse) > 1.01 * best
    truth, logits = data.truth()[HELD], fit.logits(result.network, data, HELD)
    assert (np.logaddexp(0, logits) - truth * logits).mean() == pytest.approx(best, rel=1e-3)


def test_a_recipe_of_zeros_trains(data, begin, tmp_path):
    """Whatever a recipe may leave out: the average of weights, kinds, decay, smoothing, cosine."""
    text = re.sub(r"(ema|kinds|weight_decay|label_smoothing|warmup) = .*", r"\1 = 0", SMALL)
    text = re.sub(r"(crop|flip|rotation|brightness|contrast|fade|grey) = .*", "", text)
    none = "crop = 1\nflip = false\nrotation = 0\nbrightness = 0\ncontrast = 0\nfade = 0\ngrey = 0"
    text = text.replace("[augmentation]", f"[augmentation]\n{none}").replace("logistic", "gradient")
    file = tmp_path / "zeros.toml"
    file.write_text(text.replace("true", "false"))
    zeros = fit.start(data, begin.group, recipes.load(str(file)), None, seed=42)
    result = fit.fit(zeros, TRAIN, HELD, seed=42, progress=silent)
    assert phases_of(result) == [("frozen", 1, 1), ("fine-tuning", 1, 2), ("fine-tuning", 2, 2)]


def test_only_the_layers_from_the_named_one_on_learn(begin, first):
    start = network.build(begin.recipe, None).get_layer(network.BASE)
    base = first.network.get_layer(network.BASE)
    for layer, before in zip(base.layers, start.layers, strict=True):
        pairs = zip(layer.get_weights(), before.get_weights(), strict=True)
        same = all(np.array_equal(one, other) for one, other in pairs)
        assert same == (layer.name != "second"), layer.name


def test_photos_are_drawn_by_their_chances_and_shown_at_each_size(data, begin, tiny):
    chances = np.array([0.5, 0.0, 0.5])
    photos = reader.drawn(
        begin.source,
        data,
        tiny,
        train=np.array([0, 1, 12]),
        validation=HELD,
        chances=chances,
        seed=1,
    )
    shown = [*photos.batches(3, (32, 64))]
    assert photos.steps == 1
    assert [images.shape for images, _ in shown] == [(10, 32, 32, 3)] * 2 + [(10, 64, 64, 3)]
    labels = np.concatenate([targets[network.LOGIT].numpy().ravel() for _, targets in shown])
    kinds = np.concatenate([targets[network.KIND].numpy() for _, targets in shown])
    assert 5 < labels.sum() < 25
    assert kinds.tolist() == labels.tolist()  # cats are of one kind, dogs of the other
    assert sum(len(images) for images, _ in photos.held) == len(HELD)


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
    return recipe, *reader.from_directory(f"{whole[0]}/", whole[1], recipe, seed=42)


def test_the_split_and_the_labels_are_keras_own(whole, by_keras):
    (_, data), (_, photos, train, validation) = whole, by_keras
    assert (len(train), len(validation)) == (16, 4)
    assert not {*train} & {*validation}
    labels = [targets[network.LOGIT].numpy().ravel() for _, targets in photos.held]
    assert np.concatenate(labels).tolist() == data.truth()[validation].tolist()


def test_the_positive_class_may_be_the_first(whole, by_keras):
    (folder, data), (recipe, *_) = whole, by_keras
    turned = tuple(replace(photo, label=1 - photo.label) for photo in data.photos)
    turned_data = replace(data, photos=turned)
    photos, _, validation = reader.from_directory(str(folder), turned_data, recipe, seed=42)
    labels = [targets[network.LOGIT].numpy().ravel() for _, targets in photos.held]
    assert np.concatenate(labels).tolist() == [turned[index].label for index in validation]


def test_both_phases_learn_from_what_keras_read(whole, by_keras):
    (_, data), (recipe, photos, *_) = whole, by_keras
    begin = fit.start(data, np.arange(20), recipe, None, seed=42)
    result = fit.fit_directory(begin, photos, seed=42, progress=silent)
    assert phases_of(result) == [("frozen", 1, 1), ("fine-tuning", 1, 2), ("fine-tuning", 2, 2)]


def test_the_split_of_the_real_data_set_is_262_to_65(shared_folder, tiny):
    folder = shared_folder / "dataset"
    labels = ("not alpaca", "alpaca")
    photos = tuple(
        Photo(f"{name}/{path.name}", str(path), label, name, sha256="")
        for label, name in enumerate(labels)
        for path in sorted((folder / name).glob("*.jpg"))
    )
    data = Dataset(labels, photos, np.zeros((len(photos), 1, 1, 3), np.uint8), ())
    keras = replace(tiny, reader="keras")
    _, train, validation = reader.from_directory(str(folder), data, keras, seed=42)
    assert (len(train), len(validation)) == (262, 65)
