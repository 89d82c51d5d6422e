"""Other ways to the same allocation, to compare :mod:`clear_lib.allocation.market` with in time and in utility.

They take the surge of eq. 1, and no cap but where they say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from timeit import repeat
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp, minimize
from scipy.special import lambertw

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.market import Clearing, abandonment_line, solve_shared
from clear_lib.allocation.utility import Surge, Utility

#: HiGHS ends its search when its own bound is this near, relative to the total.
SEARCHED_TO = 1e-5


def algorithm_1_one_w(thresholds: Array, budget: float, utility: Surge, iterations: int = 40) -> Clearing:
    """Algorithm 1 at its fastest: with shared ``v0`` and ``β`` one Lambert W a price serves everyone.

    Who is active follows from the abandonment line, so a price costs one comparison and one sum over the queries.
    """
    low, high = 0.0, float(utility.velocity)
    for _ in range(iterations):
        price = (low + high) / 2
        served = thresholds < abandonment_line(price, utility)
        asked = np.dot(thresholds, served) + np.count_nonzero(served) * utility.best_response(price)
        low, high = (price, high) if asked > budget else (low, price)
    served = thresholds < abandonment_line(high, utility)
    return Clearing(high, np.where(served, thresholds + utility.best_response(high), 0.0))


def algorithm_1_w_each(thresholds: Array, budget: float, utility: Surge, iterations: int = 40) -> Clearing:
    """Algorithm 1 to the letter: eq. 5 with SciPy's Lambert W for every query at every price."""
    velocity, decay = (np.broadcast_to(part, thresholds.shape) for part in (utility.velocity, utility.decay))

    def demand(price: float) -> Array:
        surge = (1 - lambertw(np.e * price / velocity).real) / decay
        surplus = velocity * surge * np.exp(-decay * surge) - price * (thresholds + surge)
        return np.where(surplus > 0, thresholds + surge, 0.0)

    low, high = 0.0, float(velocity.max())
    for _ in range(iterations):
        price = (low + high) / 2
        low, high = (price, high) if demand(price).sum() > budget else (low, price)
    return Clearing(high, demand(high))


def by_slsqp(thresholds: Array, budget: float, utility: Utility, starts: int = 1, seed: int = 0) -> Array:
    """SciPy's SLSQP on eq. 2, the best of several starts.

    It follows slopes, and below its threshold a query has none. So the first start gives everyone the same, and
    the others serve random queries, as many as fit, with the same surge for each.

    Returns
    -------
    array of shape (n,)
        Tokens, scaled down to the budget if the solver went over it.
    """
    rng, n = np.random.default_rng(seed), thresholds.size
    found = np.zeros(n)
    for start in range(starts):
        tokens = np.full(n, budget / n)
        if start:
            order = rng.permutation(n)
            served = order[np.cumsum(thresholds[order]) <= rng.uniform(0.5, 1.0) * budget]
            tokens = np.zeros(n)
            tokens[served] = thresholds[served] + (budget - thresholds[served].sum()) / max(served.size, 1)
        done = minimize(
            lambda t: -utility.value(t - thresholds).sum(),
            tokens,
            jac=lambda t: -utility.marginal(t - thresholds),
            method="SLSQP",
            bounds=Bounds(0, np.inf),
            constraints=[{"type": "ineq", "fun": lambda t: budget - t.sum(), "jac": lambda t: -np.ones(n)}],
        )
        tokens = np.maximum(done.x, 0) * min(1.0, budget / max(done.x.sum(), 1e-300))
        found = max(found, tokens, key=lambda t: utility.value(t - thresholds).sum())
    return found


def by_highs(
    thresholds: Array, budget: float, utility: Surge, cap: float | Array = math.inf, pieces: int = 40
) -> tuple[float, float]:
    """HiGHS on eq. 2 with each curve cut into chords: a mixed-integer linear problem.

    A query that is served pays its threshold and buys pieces of surge up to its peak; their slopes fall, so they
    are bought in order. The chords lie below the curve, by at most ``max|U''|·h²/8`` for pieces of ``h`` tokens.

    Returns
    -------
    (float, float)
        The best over the chords, which can be bought, and by how much the optimum itself can be higher.
    """
    n = thresholds.size
    room = np.maximum(np.minimum(utility.peak, cap - thresholds), 0.0)
    knots = np.linspace(0, 1, pieces + 1)[:, None] * room
    worth = np.diff([utility.value(knot) for knot in knots], axis=0).T  # utility of each piece, bought whole
    price = np.concatenate([thresholds, np.repeat(room / pieces, pieces)])[None]
    switched = np.hstack([-np.repeat(np.eye(n), pieces, axis=0), np.eye(n * pieces)])
    done = milp(
        -np.concatenate([np.zeros(n), worth.ravel()]),
        constraints=[LinearConstraint(price, -np.inf, budget), LinearConstraint(switched, -np.inf, 0)],
        integrality=np.concatenate([np.ones(n), np.zeros(n * pieces)]),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": SEARCHED_TO, "time_limit": 60},
    )
    if done.status != 0:
        raise ValueError(f"HiGHS did not solve the problem: {done.message}")
    curvature = 2 * utility.velocity * utility.decay  # the largest |U''|, at the threshold
    error = float(np.sum(curvature * (room / pieces) ** 2 / 8))
    return -done.fun, error - SEARCHED_TO * done.fun


def by_all_sets(thresholds: Array, budget: float, utility: Utility) -> float:
    """The optimum of eq. 2 with a shared utility, from all ``2^n`` sets: the same surge for each of a set."""
    best = 0.0
    for choice in product((False, True), repeat=thresholds.size):
        served = thresholds[np.array(choice)]
        surge = min((budget - served.sum()) / max(served.size, 1), float(utility.peak))
        best = max(best, served.size * float(utility.value(surge)))
    return best


class Losses(NamedTuple):
    """Shares of the dual bound, but ``unspent``, which is a share of the budget; see :func:`losses`."""

    algorithm_1: float
    gap: float
    one_query: float
    unspent: float


def losses(thresholds: Array, budget: float, utility: Surge) -> Losses:
    """What Algorithm 1 lacks to the optimum, what the bound exceeds it by, and what one query can be worth."""
    best, found = solve_shared(thresholds, budget, utility), algorithm_1_one_w(thresholds, budget, utility).tokens
    lost = best.value - utility.value(found - thresholds).sum()
    shares = np.array([lost, best.gap, utility.value(utility.peak)]) / best.bound
    return Losses(*shares.tolist(), 1 - float(found.sum()) / budget)


def race(
    ways: Mapping[str, Callable], thresholds: Array, budget: float, utility: Utility, bound: float, rounds: int = 1
) -> pd.DataFrame:
    """Time some ways to the same allocation.

    Parameters
    ----------
    ways : mapping
        Functions of thresholds, budget and utility. They return tokens, something that has them, or a utility.
    thresholds, budget, utility
        The problem.
    bound : float
        A certificate of it.
    rounds : int
        Turns of each; the best one counts.

    Returns
    -------
    DataFrame
        Index: the names of the ways. Columns ``N``, ``seconds`` and ``share``, the part of the bound that is reached.
    """
    rows = {}
    for name, way in ways.items():
        found: list = []
        best = min(repeat(lambda way=way: found.append(way(thresholds, budget, utility)), number=1, repeat=rounds))
        reached = getattr(found[-1], "tokens", found[-1])
        if np.ndim(reached):
            reached = utility.value(reached - thresholds).sum()
        rows[name] = {"N": thresholds.size, "seconds": best, "share": float(reached) / bound}
    return pd.DataFrame.from_dict(rows, orient="index")
