"""Tables of results reduced: paired effects with intervals, prediction ranges, the best of a sweep, shares of a gap.

A ``stream_seed`` is a *draw*: one resample of the pool's questions, the same for all policies, and a stream of each kind
from it. The interval is ``effect ± t·s``: ``s`` is the standard deviation *over draws*, not divided by their root, since
each draw is a replicate of the whole experiment, and ``t`` is Student's quantile, since draws are few. More draws make
the interval more exact, not narrower. What luck of the stream is left in a draw makes it a little too wide.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import bootstrap, t

LEVEL = 0.95  # of all intervals
REPLICATE = ["stream", "stream_seed", "scarcity"]  # what a policy and its baseline are paired by
CELL = ("stream", "scarcity", "policy")  # what results are averaged within, over draws

#: A policy's rows: its name in a table of results, or a table of its own.
Rows = str | pd.DataFrame


class MeanEffect(NamedTuple):
    """One effect over many cells, as fractions, and the share of the cells in which the effect is above zero."""

    effect: float
    low: float
    high: float
    share_of_cells_above: float
    cells: int

    @property
    def points(self) -> dict[str, float]:
        """The effect and its interval in points, for the prose."""
        return {"mean": 100 * self.effect, "low": 100 * self.low, "high": 100 * self.high}

    def word(self, above: str, below: str, unclear: str) -> str:
        """Which of three words the interval stands for."""
        return above if self.low > 0 else below if self.high < 0 else unclear


def of_draws(values: ArrayLike) -> tuple[float, float, float]:
    """Mean of a statistic that was computed once in each draw, and its 95% interval; NaN if there are none."""
    values = np.asarray(values, dtype=float)
    effect = values.mean() if values.size else np.nan
    spread = values.std(ddof=1) if values.size > 1 else np.nan
    low, high = t.interval(LEVEL, max(values.size - 1, 1), effect, spread) if spread > 1e-12 else (effect, effect)
    return float(effect), float(low), float(high)


def of_questions(values: ArrayLike) -> tuple[float, float, float]:
    """Mean of values that are independent of each other, and its 95% interval by resampling them."""
    values = np.asarray(values, dtype=float)
    found = bootstrap((values,), np.mean, confidence_level=LEVEL, rng=np.random.default_rng(0), method="percentile")
    return float(values.mean()), *map(float, found.confidence_interval)


def _of(results: pd.DataFrame, rows: Rows) -> pd.DataFrame:
    """A policy's rows; ``ValueError`` unless there is one for each stream, budget and draw."""
    table = results[results["policy"] == rows] if isinstance(rows, str) else rows
    if table.empty or table.duplicated(REPLICATE).any():
        name = rows if isinstance(rows, str) else "the table"
        found = "no rows" if table.empty else "several rows for one stream, budget and draw"
        raise ValueError(f"{name} has {found}; give the rows of one policy with one setting")
    return table


def gains(results: pd.DataFrame, baseline: Rows = "uniform") -> pd.DataFrame:
    """Results, of any number of policies and settings, with ``gain``: their accuracy minus the baseline's in the same draw."""
    base, pairs = _of(results, baseline).set_index(REPLICATE)["accuracy"], pd.MultiIndex.from_frame(results[REPLICATE])
    if missing := (~pairs.isin(base.index)).sum():
        raise ValueError(f"the baseline has no row for {missing} of {len(pairs)} streams, budgets and draws")
    return results.assign(gain=results["accuracy"].to_numpy() - base.loc[pairs].to_numpy())


def mean_interval(results: pd.DataFrame, column: str, by: Sequence[str] = CELL) -> pd.DataFrame:
    """Mean of a column and its 95% interval (:func:`of_draws`): ``column, column_low, column_high, seeds``."""
    draws = results.groupby([*by, "stream_seed"], sort=False, observed=True)[column].mean()
    groups = draws.groupby(list(by), sort=False, observed=True)
    rows = [(*key, *of_draws(values), len(values)) for key, values in groups]
    return pd.DataFrame(rows, columns=[*by, column, f"{column}_low", f"{column}_high", "seeds"])


def paired_effects(
    results: pd.DataFrame, policy: Rows, baseline: Rows, by: Sequence[str] = ("stream", "scarcity")
) -> pd.DataFrame:
    """Effects of one policy in cells ``by``, what is not named averaged draw by draw; ``p_holm`` corrects for all rows."""
    paired = gains(_of(results, policy), _of(results, baseline))
    table = mean_interval(paired, "gain", by).set_axis([*by, "effect", "low", "high", "n"], axis=1)
    draws = paired.groupby([*by, "stream_seed"], sort=False)["gain"].mean()
    p = draws.groupby(list(by), sort=False).agg(p_value).to_numpy()
    return table.assign(p=p, p_holm=holm(p))


def mean_effect(results: pd.DataFrame, policy: Rows, baseline: Rows) -> MeanEffect:
    """The mean effect over all streams and budgets of the table: one test, however many cells there are."""
    paired = gains(_of(results, policy), _of(results, baseline))
    cells, draws = (paired.groupby(by)["gain"].mean() for by in (["stream", "scarcity"], "stream_seed"))
    return MeanEffect(*of_draws(draws), float((cells > 0).mean()), len(cells))


def p_value(values: ArrayLike) -> float:
    """Two-sided p of a mean of 0, for a statistic that was computed once in each draw."""
    values = np.asarray(values, dtype=float)
    if values.size < 2 or (spread := values.std(ddof=1)) <= 1e-12:
        return float(values.size < 2 or abs(values[0]) <= 1e-12)
    return float(2 * t.sf(abs(values.mean()) / spread, values.size - 1))


def holm(p: ArrayLike) -> np.ndarray:
    """p-values corrected for their number by Holm's step-down method."""
    rising = pd.Series(np.asarray(p, dtype=float)).sort_values()
    steps = (rising * np.arange(len(rising), 0, -1)).cummax().clip(upper=1.0)
    return steps.sort_index().to_numpy()


def prediction_range(results: pd.DataFrame, columns: Sequence[str], by: Sequence[str] = CELL) -> pd.DataFrame:
    """Mean and central 95% of ``columns`` over draws: where one new stream lies, not the mean (:func:`.mean_interval`)."""
    groups = results.groupby(list(by), sort=False, observed=True)
    parts = {}
    for column in columns:
        parts[column] = groups[column].mean()
        parts[f"{column}_low"] = groups[column].quantile(0.025)
        parts[f"{column}_high"] = groups[column].quantile(0.975)
    return pd.DataFrame(parts | {"seeds": groups["stream_seed"].nunique()}).reset_index()


def leave_one_out(swept: pd.DataFrame, column: str = "constant") -> pd.DataFrame:
    """The rows of a sweep with, for each stream and policy, the value of ``column`` that is best on the other streams."""
    kept = []
    for (stream, policy), rows in swept.groupby(["stream", "policy"], sort=False):
        others = swept[(swept["policy"] == policy) & (swept["stream"] != stream)]
        if others.empty:
            raise ValueError(f"no other stream to choose the constant of {policy} for {stream!r} on")
        best = others.groupby(column, sort=False)["accuracy"].mean().round(9).idxmax()
        kept.append(rows[rows[column] == best])
    return pd.concat(kept, ignore_index=True)


def curve(swept: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """The verdict by constant: ``policy, constant`` and the mean effect (:func:`.effects.mean_effect`) of each."""
    groups = swept.groupby(["policy", "constant"], sort=False)
    rows = [(*names, *mean_effect(rows, rows, baseline)) for names, rows in groups]
    return pd.DataFrame(rows, columns=["policy", "constant", *MeanEffect._fields])


def mean_stream(results: pd.DataFrame) -> pd.DataFrame:
    """Accuracy averaged over the streams of a draw: columns ``stream_seed, scarcity, policy, value, accuracy``."""
    by = ["stream_seed", "scarcity", "policy", "value"]
    return results.groupby(by, sort=False, dropna=False)["accuracy"].mean().reset_index()


def best_fixed(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of a sweep at the one value with the highest mean accuracy, chosen with the results in view."""
    return results[results["value"] == results.groupby("value")["accuracy"].mean().idxmax()]


def best_in_each(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the policy, accounting and value that are best in each cell, chosen with the results in view."""
    cell, kind = ["stream", "scarcity"], ["policy", "accounting", "setting", "value"]
    means = results.groupby([*cell, *kind], dropna=False, sort=False)["accuracy"].mean()
    best = pd.MultiIndex.from_tuples(means.groupby(cell, sort=False).idxmax(), names=means.index.names)
    return results.merge(best.to_frame(index=False), on=[*cell, *kind])


def gap_closed(results: pd.DataFrame, baseline: pd.DataFrame, ceiling: pd.DataFrame) -> pd.DataFrame:
    """Paired ``gain`` over a baseline with its interval, the ``gap`` to a ceiling, and the share of it ``closed``."""
    table = mean_interval(gains(results, baseline=baseline), "gain")
    gap = gains(ceiling, baseline=baseline).groupby(["stream", "scarcity"])["gain"].mean()
    table["gap"] = gap.loc[pd.MultiIndex.from_frame(table[["stream", "scarcity"]])].to_numpy()
    table["closed"] = (table["gain"] / table["gap"]).where(table["gap"] >= 0.005)
    return table


def tally(table: pd.DataFrame) -> pd.Series:
    """Cells of :func:`gap_closed` by the interval of their gain; over those with a gap, mean gain and share closed."""
    gap, wins, losses = table["closed"].notna(), table["gain_low"] > 0, table["gain_high"] < 0
    counts = {"wins": gap & wins, "losses": gap & losses, "undecided": gap & ~wins & ~losses, "no gap": ~gap}
    wide = table[gap]
    share = wide["gain"].sum() / wide["gap"].sum() if len(wide) else np.nan
    counted = {name: int(cells.sum()) for name, cells in counts.items()}
    return pd.Series(counted | {"gain": wide["gain"].mean(), "closed": share})


def tally_words(table: pd.DataFrame) -> dict[str, float | str]:
    """What prose says of a :func:`tally`: counts of cells, ``cells`` with a gap, ``gain`` in points, and what is closed."""
    row = tally(table)
    if np.isnan(row["closed"]):
        closed = "finds no gap to close"
    elif row["closed"] >= 0:
        closed = f"closes {100 * row['closed']:.0f}% of the gap"
    else:
        closed = f"makes the gap {-100 * row['closed']:.0f}% wider"
    counts = {name: int(row[name]) for name in ("wins", "losses", "undecided", "no gap")}
    return counts | {"cells": int(table["closed"].notna().sum()), "gain": 100 * row["gain"], "closed": closed}
