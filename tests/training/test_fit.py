from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from training import dataset, fit, network, run, split
from training.network import NetworkError


@pytest.fixture(scope="module")
def data(pets):
    return dataset.load(str(pets), 32)


def silent(_):
    return None


def train(data, recipe, seed=1, progress=silent):
    indices = np.arange(len(data.photos))
    return fit.fit(data, indices[::2], indices[1::2], recipe, None, seed=seed, progress=progress)


def same(first, second):
    pairs = zip(first.network.get_weights(), second.network.get_weights(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def test_the_same_seed_gives_the_same_model(data, tiny):
    first = train(data, tiny)
    assert same(first, train(data, tiny))
    assert not same(first, train(data, tiny, seed=2))
    assert [(epoch.phase, epoch.epoch) for epoch in first.history] == [
        ("frozen", 1), ("fine-tuning", 1), ("fine-tuning", 2),
    ]  # fmt: skip


def test_ctrl_c_keeps_the_best_so_far(data, tiny):

    def press(epoch):
        if epoch.phase == "fine-tuning":
            raise KeyboardInterrupt

    plain = train(data, replace(tiny, fine_tuning=replace(tiny.fine_tuning, epochs=0)))
    stopped = train(data, tiny, progress=press)
    assert stopped.interrupted
    assert not plain.interrupted
    assert np.isfinite(fit.logits(stopped.network, data, np.arange(3))).all()


def test_the_kept_weights_are_those_of_the_best_epoch(data, gradient):
    wild = replace(gradient.fine_tuning, learning_rate=0.5, warmup=0, cosine=False, ema=0.0)
    result = train(data, replace(gradient, fine_tuning=wild))
    held = np.arange(len(data.photos))[1::2]
    kept = fit.log_loss(data.truth()[held], fit.logits(result.network, data, held))
    assert kept == pytest.approx(min(epoch.val_loss for epoch in result.history), rel=1e-4)


def test_a_share_of_the_fine_tuned_weights_is_kept(data, tiny):
    def weights(made):
        return made.get_layer(network.BASE).get_layer("block_16_project").get_weights()[0]

    def fine_tuned(blend):
        tuning = replace(tiny.fine_tuning, epochs=1, blend=blend, learning_rate=0.01, ema=0.0)
        recipe = replace(tiny, fine_tuning=replace(tuning, warmup=0))
        everything = np.arange(len(data.photos))
        result = fit.fit(
            data, everything, None, recipe, None, seed=1, progress=lambda _: None,
            features=np.zeros((2, len(data.photos), 1280), np.float32),
        )  # fmt: skip
        return weights(result.network)

    fit.deterministic(1)
    before = weights(network.build(tiny, None))
    whole = fine_tuned(1.0)
    assert not np.allclose(whole, before)
    np.testing.assert_allclose(fine_tuned(0.25), before + 0.25 * (whole - before), atol=1e-6)


def test_batch_normalisation_never_learns(data, tiny):
    result = train(data, tiny)
    base = result.network.get_layer(network.BASE)
    for layer in base.layers:
        if type(layer).__name__ == "BatchNormalization":
            assert not layer.trainable
            assert np.array_equal(layer.moving_mean, np.zeros_like(layer.moving_mean))


def test_layers_before_the_named_one_stay_frozen(tiny):
    made = network.build(tiny, None)
    network.unfreeze(made, "block_16_project")
    base = made.get_layer(network.BASE)
    learning = {layer.name for layer in base.layers if layer.trainable_weights}
    assert learning == {"block_16_project", "Conv_1"}
    with pytest.raises(NetworkError, match="block_99"):
        network.unfreeze(made, "block_99")


def test_augmentation_changes_photos_in_training_alone(data, tiny):
    steps = network.augmentation(tiny.augmentation, 1)
    pixels = data.pixels[:4].astype(np.float32)
    assert np.array_equal(steps(pixels, training=False), pixels)
    assert not np.array_equal(steps(pixels, training=True), pixels)


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


def test_cross_validation_judges_every_photo_and_trains_on_none_excluded(data, tiny):
    settings = run.Settings(tiny, None, seed=1, folds=2, excluded=frozenset({3}))
    group = split.groups(data.photos, data.pixels)
    said = []
    outcome = run.train(data, group, settings, progress=silent, say=said.append)
    assert outcome.judged.indices.tolist() == list(range(len(data.photos)))
    assert len(outcome.trained_on) == len(data.photos)
    assert outcome.judged.probabilities.min() >= 0
    assert "data set" in run.figures(data, outcome.judged, seed=1)


def test_cross_validation_can_be_interrupted(data, tiny):
    def press(epoch):
        if epoch.phase == "fine-tuning":
            raise KeyboardInterrupt

    group = split.groups(data.photos, data.pixels)
    outcome = run.train(
        data, group, run.Settings(tiny, None, seed=1, folds=2), progress=press, say=silent
    )
    assert outcome.interrupted
    assert 0 < len(outcome.judged.indices) < len(data.photos)
