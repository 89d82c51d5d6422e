"""The optimum of the allocation problem (eq. 2), with a bound that says how near to it an allocation is.

At any price, the budget at that price plus all surpluses is a utility that no allocation exceeds (weak duality).
:func:`solve_shared` is exact where all queries share one utility; :func:`solve` takes any utilities.
"""

import math
from bisect import bisect_left
from itertools import product
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.market import ROUNDING, dual_bound, exit_price
from clear_lib.allocation.utility import Utility

#: In a batch of at most ``SEARCHED`` queries, ``TRIES`` choices among the ``NEAR`` queries next to the jump are tried.
SEARCHED, NEAR, TRIES = 1000, 12, 200


class Solution(NamedTuple):
    """An allocation and its certificate.

    Attributes
    ----------
    price : float
        Shadow price, utility per token.
    tokens : array of shape (n,)
        Tokens before rounding, with a sum of at most the budget.
    value : float
        Their utility.
    bound : float
        Dual bound: no allocation within budget and cap has more utility.
    """

    price: float
    tokens: Array
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """The most utility that the allocation can be short of the optimum."""
        return self.bound - self.value


def solve_shared(thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf) -> Solution:
    """Find the exact optimum where all queries share one utility: sort, cumulative sum, argmax.

    Served are the ``k`` queries with the smallest thresholds: any others cost more and bring no more. They get
    the same surge, ``s_k = min((B - Σ τ)/k, peak)``, since the marginal falls. The best ``k`` has the largest
    ``k·U(s_k)``. No price is searched for, and no Lambert W needed, but for a few prices of the certificate.

    This holds if the parameters are shared, the marginal falls up to the peak, tokens are continuous and may be
    left unspent, and no cap binds at the solution. Where it does not, :func:`solve` takes over. Parameters and result as
    of :func:`solve`; here ``value`` is the optimum, whatever the gap.

    Examples
    --------
    >>> from clear_lib.allocation.utility import Surge
    >>> solve_shared(np.array([100.0, 101.0]), 200, Surge(1.0, 0.01)).tokens
    array([200.,   0.])
    """
    if not (utility.shared and utility.concave):
        return solve(thresholds, budget, utility, cap=cap)
    last = np.sort(thresholds)
    counts, fees = np.arange(1, last.size + 1), np.cumsum(last)
    surges = np.minimum((budget - fees) / counts, float(utility.peak))
    values = counts * utility.value(surges)
    best = int(np.argmax(values))
    tokens = np.zeros(thresholds.size)
    if values[best] > 0:
        served = smallest(thresholds, last[best], best + 1)
        tokens[served] = thresholds[served] + surges[best]
    if (tokens > cap).any():
        return solve(thresholds, budget, utility, cap=cap)
    value = max(float(values[best]), 0.0)
    price, bound = _certificate(last, fees, budget, utility)
    return Solution(price, tokens, value, max(bound, value))


def _certificate(last: Array, fees: Array, budget: float, utility: Utility) -> tuple[float, float]:
    """Price with the lowest dual bound, and that bound, of sorted thresholds and their cumulative sum."""
    price, surge, k = 0.0, float(utility.peak), last.size
    # The price falls, and one query after the other comes in, until demand passes the budget.
    if fees[-1] + k * surge > budget * (1 + ROUNDING):
        # Of the first k queries, at the price at which the next one is abandoned.
        demanded = lambda k: fees[k - 1] + k * utility.best_response(exit_price(last[k], utility))
        k = bisect_left(range(last.size), True, 1, key=lambda k: demanded(k) > budget)
        price = exit_price(last[k - 1], utility)
        surge = utility.best_response(price)
        if fees[k - 1] + k * surge <= budget:  # demand crosses the budget without a jump
            surge = (budget - fees[k - 1]) / k
            price = np.maximum(utility.marginal(surge), 0.0)
        else:  # the query that jumps has no surplus
            k -= 1
    spent = fees[k - 1] + k * surge if k else 0.0
    return float(price), float(k * utility.value(surge) + price * (budget - spent))


def smallest(values: Array, last: float, count: int) -> NDArray[np.bool_]:
    """Mask of the ``count`` smallest values, of which ``last`` is the largest; ties by position."""
    chosen = values <= last
    surplus = int(np.count_nonzero(chosen)) - count
    if surplus > 0:
        chosen[np.flatnonzero(values == last)[-surplus:]] = False
    return chosen


class _Queries(NamedTuple):
    """Queries that are all to be served, whatever their surplus."""

    thresholds: Array
    utility: Utility
    cap: float | Array

    def pick(self, which: slice | NDArray) -> Self:
        cap = self.cap if np.ndim(self.cap) == 0 else self.cap[which]
        return _Queries(self.thresholds[which], self.utility.at(which), cap)

    def asked(self, price: float) -> Array:
        return np.minimum(self.thresholds + self.utility.best_response(price), self.cap)

    def values(self, tokens: Array) -> Array:
        return self.utility.value(tokens - self.thresholds)

    def fill(self, budget: float) -> tuple[float, Array] | None:
        """Share a budget at equal marginals: price and tokens; None if it is too small.

        The mixture of what is asked at two prices close to each other, one too low and one too high, uses the
        budget, and is short of the optimum by the square of their distance.
        """
        from scipy.optimize import brentq  # only here: it takes half of the time that importing the library takes

        def excess(log_price: float) -> float:
            return float(self.asked(math.exp(log_price)).sum()) - budget

        low = math.log(np.finfo(float).tiny)
        for price in (0.0, math.exp(low)):
            if (tokens := self.asked(price)).sum() <= budget:
                return price, tokens
        high = math.log(float(np.max(self.utility.steepest))) + ROUNDING  # above all marginals, even rounded
        if excess(high) > 0:
            return None
        root = brentq(excess, low, high, xtol=1e-13, rtol=1e-15)
        near = 1e-9
        while excess(root - near) <= 0 or excess(root + near) > 0:
            near *= 2  # the root is exact only to rounding
        cheap, dear = self.asked(math.exp(root - near)), self.asked(math.exp(root + near))
        part = (budget - dear.sum()) / (cheap.sum() - dear.sum())
        return math.exp(root), dear + part * (cheap - dear)


def solve(thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf) -> Solution:
    """Find a near-optimal allocation for any utilities, with a bound that says how near.

    In order of the price at which each is abandoned, queries get what they ask for up to the one with which
    demand jumps over the budget. The dual bound at that price, the lowest of all, is the certificate. What is left is
    put to its best use: all of the budget for those before the jump, or for one more at a higher price; in a batch of
    at most :data:`SEARCHED`, also other choices among the queries next to the jump, as long as their own dual bounds
    allow an improvement. (With parameters that differ, the problem contains the knapsack problem.) Where demand meets
    the budget the gap is rounding error, elsewhere less than the value of about one query.

    Parameters
    ----------
    thresholds : array of shape (n,)
        Tokens; all 0 for :class:`~clear_lib.allocation.utility.LogNormal`.
    budget : float
        Tokens, at least 0.
    utility : Utility
        Shared by all queries, or with arrays of shape (n,).
    cap : float or array of shape (n,)
        Most tokens that a query can get.
    """
    exits = exit_price(thresholds, utility, cap)
    order = np.argsort(-exits)[: np.count_nonzero(exits)]
    tokens = np.zeros(thresholds.size)
    price, tokens[order] = _solve_ranked(_Queries(thresholds, utility, cap).pick(order), exits[order], budget)
    value = float(utility.value(tokens - thresholds).sum())
    return Solution(price, tokens, value, max(dual_bound(price, thresholds, budget, utility, cap=cap), value))


def _solve_ranked(queries: _Queries, exits: Array, budget: float) -> tuple[float, Array]:
    """Price and tokens, for queries in order of the price at which they are abandoned, highest first."""
    if (most := queries.asked(0.0)).sum() <= budget * (1 + ROUNDING):
        return 0.0, most
    demanded = lambda k: queries.pick(slice(k)).asked(exits[k]).sum()
    k = bisect_left(range(exits.size), True, 1, key=lambda k: demanded(k) > budget)
    price, first = float(exits[k - 1]), queries.pick(slice(k))
    if first.asked(price).sum() > budget:
        return price, _use_leftover(queries, k, budget, price)
    tokens = np.zeros(exits.size)  # demand of these k crosses the budget without a jump
    price, tokens[:k] = first.fill(budget)
    return price, tokens


def _use_leftover(queries: _Queries, k: int, budget: float, price: float) -> Array:
    """The best tokens found where demand jumps with query ``k``: without it, with it, or with others changed."""
    n = queries.thresholds.size

    def serve(members: slice | Array) -> tuple[float, Array]:
        tokens = np.zeros(n)
        if filled := queries.pick(members).fill(budget):
            tokens[members] = filled[1]
        return float(queries.values(tokens).sum()), tokens

    best = max(serve(slice(k - 1)), serve(slice(k)), key=lambda served: served[0])
    if n > SEARCHED:
        return best[1]
    # Every choice among the queries near the jump has a dual bound of its own: try them from the highest on.
    start = max(min(k - 1 - NEAR // 2, n - NEAR), 0)
    near = slice(start, start + NEAR)
    choices = np.array(list(product((True, False), repeat=queries.thresholds[near].size)))
    asked = queries.asked(price)
    surplus = queries.values(asked) - price * asked
    bounds = price * budget + surplus[:start].sum() + choices @ surplus[near]
    bounds[queries.thresholds[:start].sum() + choices @ queries.thresholds[near] > budget] = 0.0
    for choice in np.argsort(-bounds)[:TRIES]:
        if bounds[choice] <= best[0] * (1 + ROUNDING):
            break
        members = np.concatenate([np.arange(start), start + np.flatnonzero(choices[choice])])
        best = max(best, serve(members), key=lambda served: served[0])
    return best[1]
