"""The three-phase study (§2): how accuracy goes with the length of a solution, and with a cap on it.

Two questions that look alike. *Among solutions of this length, how many are right?* only observes: hard
questions have long solutions. *With this cap, how many are solved?* intervenes. All intervals are percentiles
over resampled questions, since the samples of one question are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

from clear_lib.allocation.utility import Surge
from clear_lib.rollouts.store import replay
from clear_lib.study.recordings import recording
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import TIERS

Array = np.ndarray
DRAWS = 1000  # resamplings of the questions for an interval


def samples(profile: Profile, laboratory: Profile, artifacts: str | Path) -> tuple[Profile, pd.DataFrame]:
    """Several solutions of each of some questions, and the profile that they are of.

    They are the profile's own if it has some and a question among them has right and wrong ones; otherwise those of
    the laboratory model.
    """
    if profile.engine != "none" or recording.store(profile, "sampled", artifacts).shards():
        own = recording.load(profile, "sampled", artifacts)
        if len(mixed(own)):
            return profile, own
    return laboratory, recording.load(laboratory, "sampled", artifacts)


def mixed(rollouts: pd.DataFrame) -> pd.DataFrame:
    """Rollouts of the questions that have right and wrong ones."""
    accuracy = _right(rollouts).groupby(rollouts.question_id).transform("mean")
    return rollouts[accuracy.between(0, 1, inclusive="neither")]


def _right(rollouts: pd.DataFrame) -> pd.Series:
    return rollouts.verdict.eq("correct").astype(float)


def sets(rollouts: pd.DataFrame, few: int) -> pd.Series:
    """Data set of each rollout; sets with fewer than ``few`` questions are one group, named after all of them.

    The groups are in order of difficulty: a categorical by tier, then from the largest set to the smallest.
    """
    known = rollouts.groupby("dataset").agg(tier=("tier", "first"), n=("question_id", "nunique"))
    known["tier"] = known["tier"].map(TIERS.index)
    known = known.sort_values(["tier", "n"], ascending=[True, False])
    small = list(known.index[known["n"] < few])
    names = {name: ", ".join(small) if name in small else name for name in known.index}
    order = sorted(set(names.values()), key=lambda name: (name not in known.index, list(names.values()).index(name)))
    return pd.Series(pd.Categorical(rollouts.dataset.map(names), order), index=rollouts.index, name="set")


class _Resampled(NamedTuple):
    """Counts and sums of each group, shape ``(groups,)``, and means over resampled questions, ``(DRAWS, groups)``."""

    counts: Array
    sums: Array
    questions: Array
    drawn: Array


def _resampled(questions: Array, group: Array, value: Array, groups: int, seed: int) -> _Resampled:
    names, question = np.unique(questions, return_inverse=True)
    inside = (group >= 0) & (group < groups)
    counts, sums = np.zeros((2, names.size, groups))
    np.add.at(counts, (question[inside], group[inside]), 1)
    np.add.at(sums, (question[inside], group[inside]), np.asarray(value, float)[inside])
    weights = np.random.default_rng(seed).multinomial(names.size, np.full(names.size, 1 / names.size), size=DRAWS)
    with np.errstate(invalid="ignore"):  # an empty group has no mean
        return _Resampled(counts.sum(0), sums.sum(0), (counts > 0).sum(0), (weights @ sums) / (weights @ counts))


def ratio_intervals(questions: Array, group: Array, value: Array, groups: int, seed: int = 0) -> pd.DataFrame:
    """Mean of ``value`` within each group, with a 95% interval over resampled questions.

    Where a group of verdicts is all right or all wrong, resampling shows no width. So with verdicts no bound is nearer to
    the far end than the share at which as many questions would be all alike with a chance of 2.5%.

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
    found = _resampled(questions, group, value, groups, seed)
    filled = found.counts > 0
    with np.errstate(invalid="ignore"):
        mean = found.sums / found.counts
    lower, upper = np.full((2, groups), np.nan)
    lower[filled], upper[filled] = np.nanpercentile(found.drawn[:, filled], [2.5, 97.5], axis=0)
    if np.isin(value, (0, 1)).all():
        alike = 0.025 ** (1 / np.maximum(found.questions, 1))
        lower, upper = np.minimum(lower, alike), np.maximum(upper, 1 - alike)
    return pd.DataFrame(
        {"n": found.counts.astype(int), "questions": found.questions, "mean": mean, "lower": lower, "upper": upper}
    )


class Effect(NamedTuple):
    """How much more often the longer half of some solutions is right than the shorter one, with its 95% interval."""

    difference: float
    lower: float
    upper: float

    @property
    def words(self) -> str:
        """What may be said of it."""
        clear = "more" if self.lower > 0 else "less" if self.upper < 0 else None
        return f"{clear} often right" if clear else "not clearly more or less often right"

    def __str__(self) -> str:
        points = [f"{100 * value:+.0f}" for value in self]
        return f"{points[0]} points (95%: {points[1]} to {points[2]})"


def longer(rollouts: pd.DataFrame, within: bool = False) -> Effect:
    """The longer half against the shorter: of all solutions, or of those of each question (``within``).

    Within questions both length and accuracy are relative to the question's own mean.
    """
    length, right, by = np.log(rollouts.length), _right(rollouts), rollouts.question_id
    if within:
        length, right = (values - values.groupby(by).transform("mean") for values in (length, right))
    group = (length > (0 if within else length.median())).to_numpy(int)
    found = _resampled(by.to_numpy(), group, right, 2, seed=0)
    short, long = found.sums / found.counts
    lower, upper = np.nanpercentile(found.drawn[:, 1] - found.drawn[:, 0], [2.5, 97.5])
    return Effect(float(long - short), float(lower), float(upper))


def accuracy_by_length(rollouts: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Accuracy in bins of length that hold about equally many rollouts, as far as equal lengths allow.

    Parameters
    ----------
    rollouts : pandas.DataFrame
        One or several of each question.
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
    right = _right(rollouts)
    excess = (right - right.groupby(by_question).transform("mean")).to_numpy()
    group = np.searchsorted(edges, ratio, side="right") - 1
    table = ratio_intervals(by_question.to_numpy(), group, excess, len(edges) - 1)
    table.insert(
        0, "ratio", [np.median(ratio[group == k]) if (group == k).any() else np.nan for k in range(len(edges) - 1)]
    )
    return table


@dataclass(frozen=True)
class SurgeFit:
    """A fitted surge: ``threshold`` τ in tokens, its utility, and the root mean square error of the fit."""

    threshold: float
    utility: Surge
    error: float

    def __call__(self, tokens: Array) -> Array:
        """Fitted height at ``tokens``."""
        return self.utility.value(np.asarray(tokens) - self.threshold)


def fit_surge(length: Array, accuracy: Array, weight: Array, narrowest: float = 0.14) -> SurgeFit:
    """Least-squares fit of eq. 1 to binned accuracies, or to counts, from several starts.

    Parameters
    ----------
    length, accuracy, weight : arrays of shape (k,)
        Length of each bin in tokens, its accuracy or count, and how much the bin counts.
    narrowest : float
        Least 1/β, tokens.

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
            guess = (start, np.log(np.e * max(accuracy.max(), 1e-3) / peak), -np.log(max(peak, narrowest)))
            try:
                found, _ = curve_fit(
                    surge,
                    length,
                    accuracy,
                    guess,
                    sigma=1 / np.sqrt(weight),
                    maxfev=5000,
                    bounds=([-length.min(), -20, -20], [length.max(), 5, -np.log(narrowest)]),
                )
            except RuntimeError:  # this start did not converge; another will
                continue
            error = np.average((surge(length, *found) - accuracy) ** 2, weights=weight)
            if error < least:
                best, least = found, error
    if best is None:
        raise ValueError("no start of the surge fit converged; are the accuracies all equal?")
    return SurgeFit(float(best[0]), Surge(float(np.exp(best[1])), float(np.exp(best[2]))), float(np.sqrt(least)))


class Bars(NamedTuple):
    """A question in the paper's Figure 2: its solutions in bins of length.

    ``edges`` has shape ``(bins + 1,)``, tokens; ``count`` and ``correct`` have ``(bins,)``; ``fit`` is None where no surge
    could be fitted. ``lengths`` are those of the correct solutions, sorted.
    """

    name: str
    edges: Array
    count: Array
    correct: Array
    lengths: Array
    fit: SurgeFit | None

    @property
    def indifferent(self) -> Array:
        """Correct solutions of each bin if length did not matter: the question's accuracy at every length."""
        return self.count * (self.correct.sum() / self.count.sum())

    @property
    def fitted(self) -> Array:
        """The surge in the middle of each bin; NaN without one."""
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        return self.fit(middle) if self.fit else np.full(middle.shape, np.nan)


def by_question(rollouts: pd.DataFrame, n: int = 4, bins: int = 8) -> list[Bars]:
    """The paper's Figure 2: for some questions, how many solutions of each length are correct, and a surge fitted to that.

    The questions are those whose solutions differ most in length, of those that are solved one to three times in four.

    Parameters
    ----------
    rollouts : pandas.DataFrame
        Sampled rollouts, several a question.
    n : int
        How many questions.
    bins : int
        Bins of equal width between a question's shortest solution and its longest.
    """
    known = rollouts.assign(right=_right(rollouts), log=np.log(rollouts.length)).groupby("question_id", sort=False)
    known = known.agg(right=("right", "mean"), spread=("log", "std"))
    known["often"] = known["right"].between(0.25, 0.75)
    chosen = known.sort_values(["often", "spread"], ascending=False, kind="stable").index[:n]
    found = []
    for name in chosen:
        rows = rollouts[rollouts.question_id == name]
        edges = np.linspace(rows.length.min() - 0.5, rows.length.max() + 0.5, bins + 1)
        lengths = np.sort(rows.length[rows.verdict.eq("correct")].to_numpy())
        count, correct = np.histogram(rows.length, edges)[0], np.histogram(lengths, edges)[0]
        try:
            fit = fit_surge((edges[1:] + edges[:-1]) / 2, correct, np.ones(bins), (edges[1] - edges[0]) / 2)
        except ValueError:
            fit = None
        found.append(Bars(f"{rows.dataset.iloc[0]}, {rows.tier.iloc[0]}", edges, count, correct, lengths, fit))
    return found


def solved_by_cap(rollouts: pd.DataFrame, caps: Array, groups: pd.Series) -> pd.DataFrame:
    """Share of each group solved under a common cap (Figure 1): an intervention, answered by replay.

    Parameters
    ----------
    rollouts : pandas.DataFrame
        Greedy rollouts, one a question.
    caps : int array of shape (k,)
        Caps in tokens.
    groups : pandas.Series
        Group of each rollout: its tier, or its data set (:func:`sets`).

    Returns
    -------
    pandas.DataFrame
        ``group, cap, n, questions, mean, lower, upper``; groups in the order of their categories, or of appearance.
    """
    order = groups.cat.categories if isinstance(groups.dtype, pd.CategoricalDtype) else groups.unique()
    tables = []
    for group in order:
        rows = rollouts[(groups == group).to_numpy()]
        for cap in np.asarray(caps):
            solved = replay(
                rows.length.to_numpy(), rows.verdict.eq("correct").to_numpy(), np.full(len(rows), cap)
            ).solved
            table = ratio_intervals(rows.question_id.to_numpy(), np.zeros(len(rows), int), solved, 1)
            tables.append(table.assign(group=group, cap=int(cap)))
    return pd.concat(tables, ignore_index=True)[["group", "cap", "n", "questions", "mean", "lower", "upper"]]
