"""Effects with intervals: paired differences in accuracy, by a two-level bootstrap of questions, then streams.

**What comes in.** A table of results, a row for each ``stream, scarcity, policy, draw, stream_seed`` with ``accuracy``
(a fraction). A *draw* is one resample of the pool's questions, with replacement and within tiers, the same for all
streams, budgets and policies. A ``stream_seed`` is one stream of a draw, its order and its choice of questions; streams
of a draw are averaged. Tables without ``draw`` have one stream a draw. A policy (and the baseline) is a name in
``policy``, or a table of its own with one row for each stream, budget and stream seed.

**What comes out.** ``effect`` is the mean over draws, a fraction; ``low, high`` its 95% interval, the standard bootstrap
interval ``effect ± t·s``: ``s`` is the standard deviation *over draws*, not divided by their root, since each draw is a
replicate of the whole experiment, and ``t`` is Student's quantile, since draws are few. More draws make the interval
more exact, not narrower. What luck of the stream is left in a draw makes it a little too wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t

LEVEL = 0.95  # of all intervals

#: A policy's rows: its name in a table of results, or a table of its own.
Rows = str | pd.DataFrame


class MeanEffect(NamedTuple):
    """One effect over many cells, as fractions, and the share of the cells in which the effect is above zero."""

    effect: float
    low: float
    high: float
    share_of_cells_above: float
    cells: int


def of_draws(values: ArrayLike) -> tuple[float, float, float]:
    """Mean of a statistic that was computed once in each draw, and its 95% interval; NaN if there are none.

    >>> [round(x, 2) for x in of_draws([0.1, 0.2, 0.3])]
    [0.2, -0.23, 0.63]
    """
    values = np.asarray(values, dtype=float)
    effect = values.mean() if values.size else np.nan
    spread = values.std(ddof=1) if values.size > 1 else np.nan
    low, high = t.interval(LEVEL, max(values.size - 1, 1), effect, spread) if spread > 1e-12 else (effect, effect)
    return float(effect), float(low), float(high)


def paired(results: pd.DataFrame, policy: Rows, baseline: Rows, column: str = "accuracy") -> pd.DataFrame:
    """``stream, scarcity, draw, effect``: a policy minus a baseline in each draw, served with the same streams."""
    ours, theirs = (_cells(results, rows, column) for rows in (policy, baseline))
    if missing := len(ours.index.difference(theirs.index)):
        raise ValueError(f"the baseline has no row for {missing} of {len(ours)} streams, budgets and draws")
    difference = (ours - theirs.loc[ours.index]).rename("effect")
    return difference.groupby(["stream", "scarcity", "draw"], sort=False).mean().reset_index()


def _cells(results: pd.DataFrame, rows: Rows, column: str) -> pd.Series:
    """A policy's column by stream, budget, draw and stream seed."""
    table = results[results["policy"] == rows] if isinstance(rows, str) else rows
    table = table if "draw" in table else table.assign(draw=table["stream_seed"])
    cells = table.set_index(["stream", "scarcity", "draw", "stream_seed"])[column]
    if cells.empty or cells.index.has_duplicates:
        name = rows if isinstance(rows, str) else "the table"
        found = "no rows" if cells.empty else "several rows for one stream, budget and stream seed"
        raise ValueError(f"{name} has {found}; give the rows of one policy with one setting")
    return cells


def paired_effects(
    results: pd.DataFrame, policy: Rows, baseline: Rows, by: Sequence[str] = ("stream", "scarcity")
) -> pd.DataFrame:
    """Effects in single cells: ``*by, effect, low, high, n, p, p_holm``; ``n`` is the number of draws.

    ``by`` is any of ``stream`` and ``scarcity``; what is not named is averaged, draw by draw. ``p`` is two-sided, and
    ``p_holm`` corrected for all rows of the table: name single cells by that one.
    """
    by = list(by)
    draws = paired(results, policy, baseline).groupby([*by, "draw"], sort=False)["effect"].mean()
    rows = [
        (*(key if isinstance(key, tuple) else (key,)), *of_draws(values), len(values), p_value(values))
        for key, values in draws.groupby(by if len(by) > 1 else by[0], sort=False)
    ]
    table = pd.DataFrame(rows, columns=[*by, "effect", "low", "high", "n", "p"])
    return table.assign(p_holm=holm(table["p"]))


def mean_effect(results: pd.DataFrame, policy: Rows, baseline: Rows) -> MeanEffect:
    """The mean effect over all streams and budgets of the table: one test, however many cells there are."""
    differences = paired(results, policy, baseline)
    cells = differences.groupby(["stream", "scarcity"])["effect"].mean()
    draws = differences.groupby("draw")["effect"].mean()
    return MeanEffect(*of_draws(draws), float((cells > 0).mean()), len(cells))


def p_value(values: ArrayLike) -> float:
    """Two-sided p of a mean of 0, for a statistic that was computed once in each draw."""
    values = np.asarray(values, dtype=float)
    if values.size < 2 or (spread := values.std(ddof=1)) <= 1e-12:
        return float(values.size < 2 or abs(values[0]) <= 1e-12)
    return float(2 * t.sf(abs(values.mean()) / spread, values.size - 1))


def holm(p: ArrayLike) -> np.ndarray:
    """p-values corrected for their number by Holm's step-down method.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected
