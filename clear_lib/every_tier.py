"""Forecasts by a predictor that has seen questions of every tier that it forecasts.

The paper's predictor learns from easier questions than those that it is asked about. This is its counterpart, to tell
what a policy lacks from what its forecasts lack.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from . import recording
from .importing import cross_fitted, forecasts_by
from .profiles import Profile

#: What it says of a question.
COLUMNS = ["threshold", "spread", "solvable", "log_median"]


def taught(profile: Profile, pool: pd.DataFrame, artifacts: str | Path) -> tuple[pd.DataFrame, bool]:
    """The pool of a profile with forecasts by its teacher's kind of predictor, which has seen every tier of the pool.

    It learns from the questions set aside for a predictor, if they have all of these tiers. Otherwise from the evaluation
    questions themselves: each is forecast by a fit to others (:func:`clear_lib.importing.cross_fitted`).

    Parameters
    ----------
    profile : Profile
    pool : DataFrame
        Of :func:`clear_lib.experiments.read_pool`.
    artifacts : path

    Returns
    -------
    (DataFrame, bool)
        The pool with other :data:`COLUMNS`, and whether the evaluation questions taught it.

    Raises
    ------
    ValueError
        If rollouts are missing, or there are too few correct ones to measure doubts.
    """
    lessons = recording.load(profile, "predictor", artifacts)
    evaluation = recording.load(profile, "evaluation", artifacts)
    crossed = not set(pool["tier"]) <= set(lessons["tier"])
    if crossed:
        said = cross_fitted(evaluation, profile.teacher, profile.model_parameters)
    else:
        said = forecasts_by(lessons, evaluation, profile.teacher, profile.model_parameters)
    said = said.set_index("question_id").loc[pool["question_id"]]
    return pool.assign(**{name: said[name].to_numpy() for name in COLUMNS}), crossed
