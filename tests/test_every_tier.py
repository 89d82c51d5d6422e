"""A predictor that has seen every tier: of the questions set aside, or of those that are evaluated."""

import numpy as np
import pandas as pd
import pytest
from test_importing import read, records, write

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.study.experiments import every_tier
from clear_lib.study.recordings import importing, recording


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A profile with lessons of every tier."""
    folder = tmp_path_factory.mktemp("artifacts")
    rollouts = read(write(folder / "a.jsonl", records()))
    lessons = read(write(folder / "b.jsonl", records(240, seed=1, start=1000)))
    return importing.import_rollouts(rollouts, folder, training=lessons), folder


def only(monkeypatch, lessons):
    load = recording.load
    monkeypatch.setattr(
        recording,
        "load",
        lambda profile, kind, artifacts: lessons if kind == "predictor" else load(profile, kind, artifacts),
    )


def test_learns_from_lessons_of_every_tier(made):
    imported, folder = made
    lessons = recording.load(imported.profile, "predictor", folder)
    lessons = lessons.assign(tier=np.resize(imported.profile.tiers, len(lessons)))
    with pytest.MonkeyPatch.context() as patch:
        only(patch, lessons)
        pool, crossed = every_tier.forecast(imported.profile, imported.pool, folder)
    said = importing.teach(lessons, imported.profile.teacher).predict(
        list(recording.load(imported.profile, "evaluation", folder).set_index("question_id").question[pool.question_id])
    )
    assert not crossed
    np.testing.assert_allclose(pool.threshold, said.threshold)
    pd.testing.assert_frame_equal(pool.drop(columns=every_tier.COLUMNS), imported.pool.drop(columns=every_tier.COLUMNS))


def test_learns_from_the_other_questions_where_a_tier_is_missing(made):
    imported, folder = made
    lessons = recording.load(imported.profile, "predictor", folder).assign(tier="easy")
    with pytest.MonkeyPatch.context() as patch:
        only(patch, lessons)
        pool, crossed = every_tier.forecast(imported.profile, imported.pool, folder)
        again, _ = every_tier.forecast(imported.profile, imported.pool, folder)
    assert crossed
    pd.testing.assert_frame_equal(pool, again)
    assert pool.threshold.corr(pool.length) > 0.5
    assert pool[every_tier.COLUMNS].notna().all(axis=None) and pool.solvable.between(0, 1).all()


def test_no_question_teaches_its_own_forecast(made, monkeypatch):
    imported, folder = made
    lessons = recording.load(imported.profile, "predictor", folder).assign(tier="easy")
    known, asked = [], []

    class Pupil:
        def predict(self, texts):
            asked.append(set(texts))
            ones = np.ones(len(texts))
            return Forecasts(ones, spread=ones, solvable=ones, log_median=ones)

    only(monkeypatch, lessons)
    monkeypatch.setattr(every_tier, "teach", lambda rollouts, _: known.append(set(rollouts.question)) or Pupil())
    every_tier.forecast(imported.profile, imported.pool, folder)
    assert not any(taught & texts for taught, texts in zip(known, asked, strict=True))
    assert len(asked) == every_tier.FOLDS and len(set.union(*asked)) == len(imported.pool)
    assert all(set(lessons.question) <= taught for taught in known)
