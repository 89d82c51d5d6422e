"""Why each query of a batch that was served has been abandoned or stopped, in words."""

from __future__ import annotations

import numpy as np

from clear_lib.allocation.stages import Stages
from clear_lib.serving.batch import Outcome


def reasons(outcome: Outcome) -> list[str | None]:
    """Say for each query of a batch why it did not finish; None for one that did."""
    why = _of_stages if isinstance(outcome.plan, Stages) else _of_caps
    return [None if done else why(outcome, query) for query, done in enumerate(outcome.finished.tolist())]


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
