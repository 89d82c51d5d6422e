"""What is known of a query before it is answered."""

from copy import copy
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Record = TypeVar("Record")


def part_of(record: Record, rows: Any) -> Record:
    """A copy of a dataclass with some rows of its arrays only: ``rows`` is a slice, positions or a mask."""
    some = copy(record)
    for name, values in vars(record).items():
        if np.ndim(values):
            object.__setattr__(some, name, np.asarray(values)[rows])
    return some


def vector(name: str, values: Any, *, n: int | None = None, high: float = np.inf, whole: bool = False) -> Array:
    """``values`` as a read-only float64 array of shape ``(n,)``; ``ValueError`` says what is wrong, and where.

    They must be numbers from 0 to ``high``, ``n`` of them if that is given and one at least, and ``whole`` if asked.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be one-dimensional numbers: {error}") from None
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty: give one value per query")
    if array.dtype.kind not in "biuf":
        for position, item in enumerate(np.asarray(values, dtype=object)):
            if not isinstance(item, Real):
                raise ValueError(f"{name}[{position}] is not a number: {item!r}")
    try:
        array = array.astype(np.float64)  # a copy: later changes of the caller's array do not reach us
    except OverflowError:
        raise ValueError(f"{name} holds a whole number that is too large for a float") from None
    bad = {
        "is NaN": np.isnan(array),
        "is infinite": np.isinf(array),
        "is negative": array < 0,
        f"is above {high:g}": array > high,
    }
    if whole:
        bad["is not a whole number"] = array != np.floor(array)
    for what, where in bad.items():
        if where.any():
            position = int(np.argmax(where))
            raise ValueError(f"{name}[{position}] {what}: {float(array[position])!r}")
    if n is not None and array.size != n:
        raise ValueError(f"{name} has {array.size} values for {n} queries")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Forecasts:
    """What is predicted of ``n`` queries (eq. 15).

    Parameters
    ----------
    threshold : array_like of shape (n,)
        Predicted emergence threshold ``τ̂``, tokens.
    spread : array_like of shape (n,), optional
        Standard deviation of the logarithm of the length.
    solvable : array_like of shape (n,), optional
        Probability that the model can solve the query at all.
    log_median : array_like of shape (n,), optional
        Median of the logarithm of the length, log tokens; ``log(threshold)`` if omitted.
    estimate : array_like of shape (n,), optional
        A teacher's estimate ``r`` of the tokens needed (TALE-EP, eq. 21).

    Raises
    ------
    ValueError
        If a value is NaN, infinite, negative or not a number, if an array is empty or not one-dimensional, if
        two arrays differ in length, or a probability is above 1.

    Examples
    --------
    >>> Forecasts([100, 250], solvable=[0.9, 0.5]).n
    2
    """

    threshold: Array
    spread: Array | None = None
    solvable: Array | None = None
    log_median: Array | None = None
    estimate: Array | None = None

    def __post_init__(self) -> None:
        threshold = vector("thresholds", self.threshold)
        object.__setattr__(self, "threshold", threshold)
        with np.errstate(divide="ignore"):
            derived = np.log(threshold)
        derived.setflags(write=False)
        if self.log_median is None or np.array_equal(self.log_median, derived):
            object.__setattr__(self, "log_median", derived)
        for name, given in vars(self).items():
            if given is not None and given is not threshold and given is not derived:
                high = 1.0 if name == "solvable" else np.inf
                object.__setattr__(self, name, vector(name, given, n=threshold.size, high=high))

    @property
    def n(self) -> int:
        """Number of queries."""
        return self.threshold.size

    def part(self, rows: Any) -> Self:
        """The forecasts of some queries: ``rows`` is a slice, positions or a mask."""
        return part_of(self, rows)
