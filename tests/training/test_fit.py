import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from alpaca_labeler.training import dataset, experiment, fit, network, split
from alpaca_labeler.training.network import NetworkError


def silent(_):
    return None


@pytest.fixture(scope="module")
def train(data, weights):
    """Train on every other photo, validate on the rest."""

    def start(recipe, *, seed=1, progress=silent):
        train, held = np.arange(len(data.photos)).reshape(-1, 2).T
        begin = fit.start(data, recipe, weights, seed=seed)
        return fit.fit(begin, train, held, seed=seed, progress=progress)

    return start


def same(first, second):
    pairs = zip(first.network.get_weights(), second.network.get_weights(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def tuned(recipe, **settings):
    return replace(recipe, fine_tuning=replace(recipe.fine_tuning, **settings))


@pytest.fixture(scope="module")
def last_kept(tiny):
    """The tiny recipe, keeping the last epoch whatever its validation loss."""
    return tuned(tiny, tolerance=math.inf)


@pytest.fixture(scope="module")
def first(train, last_kept):
    return train(last_kept)


@pytest.fixture(scope="module")
def stopped(train, tiny):
    """Another seed, and Ctrl-C after the first of two epochs of fine-tuning."""

    def press(epoch):
        if epoch.phase == "fine-tuning":
            raise KeyboardInterrupt

    return train(tiny, seed=2, progress=press)


def test_the_same_seed_gives_the_same_model(train, last_kept, first):
    assert same(first, train(last_kept))
    assert [(epoch.phase, epoch.epoch) for epoch in first.history] == [
        ("frozen", 1),
        ("fine-tuning", 1),
        ("fine-tuning", 2),
    ]
    assert not first.interrupted


def held_out_loss(data, made):
    held = np.arange(len(data.photos))[1::2]
    return fit.log_loss(data.truth()[held], fit.logits(made.network, data, held))


def test_another_seed_trains_otherwise(first, stopped):
    assert first.history[1].epoch == stopped.history[1].epoch == 1
    assert first.history[1].loss != stopped.history[1].loss


def test_ctrl_c_keeps_the_best_so_far(data, stopped):
    assert stopped.interrupted
    assert [(epoch.phase, epoch.epoch) for epoch in stopped.history] == [
        ("frozen", 1),
        ("fine-tuning", 1),
    ]
    best = min(epoch.val_loss for epoch in stopped.history)
    assert held_out_loss(data, stopped) == pytest.approx(best, rel=1e-4)


def test_the_kept_weights_are_those_of_the_best_epoch(train, data, gradient):
    wild = tuned(gradient, learning_rate=0.5, warmup=0, cosine=False, ema=0.0)
    result = train(wild)
    best, *_, last = sorted(result.history, key=lambda epoch: epoch.val_loss)
    assert last.val_loss > best.val_loss * 1.01
    assert held_out_loss(data, result) == pytest.approx(best.val_loss, rel=1e-4)


def test_the_mean_of_what_was_tuned_is_kept(train, last_kept, monkeypatch):
    begun = []

    def add(run, *_, **__):
        begun.append(run.network.get_weights())
        run.best = [weight + len(begun) for weight in begun[-1]]
        run.network.set_weights(run.best)

    monkeypatch.setattr(fit._Run, "epochs", add)
    kept = train(tuned(last_kept, averaged=3)).network.get_weights()
    for first, second, third, mean in zip(*begun, kept, strict=True):
        assert np.array_equal(first, second)  # each begins where phase one ended
        assert np.array_equal(first, third)
        np.testing.assert_allclose(mean, first + 2, rtol=1e-6, atol=1e-6)


def test_each_of_the_averaged_is_drawn_anew(train, last_kept):
    losses = [epoch.loss for epoch in train(tuned(last_kept, averaged=2, epochs=1)).history]
    assert len(losses) == 3
    assert losses[1] != losses[2]


def test_batch_normalisation_never_learns(first, tiny, weights):
    start = network.build(tiny, weights).get_layer(network.BASE)
    layers = [
        layer
        for layer in first.network.get_layer(network.BASE).layers
        if type(layer).__name__ == "BatchNormalization"
    ]
    assert layers
    for layer in layers:
        assert not layer.trainable
        before = start.get_layer(layer.name)
        assert np.allclose(layer.moving_mean, before.moving_mean, rtol=1e-6)
        assert np.allclose(layer.gamma, before.gamma, rtol=1e-6)


def test_layers_before_the_named_one_stay_frozen(tiny):
    made = network.build(tiny, None)
    network.unfreeze(made, "block_16_project")
    base = made.get_layer(network.BASE)
    learning = {layer.name for layer in base.layers if layer.trainable_weights}
    assert learning == {"block_16_project", "Conv_1"}
    with pytest.raises(NetworkError, match="block_99"):
        network.unfreeze(made, "block_99")


@pytest.mark.parametrize("from_layer", ["0", "40", "block_13_depthwise", "153"])
def test_the_two_parts_make_what_the_whole_makes(data, tiny, weights, from_layer):
    made = network.build(tiny, weights)
    stem, rest = network.cut(made, from_layer)
    pixels = data.pixels[:4].astype(np.float32)
    features = rest.predict_on_batch(stem.predict_on_batch(pixels))
    kernel, bias = made.get_layer(network.HEAD).get_weights()
    np.testing.assert_allclose(
        features @ kernel + bias, made.predict_on_batch(pixels), rtol=1e-4, atol=1e-5
    )


def test_the_part_that_learns_holds_all_that_learns_and_little_else(tiny):
    made = network.build(tiny, None)
    stem, rest = network.cut(made, "block_13_depthwise")
    network.unfreeze(made, "block_13_depthwise")
    assert not stem.trainable_weights
    head = made.get_layer(network.HEAD)
    assert {id(weight) for weight in (*rest.trainable_weights, *head.trainable_weights)} == {
        id(weight) for weight in made.trainable_weights
    }
    assert stem.output.shape[1:] == (3, 3, 192)  # padded, right before the layer itself


def test_kinds_are_the_classes_own_and_each_folder_of_an_extra(data):
    photos = [replace(data.photos[0], kind="sheep", extra=True), *data.photos]
    found = fit.kinds(replace(data, photos=tuple(photos)))
    assert len(set(found.tolist())) == 3
    assert found[0] not in found[1:]


def test_a_weights_file_that_does_not_fit_is_refused(tiny, tmp_path):
    with pytest.raises(NetworkError, match="--weights"):
        network.build(tiny, str(tmp_path / "none.h5"))


def test_a_failed_download_says_how_to_get_the_file(tiny, monkeypatch):
    def fail(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(network.keras.applications, "MobileNetV2", fail)
    with pytest.raises(NetworkError, match=r"--weights FILE") as refusal:
        network.build(tiny, "imagenet")
    assert network.WEIGHTS_URL in str(refusal.value)


def test_a_draw_is_half_positives_and_no_kind_drowns(pets):
    data = dataset.load(str(pets), 32)
    photos = [
        *data.photos,
        *(replace(data.photos[0], kind="sheep", extra=True) for _ in range(90)),
        *(replace(data.photos[0], kind="goat", extra=True) for _ in range(10)),
    ]
    chances = fit.sample_weights(
        replace(data, photos=tuple(photos)), np.arange(len(photos)), own_share=0.4
    )
    label = np.array([photo.label for photo in photos])
    kind = np.array([photo.kind if photo.extra else "own" for photo in photos])
    assert chances[label == 1].sum() == pytest.approx(0.5)
    assert chances[(label == 0) & (kind == "own")].sum() == pytest.approx(0.2)
    assert chances[kind == "sheep"].sum() == pytest.approx(3 * chances[kind == "goat"].sum())


def cross_validate(data, recipe, weights, progress=silent, **settings):
    """The heads alone: what is asked here is who trains on what, not how well."""
    group = split.groups(data.photos, data.pixels)
    chosen = experiment.Settings(tuned(recipe, epochs=0), weights, seed=1, folds=2, **settings)
    return experiment.train(data, group, chosen, progress=progress, say=silent)


def test_cross_validation_judges_every_photo_and_trains_on_none_excluded(
    data, tiny, weights, monkeypatch
):
    trained_on = []
    real = fit.fit

    def spy(begin, train, *rest, **more):
        trained_on.append(set(train.tolist()))
        return real(begin, train, *rest, **more)

    monkeypatch.setattr(fit, "fit", spy)
    outcome = cross_validate(data, tiny, weights, excluded=frozenset({3}))
    everything = set(range(len(data.photos)))
    first, second, shipped = trained_on
    assert first | second == shipped == everything - {3}
    assert not first & second
    assert outcome.judged.indices.tolist() == sorted(everything)
    assert np.ptp(outcome.judged.probabilities) > 0.1
    assert "data set" in experiment.figures(data, outcome.judged, seed=1)


def test_cross_validation_can_be_interrupted(data, tiny, weights):
    def press(_):
        raise KeyboardInterrupt

    outcome = cross_validate(data, tiny, weights, press)
    assert outcome.interrupted
    assert 0 < len(outcome.judged.indices) < len(data.photos)
