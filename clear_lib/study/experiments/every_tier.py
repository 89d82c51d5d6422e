"""A pool with other forecasts: by a predictor that has seen every tier, or by one that learned from a resample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from clear_lib.allocation.forecasts import Array
from clear_lib.predictor import Predictor, fit_to_rollouts
from clear_lib.study.experiments.forecasting import training_rollouts
from clear_lib.study.recordings import recording
from clear_lib.study.setup.profiles import Profile

COLUMNS = ["threshold", "spread", "solvable", "log_median"]  # what is forecast
FOLDS = 5  # parts of the evaluation questions; each is forecast by a fit to the others


def forecast(profile: Profile, pool: pd.DataFrame, artifacts: str | Path) -> tuple[pd.DataFrame, bool]:
    """The pool with forecasts by the teacher's kind, and whether it was cross-fitted since the lessons lack a tier."""
    training = recording.load(profile, "predictor", artifacts)
    asked = recording.load(profile, "evaluation", artifacts).set_index("question_id").loc[pool["question_id"]]
    crossed = not set(pool["tier"]) <= set(training["tier"])
    fold = np.random.default_rng(0).permutation(len(pool)) % FOLDS if crossed else np.zeros(len(pool))
    new = pd.DataFrame(index=pool.index, columns=COLUMNS, dtype=float)
    for part in np.unique(fold):
        here = fold == part
        fitted = fit_to_rollouts(pd.concat([training, asked[~here]]), profile.teacher.kind, profile.teacher.options)
        new.loc[here] = _columns(fitted, asked["question"][here])
    return pool.assign(**new), crossed


def retrained(profile: Profile, pool: pd.DataFrame, artifacts: str | Path, seed: int) -> pd.DataFrame:
    """The pool with forecasts by the profile's predictor, fitted to as many of its rollouts, drawn with replacement."""
    lessons = training_rollouts(profile.predictor, recording.load(profile, "predictor", artifacts))
    asked = recording.load(profile, "evaluation", artifacts).set_index("question_id").loc[pool["question_id"]]
    drawn = lessons.sample(frac=1, replace=True, random_state=seed)
    fitted = fit_to_rollouts(drawn, profile.predictor.kind, profile.predictor.options, seed=seed)
    return pool.assign(**dict(zip(COLUMNS, _columns(fitted, asked["question"]).T, strict=True)))


def _columns(fitted: Predictor, questions: pd.Series) -> Array:
    """Forecasts of questions, shape ``(n, 4)``."""
    forecasts = fitted.predict(list(questions))
    return np.column_stack([getattr(forecasts, name) for name in COLUMNS])
