"""Forecasts of a profile's questions as a table, where it is kept, and forecasts by a fit to rollouts."""

from pathlib import Path

import numpy as np
import pandas as pd

from clear_lib.predictor import Calibrated, Predictor, build, fit_to_rollouts
from clear_lib.study.setup.profiles import PredictorSpec, Profile


def forecast_table(
    predictor: Predictor, teacher: Predictor, questions: pd.DataFrame, model_parameters: int
) -> pd.DataFrame:
    """Forecasts of questions (columns ``question_id, question``) by a predictor and a teacher, and what they cost.

    A predictor multiplies its weights with each token it reads, as the reasoner does with each token it writes. So a
    forecast costs, in tokens of the reasoner, weights in use × tokens read / weights of the reasoner.
    """
    texts = list(questions["question"])
    forecasts = predictor.predict(texts)
    names = ["threshold"] if forecasts.spread is None else ["threshold", "spread", "solvable", "log_median"]
    table = questions[["question_id"]].reset_index(drop=True)
    return table.assign(
        **{name: getattr(forecasts, name) for name in names},
        estimate=teacher.predict(texts).threshold,
        threshold_cost=predictor.cost(texts) / model_parameters,
        estimate_cost=teacher.cost(texts) / model_parameters,
    )


def forecast_file(profile: Profile, artifacts: str | Path) -> Path:
    """Where the forecasts of a profile are kept; the predictor itself is in a folder beside it."""
    return profile.artifacts(artifacts) / "predictor" / "forecasts.parquet"


def read_forecasts(profile: Profile, artifacts: str | Path) -> pd.DataFrame:
    """The table of :func:`forecast_table` that chapter 06 writes; ``ValueError`` if it is missing."""
    path = forecast_file(profile, artifacts)
    if not path.is_file():
        raise ValueError(f"{path} is missing: run notebooks/06_predictor.ipynb with profile {profile.name!r} first")
    return pd.read_parquet(path)


def fitted_forecasts(
    training: pd.DataFrame, questions: pd.DataFrame, forecaster: PredictorSpec, model_parameters: int
) -> tuple[Calibrated, pd.DataFrame]:
    """A calibrated predictor fitted to rollouts, and the :func:`forecast_table` by it and a teacher of its kind."""
    teacher = build(forecaster.kind, forecaster.options).fit(list(training["question"]), training["length"])
    model = fit_to_rollouts(training, forecaster.kind, forecaster.options)
    return model, forecast_table(model, teacher, questions, model_parameters)


def cross_fitted(
    rollouts: pd.DataFrame, forecaster: PredictorSpec, model_parameters: int, folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Forecasts of every question, in their order, by a fit to the questions of the other folds."""
    if not 2 <= folds <= len(rollouts):
        raise ValueError(f"{len(rollouts)} questions cannot be split into {folds} folds")
    fold = np.random.default_rng(seed).permutation(len(rollouts)) % folds
    parts = []
    for k in range(folds):
        _, part = fitted_forecasts(rollouts[fold != k], rollouts[fold == k], forecaster, model_parameters)
        parts.append(part)
    return pd.concat(parts).set_index("question_id").loc[rollouts["question_id"]].reset_index()
