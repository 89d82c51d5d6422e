"""Forecasts by a predictor that has seen questions of every tier that it forecasts.

The paper's predictor learns from easier questions than those that it is asked about. This is its counterpart, to tell
what a policy lacks from what its forecasts lack.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from clear_lib.study.recordings import recording
from clear_lib.study.recordings.importing import teach
from clear_lib.study.setup.profiles import Profile

#: What it says of a question.
COLUMNS = ["threshold", "spread", "solvable", "log_median"]

#: Parts of the evaluation questions; each is forecast by a fit to what is not in it.
FOLDS = 5


def taught(profile: Profile, pool: pd.DataFrame, artifacts: str | Path) -> tuple[pd.DataFrame, bool]:
    """The pool of a profile with forecasts by a predictor of its teacher's kind that has seen every tier of the pool.

    It learns from the questions that are set aside for predictors. If they lack a tier, it learns from evaluation
    questions as well: each is forecast by a fit to the former and to four fifths of the latter, itself not among them.

    Parameters
    ----------
    profile : Profile
    pool : DataFrame
        Of :func:`clear_lib.study.experiments.run.read_pool`.
    artifacts : path

    Returns
    -------
    (DataFrame, bool)
        The pool with other :data:`COLUMNS`, and whether it learned from evaluation questions.

    Raises
    ------
    ValueError
        If rollouts are missing, or too few are correct to measure doubts.
    """
    lessons = recording.load(profile, "predictor", artifacts)
    asked = recording.load(profile, "evaluation", artifacts).set_index("question_id").loc[pool["question_id"]]
    crossed = not set(pool["tier"]) <= set(lessons["tier"])
    fold = np.random.default_rng(0).permutation(len(pool)) % FOLDS if crossed else np.zeros(len(pool))
    new = pd.DataFrame(index=pool.index, columns=COLUMNS, dtype=float)
    for part in np.unique(fold):
        here = fold == part
        pupil = teach(pd.concat([lessons, asked[~here]]), profile.teacher)
        said = pupil.predict(list(asked["question"][here]))
        new.loc[here] = np.column_stack([getattr(said, name) for name in COLUMNS])
    return pool.assign(**new), crossed
