"""Other ways to the same allocation, to compare :mod:`clear_lib.market` with in time and in utility.

They take the surge of eq. 1, and no cap but where they say so.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp, minimize
from scipy.special import lambertw

from .forecasts import Array
from .market import Clearing, abandonment_line
from .utility import Surge, Utility


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
        The optimum over the chords, which can be bought, and by how much the optimum itself can be higher.
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
        options={"mip_rel_gap": 1e-9, "time_limit": 60},
    )
    if done.status != 0:
        raise ValueError(f"HiGHS did not solve the problem: {done.message}")
    curvature = 2 * utility.velocity * utility.decay  # the largest |U''|, at the threshold
    return -done.fun, float(np.sum(curvature * (room / pieces) ** 2 / 8))
