"""Two readings of the paper's oracle (A.2.6): both know every true length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.policies.rule import Grant
from clear_lib.allocation.problem import Problem


def _pay_in_order(problem: Problem, order: NDArray[np.int64]) -> Grant:
    """Pay true lengths, at most the cap each, in the given order until the next would exceed the budget."""
    cost = np.minimum(problem.truth.lengths, problem.cap)
    paid = order[np.cumsum(cost[order]) <= problem.budget]
    tokens = np.zeros(problem.n)
    tokens[paid] = cost[paid]
    return Grant(tokens)


def oracle(problem: Problem) -> Grant:
    """Pay the shortest *solvable* queries first, each exactly its true length (A.2.6, in its words).

    A query whose solution does not fit the cap is not solvable under it.
    """
    lengths = problem.truth.lengths
    order = np.argsort(lengths, kind="stable")
    solvable = problem.truth.correct & (lengths <= problem.cap)
    return _pay_in_order(problem, order[solvable[order]])


def oracle_paper(problem: Problem) -> Grant:
    """Pay the shortest queries first, solvable or not, each its true length or the cap (A.2.6, its steps; eq. 27)."""
    return _pay_in_order(problem, np.argsort(problem.truth.lengths, kind="stable"))
