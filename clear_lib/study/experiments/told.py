"""The model is told its budget (eq. 24), or cut off at it: what an instruction about length is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clear_lib.study.experiments.effects import of_questions
from clear_lib.study.experiments.grid import run
from clear_lib.study.setup.profiles import Profile


def rung_by_rung(profile: Profile, pool: pd.DataFrame) -> pd.DataFrame:
    """What the model does on each rung, over the questions of a pool that has them: a row a rung.

    ``stated`` is a mean in tokens, ``kept`` the share of answers that are no longer than stated, ``free`` that of the
    solutions without the instruction. (Answers are recorded as far as the next rung, so they have no mean length.) ``told``
    and ``cut`` are the shares that are right within what is stated, with the instruction and without, ``later`` the share
    that is right, but too long. ``effect`` is ``told`` minus ``cut``, with a 95% interval by resampling questions.
    """
    rows = {}
    for rung, size in profile.rungs.items():
        stated = pool["length"] * size if profile.rung_unit == "free length" else np.full(len(pool), size)
        length, right = pool[f"length@{rung}"], pool[f"correct@{rung}"]
        told, cut = right & (length <= stated), pool["correct"] & (pool["length"] <= stated)
        effect = of_questions(told.astype(float) - cut.astype(float))
        rows[rung] = {
            "stated": np.mean(stated),
            "kept": (length <= stated).mean(),
            "free": (pool["length"] <= stated).mean(),
            "told": told.mean(),
            "cut": cut.mean(),
            "later": (right & ~told).mean(),
            **dict(zip(("effect", "low", "high"), effect, strict=True)),
        }
    return pd.DataFrame(rows).T


def run_both(profile: Profile, pool: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Results of policies (:func:`.grid.run`) whose caps the model is told, and of the same that cut it off: ``told``."""
    both = [run(profile, pool, policies=policies, told=told).assign(told=told) for told in (False, True)]
    return pd.concat(both, ignore_index=True)
