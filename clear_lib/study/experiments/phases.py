"""The three-phase study (§2): accuracy by the length of a solution, and by a cap. Intervals are over resampled questions."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

from clear_lib.allocation.utility import Surge
from clear_lib.study.recordings import recording
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import TIERS

Array = np.ndarray
DRAWS = 1000  # resamplings of the questions for an interval
ENOUGH = 10  # questions of a bin at an end


def samples(profile: Profile, laboratory: Profile, artifacts: str | Path) -> tuple[Profile, pd.DataFrame]:
    """Samples of the profile, if a question among them has right and wrong ones, or else of the laboratory model."""
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


def _centred(values: pd.Series, questions: pd.Series) -> pd.Series:
    return values - values.groupby(questions).transform("mean")


def sets(rollouts: pd.DataFrame, few: int) -> pd.Series:
    """Data set of each rollout, a categorical in order of tier and size; sets of fewer than ``few`` questions are one."""
    known = rollouts.groupby("dataset").agg(tier=("tier", "first"), n=("question_id", "nunique"))
    known = known.assign(tier=known["tier"].map(TIERS.index)).sort_values(["tier", "n"], ascending=[True, False])
    rest = ", ".join(known.index[known["n"] < few])
    names = {name: name if n >= few else rest for name, n in known["n"].items()}
    order = sorted(dict.fromkeys(names.values()), key=lambda name: name == rest)  # the rest is last
    return pd.Series(pd.Categorical(rollouts.dataset.map(names), order), index=rollouts.index, name="set")


def _resampled(questions: Array, group: Array, value: Array, groups: int) -> tuple[Array, Array, Array]:
    """Count and sum of each group, ``(questions, groups)``, and its means over resampled questions, ``(DRAWS, groups)``."""
    names, question = np.unique(questions, return_inverse=True)
    inside = (group >= 0) & (group < groups)
    counts, sums = np.zeros((2, names.size, groups))
    np.add.at(counts, (question[inside], group[inside]), 1)
    np.add.at(sums, (question[inside], group[inside]), np.asarray(value, float)[inside])
    weights = np.random.default_rng(0).multinomial(names.size, np.full(names.size, 1 / names.size), size=DRAWS)
    with np.errstate(invalid="ignore"):  # an empty group has no mean
        return counts, sums, (weights @ sums) / (weights @ counts)


def ratio_intervals(questions: Array, group: Array, value: Array, groups: int) -> pd.DataFrame:
    """Mean of ``value`` within each group (a row), NaN if empty, with a 95% interval over resampled questions."""
    counts, sums, drawn = _resampled(questions, group, value, groups)
    n, asked = counts.sum(0), (counts > 0).sum(0)
    mean = np.divide(sums.sum(0), n, out=np.full(groups, np.nan), where=n > 0)
    lower, upper = np.full((2, groups), np.nan)
    lower[n > 0], upper[n > 0] = np.nanpercentile(drawn[:, n > 0], [2.5, 97.5], axis=0)
    if np.isin(value, (0, 1)).all():  # all alike, verdicts have no width but in the exact interval
        alike = 0.025 ** (1 / np.maximum(asked, 1))
        lower, upper = np.minimum(lower, alike), np.maximum(upper, 1 - alike)
    return pd.DataFrame({"n": n.astype(int), "questions": asked, "mean": mean, "lower": lower, "upper": upper})


class Effect(NamedTuple):
    """How much more often some solutions are right than others, such as the longer half, with a 95% interval."""

    difference: float
    lower: float
    upper: float

    @property
    def words(self) -> str:
        clear = "more" if self.lower > 0 else "less" if self.upper < 0 else None
        return f"{clear} often right" if clear else "not clearly more or less often right"

    def __str__(self) -> str:
        points = [f"{round(100 * value, 0) + 0.0:+.0f}" for value in self]  # no -0
        return f"{points[0]} points (95%: {points[1]} to {points[2]})"


def longer(rollouts: pd.DataFrame, within: bool = False) -> Effect:
    """Compare the longer half of all solutions with the shorter; ``within`` questions, both relative to their means."""
    length, right, by = np.log(rollouts.length), _right(rollouts), rollouts.question_id
    if within:
        length, right = _centred(length, by), _centred(right, by)
    group = (length > (0 if within else length.median())).to_numpy(int)
    counts, sums, drawn = _resampled(by.to_numpy(), group, right, 2)
    short, long = sums.sum(0) / counts.sum(0)
    lower, upper = np.nanpercentile(drawn[:, 1] - drawn[:, 0], [2.5, 97.5])
    return Effect(float(long - short), float(lower), float(upper))


def _binned(rollouts: pd.DataFrame, position: pd.Series, value: pd.Series, edges: Array) -> pd.DataFrame:
    """Mean of ``value`` in bins of ``position``, one row a bin, with the bin's median position in a column of its name."""
    group = np.searchsorted(edges, position, side="right") - 1
    table = ratio_intervals(rollouts.question_id.to_numpy(), group, value.to_numpy(), len(edges) - 1)
    table.insert(0, position.name, position.groupby(group).median().reindex(table.index))
    return table


def accuracy_by_length(rollouts: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Accuracy in bins of length (tokens) that hold about equally many rollouts, as far as equal lengths allow."""
    edges = np.unique(np.quantile(rollouts.length, np.linspace(0, 1, bins + 1)))
    edges[-1] = np.inf  # the longest solution belongs to the last bin
    return _binned(rollouts, rollouts.length, _right(rollouts), edges)


def within_questions(rollouts: pd.DataFrame, edges: Array) -> pd.DataFrame:
    """Accuracy minus the question's own, in bins of ``ratio``: length over the geometric mean length of its question."""
    ratio = np.exp(_centred(np.log(rollouts.length), rollouts.question_id)).rename("ratio")
    # An end that holds fewer than ENOUGH questions joins the next bin: resampling a few says nothing.
    for inner, outer in ((1, slice(0, 2)), (-2, slice(-2, None))):
        while len(edges) > 2 and rollouts.question_id[ratio.between(*edges[outer])].nunique() < ENOUGH:
            edges = np.delete(edges, inner)
    return _binned(rollouts, ratio, _centred(_right(rollouts), rollouts.question_id), edges)


def solved_by_cap(rollouts: pd.DataFrame, caps: Array, groups: pd.Series) -> pd.DataFrame:
    """Share of each group (tier, or :func:`sets`) solved under common caps (Figure 1), by replay of greedy rollouts."""
    caps, tables = np.asarray(caps), []
    in_order = isinstance(groups.dtype, pd.CategoricalDtype)
    for group, rows in rollouts.groupby(groups.array, sort=in_order, observed=True):
        solved = (rows.length.to_numpy() <= caps[:, None]) & rows.verdict.eq("correct").to_numpy()
        questions, cap = np.tile(rows.question_id.to_numpy(), caps.size), np.repeat(np.arange(caps.size), len(rows))
        table = ratio_intervals(questions, cap, solved.ravel(), caps.size)
        tables.append(table.assign(group=group, cap=caps))
    return pd.concat(tables, ignore_index=True)[["group", "cap", "n", "questions", "mean", "lower", "upper"]]


class Views(NamedTuple):
    """Samples of some questions seen twice: all ``together``, and ``within`` those that have right and wrong ones."""

    questions: int
    mixed: int  #: questions that have right and wrong ones
    together: Effect  #: longer half less shorter half
    within: Effect  #: the same relative to their question
    shortest: Effect  #: shortest bin less the question's own accuracy
    longest: Effect  #: longest bin, likewise


def views(rollouts: pd.DataFrame, edges: Array) -> Views:
    """Both views of samples in numbers, with the ends of the bins of :func:`within_questions`."""
    inside = mixed(rollouts)
    ends = within_questions(inside, edges).dropna().iloc[[0, -1]][["mean", "lower", "upper"]]
    shortest, longest = (Effect(*map(float, row)) for row in ends.to_numpy())
    counts = (rows["question_id"].nunique() for rows in (rollouts, inside))
    return Views(*counts, longer(rollouts), longer(inside, within=True), shortest, longest)


class SurgeFit(NamedTuple):
    """A fitted surge: ``threshold`` τ in tokens, its utility, and the root mean square error of the fit."""

    threshold: float
    utility: Surge
    error: float

    def __call__(self, tokens: Array) -> Array:
        return self.utility.value(np.asarray(tokens) - self.threshold)


def fit_surge(length: Array, accuracy: Array, weight: Array, narrowest: float = 0.14) -> SurgeFit:
    """Weighted least-squares fit of eq. 1 to bins of length (tokens), from several starts; ``1/β`` ≥ ``narrowest``."""
    length, accuracy, weight = (np.asarray(values, float) for values in (length, accuracy, weight))
    if length.size < 4:
        raise ValueError(f"a surge has three parameters and needs at least 4 bins, got {length.size}")

    def surge(tokens: Array, threshold: float, log_velocity: float, log_decay: float) -> Array:
        return Surge(np.exp(log_velocity), np.exp(log_decay)).value(tokens - threshold)

    fits = []
    bounds = ([-length.min(), -20, -20], [length.max(), 5, -np.log(narrowest)])
    for start, peak in product(np.quantile(length, (0.0, 0.25)) * 0.5, np.quantile(length, (0.25, 0.5, 0.9))):
        guess = (start, np.log(np.e * max(accuracy.max(), 1e-3) / peak), -np.log(max(peak, narrowest)))
        try:
            found, _ = curve_fit(surge, length, accuracy, guess, sigma=1 / np.sqrt(weight), maxfev=5000, bounds=bounds)
        except RuntimeError:  # this start did not converge; another will
            continue
        error = np.average((surge(length, *found) - accuracy) ** 2, weights=weight)
        fits.append(SurgeFit(float(found[0]), Surge(*np.exp(found[1:]).tolist()), float(np.sqrt(error))))
    if not fits:
        raise ValueError("no start of the surge fit converged; are the accuracies all equal?")
    return min(fits, key=lambda fit: fit.error)


class Bars(NamedTuple):
    """A question in the paper's Figure 2: solutions and correct ones in bins of length."""

    name: str
    edges: Array  #: tokens
    count: Array
    correct: Array
    lengths: Array  #: of the correct ones, sorted
    fit: SurgeFit | None

    @property
    def indifferent(self) -> Array:
        """Correct solutions of each bin if length did not matter."""
        return self.count * (self.correct.sum() / self.count.sum())

    @property
    def fitted(self) -> Array:
        """The surge in the middle of each bin; NaN without one."""
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        return self.fit(middle) if self.fit else np.full(middle.shape, np.nan)


def by_question(rollouts: pd.DataFrame, n: int = 4, bins: int = 8) -> list[Bars]:
    """The paper's Figure 2: for ``n`` questions, correct solutions in ``bins`` of length, and a surge fitted to those."""
    # Those whose solutions differ most in length, of those that are solved one to three times in four.
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
