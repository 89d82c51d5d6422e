"""Price discovery: the price at which the queries together ask for the budget (Algorithm 1).

Demand falls as the price rises, but it falls in jumps, one for each query that is abandoned, so a price at which
it *equals* the budget need not exist. Algorithm 1 of the paper (:func:`clear_market`) then ends at the jump, on its
affordable side, and the rest of the budget stays unspent. :mod:`clear_lib.allocation.optimum` looks for the optimum.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.utility import Utility

#: From so many queries on they are sorted once, instead of being asked all at every price.
MANY = 5000

#: Relative excess over a budget that is rounding error of a sum, not demand.
ROUNDING = 1e-12


class Clearing(NamedTuple):
    """A price (utility per token) and what is bought at it (tokens before rounding, shape ``(n,)``)."""

    price: float
    tokens: Array


def adaptive_decay(budget_per_query: float, mean_threshold: float, epsilon: float = 32.0) -> float:
    """Decay rate from the surplus of the budget: ``β = 1/max(ε, B̄ - mean τ̂)`` (eq. 16).

    The formula is inferred from the paper's words and figures; ``ε``, the slack in tokens that a scarce budget
    still grants, is open. All in tokens; the rate in 1/token.
    """
    return 1.0 / max(epsilon, budget_per_query - mean_threshold)


def abandonment_line(price: float | Array, utility: Utility) -> Array:
    """Threshold (tokens) at and above which no query is served at ``price``: ``U(s)/λ - s`` at the best response ``s``.

    Derived from the sign of the surplus (eqs. 5 and 6), without a cap; infinite at price 0. For the surge it is
    ``(1-w)²/(β·w)`` with ``w = W0(e·λ/v0)``, and 0 from the price ``v0`` on.
    """
    surge = utility.best_response(price)
    with np.errstate(divide="ignore"):
        return np.asarray(utility.value(surge) / np.asarray(price, dtype=float) - surge)


def exit_price(thresholds: Array, utility: Utility, cap: float | Array = math.inf) -> Array:
    """Price from which on a query is abandoned: its most utility per token, threshold included; 0 past the cap.

    The inverse of :func:`abandonment_line`, with a cap. Shape ``(n,)``.
    """
    surge = np.maximum(np.minimum(utility.least_surge(thresholds), cap - thresholds), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        price = utility.value(surge) / (thresholds + surge)
    return np.where(np.isnan(price), utility.steepest, price)  # without a threshold the first token counts


def _cost(price: float, tokens: Array) -> Array | float:
    """What tokens cost; nothing at price 0, even where they are infinitely many."""
    return price * tokens if price > 0 else 0.0


def demand(price: float, thresholds: Array, utility: Utility, cap: float | Array = math.inf) -> Array:
    """Tokens that each query asks for at ``price``: its best response, or nothing without a surplus (eq. 5).

    The paper's algorithm tests the surplus first and applies the context limit after; we test what would
    really be granted, so that a query whose threshold lies past its cap is abandoned. Without a binding cap
    the two are the same. Parameters as of :func:`clear_market`; real-valued, shape ``(n,)``.
    """
    tokens = np.minimum(thresholds + utility.best_response(price), cap)
    return np.where(utility.value(tokens - thresholds) > _cost(price, tokens), tokens, 0.0)


def dual_bound(
    price: float, thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf
) -> float:
    """``λB + Σ max(0, max_t U_i(t) - λt)``: no allocation of the budget has more utility, at any price.

    Whoever could buy and sell tokens at the price could do at least as well as within the budget. The bound is convex
    in the price, and lowest where demand crosses the budget. Parameters as of :func:`clear_market`.
    """
    tokens = demand(price, thresholds, utility, cap)
    return float(price * budget + (utility.value(tokens - thresholds) - _cost(price, tokens)).sum())


def clear_market(
    thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf, iterations: int = 40
) -> Clearing:
    """Algorithm 1: bisection on the price in ``[0, v0]`` until demand meets the budget (eq. 14).

    For another utility than the surge, ``v0`` is its steepest marginal.

    The price is the affordable end of the last interval, so the tokens never exceed the budget. Price 0 is tried
    first: an ample budget is recognised exactly.

    Parameters
    ----------
    thresholds : array of shape (n,)
        Tokens.
    budget : float
        Tokens, at least 0.
    utility : Utility
        Shared by all queries, or with arrays of shape (n,).
    cap : float or array of shape (n,)
        Most tokens that a query can get.
    iterations : int
        Halvings of the price interval.
    """
    affordable = budget * (1 + ROUNDING)

    def total(price: float) -> float:
        return float(demand(price, thresholds, utility, cap).sum())

    if thresholds.size >= MANY and utility.shared and np.ndim(cap) == 0:
        high = _crossing(_total_of_sorted(thresholds, utility, float(cap)), affordable, utility, iterations)
        tokens = demand(high, thresholds, utility, cap)
        if tokens.sum() <= affordable:
            return Clearing(high, tokens)
    high = _crossing(total, affordable, utility, iterations)
    return Clearing(high, demand(high, thresholds, utility, cap))


def _crossing(total: Callable[[float], float], affordable: float, utility: Utility, iterations: int) -> float:
    """The affordable end of the interval in which total demand crosses the budget, after so many halvings; or 0."""
    low, high = 0.0, float(np.max(utility.steepest))
    if total(low) <= affordable:
        return low
    for _ in range(iterations):
        price = (low + high) / 2
        low, high = (price, high) if total(price) > affordable else (low, price)
    return high


def _total_of_sorted(thresholds: Array, utility: Utility, cap: float) -> Callable[[float], float]:
    """Total demand by price, where all share a utility and a cap: who is served are the smallest thresholds."""
    last = np.sort(thresholds)
    sums = np.concatenate([[0.0], np.cumsum(last)])

    def total(price: float) -> float:
        served = bisect_left(range(last.size), True, key=lambda k: demand(price, last[k : k + 1], utility, cap)[0] == 0)
        surge = float(utility.best_response(price))
        below = min(served, int(np.searchsorted(last, cap - surge)))  # the others are served up to their cap
        return float(sums[below] + below * surge) + ((served - below) * cap if served > below else 0.0)

    return total


class Borders(NamedTuple):
    """Budgets for the whole batch, in tokens, that part the regimes of section 4.3; see :func:`borders`."""

    entry: float
    everyone: float
    free: float


def borders(thresholds: Array, utility: Utility) -> Borders:
    """Where regimes begin, with a shared utility and no cap (derived).

    Below ``entry`` no budget buys anything: it is the smallest threshold. From ``everyone`` on nobody is abandoned:
    it is the demand at the price at which the query with the largest threshold leaves. From ``free`` on the price is
    0: it is the demand of all at their peaks.
    """
    last = utility.best_response(exit_price(np.max(thresholds), utility))
    total, n = float(thresholds.sum()), thresholds.size
    return Borders(float(thresholds.min()), total + n * float(last), total + n * float(utility.peak))
