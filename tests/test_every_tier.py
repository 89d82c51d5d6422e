"""A predictor that has seen every tier: of the questions set aside, or of those that are evaluated."""

import numpy as np
import pandas as pd
import pytest
from test_importing import read, records, write

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.predictor import fit_to_rollouts
from clear_lib.study.experiments import forecasting
from clear_lib.study.recordings import importing, recording


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An imported profile with training rollouts of every tier."""
    folder = tmp_path_factory.mktemp("artifacts")
    rollouts = read(write(folder / "a.jsonl", records()))
    lessons = read(write(folder / "b.jsonl", records(240, seed=1, start=1000)))
    return importing.import_rollouts(rollouts, folder, training=lessons), folder


def train_on(monkeypatch, rollouts):
    """Let these be the rollouts that are set aside for predictors."""
    load = recording.load
    monkeypatch.setattr(recording, "load", lambda *which: rollouts if which[1] == "predictor" else load(*which))


def test_learns_from_training_rollouts_of_every_tier(made, monkeypatch):
    imported, folder = made
    profile, training = imported.profile, recording.load(imported.profile, "predictor", folder)
    training = training.assign(tier=np.resize(profile.tiers, len(training)))
    asked = recording.load(profile, "evaluation", folder).set_index("question_id").question[imported.pool.question_id]
    train_on(monkeypatch, training)
    pool, crossed = forecasting.forecast(profile, imported.pool, folder)
    assert not crossed
    np.testing.assert_allclose(
        pool.threshold, fit_to_rollouts(training, profile.teacher.kind).predict(list(asked)).threshold
    )
    pd.testing.assert_frame_equal(
        pool.drop(columns=forecasting.COLUMNS), imported.pool.drop(columns=forecasting.COLUMNS)
    )


def test_learns_from_the_other_questions_where_a_tier_is_missing(made, monkeypatch):
    imported, folder = made
    train_on(monkeypatch, recording.load(imported.profile, "predictor", folder).assign(tier="easy"))
    pool, crossed = forecasting.forecast(imported.profile, imported.pool, folder)
    again, _ = forecasting.forecast(imported.profile, imported.pool, folder)
    assert crossed
    pd.testing.assert_frame_equal(pool, again)
    assert pool.threshold.corr(pool.length) > 0.5
    assert pool[forecasting.COLUMNS].notna().all(axis=None) and pool.solvable.between(0, 1).all()


def test_a_predictor_trained_again_learns_from_a_resample_of_its_own_lessons(made):
    imported, folder = made
    one, again, other = (forecasting.retrained(imported.profile, imported.pool, folder, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, again)
    assert (one["threshold"] != other["threshold"]).mean() > 0.9  # other lessons, other forecasts
    pd.testing.assert_frame_equal(
        one.drop(columns=forecasting.COLUMNS), imported.pool.drop(columns=forecasting.COLUMNS)
    )
    assert np.log(one["threshold"]).corr(np.log(imported.pool["threshold"])) > 0.8


def test_no_question_is_in_the_fit_that_forecasts_it(made, monkeypatch):
    imported, folder = made
    training = recording.load(imported.profile, "predictor", folder).assign(tier="easy")
    fits, asked = [], []

    class Predictor:
        def predict(self, texts):
            asked.append(set(texts))
            ones = np.ones(len(texts))
            return Forecasts(ones, spread=ones, solvable=ones, log_median=ones)

    train_on(monkeypatch, training)
    monkeypatch.setattr(
        forecasting, "fit_to_rollouts", lambda rollouts, *_: fits.append(set(rollouts.question)) or Predictor()
    )
    forecasting.forecast(imported.profile, imported.pool, folder)
    assert not any(fit & texts for fit, texts in zip(fits, asked, strict=True))
    assert len(asked) == forecasting.FOLDS and len(set.union(*asked)) == len(imported.pool)
    assert all(set(training.question) <= fit for fit in fits)
