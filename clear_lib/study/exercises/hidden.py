"""Hidden cases: what a reader's function is tried on, and what the library or a line of NumPy says to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm, spearmanr

from clear_lib import allocate
from clear_lib.allocation import market
from clear_lib.allocation.optimum import solve_shared
from clear_lib.allocation.utility import LogNormal, Quadratic, Surge, Triangular
from clear_lib.study.evidence import audit, replica
from clear_lib.study.recordings.plan import CARDS, EFFICIENCY

#: Arguments of a call, and its result.
Cases = Iterator[tuple[tuple, Any]]

#: What is wrong with an answer, None if nothing is; by exercise.
JUDGES: dict[str, Callable[[Any], str | None]] = {}


def tried_on(name: str, tolerance: float = 1e-6) -> Callable:
    """Judge the function that is the answer to an exercise by these cases."""

    def register(cases: Callable[[np.random.Generator], Cases]) -> Callable:
        JUDGES[name] = lambda answer: _compared(answer, list(cases(np.random.default_rng(0))), tolerance)
        return cases

    return register


def judged(name: str) -> Callable:
    """Judge the answer to an exercise by a rule of its own."""
    return lambda rule: JUDGES.setdefault(name, rule)


def _compared(answer: Any, cases: list[tuple[tuple, Any]], tolerance: float) -> str | None:
    if not callable(answer):
        return "This exercise asks for a function: give its name, without calling it."
    right, first = 0, None
    for arguments, expected in cases:
        found = np.asarray(answer(*deepcopy(arguments)), dtype=float)
        expected = np.asarray(expected, dtype=float)
        if found.shape == expected.shape and np.allclose(found, expected, rtol=tolerance, atol=tolerance):
            right += 1
        else:
            first = first or f"{', '.join(map(_shown, arguments))}, it returns {_shown(found)}"
    return first and f"{right} of {len(cases)} hidden cases come out right. Given {first}."


def _shown(value: Any) -> str:
    return np.array2string(value, precision=3, threshold=8) if isinstance(value, np.ndarray) else repr(value)


def _batches(random: np.random.Generator, low: float, high: float) -> Iterator[tuple[np.ndarray, int]]:
    """Thresholds, and budgets from ``low`` to ``high`` times their sum."""
    for n in (3, 4, 5, 20, 20, 100):
        taus = np.round(random.lognormal(5, 0.8, n), 1)
        yield taus, round(random.uniform(low, high) * taus.sum())


@tried_on("auction-admits")
def admitted(random: np.random.Generator) -> Cases:
    for taus, budget in _batches(random, 0.2, 0.9):
        yield (taus, budget), allocate(taus, budget, "clear-auction").active


@tried_on("solved-by-cap")
def solved_by_cap(random: np.random.Generator) -> Cases:
    for n in (4, 50):
        lengths, correct, caps = random.integers(10, 99, n), random.random(n) < 0.6, np.array([0, 30, 60, 99])
        yield (lengths, correct, caps), ((lengths <= caps[:, None]) & correct).mean(axis=1)


@judged("simpson")
def paradox(rows: Any) -> str | None:
    question, length, right = map(np.asarray, zip(*rows, strict=True))
    if len(set(question)) != 2:
        return f"There should be two questions, and there are {len(set(question))}."

    def gain(part: np.ndarray) -> float:
        long = length[part] > np.median(length[part])
        return right[part][long].mean() - right[part][~long].mean()

    if not all(gain(question == name) > 0 for name in set(question)):
        return "Within a question the longer half should be right more often than the shorter half."
    return None if gain(np.full(len(length), True)) < 0 else "Pooled, the longer half is not right less often."


@tried_on("parabola")
def asked_of_a_parabola(random: np.random.Generator) -> Cases:
    for price in (0.0, 0.02, 0.05, 0.1, 0.4):
        tau, top, width = float(random.integers(50, 200)), 30.0, float(random.integers(60, 200))
        grant = market.demand(price, np.array([tau]), Quadratic(top, width))[0]
        yield (price, tau, top, width), grant


@tried_on("dual-bound")
def bounds(random: np.random.Generator) -> Cases:
    for taus, budget in _batches(random, 0.2, 0.9):
        price, utility = random.uniform(0.01, 0.3), Surge(1.0, 0.02)
        yield (price, taus, budget, utility), market.dual_bound(price, taus, budget, utility)


@tried_on("borders", 1e-3)
def borders(random: np.random.Generator) -> Cases:
    for taus, _ in _batches(random, 0, 1):
        decay = 1 / random.integers(20, 200)
        yield (taus, decay), market.borders(taus, Surge(1.0, decay))


@tried_on("spearman")
def ranks(random: np.random.Generator) -> Cases:
    for n in (4, 30):
        x = random.lognormal(5, 1, n)
        y = x * random.lognormal(0, 1, n)
        yield (x, y), spearmanr(x, y).statistic


@tried_on("replay")
def replayed(random: np.random.Generator) -> Cases:
    for n in (4, 50):
        granted, lengths, correct = random.integers(0, 90, n), random.integers(10, 99, n), random.random(n) < 0.6
        yield (granted, lengths, correct), ((correct & (granted >= lengths)).sum(), np.minimum(granted, lengths).sum())


@tried_on("paired-error")
def paired_errors(random: np.random.Generator) -> Cases:
    for n in (4, 20):
        ours, theirs = random.normal(30, 2, n).round(1), random.normal(28, 2, n).round(1)
        yield (ours, theirs), np.std(ours - theirs, ddof=1) / np.sqrt(n)


@tried_on("tent")
def asked_of_a_tent(random: np.random.Generator) -> Cases:
    for price in (0.0, 0.05, 0.1, 0.14, 0.3, 0.7):
        tau, peak, top = float(random.integers(50, 200)), 60.0, 24.0
        yield (price, tau, peak, top), market.demand(price, np.array([tau]), Triangular(top, peak, 2 * peak))[0]


@judged("same-ranks")
def distorted(answer: Any) -> str | None:
    taus = np.random.default_rng(0).lognormal(5, 0.8, 200)
    forecasts, budget = np.asarray(answer(taus.copy()), dtype=float), round(0.5 * taus.sum())
    if forecasts.shape != taus.shape or not (np.argsort(forecasts) == np.argsort(taus)).all():
        return "The ranks have changed."
    truly, told = ((allocate(each, budget, "clear").tokens >= taus).sum() for each in (taus, forecasts))
    said = f"CLEAR solves {told} of the hidden queries, and {truly} without a distortion."
    return None if told <= truly / 2 else said


@tried_on("two-ways")
def two_ways(random: np.random.Generator) -> Cases:
    for t in (5.0, 60.0, 400.0):
        p, short, long, share, sigma = 0.8, 40.0, 300.0, random.uniform(0.2, 0.8), 0.4
        one, other = (LogNormal(np.log(median), sigma, p).value(t) for median in (short, long))
        yield (t, p, short, long, share, sigma), share * one + (1 - share) * other


@tried_on("leaves-at", 1e-4)
def leaves_at(random: np.random.Generator) -> Cases:
    for sigma in (0.1, 0.5, 0.9, 1.5):
        yield (sigma,), brentq(lambda z, s=sigma: norm.pdf(z) - s * ndtr(z), -5, 5)


@tried_on("index-of-samples")
def index_of_samples(random: np.random.Generator) -> Cases:
    for n in (3, 40):
        lengths, right = random.integers(10, 99, n), random.random(n) < 0.6
        caps = np.arange(1, 100)[:, None]
        yield (lengths, right), (((lengths <= caps) & right).mean(1) / np.minimum(lengths, caps).mean(1)).max()


@tried_on("controller")
def controlled(random: np.random.Generator) -> Cases:
    for used in (0, 100, 300):
        price, left, to_come, rate = random.uniform(0.001, 0.01), 5000, 40, 0.05
        yield (price, used, left, to_come, rate), price * np.exp(rate * (used / (left / to_come) - 1))


@tried_on("fits")
def fitting(random: np.random.Generator) -> Cases:
    for value, size in ((33.3, 3), (50.0, 3), (12.4, 500), (12.5, 500), (7.1, 30), (6.7, 30), (99.9, 40)):
        yield (value, size), audit.fits(value, size)


@tried_on("two-tiers")
def two_tiers(random: np.random.Generator) -> Cases:
    for budget in (100.0, 1000.0):
        share, rates, medians = random.uniform(0, 1), np.array([0.8, 0.3]), np.array([300.0, 1500.0])
        lengths = replica.LengthModel(medians, 0.7, rates, {"one": np.array([share, 1 - share])})
        yield (budget, share, rates, medians, 0.7), replica.uniform_row(lengths, [budget])[0, 0] / 100


@tried_on("false-alarm", 1e-9)
def false_alarms(random: np.random.Generator) -> Cases:
    for cells, level in ((1, 0.95), (16, 0.95), (24, 0.99)):
        yield (cells, level), 1 - level**cells


@tried_on("decoding-step")
def decoding_steps(random: np.random.Generator) -> Cases:
    for card, batch in zip(CARDS.values(), (8, 64, 256, 1024, 2), strict=True):
        reading, multiplying = 14 / (1000 * card.bandwidth), 2e-12 * 7e9 * batch / card.teraflops
        yield (7e9, 14.0, batch, card), max(card.step, reading / EFFICIENCY, multiplying / EFFICIENCY)


@tried_on("router")
def routed(random: np.random.Generator) -> Cases:
    for n in (4, 60):
        small, large = (np.where(random.random(n) < p, random.integers(20, 200, n), np.inf) for p in (0.3, 0.6))
        bill = np.minimum(small, 3 * large)
        yield (small, large, 3), (np.isfinite(bill).sum(), bill[np.isfinite(bill)].sum())


@tried_on("shifted-auction", 1.0)
def shifted(random: np.random.Generator) -> Cases:
    for taus, budget in _batches(random, 0.2, 1.2):
        yield (taus, budget), allocate(taus, budget, "clear-auction", affine="shift").tokens


@tried_on("cautious", 1e-3)
def cautious(random: np.random.Generator) -> Cases:
    for taus, budget in _batches(random, 0.2, 1.2):
        peak = max(32, budget / taus.size - taus.mean())
        order = np.argsort(taus)
        surge = (budget - np.cumsum(taus[order])) / np.arange(1, taus.size + 1)
        count, grants = (surge >= peak / 2).sum(), np.zeros(taus.size)
        if count:
            grants[order[:count]] = taus[order[:count]] + min(surge[count - 1], peak)
        yield (taus, budget), grants


@tried_on("worth-of-one", 1e-9)
def worths(random: np.random.Generator) -> Cases:
    for taus, budget in _batches(random, 0.6, 1.2):
        utility = Surge(1.0, 1 / 64)
        yield (taus, budget, utility), 1 / (solve_shared(taus, budget, utility).tokens > 0).sum()


@tried_on("read-again", 1e-9)
def read_once_more(random: np.random.Generator) -> Cases:
    for n in (0, 1, 5):
        prompt, pauses = int(random.integers(1, 100)), random.integers(1, 500, n).tolist()
        yield (prompt, pauses), n * prompt + sum(pauses)


@tried_on("pass-at-k", 1e-9)
def one_of_k(random: np.random.Generator) -> Cases:
    for n, k in ((2, 1), (8, 3), (8, 8)):
        right = random.random((20, n)) < random.random((20, 1))
        none = [np.prod([(w - i) / (n - i) for i in range(k)]) for w in (~right).sum(axis=1)]
        yield (right, k), 1 - np.mean(none)
