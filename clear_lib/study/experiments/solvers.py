"""Other ways to the same allocation, to compare the market with in time and in utility; without caps but for one."""

import math
from collections.abc import Callable, Mapping
from itertools import product
from time import perf_counter

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp, minimize
from scipy.special import lambertw

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.market import Clearing, abandonment_line
from clear_lib.allocation.optimum import solve_shared
from clear_lib.allocation.utility import Surge, Utility

RELATIVE_GAP = 1e-5  # HiGHS ends its search when its own bound is this near to the total


def _bisected(demand: Callable[[float], float], budget: float, high: float) -> float:
    """The price between 0 and ``high`` at which the tokens asked for are the budget, from the affordable side."""
    low = 0.0
    for _ in range(40):
        price = (low + high) / 2
        low, high = (price, high) if demand(price) > budget else (low, price)
    return high


def algorithm_1_one_w(thresholds: Array, budget: float, utility: Surge) -> Clearing:
    """Algorithm 1 at its fastest: with shared ``v0`` and ``β`` one Lambert W and one abandonment line a price."""

    def asked(price: float) -> float:
        served = thresholds < abandonment_line(price, utility)
        return np.dot(thresholds, served) + np.count_nonzero(served) * utility.best_response(price)

    price = _bisected(asked, budget, float(utility.velocity))
    served = thresholds < abandonment_line(price, utility)
    return Clearing(price, np.where(served, thresholds + utility.best_response(price), 0.0))


def algorithm_1_w_each(thresholds: Array, budget: float, utility: Surge) -> Clearing:
    """Algorithm 1 to the letter: eq. 5 with SciPy's Lambert W for every query at every price."""
    velocity, decay = (np.broadcast_to(part, thresholds.shape) for part in (utility.velocity, utility.decay))

    def demand(price: float) -> Array:
        surge = (1 - lambertw(np.e * price / velocity).real) / decay
        surplus = velocity * surge * np.exp(-decay * surge) - price * (thresholds + surge)
        return np.where(surplus > 0, thresholds + surge, 0.0)

    price = _bisected(lambda price: demand(price).sum(), budget, float(velocity.max()))
    return Clearing(price, demand(price))


def by_slsqp(thresholds: Array, budget: float, utility: Utility, starts: int = 1) -> Array:
    """SciPy's SLSQP on eq. 2, the best of several starts; tokens, scaled down if the solver went over the budget."""
    # Below its threshold a query has no slope to follow. So the first start gives everyone the same, and the others
    # serve random queries, as many as fit, with the same surge for each.
    rng, n = np.random.default_rng(0), thresholds.size
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
    """HiGHS on eq. 2 with each curve cut into chords, a mixed-integer linear problem: its optimum, and its error."""
    # A query that is served pays its threshold and buys pieces of surge up to its peak, in order, since their slopes
    # fall. The chords lie below the curve, by at most max|U''|·h²/8 for pieces of h tokens: that is the error.
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
        options={"mip_rel_gap": RELATIVE_GAP, "time_limit": 60},
    )
    if done.status != 0:
        raise ValueError(f"HiGHS did not solve the problem: {done.message}")
    curvature = 2 * utility.velocity * utility.decay  # the largest |U''|, at the threshold
    error = float(np.sum(curvature * (room / pieces) ** 2 / 8))
    return -done.fun, error - RELATIVE_GAP * done.fun


def by_all_sets(thresholds: Array, budget: float, utility: Utility) -> float:
    """The optimum of eq. 2 with a shared utility, from all ``2^n`` sets: the same surge for each query of a set."""
    best = 0.0
    for choice in product((False, True), repeat=thresholds.size):
        served = thresholds[np.array(choice)]
        surge = min((budget - served.sum()) / max(served.size, 1), float(utility.peak))
        best = max(best, served.size * float(utility.value(surge)))
    return best


def losses(thresholds: Array, budget: float, utility: Surge) -> dict[str, float]:
    """What Algorithm 1 lacks, the duality gap and the worth of one query, of the dual bound; ``unspent``, of the budget."""
    best, found = solve_shared(thresholds, budget, utility), algorithm_1_one_w(thresholds, budget, utility).tokens
    lost = best.value - utility.value(found - thresholds).sum()
    parts = {"algorithm_1": lost, "gap": best.gap, "one_query": utility.value(utility.peak)}
    return {name: float(part / best.bound) for name, part in parts.items()} | {"unspent": 1 - found.sum() / budget}


def race(
    ways: Mapping[str, Callable], thresholds: Array, budget: float, utility: Utility, bound: float
) -> pd.DataFrame:
    """Seconds of ways to one allocation (tokens, what has them, or total utility), and shares of the dual bound."""
    rows = {}
    for name, way in ways.items():
        started = perf_counter()
        found = way(thresholds, budget, utility)
        seconds, reached = perf_counter() - started, getattr(found, "tokens", found)
        if np.ndim(reached):
            reached = utility.value(reached - thresholds).sum()
        rows[name] = {"N": thresholds.size, "seconds": seconds, "share": float(reached) / bound}
    return pd.DataFrame.from_dict(rows, orient="index")
