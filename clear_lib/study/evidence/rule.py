"""A rule: how one effect is measured for a claim in a setting, and where the claim is true."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from clear_lib.study.experiments.effects import of_questions

#: Where a rule finds its evidence. In findings the label of each model stands for ``RECORDED``; ``LABORATORY``, which is
#: the label of that model, has what needs a live one.
MATHEMATICS, PRINTED, RECORDED = "mathematics", "the paper's tables", "recorded model"
LABORATORY, REPLICA = "laboratory model", "replica of the 7B model"

#: Why a finding counts for nothing.
BY_CONSTRUCTION, AGREES, SIMULATED = "by construction", "its own numbers", "Uniform is fitted"
CONFOUNDED, OURS = "length is also difficulty", "ours, not the paper's"

#: Units of effects, and the number by which a fraction is multiplied in each.
POINTS, PERCENT, TIMES, TOKENS = "points", "%", "times", "tokens"
SCALE = {POINTS: 100.0, PERCENT: 100.0, TIMES: 1.0, TOKENS: 1.0}

#: Regions in which a claim is true: effects above a mark, near zero, nothing at all, or all of the cells.
Region = tuple[float, float]
ABOVE, NONE, ALL = (0.0, math.inf), (-math.inf, 1e-9), (1 - 1e-9, math.inf)


class Effect(NamedTuple):
    """An effect, its 95% interval and, if it is a mean over cells, the share of these in which it is above zero."""

    effect: float
    low: float
    high: float
    share: float = math.nan


@dataclass(frozen=True)
class Rule:
    """How a claim, or the ``part`` of it, is judged in a setting."""

    claim: str
    setting: str
    measure: Callable[..., Effect]  #: of the table of results, if there is one
    table: str | None = None
    part: str = ""
    unit: str = POINTS
    region: Region = ABOVE  #: where the claim is true
    aside: str = ""  #: why the finding counts for nothing


RULES: list[Rule] = []


def rule(
    claim: str,
    table: str | None = None,
    setting: str = RECORDED,
    parts: Mapping[str, Any] | None = None,
    aside: str | Mapping[str, str] = "",
    **options: Any,
):
    """Register a function as the rule of a claim, once for each of its ``parts``, whose value is its second argument."""

    def register(measure: Callable[..., Effect]) -> Callable[..., Effect]:
        for part, value in (parts or {"": None}).items():
            why = aside if isinstance(aside, str) else aside.get(part, "")
            bound = measure if parts is None else partial(measure, part=value)
            bound = bound if table else cache(bound)  # mathematics does not change
            RULES.append(Rule(claim, setting, bound, table, part, aside=why, **options))
        return measure

    return register


def exact(value: float) -> Effect:
    """An effect without chance in it; NaN where nothing can be measured."""
    return Effect(value, value, value)


def mean_of(values: ArrayLike) -> Effect:
    """Mean of values that are independent of each other, and its interval by resampling them."""
    return Effect(*of_questions(values))
