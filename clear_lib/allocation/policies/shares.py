"""Policies without a price: equal and proportional shares, CLEAR's two selections by threshold, and two oracles."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.allocation.market import ROUNDING
from clear_lib.allocation.policies.rule import TOO_SMALL, Grant, distinct, share
from clear_lib.allocation.problem import Problem


def uniform(problem: Problem) -> Grant:
    """Give everyone ``B/N`` tokens (eq. 19), or the cap if that is less."""
    return Grant(np.full(problem.n, min(problem.mean_budget, problem.cap)))


def predictor(problem: Problem, floor: float = 32.0) -> Grant:
    """Share in proportion to the threshold, ``B·τ̂_i/Σ τ̂`` (eq. 20), between a floor and the cap.

    The paper clips to the two limits and does not say what becomes of the sum. Here the shares within the
    limits are rescaled, so that the budget is met. A budget below ``n`` floors lowers the floor to ``B/n``.
    """
    floor = min(floor, problem.cap, problem.mean_budget)
    return Grant(share(problem.budget, problem.forecasts.threshold, low=floor, high=problem.cap))


def tale_ep(problem: Problem, floor: float = 32.0) -> Grant:
    """Share in proportion to a teacher's estimates ``r_i`` (eq. 21), clipped (eq. 22), summing to ``B`` (eq. 23).

    The paper's residual correction is not legible in its text. Here it is the rule of :func:`predictor`.
    """
    return predictor(replace(problem, forecasts=Forecasts(problem.forecasts.estimate)), floor)


def ample(problem: Problem, kappa: float = 1.0) -> bool:
    """Whether the mean budget reaches ``κ`` times the mean threshold."""
    return problem.budget * (1 + ROUNDING) >= kappa * math.fsum(problem.forecasts.threshold)


def _sums(cost: Array, size: Array) -> Array:
    """What each costs together with all that are smaller, ties by position."""
    order = np.argsort(size, kind="stable")
    sums = np.empty(order.size)
    sums[order] = np.cumsum(cost[order])
    return sums


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
    sums = _sums(threshold, threshold)
    selected = sums <= problem.budget * (1 + ROUNDING)

    def abandoned(query: int) -> str:
        if selected[query]:
            return TOO_SMALL
        asked, budget = distinct(sums[query], problem.budget)
        return f"the thresholds up to its own {threshold[query]:,.0f} sum to {asked}, more than the budget of {budget} tokens"

    return Grant(_affine(problem, selected, affine), abandoned=abandoned)


def oracle(problem: Problem) -> Grant:
    """Pay the shortest *solvable* queries first, each exactly its true length (A.2.6, in its words).

    A query whose solution does not fit the cap is not solvable under it.
    """
    lengths = problem.truth.lengths
    return _pay(problem, np.where(problem.truth.correct & (lengths <= problem.cap), lengths, 0.0))


def oracle_paper(problem: Problem) -> Grant:
    """Pay the shortest queries first, solvable or not, each its true length or the cap (A.2.6, its steps; eq. 27)."""
    return _pay(problem, np.minimum(problem.truth.lengths, problem.cap))


def _pay(problem: Problem, cost: Array) -> Grant:
    """Pay each its cost, the shortest first, until the next would exceed the budget."""
    return Grant(np.where(_sums(cost, problem.truth.lengths) <= problem.budget, cost, 0.0))
