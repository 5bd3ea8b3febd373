"""Who is trained on what, and judged by whom; how well is asked elsewhere."""

import math
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from alpaca_labeler.training import experiment, split
from alpaca_labeler.training.description import DatasetError
from alpaca_labeler.training.keras import fit
from alpaca_labeler.training.report import Epoch


def silent(_):
    return None


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
def run(small):
    def start(data, *, recipe=small, **settings):
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
    assert outcome.judged_on.tolist() == sorted(everything)
    assert np.ptp(outcome.judged.probabilities) > 0.1


def test_no_photo_has_a_say_in_the_decision_that_it_is_judged_by():
    truth, fold = np.arange(40) % 2, np.arange(40) // 8
    logits = np.where(truth, 0.8, -0.8) + np.arange(40) / 100
    before = experiment.judged_by_others(truth, logits, fold).probabilities
    truth[0] = 1
    changed = experiment.judged_by_others(truth, logits, fold).probabilities != before
    assert not changed[fold == 0].any()
    assert changed[fold != 0].all()


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([0.5, 0.4, 0.3], "kept: the weights after all 2 epochs of fine-tuning"),
        ([0.5, 0.3, 0.4], "kept: epoch 1 of 2 of fine-tuning, as later ones were worse"),
        ([0.3, 0.4, 0.5], "all 2 epochs of fine-tuning were worse than the start, which is kept"),
    ],
)
def test_what_a_training_threw_away_is_said(losses, said):
    phases = "frozen", "fine-tuning", "fine-tuning"
    history = tuple(
        Epoch(phase, max(n, 1), 2, loss, 0.5, loss, 0.5, 0.0)
        for n, (phase, loss) in enumerate(zip(phases, losses, strict=True))
    )
    trained = fit.Fit(None, history, int(np.argmin(losses)), 2.0, interrupted=False)
    nothing: Any = None
    outcome = experiment.Outcome(nothing, trained, nothing, nothing, nothing, nothing)
    assert outcome.kept == said
    assert replace(outcome, fit=replace(trained, interrupted=True)).kept == f"interrupted: {said}"


@pytest.mark.usefixtures("trainings")
def test_an_interrupted_fold_or_last_model_is_no_result(data, run, monkeypatch):
    whole = run(data, folds=2)
    assert whole.fit.seconds == 3 * 2.0
    for number in range(3):
        results = [replace(whole.fit, interrupted=n == number) for n in range(3)]
        monkeypatch.setattr(fit, "fit", Mock(side_effect=results))
        with pytest.raises(KeyboardInterrupt):
            run(data, folds=2)


def test_a_split_of_the_users_own_is_used_and_copies_do_not_straddle_it(data, run, trainings):
    held = {0, 1, 12}
    photos = tuple(replace(p, held_out=n in held) for n, p in enumerate(data.photos))
    pixels = data.pixels.copy()
    pixels[2] = pixels[0]
    outcome = run(replace(data, photos=photos, pixels=pixels))
    assert {*outcome.judged_on.tolist()} == held
    assert trainings == [{*range(20)} - held - {2}]


def test_too_few_photos_are_refused_before_any_training(data, run, trainings):
    few = [*range(6), 12, 13, 14]
    photos = tuple(data.photos[index] for index in few)
    small = replace(data, photos=photos, pixels=data.pixels[few])
    with pytest.raises(DatasetError, match=r"'dogs' has 3 photos: each class needs at least 5"):
        run(small)
    small.pixels[:6] = small.pixels[0]
    with pytest.raises(DatasetError, match=r"'cat photos' has 6 photos, of 1 different scenes"):
        run(small, folds=3)
    assert not trainings
