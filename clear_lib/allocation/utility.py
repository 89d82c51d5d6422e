"""How much a query is worth after a number of tokens: value, marginal and best response to a price.

A utility here is a function of the *surge* ``s = t - τ``, the tokens past the emergence threshold. Whether a
query is served at all depends on its threshold too, and is decided in :mod:`clear_lib.allocation.market`, which asks
no more of a utility than what :class:`Utility` lists. Parameters are numbers, shared by all queries, or arrays of
shape ``(n,)``; one out of its range is a ``ValueError``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.forecasts import Array, part_of

#: A log-normal spread below this counts as this: a millionth of a length is less than a token.
LEAST_SPREAD = 1e-6

#: Logarithm of ``√(2π)``.
LOG_ROOT = math.log(2 * math.pi) / 2


def _check(name: str, value: Any, fine: NDArray[np.bool_], what: str) -> None:
    if not np.all(fine):
        raise ValueError(f"{name} must be {what}, got {value!r}")


def _price(price: float | Array) -> Array:
    price = np.asarray(price, dtype=float)
    _check("a price", price, price >= 0, "at least 0")
    return price


class Utility(ABC):
    """What the market needs to know of a utility; :class:`Surge` and the others say it."""

    peak: float | Array  #: surge with the most value, tokens
    steepest: float | Array  #: largest marginal, utility per token: from this price on nobody asks for anything
    concave: ClassVar[bool] = True  #: whether the marginal falls (or stays) all the way from the threshold to the peak

    def __post_init__(self) -> None:
        for field in fields(self):
            value = np.asarray(given := getattr(self, field.name), dtype=float)
            _check(field.name, given, np.isfinite(value) & (value > 0), "positive and finite")

    @abstractmethod
    def value(self, surge: float | Array) -> Array:
        """Utility of ``surge`` tokens past the threshold; 0 before it."""

    @abstractmethod
    def marginal(self, surge: float | Array) -> Array:
        """Utility per token of one more token at ``surge``; 0 before the threshold."""

    @abstractmethod
    def best_response(self, price: float | Array) -> Array:
        """Surge with the most value after paying for it; ``ValueError`` if a price is negative or NaN."""

    @abstractmethod
    def least_surge(self, threshold: float | Array) -> Array:
        """Surge with the most value per token, the ``threshold`` tokens before it included.

        A line through zero tokens with the slope of a price just touches the curve there: at a higher price the
        query is abandoned, at a lower one it has a larger surge.
        """

    @property
    def shared(self) -> bool:
        """Whether all queries have the same parameters."""
        return not any(np.ndim(parameter) for parameter in vars(self).values())

    def at(self, queries: NDArray[np.int64] | slice) -> Self:
        """The utility of some of the queries."""
        return part_of(self, queries)


@dataclass(frozen=True, eq=False)
class Surge(Utility):
    """The paper's shifted surge ``U = v0·s·exp(-β·s)`` for ``s > 0``, else 0 (eq. 1).

    Parameters
    ----------
    velocity : float or array of shape (n,)
        Initial velocity ``v0`` in utility per token, positive.
    decay : float or array of shape (n,)
        Decay rate ``β`` in 1/token, positive.

    Examples
    --------
    >>> Surge(velocity=1.0, decay=0.01).peak
    100.0
    """

    velocity: float | Array
    decay: float | Array

    @property
    def peak(self) -> float | Array:
        """``1/β`` tokens."""
        return 1.0 / self.decay

    @property
    def steepest(self) -> float | Array:
        return self.velocity

    def value(self, surge: float | Array) -> Array:
        surge = np.maximum(surge, 0.0)
        return self.velocity * surge * np.exp(-self.decay * surge)

    def marginal(self, surge: float | Array) -> Array:
        """Left side of eq. 4."""
        late = np.maximum(surge, 0.0)
        return (np.asarray(surge) >= 0) * self.velocity * (1 - self.decay * late) * np.exp(-self.decay * late)

    def best_response(self, price: float | Array) -> Array:
        """Surge at which the marginal equals ``price``: ``(1 - W0(e·λ/v0))/β`` (eqs. 5 and 12).

        Computed from the logarithm of the price, since ``W0(exp(x))`` is the Wright omega function of ``x``: the
        smallest prices lose nothing, and no complex number is involved.
        """
        from scipy.special import wrightomega  # here: most of the time that importing the library would take

        with np.errstate(divide="ignore"):
            w = wrightomega(1.0 + np.log(_price(price) / self.velocity))
        return np.maximum(1.0 - w, 0.0) / self.decay

    def least_surge(self, threshold: float | Array) -> Array:
        """Positive root of ``(βs)² = βτ·(1 - βs)``, the surge on the abandonment line (derived)."""
        with np.errstate(divide="ignore"):
            return 2.0 / self.decay / (1.0 + np.sqrt(1.0 + 4.0 / (self.decay * np.asarray(threshold, dtype=float))))


@dataclass(frozen=True, eq=False)
class Triangular(Utility):
    """A tent (eq. 17): rises in a line to ``height`` at ``peak``, falls in a line to 0 at ``support``.

    Parameters
    ----------
    height : float or array of shape (n,)
        Largest utility, ``U_max``.
    peak, support : float or array of shape (n,)
        ``s_p`` and ``S > s_p``, tokens past the threshold.
    """

    height: float | Array
    peak: float | Array
    support: float | Array

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("support", self.support, np.asarray(self.support) > self.peak, f"above peak {self.peak!r}")

    @classmethod
    def like(cls, surge: Surge) -> Self:
        """The tent with the peak of a surge, over twice its width. The paper's constants are open; these are ours."""
        return cls(surge.value(surge.peak), surge.peak, 2.0 * surge.peak)

    @property
    def steepest(self) -> float | Array:
        return self.height / self.peak

    def value(self, surge: float | Array) -> Array:
        surge = np.asarray(surge, dtype=float)
        fall = (self.support - surge) / (self.support - self.peak)
        return self.height * np.clip(np.minimum(surge / self.peak, fall), 0.0, None)

    def marginal(self, surge: float | Array) -> Array:
        surge = np.asarray(surge)
        inside = (surge >= 0) & (surge < self.support)
        return np.where(surge < self.peak, self.steepest, -self.height / (self.support - self.peak)) * inside

    def best_response(self, price: float | Array) -> Array:
        """The peak below the slope of the rise, 0 from there on: eq. 3 has no interior solution here."""
        return np.where(_price(price) < self.steepest, self.peak, 0.0)

    def least_surge(self, threshold: float | Array) -> Array:
        return self.peak + 0.0 * np.asarray(threshold, dtype=float)


@dataclass(frozen=True, eq=False)
class Quadratic(Utility):
    """A parabola (eq. 18): ``4·U_max·s·(S - s)/S²`` on ``[0, S]``, else 0.

    Parameters
    ----------
    height : float or array of shape (n,)
        Largest utility, ``U_max``.
    support : float or array of shape (n,)
        ``S``, tokens past the threshold.
    """

    height: float | Array
    support: float | Array

    @classmethod
    def like(cls, surge: Surge) -> Self:
        """The parabola with the peak of a surge. The paper's constants are open; these are ours."""
        return cls(surge.value(surge.peak), 2.0 * surge.peak)

    @property
    def peak(self) -> float | Array:
        return self.support / 2.0

    @property
    def steepest(self) -> float | Array:
        return 4.0 * self.height / self.support

    def value(self, surge: float | Array) -> Array:
        part = np.clip(np.asarray(surge, dtype=float) / self.support, 0.0, 1.0)
        return 4.0 * self.height * part * (1.0 - part)

    def marginal(self, surge: float | Array) -> Array:
        surge = np.asarray(surge)
        inside = (surge >= 0) & (surge <= self.support)
        return self.steepest * (1.0 - surge / self.peak) * inside

    def best_response(self, price: float | Array) -> Array:
        """Surge at which the marginal equals ``price``: ``S/2·(1 - λS/(4·U_max))``, at least 0."""
        return self.peak * np.maximum(1.0 - _price(price) / self.steepest, 0.0)

    def least_surge(self, threshold: float | Array) -> Array:
        """``√(τ(τ+S)) - τ``, where the line through zero tokens touches the parabola (derived)."""
        with np.errstate(divide="ignore"):
            return self.support / (1.0 + np.sqrt(1.0 + self.support / np.asarray(threshold, dtype=float)))


#: Utilities with the peak of a surge, by name.
SHAPES: dict[str, Callable[[Surge], Utility]] = {
    "surge": lambda surge: surge,
    "triangular": Triangular.like,
    "quadratic": Quadratic.like,
}


@dataclass(frozen=True, eq=False)
class LogNormal(Utility):
    """Chance of a correct answer within ``t`` tokens: ``p·Φ((log t - μ)/σ)``. Ours, not the paper's.

    If the logarithm of the length of a correct solution is normal with mean ``μ`` and standard deviation ``σ``,
    and the query is solvable with probability ``p``, the sum of these utilities is the expected number of solved
    queries. There is no threshold: tokens count from the start, ``τ = 0`` and ``s = t``.

    Parameters
    ----------
    log_median : float or array of shape (n,)
        ``μ``, log tokens, finite.
    spread : float or array of shape (n,)
        ``σ``, at least 0 and finite; below :data:`LEAST_SPREAD` it counts as that.
    solvable : float or array of shape (n,)
        ``p``, between 0 and 1.
    """

    concave: ClassVar[bool] = False
    peak: ClassVar[float] = math.inf  #: more tokens never hurt

    log_median: float | Array
    spread: float | Array
    solvable: float | Array = 1.0

    def __post_init__(self) -> None:
        spread, solvable = np.asarray(self.spread, dtype=float), np.asarray(self.solvable, dtype=float)
        _check("log_median", self.log_median, np.isfinite(self.log_median), "finite")
        _check("spread", self.spread, np.isfinite(spread) & (spread >= 0), "finite and at least 0")
        _check("solvable", self.solvable, (solvable >= 0) & (solvable <= 1), "between 0 and 1")
        object.__setattr__(self, "spread", np.maximum(spread, LEAST_SPREAD))

    @property
    def _log_density(self) -> Array:
        """Logarithm of ``p/(σ√(2π))``."""
        with np.errstate(divide="ignore"):
            return np.log(self.solvable) - np.log(self.spread) - LOG_ROOT

    @property
    def steepest(self) -> float | Array:
        """The marginal at its mode ``exp(μ - σ²)``."""
        return np.exp(self._log_density - self.log_median + np.square(self.spread) / 2)

    def value(self, surge: float | Array) -> Array:
        from scipy.special import ndtr

        with np.errstate(divide="ignore"):
            return self.solvable * ndtr((np.log(np.maximum(surge, 0.0)) - self.log_median) / self.spread)

    def marginal(self, surge: float | Array) -> Array:
        """Chance per token that the next token completes a correct answer."""
        late = np.log(np.maximum(surge, np.finfo(float).tiny))
        return np.exp(self._log_density - late - np.square((late - self.log_median) / self.spread) / 2)

    def best_response(self, price: float | Array) -> Array:
        """``exp(y)`` with the larger root ``y`` of ``log U'(exp(y)) = log λ``, a quadratic (derived).

        ``y = μ - σ² + σ·√(σ² - 2μ - 2·log(λσ√(2π)/p))``. The smaller root is a minimum of the surplus. Without a
        real root the marginal is nowhere above the price, and the response is 0. Infinite at price 0.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            height = self._log_density - np.log(_price(price))
            root = np.square(self.spread) + 2.0 * (height - self.log_median)
            asked = np.exp(self.log_median - np.square(self.spread) + self.spread * np.sqrt(root))
        return np.where((root >= 0) & (np.asarray(self.solvable) > 0), asked, 0.0)

    def least_surge(self, threshold: float | Array) -> Array:
        """``exp(μ + σz)`` where ``φ(z) = σ·Φ(z)``: the most chance per token; thresholds must be 0."""
        if np.any(threshold):
            raise ValueError("a log-normal utility counts tokens from the start: all its thresholds must be 0")
        from scipy.special import log_ndtr

        # Newton on log φ - log Φ - log σ, which is concave and falls: from the second step on it comes down to
        # the root from above.
        target = np.log(self.spread)
        z = np.sqrt(np.maximum(-2.0 * (target + LOG_ROOT), 0.0))
        for _ in range(40):
            ratio = -np.square(z) / 2 - LOG_ROOT - log_ndtr(z)
            step = (ratio - target) / (z + np.exp(ratio))
            z = z + step
            if np.max(np.abs(step)) < 1e-12:
                break
        return np.exp(self.log_median + self.spread * z) + 0.0 * np.asarray(threshold, dtype=float)
