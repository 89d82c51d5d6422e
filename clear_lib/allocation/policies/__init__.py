"""The allocation policies of the paper and ours, in one registry, under one call.

:func:`allocate` checks its input, asks a policy for real-valued shares and rounds them to whole tokens. All
numbers are tokens. No policy looks at an engine, and only the oracles see true lengths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.policies import pricing, shares
from clear_lib.allocation.policies.rule import TOO_SMALL, Grant, Policy, share, whole_tokens
from clear_lib.allocation.problem import Problem, Truth

__all__ = ["OF_THE_PAPER", "POLICIES", "Allocation", "Grant", "Policy", "allocate", "divide", "share"]

#: All policies by name. A new one is a line here.
POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("uniform", "Uniform", shares.uniform, needs=()),
        Policy("predictor", "Predictor", shares.predictor),
        Policy("tale-ep", "TALE-EP", shares.tale_ep, needs=("estimate",)),
        Policy("clear-heuristic", "CLEAR (Heuristic)", shares.clear_heuristic),
        Policy("clear-auction", "CLEAR (Auction)", shares.clear_auction),
        Policy("clear", "CLEAR (Lambert)", pricing.clear),
        Policy("clear-exact", "CLEAR (exact)", pricing.clear_exact),
        Policy("clear-lognormal", "CLEAR (log-normal)", pricing.clear_lognormal, needs=("threshold", "spread")),
        Policy(
            "clear-sequential",
            "CLEAR (sequential)",
            pricing.clear_sequential,
            needs=("threshold", "spread", "solvable"),
            kind="sequential",
        ),
        Policy("oracle", "Oracle", shares.oracle, needs=("lengths", "correct")),
        Policy("oracle-paper", "Oracle (paper's steps)", shares.oracle_paper, needs=("lengths",)),
    )
}

#: The policies of the paper's tables, and the second reading of its oracle.
OF_THE_PAPER = tuple("uniform predictor tale-ep clear-heuristic clear-auction clear oracle oracle-paper".split())


@dataclass(frozen=True, eq=False)
class Allocation:
    """What every query of a batch is granted.

    Attributes
    ----------
    tokens : int64 array of shape (n,)
        Tokens granted; the sum is at most ``budget``.
    price : float or None
        Shadow price, utility per token; None where no market was run.
    budget : int
        Tokens to give.
    bound : float or None
        Dual bound: no allocation has more utility. None where there is none.
    policy : str
        Name of the policy.
    settings : mapping
        The settings it ran with, defaults included; ``decay`` is the rate that was used.
    reason : callable
        ``reason(query)``: why the query is granted nothing, by the policy's rule; None if it is granted tokens.
    """

    tokens: NDArray[np.int64]
    price: float | None
    budget: int
    bound: float | None
    policy: str
    settings: Mapping[str, Any]
    reason: Callable[[int], str | None]

    @property
    def active(self) -> NDArray[np.bool_]:
        """Whether each query gets any tokens, shape ``(n,)``."""
        return self.tokens > 0

    @property
    def unspent(self) -> int:
        """Tokens left."""
        return self.budget - int(self.tokens.sum())

    def reasons(self) -> list[str | None]:
        """Why each query is granted nothing, in words; None for a query that is granted tokens."""
        return [self.reason(query) for query in range(self.tokens.size)]


def divide(problem: Problem, policy: str = "clear", **settings: Any) -> Allocation:
    """Solve one :class:`~clear_lib.allocation.problem.Problem`; otherwise as :func:`allocate`."""
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
    entry = POLICIES[policy]
    if entry.kind != "cap":
        how = "serve it step by step with clear_lib.serving.serve"
        raise ValueError(f"policy {policy!r} is of kind {entry.kind!r}: {how}")
    checked = entry.checked(settings)
    grant = entry(problem, **checked)
    tokens = whole_tokens(grant.tokens, problem.budget, problem.cap)
    tokens.setflags(write=False)

    def reason(query: int) -> str | None:
        if tokens[query]:
            return None
        if problem.budget == 0:
            return "the budget is 0 tokens"
        return TOO_SMALL if grant.tokens[query] > 0 else grant.abandoned(query)

    return Allocation(tokens, grant.price, problem.budget, grant.bound, policy, checked | grant.found, reason)


def allocate(
    forecasts: Forecasts | Any,
    budget: int,
    policy: str = "clear",
    *,
    cap: int | None = None,
    truth: Truth | None = None,
    **settings: Any,
) -> Allocation:
    """Split a budget of tokens over the queries of a batch.

    Parameters
    ----------
    forecasts, budget, cap, truth
        The :class:`~clear_lib.allocation.problem.Problem`: forecasts or just thresholds ``τ̂``, tokens for the whole
        batch, most tokens of one query, and what only the oracles know.
    policy : str
        A name in :data:`POLICIES`.
    **settings
        Settings of the policy; ``POLICIES[policy].settings`` lists them with their defaults.

    Returns
    -------
    Allocation
        Whole tokens for each query, with a sum of at most ``budget``.

    Raises
    ------
    ValueError
        If a value is NaN, infinite, negative or not a number (with its position), an array is empty or not
        one-dimensional, the budget is not a whole number of at least 0, or the policy, a setting or its value
        is unknown (with the known ones).

    Examples
    --------
    >>> import clear_lib
    >>> clear_lib.allocate([100, 200, 4000], budget=500).tokens
    array([132, 231,   0])
    """
    return divide(Problem(forecasts, budget, cap, truth), policy, **settings)
