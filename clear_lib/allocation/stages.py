"""What a query still promises after it has run for a while: its stages and the price of each.

A cap is decided before a query runs. A query that *has* run for ``u`` tokens and has not ended is another one: its
short solutions are ruled out. The index of an unfinished query is the best it can still offer,

    max over h of (chance that it ends correctly within h more tokens) / (tokens that this is expected to use),

both given that it has not ended yet, after Gittins and Weitzman. Both numbers have the same condition, so its
probability cancels, and the index is the steepest chord of one curve: the chance to have ended correctly under a
cap of ``t`` tokens, against the tokens that a cap of ``t`` is expected to *use*.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clear_lib.allocation.forecasts import Array, Forecasts

#: A spread below this is a length that is known.
LEAST_SPREAD = 1e-3

#: Standard deviations around the median that get a fine grid; up to the cap it is coarse.
FINE = 3.0

#: Queries whose stages are worked out at a time: the work stays in the processor's cache.
BLOCK = 2048


class Stages(NamedTuple):
    """Stage ``j`` of query ``i`` runs from ``ends[i, j - 1]`` (or 0) to ``ends[i, j]``, and is worth its tokens at any
    price up to ``prices[i, j]``."""

    ends: NDArray[np.int64]  #: tokens from the start, not falling along a row, shape ``(n, k)``
    prices: Array  #: correct answers per token, not rising along a row


def estimate_detour(log_median: ArrayLike, lengths: ArrayLike, correct: ArrayLike) -> float:
    """How many times as long as right solutions wrong ones are, given the forecast of the log length.

    The ratio of the medians of length over forecast, wrong to right; 1 if there are not both. Arrays of shape ``(n,)``.
    """
    error, correct = np.log(lengths) - np.asarray(log_median), np.asarray(correct)
    if correct.all() or not correct.any():
        return 1.0
    return float(np.exp(np.median(error[~correct]) - np.median(error[correct])))


class Promise(NamedTuple):
    """What a query may still bring and cost, not given that it gets there; shape ``(n, k + 1)``."""

    tokens: NDArray[np.int64]  #: a grid, the first column 0
    right: Array  #: chance to end correctly after it
    bill: Array  #: tokens that are expected to be used after it and within the grid


def promise(forecasts: Forecasts, cap: float = math.inf, detour: float = 1.0, points: int = 32) -> Promise:
    """Chance of a correct end and expected bill of each query after each token of a grid.

    The logarithm of the length of a correct solution has the forecast's ``log_median`` and ``spread``; a wrong
    one is ``detour`` times as long (by the ratio of medians); and a solution is correct with the chance ``solvable``.
    The grid has ``points`` points besides 0 and ends at the cap (context limit), or without one 8 standard deviations
    above the median.
    """
    from scipy.special import ndtr

    spread = np.maximum(forecasts.spread, LEAST_SPREAD)[:, None]
    center = forecasts.log_median[:, None]
    center = np.where(np.isfinite(center), center, 0.0)  # a threshold of 0 tokens: one token
    near = center + spread * np.linspace(-FINE, FINE, points - points // 3)
    last = np.maximum(math.log(cap), near[:, -1:]) if math.isfinite(cap) else center + 8 * spread
    far = np.linspace(near[:, -1], last[:, 0], points // 3 + 1, axis=1)[:, 1:]
    with np.errstate(over="ignore"):
        grid = np.exp(np.concatenate([near, far], axis=1))
    # Whole tokens, rounded away from the median: a grid that is narrow still has a point on either side of it.
    whole = np.where(grid < np.exp(center), np.ceil(grid) - 1, np.ceil(grid - 1e-6))
    ends = np.clip(whole, 1, min(cap, 2.0**53))
    tokens = np.concatenate([np.zeros_like(center), ends], axis=1)
    late = (np.log(tokens + 0.5) - center) / spread  # half a token: lengths are whole
    late[:, 0] = -math.inf
    chance = forecasts.solvable[:, None]
    right = chance * ndtr(-late)
    running = right + (1 - chance) * ndtr(math.log(detour) / spread - late)
    # Tokens u+1 … v are used by those that still run after u, …, v-1: a sum, by the trapezoidal rule.
    used = (np.diff(tokens) * (running[:, :-1] + running[:, 1:]) + running[:, :-1] - running[:, 1:]) / 2
    used[np.diff(tokens) == 0] = 0.0
    bill = np.zeros_like(tokens)
    bill[:, :-1] = np.cumsum(used[:, ::-1], axis=1)[:, ::-1]  # summed from the end: small rests stay exact
    return Promise(tokens.astype(np.int64), right, bill)


def index(promised: Promise) -> Array:
    """Index of each query at each point of its grid, given that it has come that far, shape ``(n, k)``.

    In correct answers per token; 0 where nothing is left to hope for.
    """
    _, right, bill = promised
    best = np.zeros((right.shape[0], right.shape[1] - 1))
    for k in range(best.shape[1]):
        gain, cost = right[:, k, None] - right[:, k + 1 :], bill[:, k, None] - bill[:, k + 1 :]
        best[:, k] = np.divide(gain, cost, out=np.zeros_like(gain), where=cost > 0).max(axis=1)
    return best


def stages(forecasts: Forecasts, cap: float = math.inf, detour: float = 1.0, points: int = 32) -> Stages:
    """Cut each query into stages with falling prices.

    Whoever always serves the highest index stays with a query while its index is no lower than it was, so what
    counts for a point is the lowest index on the way to it. These are the slopes of the concave hull of the curve.
    Parameters as of :func:`promise`.
    """
    n = forecasts.n
    ends, prices = np.empty((n, points), dtype=np.int64), np.empty((n, points))
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        promised = promise(forecasts.part(part), cap, detour, points)
        ends[part] = promised.tokens[:, 1:]
        prices[part] = np.minimum.accumulate(index(promised), axis=1)
    return Stages(ends, prices)


class Expectation(NamedTuple):
    """What forecasts say of serving every query down to a price."""

    right: float  #: answers
    bill: float  #: tokens
    bound: float  #: more right answers than these no policy with this expected bill has


def expect(forecasts: Forecasts, price: float, cap: float = math.inf, detour: float = 1.0) -> Expectation:
    """Serve every query down to a price, on paper.

    The bound is that of weak duality, ``λ·G + Σ max_t (P_i(t) - λ·G_i(t))`` for an expected bill ``G``, over caps on
    the grid of :func:`promise`. The price is in correct answers per token; other parameters as of :func:`promise`.
    """
    promised = promise(forecasts, cap, detour)
    right, bill = (part[:, :1] - part for part in (promised.right, promised.bill))
    prices = np.minimum.accumulate(index(promised), axis=1)
    query, reach = np.arange(forecasts.n), (prices >= price).sum(axis=1)
    total = float(bill[query, reach].sum())
    bound = price * total + float((right - price * bill).max(axis=1).sum())
    return Expectation(float(right[query, reach].sum()), total, bound)
