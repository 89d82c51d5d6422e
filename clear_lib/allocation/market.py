"""Price discovery: the price at which the queries together ask for the budget (Algorithm 1).

Demand falls as the price rises, but it falls in jumps, one for each query that is abandoned, so a price at which
it *equals* the budget need not exist. Algorithm 1 of the paper (:func:`clear_market`) then ends at the jump, on its
affordable side, and the rest of the budget stays unspent. :mod:`clear_lib.allocation.optimum` looks for the optimum.
"""

import math
from typing import NamedTuple

import numpy as np

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.utility import Utility

#: Relative excess over a budget that is rounding error of a sum, not demand.
ROUNDING = 1e-12


class Clearing(NamedTuple):
    """A price (utility per token) and what is bought at it (tokens before rounding, shape ``(n,)``)."""

    price: float
    tokens: Array


def adaptive_decay(budget_per_query: float, mean_threshold: float, epsilon: float = 32.0) -> float:
    """Decay rate from the surplus of the budget, in 1/token: ``β = 1/max(ε, B̄ - mean τ̂)`` (eq. 16).

    Inferred from the paper's words and figures; ``ε``, the slack in tokens that a scarce budget still grants, is open.
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


def demand(price: float, thresholds: Array, utility: Utility, cap: float | Array = math.inf) -> Array:
    """Tokens that each query asks for at ``price``: its best response, or nothing from its exit price on (eq. 5).

    The paper's algorithm applies the context limit after that test; we test what would really be granted, so that a
    query whose threshold lies past its cap is abandoned. Parameters as of :func:`clear_lib.solve`.
    """
    asked = np.minimum(thresholds + utility.best_response(price), cap)
    return np.where(price < exit_price(thresholds, utility, cap), asked, 0.0)


def dual_bound(
    price: float, thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf
) -> float:
    """``λB + Σ max(0, max_t U_i(t) - λt)``: no allocation of the budget has more utility, at any price.

    Whoever could buy and sell tokens at the price could do at least as well as within the budget. The bound is convex
    in the price, and lowest where demand crosses the budget. Parameters as of :func:`clear_lib.solve`.
    """
    tokens = demand(price, thresholds, utility, cap)
    cost = price * tokens if price > 0 else 0.0  # nothing at price 0, even where tokens are infinitely many
    return float(price * budget + (utility.value(tokens - thresholds) - cost).sum())


def clear_market(
    thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf, iterations: int = 40
) -> Clearing:
    """Algorithm 1: bisection on the price in ``[0, v0]`` until demand meets the budget (eq. 14).

    For another utility than the surge, ``v0`` is its steepest marginal. The price is the affordable end of the last
    interval. Price 0 is tried first: an ample budget is recognised exactly. Parameters as of :func:`clear_lib.solve`;
    ``iterations`` are the halvings.
    """
    affordable = budget * (1 + ROUNDING)
    exits = exit_price(thresholds, utility, cap)

    def asked(price: float) -> Array:
        """The demand; in place, since it is wanted forty times, and the exit prices stay."""
        tokens = thresholds + utility.best_response(price)
        np.minimum(tokens, cap, out=tokens)
        tokens *= price < exits
        return tokens

    low, high = 0.0, float(np.max(utility.steepest))
    if (most := asked(0.0)).sum() <= affordable:
        return Clearing(0.0, most)
    for _ in range(iterations):
        price = (low + high) / 2
        low, high = (price, high) if asked(price).sum() > affordable else (low, price)
    return Clearing(high, asked(high))


class Borders(NamedTuple):
    """Budgets for the whole batch, in tokens, that part the regimes of section 4.3."""

    entry: float  #: below it nothing is bought: the smallest threshold
    everyone: float  #: from it on nobody is abandoned: demand at the price at which the largest threshold leaves
    free: float  #: from it on the price is 0: demand of all at their peaks


def borders(thresholds: Array, utility: Utility) -> Borders:
    """Where regimes begin, with a shared utility and no cap (derived)."""
    last = utility.best_response(exit_price(np.max(thresholds), utility))
    total, n = float(thresholds.sum()), thresholds.size
    return Borders(float(thresholds.min()), total + n * float(last), total + n * float(utility.peak))
