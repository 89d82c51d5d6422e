"""CLEAR without a market: serve a part of the batch, chosen by threshold (eqs. 25 and 26)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.market import ROUNDING
from clear_lib.allocation.policies.proportional import predictor
from clear_lib.allocation.policies.rule import TOO_SMALL, Grant, distinct, share
from clear_lib.allocation.problem import Problem


def ample(problem: Problem, kappa: float = 1.0) -> bool:
    """Whether the mean budget reaches ``κ`` times the mean threshold."""
    return problem.budget * (1 + ROUNDING) >= kappa * math.fsum(problem.forecasts.threshold)


def _affine(problem: Problem, selected: NDArray[np.bool_], affine: str) -> Array:
    """Share the budget among the selected by eq. 25: ``α·(τ̂_i + mean)`` or ``τ̂_i + α·mean``, α from the sum."""
    tokens = np.zeros(selected.size)
    if selected.any():
        threshold = problem.forecasts.threshold[selected]
        if affine == "sum":
            weights, base = threshold + threshold.mean(), 0.0
        else:
            weights, base = np.ones(threshold.size), threshold
        tokens[selected] = share(problem.budget, weights, base=base, high=problem.cap)
    return tokens


def clear_heuristic(problem: Problem, kappa: float = 1.0, affine: str = "sum", floor: float = 32.0) -> Grant:
    """If ``B̄ < κ·mean τ̂``, drop the queries above the median threshold; the rest share affinely (eq. 25).

    Otherwise the rule of :func:`predictor` (inferred: the paper's two rows are equal wherever budgets are
    ample). ``κ`` is open, and so is which affine rule is meant: ``affine="sum"`` shares in proportion to
    ``τ̂_i + mean``, ``"shift"`` gives ``τ̂_i`` and the same to or from everyone, at least 0.
    """
    if ample(problem, kappa):
        return predictor(problem, floor)
    threshold = problem.forecasts.threshold
    median = float(np.median(threshold))

    def abandoned(query: int) -> str:
        if threshold[query] <= median:
            return TOO_SMALL
        own, middle = distinct(threshold[query], median)
        return (
            f"its threshold {own} is above the median {middle} and the budget is scarce: {problem.budget:,} tokens for "
            f"thresholds that sum to {threshold.sum():,.0f}"
        )

    return Grant(_affine(problem, threshold <= median, affine), abandoned=abandoned)


def clear_auction(problem: Problem, affine: str = "sum", fallback: bool = False, floor: float = 32.0) -> Grant:
    """Admit the queries with the smallest thresholds while their sum fits ``B``; they share it (eq. 26).

    ``affine`` as in :func:`clear_heuristic`. With ``fallback`` a budget that fits all thresholds is shared by
    :func:`predictor` (inferred from equal rows in Table 1; open).
    """
    if fallback and ample(problem):
        return predictor(problem, floor)
    threshold = problem.forecasts.threshold
    order = np.argsort(threshold, kind="stable")
    sums = np.empty(problem.n)
    sums[order] = np.cumsum(threshold[order])
    selected = sums <= problem.budget * (1 + ROUNDING)

    def abandoned(query: int) -> str:
        if selected[query]:
            return TOO_SMALL
        asked, budget = distinct(sums[query], problem.budget)
        return f"the thresholds up to its own {threshold[query]:,.0f} sum to {asked}, more than the budget of {budget} tokens"

    return Grant(_affine(problem, selected, affine), abandoned=abandoned)
