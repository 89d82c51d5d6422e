"""Price discovery: the price at which the queries together ask for the budget.

Algorithm 1 of the paper. Demand falls as the price rises, but it falls in jumps, one for each query that is
abandoned, so a price at which it *equals* the budget need not exist. The search then ends at the jump, on its
affordable side, and the rest of the budget stays unspent.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .forecasts import Array
from .utility import Surge

#: Relative excess over a budget that is rounding error of a sum, not demand.
ROUNDING = 1e-12


class Clearing(NamedTuple):
    """A price (utility per token) and what is bought at it (tokens before rounding, shape ``(n,)``)."""

    price: float
    tokens: Array


def adaptive_decay(budget_per_query: float, mean_threshold: float, epsilon: float = 32.0) -> float:
    """Decay rate from the surplus of the budget: ``β = 1/max(ε, B̄ - mean τ̂)`` (eq. 16).

    The formula is inferred from the paper's words and figures; ``ε``, the slack in tokens that a scarce budget
    still grants, is open.

    Parameters
    ----------
    budget_per_query, mean_threshold, epsilon : float
        Tokens.

    Returns
    -------
    float
        Decay rate, 1/token.
    """
    return 1.0 / max(epsilon, budget_per_query - mean_threshold)


def abandonment_line(price: float, utility: Surge) -> float:
    """Threshold at and above which no query is served at ``price``: ``(1-w)²/(β·w)``, ``w = W0(e·λ/v0)``.

    Derived from the sign of the surplus at the best response (eqs. 5 and 6), without a cap.

    Returns
    -------
    float
        Tokens; infinite at price 0, and 0 from price ``v0`` on.
    """
    surge = utility.best_response(price)
    w = price / utility.velocity * np.exp(utility.decay * surge)  # z·exp(z) = e·λ/v0 with z = 1 - βs
    with np.errstate(divide="ignore"):
        return utility.decay * surge**2 / w


def demand(price: float, thresholds: Array, utility: Surge, cap: float = math.inf) -> Array:
    """Tokens that each query asks for at ``price``: its best response, or nothing without a surplus (eq. 5).

    The paper's algorithm tests the surplus first and applies the context limit after; we test what would
    really be granted, so that a query whose threshold lies past its cap is abandoned. Without a binding cap
    the two are the same.

    Parameters
    ----------
    price : float
        Utility per token, at least 0.
    thresholds : array of shape (n,)
        Tokens.
    utility : Surge
        Shared by all queries, or with arrays of shape (n,).
    cap : float
        Most tokens that a query can get.

    Returns
    -------
    array of shape (n,)
        Tokens, before rounding.
    """
    tokens = np.minimum(thresholds + utility.best_response(price), cap)
    surplus = utility.value(tokens - thresholds) - price * tokens
    return np.where(surplus > 0, tokens, 0.0)


def clear_market(
    thresholds: Array, budget: float, utility: Surge, *, cap: float = math.inf, iterations: int = 40
) -> Clearing:
    """Algorithm 1: bisection on the price in ``[0, v0]`` until demand meets the budget (eq. 14).

    Returns the affordable end of the last interval, so the tokens never exceed the budget. Price 0 is tried
    first: an ample budget is recognised exactly.

    Parameters
    ----------
    thresholds : array of shape (n,)
        Tokens.
    budget : float
        Tokens, at least 0.
    utility : Surge
        Shared by all queries, or with arrays of shape (n,).
    cap : float
        Most tokens that a query can get.
    iterations : int
        Halvings of the price interval.

    Returns
    -------
    Clearing
        The price and the tokens bought at it.
    """
    affordable = budget * (1 + ROUNDING)
    low, high = 0.0, float(np.max(utility.velocity))
    tokens = demand(low, thresholds, utility, cap)
    if tokens.sum() <= affordable:
        return Clearing(low, tokens)
    for _ in range(iterations):
        price = (low + high) / 2
        if demand(price, thresholds, utility, cap).sum() > affordable:
            low = price
        else:
            high = price
    return Clearing(high, demand(high, thresholds, utility, cap))
