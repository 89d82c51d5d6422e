"""The three-phase study (§2): how accuracy goes with the length of a solution, and with a cap on it.

Two questions that look alike. *Among solutions of this length, how many are right?* only observes: hard
questions have long solutions. *With this cap, how many are solved?* intervenes. All intervals are percentiles
over resampled questions, since the samples of one question are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

from .rollouts import replay
from .utility import Surge

Array = np.ndarray
DRAWS = 1000  # resamplings of the questions for an interval


def ratio_intervals(questions: Array, group: Array, value: Array, groups: int, seed: int = 0) -> pd.DataFrame:
    """Mean of ``value`` within each group, with a 95% interval over resampled questions.

    Parameters
    ----------
    questions : array of shape (n,)
        Which question a rollout belongs to; all rollouts of a question are drawn together.
    group : int array of shape (n,)
        Group of each rollout, from 0 to ``groups - 1``; others are left out.
    value : array of shape (n,)
        What is averaged.

    Returns
    -------
    pandas.DataFrame
        One row a group: ``n, questions, mean, lower, upper``; NaN where a group is empty.
    """
    names, question = np.unique(questions, return_inverse=True)
    inside = (group >= 0) & (group < groups)
    counts, sums = np.zeros((2, names.size, groups))
    np.add.at(counts, (question[inside], group[inside]), 1)
    np.add.at(sums, (question[inside], group[inside]), np.asarray(value, float)[inside])
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(names.size, np.full(names.size, 1 / names.size), size=DRAWS)
    with np.errstate(invalid="ignore"):  # an empty group has no mean
        drawn = (weights @ sums) / (weights @ counts)
        mean = sums.sum(0) / counts.sum(0)
    filled = counts.sum(0) > 0
    bounds = np.full((2, groups), np.nan)
    bounds[:, filled] = np.nanpercentile(drawn[:, filled], [2.5, 97.5], axis=0)
    return pd.DataFrame({"n": counts.sum(0).astype(int), "questions": (counts > 0).sum(0), "mean": mean,
                         "lower": bounds[0], "upper": bounds[1]})


def accuracy_by_length(rollouts: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Conditional Pass@1 in bins of length that hold equally many rollouts (Figure 2).

    Parameters
    ----------
    rollouts : pandas.DataFrame
        Sampled rollouts, several a question.
    bins : int
        Number of bins; equal edges are merged.

    Returns
    -------
    pandas.DataFrame
        One row a bin: ``length`` (its median, tokens), ``n, questions, mean, lower, upper``.
    """
    length = rollouts.length.to_numpy()
    edges = np.unique(np.quantile(length, np.linspace(0, 1, bins + 1)))
    group = np.clip(np.searchsorted(edges, length, side="right") - 1, 0, edges.size - 2)
    table = ratio_intervals(rollouts.question_id.to_numpy(), group, rollouts.verdict.eq("correct"), edges.size - 1)
    table.insert(0, "length", [np.median(length[group == k]) for k in range(edges.size - 1)])
    return table


def within_questions(rollouts: pd.DataFrame, edges: Array) -> pd.DataFrame:
    """Accuracy against length *within* questions: both relative to the mean of their question.

    What differs between questions, difficulty first of all, drops out. A question whose samples are all right or
    all wrong adds only zeros.

    Parameters
    ----------
    rollouts : pandas.DataFrame
        Sampled rollouts, several a question.
    edges : array of shape (k + 1,)
        Edges of the bins of ``length / geometric mean length of the question``.

    Returns
    -------
    pandas.DataFrame
        One row a bin: ``ratio`` (its median), ``n, questions``, and ``mean, lower, upper`` of the accuracy minus
        the question's own.
    """
    by_question = rollouts.question_id
    log_length = np.log(rollouts.length)
    ratio = np.exp(log_length - log_length.groupby(by_question).transform("mean")).to_numpy()
    right = rollouts.verdict.eq("correct").astype(float)
    excess = (right - right.groupby(by_question).transform("mean")).to_numpy()
    group = np.searchsorted(edges, ratio, side="right") - 1
    table = ratio_intervals(by_question.to_numpy(), group, excess, len(edges) - 1)
    table.insert(0, "ratio", [np.median(ratio[group == k]) if (group == k).any() else np.nan
                              for k in range(len(edges) - 1)])
    return table


@dataclass(frozen=True)
class SurgeFit:
    """A fitted surge: ``threshold`` τ in tokens, its utility, and the root mean square error of the fit."""

    threshold: float
    utility: Surge
    error: float

    def __call__(self, tokens: Array) -> Array:
        """Fitted accuracy at ``tokens``."""
        return self.utility.value(np.asarray(tokens) - self.threshold)


def fit_surge(length: Array, accuracy: Array, weight: Array) -> SurgeFit:
    """Least-squares fit of eq. 1 to binned accuracies, from several starts.

    Parameters
    ----------
    length, accuracy, weight : arrays of shape (k,)
        Length of each bin in tokens, its accuracy, and how much the bin counts.

    Raises
    ------
    ValueError
        If fewer than four bins are given: three parameters would fit anything.
    """
    length, accuracy, weight = (np.asarray(values, float) for values in (length, accuracy, weight))
    if length.size < 4:
        raise ValueError(f"a surge has three parameters and needs at least 4 bins, got {length.size}")

    def surge(tokens: Array, threshold: float, log_velocity: float, log_decay: float) -> Array:
        return Surge(np.exp(log_velocity), np.exp(log_decay)).value(tokens - threshold)

    best, least = None, np.inf
    for start in np.quantile(length, (0.0, 0.25)) * 0.5:
        for peak in np.quantile(length, (0.25, 0.5, 0.9)):
            guess = (start, np.log(np.e * max(accuracy.max(), 1e-3) / peak), -np.log(peak))
            try:
                found, _ = curve_fit(surge, length, accuracy, guess, sigma=1 / np.sqrt(weight), maxfev=5000,
                                     bounds=([-length.min(), -20, -20], [length.max(), 5, 2]))
            except RuntimeError:  # this start did not converge; another will
                continue
            error = np.average((surge(length, *found) - accuracy) ** 2, weights=weight)
            if error < least:
                best, least = found, error
    if best is None:
        raise ValueError("no start of the surge fit converged; are the accuracies all equal?")
    return SurgeFit(float(best[0]), Surge(float(np.exp(best[1])), float(np.exp(best[2]))), float(np.sqrt(least)))


def solved_by_cap(rollouts: pd.DataFrame, caps: Array) -> pd.DataFrame:
    """Share of each tier solved under a common cap (Figure 1): an intervention, answered by replay.

    Parameters
    ----------
    rollouts : pandas.DataFrame
        Greedy rollouts, one a question.
    caps : int array of shape (k,)
        Caps in tokens.

    Returns
    -------
    pandas.DataFrame
        ``tier, cap, n, questions, mean, lower, upper``, tiers in order of appearance.
    """
    tables = []
    for tier, rows in rollouts.groupby("tier", sort=False):
        for cap in np.asarray(caps):
            solved = replay(rows.length.to_numpy(), rows.verdict.eq("correct").to_numpy(),
                            np.full(len(rows), cap)).solved
            table = ratio_intervals(rows.question_id.to_numpy(), np.zeros(len(rows), int), solved, 1)
            tables.append(table.assign(tier=tier, cap=int(cap)))
    return pd.concat(tables, ignore_index=True)[["tier", "cap", "n", "questions", "mean", "lower", "upper"]]
