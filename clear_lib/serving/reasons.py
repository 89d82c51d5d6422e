"""Why a query was abandoned or stopped, in words: the rule of its policy, with the numbers that decided.

Nothing is decided here. A sentence is made of the forecasts, the allocation and its price, and of the closed forms
in :mod:`clear_lib.allocation.market`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.market import abandonment_line, demand, exit_price
from clear_lib.allocation.policies import SHAPES, Allocation
from clear_lib.allocation.stages import Stages
from clear_lib.allocation.utility import LogNormal, Surge
from clear_lib.serving.batch import Outcome

#: What is true of whoever got no token though the policy did not leave it out.
SHARE = "its share of the budget is less than a token"


def _apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as few decimals as tell them apart."""
    for decimals in range(7):
        first, second = f"{one:,.{decimals}f}", f"{other:,.{decimals}f}"
        if first != second:
            break
    return first, second


def abandoned(forecasts: Forecasts, allocation: Allocation, cap: int | None = None) -> list[str | None]:
    """Why each query is granted nothing.

    Parameters
    ----------
    forecasts : Forecasts
        As :func:`clear_lib.allocation.policies.allocate` had them.
    allocation : Allocation
        What it made of them.
    cap : int, optional
        The cap that it was given, tokens.

    Returns
    -------
    list of str or None, length n
        None for a query that is granted tokens.
    """
    why = {
        "clear": _by_line,
        "clear-exact": _by_rank,
        "clear-lognormal": _by_chance,
        "clear-heuristic": _by_median,
        "clear-auction": _by_sum,
    }.get(allocation.policy)
    without = np.flatnonzero(~allocation.active)
    reasons: list[str | None] = [None] * forecasts.n
    if not without.size:
        return reasons
    if allocation.budget == 0:
        found = ["the budget is 0 tokens"] * without.size
    elif why is None:
        found = [SHARE] * without.size
    else:
        found = why(forecasts, allocation, math.inf if cap is None else cap, without)
    for query, reason in zip(without, found, strict=True):
        reasons[query] = reason
    return reasons


def _curve(allocation: Allocation) -> Surge:
    """The utility that a market priced."""
    settings = allocation.settings
    return SHAPES[settings["utility"]](Surge(settings["velocity"], settings["decay"]))


def _past_cap(threshold: float, cap: float) -> str:
    return "its threshold {} is not below the cap of {} tokens".format(*_apart(threshold, cap))


def _by_line(forecasts: Forecasts, allocation: Allocation, cap: float, without: NDArray[np.int64]) -> list[str]:
    """Of ``clear``: the threshold against the abandonment line, or what the cap leaves of the query."""
    if allocation.price is None:  # the fallback
        return [SHARE] * without.size
    price, curve, threshold = allocation.price, _curve(allocation), forecasts.threshold[without]
    line = float(abandonment_line(price, curve))
    asked, worth = demand(price, threshold, curve, cap), exit_price(threshold, curve, cap)
    found = []
    for own, tokens, most in zip(threshold, asked, worth, strict=True):
        if tokens > 0:
            found.append(SHARE)
        elif own >= cap:
            found.append(_past_cap(own, cap))
        elif own < line:
            found.append(
                f"within the cap of {cap:,} tokens it is worth at most {most:.3g} per token, "
                f"less than the price {price:.3g}"
            )
        elif math.isclose(own, line, rel_tol=1e-6):
            found.append(
                f"its threshold {own:,.1f} is at the abandonment line of the price {price:.3g}, where demand jumps "
                f"past the budget"
            )
        else:
            found.append(
                "its threshold {} is above the abandonment line {} at price {:.3g}".format(*_apart(own, line), price)
            )
    return found


def _by_rank(forecasts: Forecasts, allocation: Allocation, cap: float, without: NDArray[np.int64]) -> list[str]:
    """Of ``clear-exact``: it serves the smallest thresholds, and nobody if none is below the budget."""
    threshold, served = forecasts.threshold, allocation.active
    last = float(threshold[served].max()) if served.any() else -math.inf
    found = []
    for own in threshold[without]:
        if own >= cap:
            found.append(_past_cap(own, cap))
        elif own < 1 and allocation.budget < forecasts.n:
            found.append(SHARE)
        elif not served.any():
            found.append(
                "no threshold is below the budget of {1} tokens, and its own is {0}".format(
                    *_apart(own, allocation.budget)
                )
            )
        elif own >= last:
            found.append(
                f"the optimum serves the {int(served.sum()):,} smallest thresholds, up to {last:,.1f}, "
                f"and its own is {own:,.1f}"
            )
        else:
            found.append(f"within the cap of {cap:,} tokens others bring more: the price is {allocation.price:.3g}")
    return found


def _by_chance(forecasts: Forecasts, allocation: Allocation, cap: float, without: NDArray[np.int64]) -> list[str]:
    """Of ``clear-lognormal``: its best chance per token against the price."""
    chance = np.ones(forecasts.n)
    if allocation.settings["use_solvable"]:
        chance = forecasts.solvable
    rows = forecasts.part(without)
    utility = LogNormal(np.maximum(rows.log_median, 0.0), rows.spread, chance[without])
    most = exit_price(np.zeros(without.size), utility, cap)
    found = []
    for own, promised in zip(chance[without], most, strict=True):
        if own == 0:
            found.append("its chance of a correct answer is 0")
        elif promised <= allocation.price:
            found.append(
                f"it promises at most {promised:.3g} correct answers per token, "
                f"not above the price {allocation.price:.3g}"
            )
        else:
            found.append(
                f"it promises up to {promised:.3g} correct answers per token, above the price "
                f"{allocation.price:.3g}, but the tokens left are too few for it"
            )
    return found


def _by_median(forecasts: Forecasts, allocation: Allocation, cap: float, without: NDArray[np.int64]) -> list[str]:
    """Of ``clear-heuristic``: above the median of a batch whose budget is scarce."""
    threshold, kappa = forecasts.threshold, allocation.settings["kappa"]
    median, total = float(np.median(threshold)), float(threshold.sum())
    scarce = allocation.budget < kappa * total
    return [
        "its threshold {} is above the median {} and the budget is scarce: {:,} tokens for thresholds that sum to "
        "{:,.0f}".format(*_apart(own, median), allocation.budget, total)
        if scarce and own > median
        else SHARE
        for own in threshold[without]
    ]


def _by_sum(forecasts: Forecasts, allocation: Allocation, cap: float, without: NDArray[np.int64]) -> list[str]:
    """Of ``clear-auction``: the thresholds up to its own do not fit the budget."""
    order = np.argsort(forecasts.threshold, kind="stable")
    sums = np.empty(forecasts.n)
    sums[order] = np.cumsum(forecasts.threshold[order])
    return [
        "the thresholds up to its own {0:,.0f} sum to {1}, more than the budget of {2} tokens".format(
            forecasts.threshold[query], *_apart(sums[query], allocation.budget)
        )
        if sums[query] > allocation.budget
        else SHARE
        for query in without
    ]


def stopped(stages: Stages, outcome: Outcome) -> list[str | None]:
    """Why a sequential policy did not serve each query, or not to its end.

    Parameters
    ----------
    stages : Stages
        What it served.
    outcome : Outcome

    Returns
    -------
    list of str or None, length n
        None for a query that has finished.
    """
    reasons: list[str | None] = []
    for ends, prices, tokens, done in zip(*stages, outcome.used, outcome.finished, strict=True):
        further = int(np.searchsorted(ends, tokens, side="right"))
        begun = f"stopped after {tokens:,} tokens: " if tokens else ""
        if done:
            reasons.append(None)
        elif further == ends.size:
            reasons.append(f"stopped by the cap of {ends[-1]:,} tokens")
        elif outcome.price is None:
            reasons.append("the budget is 0 tokens")
        elif prices[further] == 0:
            reasons.append(f"{begun}it promises no correct answer")
        else:
            reasons.append(
                f"{begun}the budget ended before its turn: it promises {prices[further]:.3g} correct answers "
                f"per token, and the budget ended at the price {outcome.price:.3g}"
            )
    return reasons


def unfinished(reasons: list[str | None], outcome: Outcome, cap: int) -> list[str | None]:
    """Why each query of a batch that was served by caps has been abandoned in the end, or stopped.

    Parameters
    ----------
    reasons : list of str or None, length n
        Of :func:`abandoned`, for the allocation that the outcome began with.
    outcome : Outcome
    cap : int
        Most tokens of a query.

    Returns
    -------
    list of str or None, length n
        None for a query that has finished.
    """
    left = outcome.budget - int(outcome.used.sum())
    rest = "what came back went to others" if left == 0 else f"it is granted nothing of the {left:,} tokens left either"

    def why(reason: str | None, granted: int, used: int, finished: bool) -> str | None:
        if finished:
            return None
        if granted == 0:
            return reason if outcome.accounting == "caps" else f"{reason}; {rest}"
        if used >= cap:
            return f"stopped by the cap of {cap:,} tokens"
        if outcome.accounting == "caps":
            return f"stopped by its grant of {granted:,} tokens"
        return f"stopped after {used:,} tokens: the budget ended"

    return list(map(why, reasons, outcome.granted.tolist(), outcome.used.tolist(), outcome.finished.tolist()))
