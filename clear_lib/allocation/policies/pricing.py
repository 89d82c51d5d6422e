"""Policies with a price: CLEAR's market (eqs. 5, 14 and 16), its exact optimum, and markets of chances (ours)."""

import math

import numpy as np

from clear_lib.allocation.market import abandonment_line, adaptive_decay, clear_market, dual_bound, exit_price
from clear_lib.allocation.optimum import solve, solve_shared
from clear_lib.allocation.policies.rule import Grant, distinct
from clear_lib.allocation.policies.shares import ample, predictor
from clear_lib.allocation.problem import Problem
from clear_lib.allocation.stages import Stages, stages
from clear_lib.allocation.utility import SHAPES, LogNormal, Surge


def _utility(problem: Problem, velocity: float, decay: float | None, epsilon: float, shape: str, stretch: float = 1.0):
    """The decay rate, by eq. 16 if it is None, and the utility of that shape."""
    if decay is None:
        mean = float(problem.forecasts.threshold.mean())
        decay = adaptive_decay(problem.mean_budget, mean, epsilon) / stretch
    return decay, SHAPES[shape](Surge(velocity, decay))


def _past_cap(threshold: float, cap: float) -> str:
    return "its threshold {} is not below the cap of {} tokens".format(*distinct(threshold, cap))


def clear(
    problem: Problem,
    velocity: float = 1.0,
    decay: float | None = None,
    epsilon: float = 32.0,
    iterations: int = 40,
    fallback: bool = False,
    floor: float = 32.0,
    utility: str = "surge",
    stretch: float = 1.0,
) -> Grant:
    """The Lambert W policy at the price found by Algorithm 1 (eqs. 5, 14 and 16).

    ``decay=None`` takes the adaptive rate with slack ``epsilon`` tokens; ``velocity`` only scales the price. With
    ``fallback`` a budget that fits all thresholds is shared by :func:`predictor` (inferred from equal rows in Table 1;
    open). ``utility`` is a name in :data:`SHAPES` (section 7.4), and ``stretch`` multiplies the adaptive ``1/β`` and
    with it the width: the constants of eqs. 16 to 18 are open.
    """
    if fallback and ample(problem):
        return predictor(problem, floor)
    decay, curve = _utility(problem, velocity, decay, epsilon, utility, stretch)
    threshold, budget, cap = problem.forecasts.threshold, problem.budget, problem.cap
    price, tokens = clear_market(threshold, budget, curve, cap=cap, iterations=iterations)
    bound = dual_bound(price, threshold, budget, curve, cap=cap)

    def abandoned(query: int) -> str:
        own, line = threshold[query], float(abandonment_line(price, curve))
        if own >= cap:
            return _past_cap(own, cap)
        if own < line:
            worth = float(exit_price(own, curve, cap))
            return (
                f"within the cap of {cap:,} tokens it is worth at most {worth:.3g} per token, "
                f"less than the price {price:.3g}"
            )
        if math.isclose(own, line, rel_tol=1e-6):
            return (
                f"its threshold {own:,.1f} is at the abandonment line of the price {price:.3g}, where demand jumps "
                f"past the budget"
            )
        return "its threshold {} is above the abandonment line {} at price {:.3g}".format(*distinct(own, line), price)

    return Grant(tokens, price, bound, {"decay": decay}, abandoned)


def clear_exact(
    problem: Problem, velocity: float = 1.0, decay: float | None = None, epsilon: float = 32.0, utility: str = "surge"
) -> Grant:
    """Solve the problem that CLEAR's price is for (eq. 2) exactly: sort, cumulative sum, argmax (ours).

    Settings as of :func:`clear`. Where the cap binds, the general solver takes over; its bound says how near it is.
    """
    decay, curve = _utility(problem, velocity, decay, epsilon, utility)
    threshold, budget, cap = problem.forecasts.threshold, problem.budget, problem.cap
    solution = solve_shared(threshold, budget, curve, cap=cap)
    served = solution.tokens > 0

    def abandoned(query: int) -> str:
        own, last = threshold[query], threshold[served].max(initial=-math.inf)
        if own >= cap:
            return _past_cap(own, cap)
        if not served.any():
            own, budget_ = distinct(own, budget)
            return f"no threshold is below the budget of {budget_} tokens, and its own is {own}"
        if own >= last:
            return (
                f"the optimum serves the {int(served.sum()):,} smallest thresholds, up to {last:,.1f}, "
                f"and its own is {own:,.1f}"
            )
        return f"within the cap of {cap:,} tokens others bring more: the price is {solution.price:.3g}"

    return Grant(solution.tokens, solution.price, solution.bound, {"decay": decay}, abandoned)


def clear_lognormal(problem: Problem, use_solvable: bool = True) -> Grant:
    """Most expected correct answers, if log lengths are normal (ours): a market of chances, not of potential.

    A query's utility is ``p·Φ((log t - μ)/σ)`` with the forecasts' ``solvable``, ``spread`` and ``log_median`` (of at
    least one token). Without ``use_solvable`` all are taken to be solvable.
    """
    forecasts = problem.forecasts
    if use_solvable and forecasts.solvable is None:
        raise ValueError(
            "policy 'clear-lognormal' needs the solvable of the queries: Forecasts(threshold, solvable=…), or "
            "use_solvable=False"
        )
    chance = forecasts.solvable if use_solvable else 1.0
    utility = LogNormal(np.maximum(forecasts.log_median, 0.0), forecasts.spread, chance)
    solution = solve(np.zeros(problem.n), problem.budget, utility, cap=problem.cap)

    def abandoned(query: int) -> str:
        if np.broadcast_to(chance, problem.n)[query] == 0:
            return "its chance of a correct answer is 0"
        promised = float(exit_price(np.zeros(1), utility.at(np.array([query])), problem.cap)[0])
        if promised <= solution.price:
            return f"it promises at most {promised:.3g} correct answers per token, not above the price {solution.price:.3g}"
        return (
            f"it promises up to {promised:.3g} correct answers per token, above the price {solution.price:.3g}, "
            f"but the tokens left are too few for it"
        )

    return Grant(solution.tokens, solution.price, solution.bound, abandoned=abandoned)


def clear_sequential(problem: Problem, detour: float = 1.0) -> Stages:
    """Serve what has the highest index, token by token, until the budget is used (ours; Gittins-like).

    The index of a query is its chance to end correctly over the tokens that this is expected to use, given that it
    has not ended yet (:mod:`clear_lib.allocation.stages`; ``detour`` as there). The budget only decides when to stop.
    """
    return stages(problem.forecasts, problem.cap, detour)
