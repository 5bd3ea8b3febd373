"""Who is trained on what, and judged by whom; how well is asked elsewhere."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from alpaca_labeler.training import experiment, split
from alpaca_labeler.training.description import DatasetError
from alpaca_labeler.training.keras import fit
from alpaca_labeler.training.report import Epoch


def silent(_):
    return None


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C as soon as the next model is trained."""

    def arrange():
        real = fit.logits

        def die(*_):
            monkeypatch.setattr(fit, "logits", real)
            raise KeyboardInterrupt

        monkeypatch.setattr(fit, "logits", die)

    return arrange


@pytest.fixture(autouse=True)
def trainings(monkeypatch):
    """The indices of each training's photos. Nothing learns: a model is what it was shown."""
    seen = []

    def learn(_begin, train, _validation, *, seed, **_):
        assert seed == 1
        seen.append(set(train.tolist()))
        epoch = Epoch("fine-tuning", 1, 1, 0.5, 0.75, math.nan, math.nan, 0.0)
        return fit.Fit(len(train), (epoch,), 1, 2.0, interrupted=False)

    def judge(network, data, indices):
        return data.truth()[indices] * 4.0 - 2 + indices / 100 + network / 1000

    monkeypatch.setattr(fit, "start", lambda *_, **__: None)
    monkeypatch.setattr(fit, "fit", learn)
    monkeypatch.setattr(fit, "logits", judge)
    return seen


@pytest.fixture
def run(tiny):
    def start(data, *, recipe=tiny, **settings):
        group = split.groups(data)
        chosen = experiment.Settings(recipe, None, seed=1, **settings)
        return experiment.train(data, group, chosen, progress=silent, say=silent)

    return start


def test_cross_validation_judges_every_photo_and_trains_on_none_excluded(data, run, trainings):
    photos = tuple(replace(p, excluded=n == 3) for n, p in enumerate(data.photos))
    outcome = run(replace(data, photos=photos), folds=2)
    everything = set(range(len(data.photos)))
    first, second, shipped = trainings
    assert first | second == shipped == everything - {3}
    assert not first & second
    assert outcome.judged.indices.tolist() == sorted(everything)
    assert np.ptp(outcome.judged.probabilities) > 0.1
    assert "accuracy" in experiment.figures(data, outcome.judged, seed=1)


def test_cross_validation_resumes_after_an_interruption(
    data, run, trainings, interrupted, tmp_path
):
    settings = {"folds": 3, "done": str(tmp_path)}
    whole = run(data, folds=3)
    trainings.clear()
    run(data, **settings)
    first, *_ = sorted(tmp_path.iterdir())
    first.unlink()
    assert len(trainings) == 4
    interrupted()
    with pytest.raises(KeyboardInterrupt):
        run(data, **settings)
    assert len(trainings) == 5
    resumed = run(data, **settings)
    assert len(trainings) == 7  # the fold that was missing, and the model of all photos
    assert np.array_equal(resumed.judged.probabilities, whole.judged.probabilities)
    assert resumed.fit.seconds == whole.fit.seconds == 4 * 2.0


def test_folds_of_other_photos_or_settings_are_not_taken_up(data, tiny, run, tmp_path):
    run(data, folds=2, done=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    other = replace(tiny, batch_size=11)
    run(data, recipe=other, folds=2, done=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 4


def test_folds_go_when_their_bundle_is_written_and_those_of_other_runs_stay(
    data, tiny, run, tmp_path
):
    done = tmp_path / ".folds"
    recipes = tiny, replace(tiny, batch_size=11)
    for recipe in recipes:
        run(data, recipe=recipe, folds=2, done=str(done))
    first, second = (
        experiment.Settings(recipe, None, seed=1, folds=2, done=str(done)) for recipe in recipes
    )
    group = np.arange(len(data.photos))
    experiment.forget_folds(first, data, group)
    assert len(list(done.iterdir())) == 2
    experiment.forget_folds(second, data, group)
    assert not done.exists()
    experiment.forget_folds(second, data, group)  # nothing is left to remove


def test_a_split_of_the_users_own_is_used_and_copies_do_not_straddle_it(data, run, trainings):
    held = {0, 1, 12}
    photos = tuple(replace(p, held_out=n in held) for n, p in enumerate(data.photos))
    pixels = data.pixels.copy()
    pixels[2] = pixels[0]
    outcome = run(replace(data, photos=photos, pixels=pixels))
    assert {*outcome.judged.indices.tolist()} == held
    assert trainings == [{*range(20)} - held - {2}]


def test_too_few_photos_are_refused_before_any_training(data, run, trainings):
    few = [0, 1, 12]
    small = replace(
        data, photos=tuple(data.photos[index] for index in few), pixels=data.pixels[few]
    )
    for settings in ({}, {"folds": 2}):
        with pytest.raises(DatasetError, match="each class needs at least"):
            run(small, **settings)
    assert not trainings
