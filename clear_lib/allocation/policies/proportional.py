"""The paper's baselines: equal shares, and shares in proportion to a forecast (eqs. 19 to 23)."""

from __future__ import annotations

import numpy as np

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.policies.rule import Grant, share
from clear_lib.allocation.problem import Problem


def uniform(problem: Problem) -> Grant:
    """Give everyone ``B/N`` tokens (eq. 19), or the cap if that is less."""
    return Grant(np.full(problem.n, min(problem.mean_budget, problem.cap)))


def _in_proportion(problem: Problem, weights: Array, floor: float) -> Grant:
    """Share the budget in proportion to ``weights``, between floor and cap."""
    floor = min(floor, problem.cap, problem.mean_budget)
    return Grant(share(problem.budget, weights, low=floor, high=problem.cap))


def predictor(problem: Problem, floor: float = 32.0) -> Grant:
    """Share in proportion to the threshold, ``B·τ̂_i/Σ τ̂`` (eq. 20), between a floor and the cap.

    The paper clips to the two limits and does not say what becomes of the sum. Here the shares within the
    limits are rescaled, so that the budget is met. A budget below ``n`` floors lowers the floor to ``B/n``.
    """
    return _in_proportion(problem, problem.forecasts.threshold, floor)


def tale_ep(problem: Problem, floor: float = 32.0) -> Grant:
    """Share in proportion to a teacher's estimates ``r_i`` (eq. 21), clipped (eq. 22), summing to ``B`` (eq. 23).

    The paper's residual correction is not legible in its text. Here the shares within the limits are rescaled
    and rounded by largest remainder: the sum is exactly ``B`` whenever ``n·floor <= B <= n·cap``.
    """
    return _in_proportion(problem, problem.forecasts.estimate, floor)
