"""Serve a batch under a budget: by caps, with refunds, or stage by stage."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.policies import POLICIES, Allocation, divide
from clear_lib.allocation.policies.rule import EXACT, LARGEST
from clear_lib.allocation.problem import Problem
from clear_lib.allocation.stages import Stages
from clear_lib.serving.steppers import Ledger, ReplayStepper, Stepper

#: What may be at most the budget: the tokens granted; the tokens used, all caps scaled by one factor; the tokens
#: used, by the policy's caps for a larger budget.
ACCOUNTINGS = ("caps", "refunds", "overbooked")


@dataclass(frozen=True, eq=False)
class Outcome:
    """A batch that was served.

    Attributes
    ----------
    granted : int64 array of shape (n,)
        Tokens that each query was allowed in the end: its cap.
    used : int64 array of shape (n,)
        Tokens that it used.
    finished : bool array of shape (n,)
        Whether it ended by itself.
    price : float or None
        Of the last tokens that were granted, correct answers per token (``clear-sequential``), or that of the
        policy's market; None where there is none.
    rounds : int
        How often the batch was started or continued.
    policy, accounting : str
    problem : Problem
    plan : Allocation or Stages
        What the policy decided at first.
    """

    granted: NDArray[np.int64]
    used: NDArray[np.int64]
    finished: NDArray[np.bool_]
    price: float | None
    rounds: int
    policy: str
    accounting: str
    problem: Problem
    plan: Allocation | Stages

    @property
    def budget(self) -> int:
        """Tokens to give. At least the sum of ``granted`` (caps) or of ``used`` (refunds)."""
        return self.problem.budget

    def reasons(self) -> list[str | None]:
        """Why each query did not finish, in words; None for one that did."""
        why = _of_stages if isinstance(self.plan, Stages) else _of_caps
        return [None if done else why(self, query) for query, done in enumerate(self.finished.tolist())]


def serve(
    problem: Problem, stepper: Stepper, policy: str = "clear", *, accounting: str = "caps", **settings: Any
) -> Outcome:
    """Serve a batch under a budget.

    With ``accounting="caps"`` the policy's caps are the bill: their sum is at most the budget, and a query that ends
    early returns nothing. With ``"refunds"`` only tokens that are *used* count. A policy of kind ``"cap"`` then starts
    with the same caps, and all of them are scaled up by one factor, as far as the returned tokens reach: the tokens
    used equal the budget at the end. A cap of 0 stays 0 under scaling, and no query runs past the problem's cap. When
    every query with a cap has ended or is at that cap and tokens are left, the policy allocates these anew among
    those that it had granted nothing, and so on. No hindsight is needed: a paused query simply goes on.

    With ``"overbooked"``, too, only tokens that are used count, but the policy decides itself what to do with more:
    it allocates a larger budget than there is, the largest of which no more than the real one will be used
    (:func:`overbook`). That takes hindsight, so it works on a recording only.

    A policy of kind ``"sequential"`` knows only refunds. It serves the stage with the highest price, whichever query
    that belongs to (:mod:`clear_lib.allocation.stages`).

    Parameters
    ----------
    problem : Problem
    stepper : Stepper
        Fresh: no query has run.
    policy : str
        A name in :data:`clear_lib.allocation.policies.POLICIES`.
    accounting : {"caps", "refunds", "overbooked"}
    **settings
        Of the policy.

    Raises
    ------
    ValueError
        As :func:`clear_lib.allocate`; an unknown accounting, or one that does not fit the policy; a stepper
        of another size, or one that lies: it used more than it was granted or less than nothing, finished twice, or
        stopped without finishing. Names the query.

    Examples
    --------
    >>> serve(Problem([100, 250], 300), ReplayStepper([80, 240]), "uniform", accounting="refunds").used
    array([ 80, 220])
    """
    if accounting not in ACCOUNTINGS:
        raise ValueError(f"unknown accounting {accounting!r}; known: {', '.join(ACCOUNTINGS)}")
    if stepper.n != problem.n:
        raise ValueError(f"the stepper has {stepper.n} queries, the forecasts have {problem.n}")
    ledger = Ledger(stepper, problem.budget)
    if policy in POLICIES and POLICIES[policy].kind == "sequential":
        if accounting != "refunds":
            raise ValueError(
                f"policy {policy!r} pays for what it uses; it needs accounting='refunds', not {accounting!r}"
            )
        entry = POLICIES[policy]
        plan = entry(problem, **entry.checked(settings))
        price = _by_price(ledger, plan)
    else:
        booked = overbook(problem, stepper, policy, **settings) if accounting == "overbooked" else problem.budget
        plan = divide(replace(problem, budget=booked), policy, **settings)
        price = plan.price
        if accounting == "refunds":
            _with_refunds(ledger, plan, problem, settings)
        elif plan.active.any():
            ledger.step(np.flatnonzero(plan.active), plan.tokens[plan.active])
    return Outcome(
        ledger.granted, ledger.used, ledger.finished, price, ledger.rounds, policy, accounting, problem, plan
    )


def overbook(problem: Problem, stepper: Stepper, policy: str, **settings: Any) -> int:
    """Find the budget to tell a policy so that the tokens used are the real one, by bisection on a recording.

    As an airline sells more seats than it has. Where more budget can mean fewer tokens used, there may be several
    such budgets; one is found, and it is affordable.

    The result, tokens, is at least the budget, and at most what it takes to let every query run as far as it can.
    ``ValueError`` if the stepper is not a recording.
    """
    if not isinstance(stepper, ReplayStepper):
        raise ValueError(f"overbooking takes hindsight: it needs a ReplayStepper, not a {type(stepper).__name__}")

    def affordable(booked: int) -> bool:
        tokens = divide(replace(problem, budget=booked), policy, **settings).tokens
        return int(np.minimum(tokens, stepper.lengths).sum()) <= problem.budget

    low = problem.budget
    longest = stepper.lengths.max() if problem.cap == math.inf else problem.cap
    most = max(low, stepper.n * int(longest))
    high = min(2 * low + 1, most)
    while low < most and affordable(high):
        low, high = high, min(2 * high, most)
    while high - low > max(1, problem.budget // 256):
        middle = (low + high) // 2
        low, high = (middle, high) if affordable(middle) else (low, middle)
    return low


def _with_refunds(ledger: Ledger, plan: Allocation, problem: Problem, settings: Mapping[str, Any]) -> None:
    """Serve an allocation with refunds, and allocate again among the rest when nobody can use them."""
    rest, caps = np.arange(problem.n), plan.tokens
    while caps.any():
        _by_scale(ledger, caps, problem.cap)
        rest = rest[caps[rest] == 0]
        if not rest.size or ledger.left == 0:
            break
        caps = np.zeros_like(caps)
        caps[rest] = divide(problem.part(rest, ledger.left), plan.policy, **settings).tokens


def _by_price(ledger: Ledger, stages: Stages) -> float | None:
    """Serve stages in the order of their prices until the budget is used; the price of the last one.

    Everything that the budget could pay for even if no query ended early would be served anyway, so it is served at
    once, in one step; what was not used then pays for more. The outcome is that of serving stage by stage.
    """
    n, k = stages.prices.shape
    costs = np.diff(stages.ends, axis=1, prepend=0).ravel()
    order = np.argsort(-stages.prices.ravel(), kind="stable")
    order = order[costs[order] > 0]
    price = None
    while ledger.left > 0 and (order := order[~ledger.ended[order // k]]).size:
        paid = np.cumsum(costs[order[: ledger.left]])  # a stage is a token at least
        count = int(np.searchsorted(paid, ledger.left, side="right"))
        served, order = order[:count], order[count:]
        tokens = np.bincount(served // k, weights=costs[served], minlength=n).astype(np.int64)
        if count == 0:  # the next stage is begun with what is left
            served = order[:1]
            costs[served] -= ledger.left
            tokens[served // k] = ledger.left
        price = float(stages.prices.flat[served[-1]])
        queries = np.flatnonzero(tokens)
        ledger.step(queries, tokens[queries])
    return price


def _by_scale(ledger: Ledger, caps: NDArray[np.int64], limit: float) -> None:
    """Serve caps, and scale them up, all by one factor and up to the limit, until the budget is used.

    As :func:`_by_price`: the factor that the budget could pay for even if no query ended early is served at once.
    """
    while ledger.left > 0:
        alive = np.flatnonzero((caps > 0) & ~ledger.ended & (ledger.used < limit))
        if not alive.size:
            break
        own, used = caps[alive].astype(float), ledger.used[alive]

        def more(scale: float, own: Array = own, used: NDArray[np.int64] = used) -> NDArray[np.int64]:
            wanted = np.minimum(np.floor(own * scale), limit) - used
            return np.clip(wanted, 0, min(ledger.left, LARGEST)).astype(np.int64)

        low, high = 0.0, (ledger.left + used.sum() + 1.0) / own.min()
        while (middle := (low + high) / 2) not in (low, high):
            tokens = more(middle)
            total = sum(tokens.tolist()) if ledger.left > EXACT else tokens.sum(dtype=float)  # exact, both
            low, high = (middle, high) if total <= ledger.left else (low, middle)
        tokens = more(low)
        if not tokens.any():  # fewer tokens are left than queries are next: one each, the first in position
            tokens[np.argsort((used + 1) / own, kind="stable")[: ledger.left]] = 1
        ledger.step(alive[tokens > 0], tokens[tokens > 0])


def _of_stages(outcome: Outcome, query: int) -> str:
    ends, prices = (part[query] for part in outcome.plan)
    tokens = int(outcome.used[query])
    further = int(np.searchsorted(ends, tokens, side="right"))
    begun = f"stopped after {tokens:,} tokens: " if tokens else ""
    if further == ends.size:
        return f"stopped by the cap of {ends[-1]:,} tokens"
    if outcome.price is None:
        return "the budget is 0 tokens"
    if prices[further] == 0:
        return f"{begun}it promises no correct answer"
    return (
        f"{begun}the budget ended before its turn: it promises {prices[further]:.3g} correct answers per token, "
        f"and the budget ended at the price {outcome.price:.3g}"
    )


def _of_caps(outcome: Outcome, query: int) -> str:
    granted, used = int(outcome.granted[query]), int(outcome.used[query])
    if granted == 0:
        reason = outcome.plan.reason(query)
        if outcome.accounting == "caps":
            return reason
        left = outcome.budget - int(outcome.used.sum())
        rest = f"it is granted nothing of the {left:,} tokens left either" if left else "what came back went to others"
        return f"{reason}; {rest}"
    if used >= outcome.problem.cap:
        return f"stopped by the cap of {outcome.problem.cap:,} tokens"
    if outcome.accounting == "caps":
        return f"stopped by its grant of {granted:,} tokens"
    return f"stopped after {used:,} tokens: the budget ended"
