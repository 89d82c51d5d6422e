"""Queries that arrive over time: the price as a controller.

A batch has one price because all queries are known when it starts. Where they come one after the other, each is
served at the price of the moment, and the price follows what is used: above plan it rises, below plan it falls.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.policies import POLICIES
from clear_lib.allocation.problem import Problem, number
from clear_lib.serving.steppers import Ledger, Stepper

#: A single query counts for at most so many times what was planned above the plan: the price must survive the last.
MOST = 5.0


class Served(NamedTuple):
    """Queries that were served as they came, all of shape ``(n,)``."""

    granted: NDArray[np.int64]
    used: NDArray[np.int64]
    finished: NDArray[np.bool_]
    price: Array  #: at which each was served, correct answers per token


def serve_online(
    problem: Problem, stepper: Stepper, *, price: float, rate: float = 0.05, detour: float = 1.0
) -> Served:
    """Serve queries in their order, each as far as it is worth the price when it arrives.

    A query goes through its stages (:mod:`clear_lib.allocation.stages`; ``detour`` as there) down to the price, or ends
    before. The plan is to use the tokens that are left evenly over the queries that are to come; the logarithm of the
    price moves by ``rate`` times what was used too much, as a fraction of that (mirror descent on the dual). Of each
    query only its own forecast is looked at when it arrives, and it never gets more than is left.

    Parameters
    ----------
    price : float
        To begin with, correct answers per token: of a former batch, say.
    rate : float
        How quickly the price reacts; 0 leaves it as it is.

    Raises
    ------
    ValueError
        As :func:`clear_lib.serving.serve`; a price that is not above 0, a negative rate.
    """
    number("price", price, above=True)
    number("rate", rate)
    ends, prices = POLICIES["clear-sequential"](problem, detour=detour)
    ledger = Ledger(stepper, problem.budget)
    n, offered = problem.n, np.empty(problem.n)
    for query in range(n):
        offered[query] = price
        worth = int(np.count_nonzero(prices[query] >= price))
        plan = ledger.left / (n - query)
        granted = min(int(ends[query, worth - 1]) if worth else 0, ledger.left)
        if granted:
            ledger.step(np.array([query]), np.array([granted]))
        if plan > 0:
            price *= math.exp(rate * min(ledger.used[query] / plan - 1, MOST))
    return Served(ledger.granted, ledger.used, ledger.finished, offered)


def fair_share(budget: int, stepper: Stepper) -> Served:
    """The rule without a price: each query may use the tokens left over the queries left, itself included."""
    ledger, n = Ledger(stepper, budget), stepper.n
    for query in range(n):
        if granted := ledger.left // (n - query):
            ledger.step(np.array([query]), np.array([granted]))
    return Served(ledger.granted, ledger.used, ledger.finished, np.full(n, np.nan))
