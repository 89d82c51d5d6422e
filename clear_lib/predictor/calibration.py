"""How good a forecast of chances is, and how its doubts are measured on questions it was not fitted to.

A forecast says more than a number: the logarithm of the length of a correct solution is normal with ``log_median``
and ``spread``, and there is one with the chance ``solvable``. Scores here are *proper*: on average nobody does
better than by saying what they believe. They are per query, and lower is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, ndtr, ndtri, xlogy
from scipy.stats import beta

from clear_lib.allocation.forecasts import Array, Forecasts, vector

if TYPE_CHECKING:
    from clear_lib.predictor import Predictor

#: The least spread that is believed: lengths are whole tokens, and even a known style varies a little.
LEAST_SPREAD = 0.02

#: Questions' worth of doubt about each fitted slope (the strength of a ridge): a handful of questions fits none.
PRIOR = 4.0


@dataclass(frozen=True)
class Doubts:
    """What held-out questions say about forecasts ``y`` of the log length and ``z`` of the log odds of a solution.

    The log length of a correct solution has the median ``y + shift + tilt·(y - y0)`` and a spread with the logarithm
    ``width + growth·(y - y0) - assurance·(z - z0)``: long solutions and doubtful ones vary more. It stays within
    ``narrow`` and ``wide``, the central 95% of what the held-out questions were given: far from them a line goes
    anywhere. A solution is correct with log odds ``bias + trust·z``. So few numbers can correct a level; they cannot
    learn a question.
    """

    y0: float
    z0: float
    shift: float
    tilt: float
    width: float
    growth: float
    assurance: float
    bias: float
    trust: float
    narrow: float
    wide: float

    @classmethod
    def fit(cls, threshold: ArrayLike, logit: ArrayLike, lengths: ArrayLike, correct: ArrayLike) -> Self:
        """Measure the doubts, by maximum likelihood with weak priors (:data:`PRIOR`).

        Parameters
        ----------
        threshold : array of shape (n,)
            Forecast of the length of held-out questions, tokens, above 0.
        logit : array of shape (n,)
            Log odds of the forecast chance.
        lengths : array of shape (n,)
            Tokens, above 0.
        correct : bool array of shape (n,)

        Raises
        ------
        ValueError
            If no solution is correct: there is no length to learn from.
        """
        correct, logit = np.asarray(correct, dtype=bool), np.asarray(logit, dtype=float)
        y = np.log(vector("threshold", threshold, n=correct.size))
        error = np.log(vector("lengths", lengths, n=correct.size)) - y
        if not correct.any():
            raise ValueError(f"none of the {correct.size} held-out solutions is correct: give more questions")
        y0, z0 = float(y.mean()), float(logit.mean())
        late, sure, error = (y - y0)[correct], (logit - z0)[correct], error[correct]

        def surprise(parameters: Array) -> float:
            """Negative log likelihood of the lengths of correct solutions."""
            shift, tilt, width, growth, assurance = parameters
            log_spread = np.clip(width + growth * late - assurance * sure, np.log(LEAST_SPREAD), 5.0)
            off = (error - shift - tilt * late) / np.exp(log_spread)
            return float((off**2 / 2 + log_spread).sum() + PRIOR * (tilt**2 + growth**2 + assurance**2) / 2)

        def regret(parameters: Array) -> float:
            """Negative log likelihood of right and wrong."""
            bias, trust = parameters
            odds = bias + trust * logit
            return float(np.logaddexp(0.0, np.where(correct, -odds, odds)).sum() + PRIOR * (trust - 1) ** 2 / 2)

        width = np.log(max(float(error.std()), LEAST_SPREAD))
        shift, tilt, width, growth, assurance = minimize(surprise, [error.mean(), 0.0, width, 0.0, 0.0]).x
        given = np.exp(width + growth * (y - y0) - assurance * (logit - z0))
        narrow, wide = np.maximum(np.quantile(given, [0.025, 0.975]), LEAST_SPREAD)
        bias, trust = minimize(regret, [0.0, 1.0]).x
        found = shift, tilt, width, growth, assurance, bias, trust, narrow, wide
        return cls(y0, z0, *map(float, found))

    def apply(self, threshold: ArrayLike, logit: ArrayLike) -> Forecasts:
        """Forecasts with doubts. ``threshold`` stays as it is: what is corrected is ``log_median``.

        Parameters
        ----------
        threshold, logit : array of shape (n,)
            As for :meth:`fit`.
        """
        y, z = np.log(vector("threshold", threshold)), np.asarray(logit, dtype=float)
        log_median = np.maximum(y + self.shift + self.tilt * (y - self.y0), 0.0)  # a solution has a token
        log_spread = self.width + self.growth * (y - self.y0) - self.assurance * (z - self.z0)
        spread = np.clip(np.exp(np.minimum(log_spread, 5.0)), self.narrow, self.wide)
        return Forecasts(threshold, spread, expit(self.bias + self.trust * z), log_median)


def constant(lengths: ArrayLike, correct: ArrayLike, n: int) -> Forecasts:
    """The same for ``n`` questions: what the rollouts say on average. The forecast that others have to beat.

    Parameters
    ----------
    lengths : array
        Tokens of known solutions; a length and spread are taken from the correct ones.
    correct : bool array
    n : int
    """
    correct = np.asarray(correct, dtype=bool)
    logs = np.log(np.asarray(lengths, dtype=float)[correct])
    median, spread = float(logs.mean()), max(float(logs.std()), LEAST_SPREAD)
    return Forecasts(*(np.full(n, value) for value in (np.exp(median), spread, correct.mean())))


def crps(forecasts: Forecasts, lengths: ArrayLike) -> Array:
    """Continuous ranked probability score of the log length, shape ``(n,)``; log tokens.

    The area between the forecast's distribution function, squared, and the step at the length. With no spread it
    is the absolute error. For a normal it is ``σ·(z·(2Φ(z) - 1) + 2φ(z) - 1/√π)``.
    """
    spread = np.maximum(forecasts.spread, LEAST_SPREAD)
    z = (np.log(vector("lengths", lengths, n=forecasts.n)) - forecasts.log_median) / spread
    density = np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi)
    return spread * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def brier(forecasts: Forecasts, correct: ArrayLike) -> Array:
    """Squared error of the chance, shape ``(n,)``."""
    return np.square(forecasts.solvable - np.asarray(correct, dtype=float))


def log_loss(forecasts: Forecasts, correct: ArrayLike) -> Array:
    """``-log`` of the chance that was given to what happened, shape ``(n,)``; nats."""
    correct = np.asarray(correct, dtype=float)
    return -xlogy(correct, forecasts.solvable) - xlogy(1 - correct, 1 - forecasts.solvable)


def coverage(forecasts: Forecasts, lengths: ArrayLike, levels: Sequence[float] = (0.5, 0.8, 0.95)) -> Array:
    """Share of the lengths inside the central interval of each level; shape ``(len(levels),)``."""
    late = np.abs(np.log(vector("lengths", lengths, n=forecasts.n)) - forecasts.log_median) / forecasts.spread
    return np.array([(late <= ndtri((1 + level) / 2)).mean() for level in levels])


def scores(
    named: dict[str, Forecasts],
    frame: pd.DataFrame,
    parts: dict[str, Sequence[str]],
    levels: Sequence[float] = (0.5, 0.8, 0.95),
) -> pd.DataFrame:
    """Scores and coverage of several forecasts of the same questions, in parts of a pool.

    Parameters
    ----------
    named : dict
        Forecasts of the questions of ``frame``, in its order, by name.
    frame : DataFrame
        ``tier``, ``length`` and ``correct``. Lengths are judged on correct solutions.
    parts : dict
        Tiers of each part, by its name.
    levels : sequence of float
        Of the central intervals.

    Returns
    -------
    DataFrame
        Index ``part, forecast``; columns ``n, brier, log_loss, crps``, and ``within 50%`` for each level. NaN where
        no solution is correct.
    """
    rows = {}
    for part, tiers in parts.items():
        here = frame["tier"].isin(tiers).to_numpy()
        lengths, correct = frame["length"].to_numpy()[here], frame["correct"].to_numpy(bool)[here]
        for name, forecasts in named.items():
            forecasts = forecasts.part(here)
            row = {"n": correct.size, "brier": brier(forecasts, correct).mean()}
            row["log_loss"] = log_loss(forecasts, correct).mean()
            if correct.any():
                right = forecasts.part(correct), lengths[correct]
                row["crps"] = crps(*right).mean()
                shares = coverage(*right, levels)
                row |= {f"within {level:.0%}": share for level, share in zip(levels, shares, strict=True)}
            rows[part, name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["part", "forecast"])


def learning_curve(
    make: Callable[[], Predictor],
    texts: Sequence[str],
    lengths: ArrayLike,
    sizes: Iterable[int],
    draws: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """How well a predictor fits lengths that it has not seen, by the number of lessons.

    In each draw a fifth of the questions is held out, and a predictor is fitted to the first few of the others.

    Parameters
    ----------
    make : callable
        Gives an unfitted predictor.
    texts, lengths
        Lessons: questions and tokens, above 0.
    sizes : iterable of int
        Numbers of lessons; more than four fifths of them count as that.
    draws, seed : int

    Returns
    -------
    DataFrame
        Index ``lessons``, columns ``mean``, ``low`` and ``high`` (central 95% over draws) of the squared error of the log
        length over its variance: 1 is what a constant would get.
    """
    texts, logs = np.asarray(texts, dtype=object), np.log(vector("lengths", lengths, n=len(texts)))
    rng, most = np.random.default_rng(seed), len(texts) - max(1, len(texts) // 5)
    found = {min(size, most): [] for size in sizes}
    for _ in range(draws):
        order = rng.permutation(len(texts))
        asked = order[most:]
        for size, errors in found.items():
            taught = order[:size]
            fitted = make().fit(list(texts[taught]), np.exp(logs[taught]))
            errors.append(
                np.square(np.log(fitted.predict(list(texts[asked])).threshold) - logs[asked]).mean() / logs.var()
            )
    rows = {size: (np.mean(errors), *np.quantile(errors, [0.025, 0.975])) for size, errors in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high"]).rename_axis("lessons")


def reliability(chance: ArrayLike, correct: ArrayLike, bins: int = 8) -> pd.DataFrame:
    """How often what was given a chance came about, in bins of as many questions each.

    Returns
    -------
    DataFrame
        Columns ``chance`` (mean forecast), ``share`` (of correct ones), ``low`` and ``high`` (95%, Jeffreys), ``n``.
    """
    chance, correct = vector("chance", chance, high=1.0), np.asarray(correct, dtype=bool)
    parts = [part for part in np.array_split(np.argsort(chance, kind="stable"), bins) if part.size]
    hits, n = np.array([correct[part].sum() for part in parts]), np.array([part.size for part in parts])
    low, high = beta.ppf([[0.025], [0.975]], hits + 0.5, n - hits + 0.5)
    table = {"chance": [chance[part].mean() for part in parts], "share": hits / n, "low": low, "high": high, "n": n}
    return pd.DataFrame(table)
