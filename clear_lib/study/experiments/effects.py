"""Effects with intervals: paired differences in accuracy, by a two-level bootstrap of questions, then streams.

A ``stream_seed`` is a *draw*: one resample of the pool's questions, the same for all policies, and a stream of each kind
from it. The interval is ``effect ± t·s``: ``s`` is the standard deviation *over draws*, not divided by their root, since
each draw is a replicate of the whole experiment, and ``t`` is Student's quantile, since draws are few. More draws make
the interval more exact, not narrower. What luck of the stream is left in a draw makes it a little too wide.
"""

from __future__ import annotations

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
    rows = {key: (*of_draws(values), len(values)) for key, values in groups}
    index = pd.MultiIndex.from_tuples([key if isinstance(key, tuple) else (key,) for key in rows], names=list(by))
    columns = [column, f"{column}_low", f"{column}_high", "seeds"]
    return pd.DataFrame(list(rows.values()), index, columns).reset_index()


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
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected
