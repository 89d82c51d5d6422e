"""What wins on logs: the policy and its free constants that answer most of them, by replay at a range of budgets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.problem import Problem
from clear_lib.allocation.stages import estimate_detour
from clear_lib.serving.batch import serve
from clear_lib.serving.steppers import ReplayStepper

#: Budgets, as multiples of what all the logs used.
BUDGETS = np.geomspace(0.05, 2.0, 12)

#: The slack ``ε`` of CLEAR, as multiples of the geometric mean of the thresholds.
SLACKS = 2.0 ** -np.arange(7)


def right_answers(
    forecasts: Forecasts,
    lengths: ArrayLike,
    correct: ArrayLike,
    cap: int,
    policy: str,
    accounting: str,
    **settings: Any,
) -> NDArray[np.bool_]:
    """Which logged solutions would be right (and not cut off), at each of :data:`BUDGETS`; shape ``(budgets, n)``."""
    lengths, correct = np.asarray(lengths), np.asarray(correct, dtype=bool)
    problems = [Problem(forecasts, int(budget), cap) for budget in BUDGETS * lengths.sum()]
    served = [serve(each, ReplayStepper(lengths), policy, accounting=accounting, **settings) for each in problems]
    return np.array([correct & each.finished for each in served])


def advice(forecasts: Forecasts, lengths: ArrayLike, correct: ArrayLike, cap: int) -> dict[str, dict[str, Any]]:
    """For either accounting the policy with most right answers over all budgets, and the constants of all policies.

    Parameters
    ----------
    forecasts : Forecasts
        Of ``n`` logged questions, by a predictor that has not seen them; with ``spread`` and ``solvable``.
    lengths, correct : array_like of shape (n,)
        Tokens of their solutions, and which are right.
    cap : int
        Most tokens of one.

    Returns
    -------
    dict
        By accounting: ``policy``; ``settings`` by policy; ``right``, the answers of the policy, and ``uniform``,
        those of equal shares, at each of :data:`BUDGETS`.
    """
    logged = forecasts, lengths, correct, cap
    middle = float(np.exp(np.log(np.maximum(forecasts.threshold, 1.0)).mean()))
    detour = estimate_detour(forecasts.log_median, lengths, correct)
    made = {}
    for accounting in ("caps", "refunds"):

        def count(policy: str, accounting: str = accounting, **settings: Any) -> list[int]:
            return right_answers(*logged, policy, accounting, **settings).sum(axis=1).tolist()

        slacks = {slack: count("clear", epsilon=slack) for slack in middle * SLACKS}
        epsilon = max(slacks, key=lambda slack: sum(slacks[slack]))
        settings = {name: {"epsilon": float(epsilon)} for name in ("clear", "clear-exact")}
        right = {"clear": slacks[epsilon]} | {name: count(name) for name in ("clear-lognormal", "uniform")}
        if accounting == "refunds":
            settings["clear-sequential"] = {"detour": detour}
            right["clear-sequential"] = count("clear-sequential", detour=detour)
        best = max(right, key=lambda name: sum(right[name]))
        made[accounting] = {"policy": best, "settings": settings, "right": right[best], "uniform": right["uniform"]}
    return made


def in_words(advised: Mapping[str, Mapping[str, Any]]) -> str:
    """What was chosen and how much better than equal shares it was, for a person who fits a forecaster."""
    said = []
    for accounting, one in advised.items():
        given = "".join(f" with {name} = {value:.3g}" for name, value in one["settings"].get(one["policy"], {}).items())
        counts = f"{sum(one['right']):,} right answers, Uniform {sum(one['uniform']):,}"
        said.append(f"{accounting}: {one['policy']}{given} ({counts})")
    return "; ".join(said)
