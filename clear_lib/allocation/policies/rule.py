"""What every policy is made of: its entry in the registry, its answer, and how a budget is shared and rounded."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.market import ROUNDING
from clear_lib.allocation.optimum import smallest
from clear_lib.allocation.problem import Problem, number
from clear_lib.allocation.stages import Stages
from clear_lib.allocation.utility import SHAPES

#: Up to here floats count tokens one by one; and the largest float that 64 bits hold.
EXACT, LARGEST = 2**53, float(2**63 - 1024)

#: What no policy can know before a query has run: fields of the truth.
HINDSIGHT = ("lengths", "correct")

#: Why a query that the policy serves gets no token.
TOO_SMALL = "its share of the budget is less than a token"


@dataclass(frozen=True, eq=False)
class Grant:
    """A policy's answer before rounding."""

    tokens: Array  #: real-valued, shape (n,), with a sum of at most the budget
    price: float | None = None  #: shadow price, utility per token, where the policy has one
    bound: float | None = None  #: dual bound, utility, where the policy has one
    found: Mapping[str, Any] = field(default_factory=dict)  #: settings that it worked out itself: the decay rate
    abandoned: Callable[[int], str] = lambda query: TOO_SMALL  #: why a query gets nothing, if it is left out


@dataclass(frozen=True)
class Policy:
    """An entry of the registry."""

    name: str  #: in code and in results
    label: str  #: in the paper's tables
    function: Callable[..., Grant | Stages]  #: ``function(problem, **settings)``; Stages if it is sequential
    needs: tuple[str, ...] = ("threshold",)  #: fields of the forecasts, or of the truth (``lengths``, ``correct``)
    kind: str = "cap"  #: one decision before the batch runs, or ``"sequential"``: decides as it runs

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the policy knows, with their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        return {parameter.name: parameter.default for parameter in parameters}

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All settings, the given ones in place of the defaults; ``ValueError`` names one that is wrong or unknown."""
        known = self.settings
        for name in given:
            if name not in known:
                listed = ", ".join(known) or "none"
                raise ValueError(f"unknown setting {name!r} for policy {self.name!r}; known: {listed}")
        return {name: check_setting(name, given.get(name, default), default) for name, default in known.items()}

    def __call__(self, problem: Problem, **settings: Any) -> Grant | Stages:
        """Run the policy on a problem, with checked settings; ``ValueError`` if the problem lacks what it needs."""
        for need in self.needs:
            hindsight = need in HINDSIGHT
            if getattr(problem.truth if hindsight else problem.forecasts, need, None) is None:
                where = "truth=Truth(lengths, correct)" if hindsight else f"Forecasts(threshold, {need}=…)"
                raise ValueError(f"policy {self.name!r} needs the {need} of the queries: {where}")
        return self.function(problem, **settings)


#: Settings that are one of several values, and numbers that must be above 0; others must be at least 0.
CHOICES = {"affine": ("sum", "shift"), "utility": tuple(SHAPES)}
ABOVE_0 = ("velocity", "decay", "epsilon", "stretch", "detour")


def check_setting(name: str, value: Any, default: Any) -> Any:
    """Return a setting's value if it is allowed; ``ValueError`` says what is."""
    if value is None and default is None:
        return None
    if choices := CHOICES.get(name):
        if value not in choices:
            raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
        return value
    if isinstance(default, bool):
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, got {value!r}")
        return bool(value)
    whole = isinstance(default, int)
    return number(name, value, low=1 if whole else 0, above=name in ABOVE_0, whole=whole)


def share(
    budget: float, weights: Array, *, base: Array | float = 0.0, low: float = 0.0, high: float = math.inf
) -> Array:
    """Split a budget as ``base + c·weights``, within ``[low, high]``, with the ``c`` that uses it all.

    Clipping changes the sum, so what it takes or adds is settled with the others until the rule holds for all
    that are within the limits: a cap is reached exactly, and its excess goes to the rest. Uses all of the
    budget if ``n·low <= budget <= n·high``; above, all get ``high``. Without any positive weight the shares
    are equal. All in tokens before rounding, ``weights`` and the result of shape ``(n,)``.
    """
    largest = weights.max(initial=0.0)
    weights = np.maximum(weights / largest, ROUNDING) if largest > 0 else np.ones(weights.size)
    base = np.broadcast_to(np.asarray(base, dtype=float), weights.shape)
    tokens, free, left = np.zeros(weights.size), np.arange(weights.size), float(budget)
    while free.size:
        level = (left - base[free].sum()) / weights[free].sum()
        wanted = base[free] + level * weights[free]
        tokens[free] = np.clip(wanted, low, high)
        # If the clipping adds tokens on balance, the level must fall, so those below the floor stay there;
        # if it takes tokens, those above the cap stay there. Settle them and solve for the rest.
        added = tokens[free] - wanted
        balance = added.sum()
        settled = added > 0 if balance > 0 else added < 0
        if balance == 0 or not settled.any():
            break
        left -= tokens[free[settled]].sum()
        free = free[~settled]
    return tokens


def whole_tokens(tokens: Array, budget: int, cap: float = math.inf) -> NDArray[np.int64]:
    """Round shares to whole tokens by largest remainder, ties by position; the sum is kept, rounded down.

    None gets more than the cap, and the sum is at most the budget, exactly: shares are floats, whose own rounding is
    of many tokens where budgets are astronomical.
    """
    tokens = np.minimum(tokens, min(cap, LARGEST))
    floors = np.floor(tokens)
    total = min(float(tokens.sum()) * (1 + ROUNDING) + 1e-6, budget)
    spare = min(int(math.floor(total) - floors.sum()), tokens.size)
    rounded = floors.astype(np.int64)
    if spare > 0:
        missing = floors - tokens
        first = smallest(missing, np.partition(missing, spare - 1)[spare - 1], spare)
        rounded[first] += (tokens[first] > 0) & (rounded[first] < cap)
    if budget > EXACT and (over := sum(rounded.tolist()) - budget) > 0:
        rounded[np.argmax(rounded)] -= over
    return rounded


def distinct(one: float, other: float) -> tuple[str, str]:
    """Two numbers as text, with as few decimals as tell them apart."""
    for decimals in range(7):
        first, second = f"{one:,.{decimals}f}", f"{other:,.{decimals}f}"
        if first != second:
            break
    return first, second
