"""Tables of results reduced: prediction ranges, the best of a sweep, and shares of a gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clear_lib.study.experiments.effects import CELL, gains, mean_interval


def prediction_range(results: pd.DataFrame, columns: Sequence[str], by: Sequence[str] = CELL) -> pd.DataFrame:
    """Mean and central 95% of ``columns`` over draws: where one new stream lies, not the mean (:func:`.mean_interval`)."""
    groups = results.groupby(list(by), sort=False, observed=True)
    parts = {}
    for column in columns:
        parts[column] = groups[column].mean()
        parts[f"{column}_low"] = groups[column].quantile(0.025)
        parts[f"{column}_high"] = groups[column].quantile(0.975)
    return pd.DataFrame(parts | {"seeds": groups["stream_seed"].nunique()}).reset_index()


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


def told(table: pd.DataFrame) -> dict[str, float | str]:
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
