"""Hidden cases: what a reader's function is tried on, and what the library or a line of NumPy says to it."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
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
Calls = Iterator[tuple[tuple, Any]]

#: How far a result may be off, where that is not a millionth.
TOLERANCES = {"borders": 1e-3, "cautious": 1e-3, "leaves-at": 1e-4, "shifted-auction": 1.0}


class Cases:
    """The calls that each exercise is tried on; a method has the name of its exercise."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def _batches(self, low: float, high: float) -> Iterator[tuple[np.ndarray, int]]:
        """Thresholds, and budgets from ``low`` to ``high`` times their sum."""
        for n in (3, 4, 5, 20, 20, 100):
            taus = np.round(self.random.lognormal(5, 0.8, n), 1)
            yield taus, round(self.random.uniform(low, high) * taus.sum())

    def _solutions(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Lengths of solutions, and which are correct."""
        return self.random.integers(10, 99, n), self.random.random(n) < 0.6

    def auction_admits(self) -> Calls:
        for taus, budget in self._batches(0.2, 0.9):
            yield (taus, budget), allocate(taus, budget, "clear-auction").active

    def solved_by_cap(self) -> Calls:
        for n in (4, 50):
            (lengths, correct), caps = self._solutions(n), np.array([0, 30, 60, 99])
            yield (lengths, correct, caps), ((lengths <= caps[:, None]) & correct).mean(axis=1)

    def parabola(self) -> Calls:
        for price in (0.0, 0.02, 0.05, 0.1, 0.4):
            tau, top, width = float(self.random.integers(50, 200)), 30.0, float(self.random.integers(60, 200))
            yield (price, tau, top, width), market.demand(price, np.array([tau]), Quadratic(top, width))[0]

    def dual_bound(self) -> Calls:
        for taus, budget in self._batches(0.2, 0.9):
            price, utility = self.random.uniform(0.01, 0.3), Surge(1.0, 0.02)
            yield (price, taus, budget, utility), market.dual_bound(price, taus, budget, utility)

    def borders(self) -> Calls:
        for taus, _ in self._batches(0, 1):
            decay = 1 / self.random.integers(20, 200)
            yield (taus, decay), market.borders(taus, Surge(1.0, decay))

    def spearman(self) -> Calls:
        for n in (4, 30):
            x = self.random.lognormal(5, 1, n)
            y = x * self.random.lognormal(0, 1, n)
            yield (x, y), spearmanr(x, y).statistic

    def replay(self) -> Calls:
        for n in (4, 50):
            granted, (lengths, correct) = self.random.integers(0, 90, n), self._solutions(n)
            solved, bill = correct & (granted >= lengths), np.minimum(granted, lengths)
            yield (granted, lengths, correct), (solved.sum(), bill.sum())

    def paired_error(self) -> Calls:
        for n in (4, 20):
            ours, theirs = self.random.normal(30, 2, n).round(1), self.random.normal(28, 2, n).round(1)
            yield (ours, theirs), np.std(ours - theirs, ddof=1) / np.sqrt(n)

    def tent(self) -> Calls:
        for price in (0.0, 0.05, 0.1, 0.14, 0.3, 0.7):
            tau, peak, top = float(self.random.integers(50, 200)), 60.0, 24.0
            yield (price, tau, peak, top), market.demand(price, np.array([tau]), Triangular(top, peak, 2 * peak))[0]

    def two_ways(self) -> Calls:
        for t in (5.0, 60.0, 400.0):
            p, short, long, share, sigma = 0.8, 40.0, 300.0, self.random.uniform(0.2, 0.8), 0.4
            one, other = (LogNormal(np.log(median), sigma, p).value(t) for median in (short, long))
            yield (t, p, short, long, share, sigma), share * one + (1 - share) * other

    def leaves_at(self) -> Calls:
        for sigma in (0.1, 0.5, 0.9, 1.5):
            yield (sigma,), brentq(lambda z, s=sigma: norm.pdf(z) - s * ndtr(z), -5, 5)

    def index_of_samples(self) -> Calls:
        for n in (3, 40):
            (lengths, right), caps = self._solutions(n), np.arange(1, 100)[:, None]
            yield (lengths, right), (((lengths <= caps) & right).mean(1) / np.minimum(lengths, caps).mean(1)).max()

    def controller(self) -> Calls:
        for used in (0, 100, 300):
            price, left, to_come, rate = self.random.uniform(0.001, 0.01), 5000, 40, 0.05
            yield (price, used, left, to_come, rate), price * np.exp(rate * (used / (left / to_come) - 1))

    def fits(self) -> Calls:
        for value, size in ((33.3, 3), (50.0, 3), (12.4, 500), (12.5, 500), (7.1, 30), (6.7, 30), (99.9, 40)):
            yield (value, size), audit.fits(value, size)

    def two_tiers(self) -> Calls:
        for budget in (100.0, 1000.0):
            share, rates, medians = self.random.uniform(0, 1), np.array([0.8, 0.3]), np.array([300.0, 1500.0])
            lengths = replica.LengthModel(medians, 0.7, rates, {"one": np.array([share, 1 - share])})
            yield (budget, share, rates, medians, 0.7), replica.uniform_row(lengths, [budget])[0, 0] / 100

    def false_alarm(self) -> Calls:
        for cells, level in ((1, 0.95), (16, 0.95), (24, 0.99)):
            yield (cells, level), 1 - level**cells

    def decoding_step(self) -> Calls:
        for card, batch in zip(CARDS.values(), (8, 64, 256, 1024, 2), strict=True):
            reading, multiplying = 14 / (1000 * card.bandwidth), 2e-12 * 7e9 * batch / card.teraflops
            yield (7e9, 14.0, batch, card), max(card.step, reading / EFFICIENCY, multiplying / EFFICIENCY)

    def router(self) -> Calls:
        for n in (4, 60):
            solved, lengths = self.random.random((2, n)), self.random.integers(20, 200, (2, n))
            small, large = np.where(solved < [[0.3], [0.6]], lengths, np.inf)
            bill = np.minimum(small, 3 * large)
            yield (small, large, 3), (np.isfinite(bill).sum(), bill[np.isfinite(bill)].sum())

    def shifted_auction(self) -> Calls:
        for taus, budget in self._batches(0.2, 1.2):
            yield (taus, budget), allocate(taus, budget, "clear-auction", affine="shift").tokens

    def cautious(self) -> Calls:
        for taus, budget in self._batches(0.2, 1.2):
            peak = max(32, budget / taus.size - taus.mean())
            order = np.argsort(taus)
            surge = (budget - np.cumsum(taus[order])) / np.arange(1, taus.size + 1)
            count, grants = (surge >= peak / 2).sum(), np.zeros(taus.size)
            if count:
                grants[order[:count]] = taus[order[:count]] + min(surge[count - 1], peak)
            yield (taus, budget), grants

    def worth_of_one(self) -> Calls:
        for taus, budget in self._batches(0.6, 1.2):
            utility = Surge(1.0, 1 / 64)
            yield (taus, budget, utility), 1 / (solve_shared(taus, budget, utility).tokens > 0).sum()

    def read_again(self) -> Calls:
        for n in (0, 1, 5):
            prompt, pauses = int(self.random.integers(1, 100)), self.random.integers(1, 500, n).tolist()
            yield (prompt, pauses), n * prompt + sum(pauses)

    def pass_at_k(self) -> Calls:
        for n, k in ((2, 1), (8, 3), (8, 8)):
            right = self.random.random((20, n)) < self.random.random((20, 1))
            none = [np.prod([(w - i) / (n - i) for i in range(k)]) for w in (~right).sum(axis=1)]
            yield (right, k), 1 - np.mean(none)


def _compared(name: str, answer: Any) -> str | None:
    """What is wrong with the function that is the answer to an exercise, None if nothing is."""
    if not callable(answer):
        return "This exercise asks for a function: give its name, without calling it."
    right, first, tolerance = [], None, TOLERANCES.get(name, 1e-6)
    for arguments, expected in getattr(Cases(), name.replace("-", "_"))():
        found, expected = (np.asarray(each, dtype=float) for each in (answer(*deepcopy(arguments)), expected))
        right.append(found.shape == expected.shape and np.allclose(found, expected, rtol=tolerance, atol=tolerance))
        if not right[-1]:
            first = first or f"{', '.join(map(_shown, arguments))}, it returns {_shown(found)}"
    return first and f"{sum(right)} of {len(right)} hidden cases come out right. Given {first}."


def _shown(value: Any) -> str:
    return np.array2string(value, precision=3, threshold=8) if isinstance(value, np.ndarray) else repr(value)


def simpson(rows: Any) -> str | None:
    question, length, right = map(np.asarray, zip(*rows, strict=True))
    if len(set(question)) != 2:
        return f"There should be two questions, and there are {len(set(question))}."

    def gain(part: np.ndarray) -> float:
        long = length[part] > np.median(length[part])
        return right[part][long].mean() - right[part][~long].mean()

    if not all(gain(question == name) > 0 for name in set(question)):
        return "Within a question the longer half should be right more often than the shorter half."
    return None if gain(np.full(len(length), True)) < 0 else "Pooled, the longer half is not right less often."


def same_ranks(answer: Any) -> str | None:
    taus = np.random.default_rng(0).lognormal(5, 0.8, 200)
    forecasts, budget = np.asarray(answer(taus.copy()), dtype=float), round(0.5 * taus.sum())
    if forecasts.shape != taus.shape or not (np.argsort(forecasts) == np.argsort(taus)).all():
        return "The ranks have changed."
    truly, told = ((allocate(each, budget, "clear").tokens >= taus).sum() for each in (taus, forecasts))
    said = f"CLEAR solves {told} of the hidden queries, and {truly} without a distortion."
    return None if told <= truly / 2 else said


#: What is wrong with an answer, None if nothing is; by exercise.
JUDGES = {name.replace("_", "-"): partial(_compared, name.replace("_", "-")) for name in vars(Cases) if name[0] != "_"}
JUDGES |= {"simpson": simpson, "same-ranks": same_ranks}
