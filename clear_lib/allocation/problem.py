"""One allocation problem: what is forecast of a batch, the budget for it, and the cap of a query."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array, Forecasts, part_of, vector

#: Budgets and caps are below it: tokens are counted in 64 bits.
MOST_TOKENS = 2**63


def number(name: str, value: Any, *, low: float = 0, above: bool = False, whole: bool = False) -> Any:
    """Return ``value`` if it is a finite number of at least ``low`` (or above it), and whole if asked."""
    try:
        fine = isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and math.isfinite(value)
    except OverflowError:
        raise ValueError(f"{name} is too large a number") from None
    fine = fine and (value > low if above else value >= low) and (not whole or value == int(value))
    if not fine:
        what = f"a {'whole ' if whole else ''}number {'above' if above else 'of at least'} {low:g}"
        raise ValueError(f"{name} must be {what}, got {value!r}")
    return int(value) if whole else value


@dataclass(frozen=True, eq=False)
class Truth:
    """What only hindsight knows of ``n`` queries; the oracles need it.

    Parameters
    ----------
    lengths : array_like of shape (n,)
        True length of each solution, whole tokens.
    correct : array_like of shape (n,), optional
        Whether it is correct.
    """

    lengths: Array
    correct: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        lengths = vector("lengths", self.lengths, whole=True)
        object.__setattr__(self, "lengths", lengths)
        if self.correct is not None:
            correct = vector("correct", self.correct, n=lengths.size, high=1.0, whole=True)
            object.__setattr__(self, "correct", correct.astype(bool))


@dataclass(frozen=True, eq=False)
class Problem:
    """A batch of ``n`` queries and the tokens for all of them (eq. 2).

    Parameters
    ----------
    forecasts : Forecasts or array_like of shape (n,)
        What is predicted of the queries, or just their thresholds ``τ̂``, tokens.
    budget : int
        Tokens for the whole batch, ``B``.
    cap : int, optional
        Most tokens of one query (context limit); kept as infinity where there is none.
    truth : Truth, optional
        For the oracles.

    Raises
    ------
    ValueError
        If budget or cap is not a whole number (of at least 0 and 1, below 2**63), or forecasts and truth differ in length.

    Examples
    --------
    >>> Problem([100, 250], budget=300).mean_budget
    150.0
    """

    forecasts: Forecasts
    budget: int
    cap: float | None = None
    truth: Truth | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.forecasts, Forecasts):
            object.__setattr__(self, "forecasts", Forecasts(self.forecasts))
        object.__setattr__(self, "budget", number("budget", self.budget, whole=True))
        endless = self.cap is None or self.cap == math.inf
        object.__setattr__(self, "cap", math.inf if endless else number("cap", self.cap, low=1, whole=True))
        for name in ("budget", "cap"):
            if MOST_TOKENS <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be below 2**63 tokens, got {getattr(self, name)}")
        if self.truth is not None and self.truth.lengths.size != self.n:
            raise ValueError(f"lengths has {self.truth.lengths.size} values for {self.n} queries")

    @property
    def n(self) -> int:
        """Number of queries, ``N``."""
        return self.forecasts.n

    @property
    def mean_budget(self) -> float:
        """Tokens per query, ``B̄``."""
        return self.budget / self.n

    def part(self, rows: NDArray, budget: int) -> Self:
        """The problem of some queries (positions or a mask) with a budget of their own."""
        return Problem(self.forecasts.part(rows), budget, self.cap, self.truth and part_of(self.truth, rows))
