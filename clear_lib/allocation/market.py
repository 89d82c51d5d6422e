"""Price discovery: the price at which the queries together ask for the budget, and what to do without one.

Demand falls as the price rises, but it falls in jumps, one for each query that is abandoned, so a price at which
it *equals* the budget need not exist. Algorithm 1 of the paper (:func:`clear_market`) then ends at the jump, on its
affordable side, and the rest of the budget stays unspent. :func:`solve_shared` and :func:`solve` look for the
optimum instead, and say how far from it they can be at most: at any price, the budget at that price plus all
surpluses is a utility that no allocation exceeds (weak duality).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.utility import Utility

#: Relative excess over a budget that is rounding error of a sum, not demand.
ROUNDING = 1e-12

#: The exact solver looks for the cut in every how-manieth threshold first, ``SAMPLED`` of them, and then within
#: ``MARGIN`` of these to either side, four standard deviations of what such a sample can miss it by.
SAMPLED, MARGIN = 4000, 128

#: In a batch of at most ``SEARCHED`` queries, ``TRIES`` choices among the ``NEAR`` queries next to the jump are tried.
SEARCHED, NEAR, TRIES = 1000, 12, 200


class Clearing(NamedTuple):
    """A price (utility per token) and what is bought at it (tokens before rounding, shape ``(n,)``)."""

    price: float
    tokens: Array


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


def abandonment_line(price: float | Array, utility: Utility) -> Array:
    """Threshold at and above which no query is served at ``price``: ``U(s)/λ - s`` at the best response ``s``.

    Derived from the sign of the surplus (eqs. 5 and 6), without a cap. For the surge it is ``(1-w)²/(β·w)`` with
    ``w = W0(e·λ/v0)``.

    Returns
    -------
    array
        Tokens; infinite at price 0, and 0 from the steepest marginal on (``v0`` for the surge).
    """
    surge = utility.best_response(price)
    with np.errstate(divide="ignore"):
        return np.asarray(utility.value(surge) / np.asarray(price, dtype=float) - surge)


def exit_price(thresholds: Array, utility: Utility, cap: float | Array = math.inf) -> Array:
    """Price from which on a query is abandoned: its most utility per token, the threshold included.

    The inverse of :func:`abandonment_line`, with a cap.

    Returns
    -------
    array of shape (n,)
        Utility per token; 0 for a query whose threshold lies past its cap.
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
    the two are the same.

    Parameters
    ----------
    price : float
        Utility per token, at least 0.
    thresholds : array of shape (n,)
        Tokens.
    utility : Utility
        Shared by all queries, or with arrays of shape (n,).
    cap : float or array of shape (n,)
        Most tokens that a query can get.

    Returns
    -------
    array of shape (n,)
        Tokens, before rounding.
    """
    tokens = np.minimum(thresholds + utility.best_response(price), cap)
    return np.where(utility.value(tokens - thresholds) > _cost(price, tokens), tokens, 0.0)


def dual_bound(
    price: float, thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf
) -> float:
    """``λB + Σ max(0, max_t U_i(t) - λt)``: no allocation of the budget has more utility, at any price.

    Whoever could buy and sell tokens at the price could do at least as well as within the budget.

    Parameters
    ----------
    price : float
        Utility per token, at least 0. The bound is convex in it, and lowest where demand crosses the budget.
    thresholds, budget, utility, cap
        As for :func:`solve`.

    Returns
    -------
    float
        Utility.
    """
    tokens = demand(price, thresholds, utility, cap)
    return float(price * budget + (utility.value(tokens - thresholds) - _cost(price, tokens)).sum())


def clear_market(
    thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf, iterations: int = 40
) -> Clearing:
    """Algorithm 1: bisection on the price in ``[0, v0]`` until demand meets the budget (eq. 14).

    For another utility than the surge, ``v0`` is its steepest marginal.

    Returns the affordable end of the last interval, so the tokens never exceed the budget. Price 0 is tried
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

    Returns
    -------
    Clearing
        The price and the tokens bought at it.
    """
    affordable = budget * (1 + ROUNDING)
    low, high = 0.0, float(np.max(utility.steepest))
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


def _first_above(total: Callable[[int], float], budget: float, low: int, high: int) -> int:
    """Smallest ``k`` from ``low`` to ``high`` with ``total(k) > budget``, or ``high``; ``total`` must not fall.

    By interpolation, since totals of many queries are nearly smooth; from the ninth step on every other one halves
    the interval, in case they are not.
    """
    seen: list[tuple[int, float]] = []
    step = 0
    while low < high:
        guess = (low + high) // 2
        if len(seen) > 1 and (step < 8 or step % 2):
            (first, before), (last, after) = seen[-2:]
            if after != before:
                wanted = last + (budget - after) * (last - first) / (after - before)
                guess = int(min(max(math.floor(wanted), low), high - 1))
        seen.append((guess, total(guess)))
        if seen[-1][1] > budget:
            high = guess
        else:
            low = guess + 1
        step += 1
    return low


def solve_shared(thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf) -> Solution:
    """The exact optimum where all queries share one utility: sort, cumulative sum, argmax.

    Who is served are the ``k`` with the smallest thresholds: any others cost more and bring no more. They get
    the same surge, ``s_k = min((B - Σ τ)/k, peak)``, since the marginal falls. The best ``k`` has the largest
    ``k·U(s_k)``. No price is searched for, and no Lambert W needed, but for a few prices of the certificate.
    Of a large batch only the thresholds near the cut are sorted, and the dual bound proves that it is there.

    This holds if the parameters are shared, the marginal falls up to the peak, tokens are continuous and may be
    left unspent, and no cap binds at the solution. Where it does not, :func:`solve` takes over.

    Parameters
    ----------
    thresholds, budget, utility, cap
        As for :func:`solve`.

    Returns
    -------
    Solution
        See :func:`solve`; here ``value`` is the optimum, whatever the gap.
    """
    if not (utility.shared and utility.concave):
        return solve(thresholds, budget, utility, cap=cap)
    cut, step = None, thresholds.size // SAMPLED
    if step > 1:
        sample = np.sort(thresholds[::step])
        k = _best_cut(sample, budget / step, utility).count
        low = sample[k - MARGIN] if k >= MARGIN else 0.0
        high = sample[k + MARGIN] if k + MARGIN < sample.size else math.inf
        cut = _best_cut(thresholds, budget, utility, low, high)
    if cut is None:
        cut = _best_cut(thresholds, budget, utility)
    tokens = np.where(_first_smallest(thresholds, cut.last, cut.count), thresholds + cut.surge, 0.0)
    if (tokens > cap).any():
        return solve(thresholds, budget, utility, cap=cap)
    return Solution(cut.price, tokens, cut.value, max(cut.bound, cut.value))


class _Cut(NamedTuple):
    """The ``count`` smallest thresholds, up to ``last``, are served with one surge; see :class:`Solution`."""

    last: float
    count: int
    surge: float
    value: float
    price: float
    bound: float


def _best_cut(
    thresholds: Array, budget: float, utility: Utility, low: float = 0.0, high: float = math.inf
) -> _Cut | None:
    """The best cut between two thresholds; None if there may be a better one elsewhere."""
    before, peak = thresholds < low, float(utility.peak)
    skipped, fee = int(np.count_nonzero(before)), float(np.dot(thresholds, before))
    last = np.sort(thresholds[(thresholds >= low) & (thresholds <= high)])
    if not last.size:
        return None
    counts, fees = np.arange(skipped + 1, skipped + last.size + 1), fee + np.cumsum(last)
    surges = np.minimum((budget - fees) / counts, peak)
    values = counts * utility.value(surges)
    best = int(np.argmax(values))
    value = float(values[best])
    cut = (float(last[best]), int(counts[best]), float(surges[best]), value) if value > 0 else (-1.0, 0, 0.0, 0.0)

    # The certificate: let the price fall, and one query after the other come in, until demand passes the budget.
    complete = counts[-1] == thresholds.size
    if complete and fees[-1] + counts[-1] * peak <= budget * (1 + ROUNDING):
        return _Cut(*cut, 0.0, float(counts[-1] * utility.value(peak)))

    def demand_before(k: int) -> float:
        """Demand of the first ``k`` here at the price at which the next is abandoned."""
        return fees[k - 1] + counts[k - 1] * utility.best_response(exit_price(last[k], utility))

    def bound(number: int, fee: float) -> float:
        """Dual bound if just that many are served."""
        return float(number * utility.value(surge) + price * (budget - fee - number * surge))

    k = _first_above(demand_before, budget, 1, last.size) - 1
    price = exit_price(last[k], utility)
    surge = utility.best_response(price)
    if fees[k] + counts[k] * surge <= budget:  # demand crosses the budget without a jump
        surge = (budget - fees[k]) / counts[k]
        price = utility.marginal(surge)
        lowest = bound(counts[k], fees[k])
    else:  # who jumps has no surplus
        lowest = bound(counts[k] - 1, fees[k - 1] if k else fee)
    # At this price whoever is below has a surplus and whoever is above has none, so that the bound of any number
    # of queries falls on the way from the crossing to the two ends, and beyond.
    if skipped and (k == 0 or bound(skipped, fee) > value):
        return None
    if not complete and (k == last.size - 1 or bound(counts[-1], fees[-1]) > value):
        return None
    return _Cut(*cut, float(price), lowest)


def _first_smallest(values: Array, last: float, count: int) -> NDArray[np.bool_]:
    """The ``count`` smallest, of which ``last`` is the largest; ties by position."""
    chosen = values <= last
    surplus = int(np.count_nonzero(chosen)) - count
    if surplus > 0:
        chosen[np.flatnonzero(values == last)[-surplus:]] = False
    return chosen


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


class _Filled(NamedTuple):
    """Tokens that use a budget, and what is asked for at a price next to that of the last token."""

    price: float
    asked: Array
    tokens: Array


class _Queries(NamedTuple):
    """Queries that are all to be served, whatever their surplus."""

    thresholds: Array
    utility: Utility
    cap: float | Array

    def pick(self, which: slice | NDArray) -> _Queries:
        """Some of the queries."""
        cap = self.cap if np.ndim(self.cap) == 0 else self.cap[which]
        return _Queries(self.thresholds[which], self.utility.at(which), cap)

    def most(self) -> Array:
        """Tokens of the peaks."""
        return np.minimum(self.thresholds + self.utility.peak, self.cap)

    def asked(self, price: float) -> Array:
        """Tokens asked for at a price."""
        return np.minimum(self.thresholds + self.utility.best_response(price), self.cap)

    def values(self, tokens: Array) -> Array:
        """Utility of tokens."""
        return self.utility.value(tokens - self.thresholds)

    def fill(self, budget: float, price: float) -> _Filled | None:
        """Share a budget at equal marginals, starting the search at ``price``; None if it is too small.

        Two prices close to each other, one too high and one too low, are enough: the mixture of what is asked at
        the two uses the budget, and is short of the optimum by the square of their distance.
        """
        tokens = self.most()
        if tokens.sum() <= budget:
            return _Filled(0.0, tokens, tokens)
        low = high = None  # (log price, excess demand, tokens)
        at, stride = math.log(price), 1e-4
        floor = math.log(np.finfo(float).tiny)
        ceiling = math.log(float(np.max(self.utility.steepest))) + ROUNDING  # above all marginals, even rounded
        for step in range(200):
            tokens = self.asked(math.exp(at))
            excess = float(tokens.sum()) - budget
            if excess > 0:
                if at >= ceiling:
                    return None
                low = (at, excess, tokens)
            else:
                if at <= floor:
                    return _Filled(math.exp(at), tokens, tokens)
                high = (at, excess, tokens)
            if low is None or high is None:
                at = min(at + stride, ceiling) if high is None else max(at - stride, floor)
                stride = min(8 * stride, 4.0)
                continue
            width, part = high[0] - low[0], high[1] / (high[1] - low[1])
            if part * (1 - part) * width**2 < 1e-12 or width < 1e-13:
                break
            at = (low[0] + high[0]) / 2 if step > 8 and step % 2 else high[0] - part * width
        near = min(low, high, key=lambda end: abs(end[1]))
        return _Filled(math.exp(near[0]), near[2], high[2] + part * (low[2] - high[2]))


def solve(thresholds: Array, budget: float, utility: Utility, *, cap: float | Array = math.inf) -> Solution:
    """A near-optimal allocation for any utilities, with a bound that says how near.

    In order of the price at which each is abandoned, queries get what they ask for up to the one with which
    demand jumps over the budget. The dual bound at that price is the certificate. What is left is put to its best
    use: all of the budget for those before the jump, or for one more at a higher price; in a batch of at most
    :data:`SEARCHED`, also other choices among the queries next to the jump, as long as their own dual bounds
    allow an improvement. (Not exact in general: with parameters that differ, the problem contains the knapsack
    problem.)

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

    Returns
    -------
    Solution
        The price is the one with the lowest bound. Where demand meets the budget at it, the gap is rounding
        error. Elsewhere it is less than the value of about one query, so it falls like ``1/n`` beside the total.
    """
    exits = exit_price(thresholds, utility, cap)
    order = np.argsort(-exits)[: np.count_nonzero(exits)]
    price, bound, ranked = _solve_ranked(_Queries(thresholds, utility, cap).pick(order), exits[order], budget)
    tokens = np.zeros(thresholds.size)
    tokens[order] = ranked
    value = float(utility.value(tokens - thresholds).sum())
    return Solution(price, tokens, value, max(bound, value))


def _solve_ranked(queries: _Queries, exits: Array, budget: float) -> tuple[float, float, Array]:
    """Price, bound and tokens, for queries in order of the price at which they are abandoned, highest first."""
    most = queries.most()
    ample = np.cumsum(most)
    if not exits.size or ample[-1] <= budget * (1 + ROUNDING):
        return 0.0, float(queries.values(most).sum()), most
    least = np.cumsum(np.minimum(queries.thresholds + queries.utility.least_surge(queries.thresholds), queries.cap))
    low, high = (int(np.searchsorted(sums, budget, side="right")) + 1 for sums in (ample, least))
    k = _first_above(lambda k: float(queries.pick(slice(k)).asked(exits[k]).sum()), budget, low, min(high, exits.size))
    price, first = float(exits[k - 1]), queries.pick(slice(k))
    asked, tokens = first.asked(price), np.zeros(exits.size)
    if asked.sum() <= budget:  # demand of these k crosses the budget without a jump
        price, asked, tokens[:k] = first.fill(budget, price)
    else:
        tokens = _use_leftover(queries, k, budget, price)
        first, asked = queries.pick(slice(k - 1)), asked[: k - 1]  # who jumps has no surplus
    return price, float(first.values(asked).sum() + price * (budget - asked.sum())), tokens


def _use_leftover(queries: _Queries, k: int, budget: float, price: float) -> Array:
    """The best tokens found where demand jumps with query ``k``: without it, with it, or with others changed."""
    n = queries.thresholds.size

    def serve(members: slice | Array) -> tuple[float, Array]:
        chosen, tokens = queries.pick(members), np.zeros(n)
        if (filled := chosen.fill(budget, price)) is not None:
            tokens[members] = filled.tokens
            return float(chosen.values(filled.tokens).sum()), tokens
        return 0.0, tokens

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
