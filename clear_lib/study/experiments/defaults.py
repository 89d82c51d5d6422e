"""What the wrapper does by default, judged on questions that nothing was tuned on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from clear_lib import Forecasts, Problem
from clear_lib.allocation.policies import POLICIES
from clear_lib.predictor import fit_to_rollouts, unseen
from clear_lib.serving import ReplayStepper, serve, tuning
from clear_lib.study.recordings import packing
from clear_lib.study.setup import profiles

DRAWS, QUANTILES = 2000, (0.025, 0.975)  # resampled sets of questions of an interval


def held_out(name: str, seed: int = 0) -> pd.DataFrame:
    """Right answers of the default, of a recording's lessons alone, and of equal shares; 95% interval of the difference."""
    shipped = profiles.load(name)
    _, tables = packing.read_unpacked(shipped)
    lessons, asked = tables["predictor"], tables["evaluation"]
    kind, cap = shipped.predictor.kind, shipped.cap
    right = (lessons["verdict"] == "correct").to_numpy()
    advised = tuning.advice(unseen(lessons, kind), lessons["length"].to_numpy(), right, cap)
    forecasts = fit_to_rollouts(lessons, kind).predict(list(asked["question"]))
    logged = forecasts, asked["length"].to_numpy(), asked["verdict"] == "correct", cap
    rows = []
    for accounting, one in advised.items():
        policy = one["policy"]
        ours = tuning.right_answers(*logged, policy, accounting, **one["settings"].get(policy, {}))
        equal = tuning.right_answers(*logged, "uniform", accounting)
        chosen = np.random.default_rng(seed).integers(0, len(asked), (DRAWS, len(asked)))
        for budget, better, worse in zip(tuning.BUDGETS, ours, equal, strict=True):
            low, high = np.quantile((better.astype(int) - worse)[chosen].sum(axis=1), QUANTILES)
            rows.append((name, accounting, policy, len(asked), budget, better.sum(), worse.sum(), low, high))
    columns = ["profile", "accounting", "policy", "n", "budget", "default", "uniform", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def by_policy(
    forecasts: Forecasts, advised: Mapping[str, Any], lengths: ArrayLike, correct: ArrayLike, cap: int, each: ArrayLike
) -> pd.DataFrame:
    """Right answers of each policy at budgets of ``each`` so many tokens a question; ``default`` marks the advised one."""
    lengths, correct = np.asarray(lengths), np.asarray(correct, dtype=bool)
    rows = []
    for accounting, one in advised.items():
        tuned = {name: one["settings"].get(name, {}) for name in ("clear", "clear-lognormal", "clear-sequential")}
        shown = [("uniform", {}), ("predictor", {}), ("clear", {}), *tuned.items()]
        for policy, settings in shown:
            if accounting == "caps" and POLICIES[policy].kind == "sequential":
                continue
            label = POLICIES[policy].label + (", ε of fit" if policy == "clear" and settings else "")
            default = policy == one["policy"] and settings == tuned.get(policy, {})
            for tokens in each:
                problem = Problem(forecasts, int(tokens * lengths.size), cap)
                done = serve(problem, ReplayStepper(lengths), policy, accounting=accounting, **settings).finished
                rows.append((label, accounting, f"{tokens:g}", int((done & correct).sum()), default))
    return pd.DataFrame(rows, columns=["policy", "accounting", "tokens a question", "right", "default"])
