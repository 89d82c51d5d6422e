"""Our numbers beside the paper's: accuracies cell by cell, and the data that they were made on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from . import paper
from .experiments import gains, interval
from .streams import TIERS

#: The paper's row that a policy is compared with, where it has another name: the paper reports one oracle.
PAPER_ROW = {"oracle-paper": "oracle"}

#: Verdicts of :func:`compare`: on the gain over Uniform; at the paper's scale (and of :func:`data`) on the number.
SAME, OPPOSITE, UNDECIDED, BASELINE = "same sign", "opposite sign", "undecided", "baseline"
INSIDE, HIGHER, LOWER = "inside", "paper higher", "paper lower"
#: Of both, where the paper has no number.
ABSENT = "not in the paper"


def compare(
    results: pd.DataFrame,
    study: paper.Study,
    printed: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    at_scale: bool = False,
) -> pd.DataFrame:
    """Results beside a table of accuracies of the paper, cell by cell.

    Accuracies of different models on different questions cannot agree, so the verdict is about the *gain over
    Uniform*: whether it has the sign that it has in the paper, or the interval of the paired gain has zero
    inside (or at its edge).

    Parameters
    ----------
    results : DataFrame
        Of :func:`clear_lib.experiments.run`; without the policy ``uniform`` there are no gains. CLEAR with another
        ``utility`` counts as a policy of that name (Table 3).
    study : Study
        Says which printed budget each of ours stands for, and which table is meant.
    printed : mapping, optional
        Another table of the paper: Table 3.
    at_scale : bool
        Whether the results claim to be at the paper's own scale (a replica). Then the verdict is about the number:
        whether the paper's is inside the interval.

    Returns
    -------
    DataFrame
        Columns ``stream, scarcity, policy`` (names), ``tokens`` (ours, per query), ``paper_tokens``, then
        accuracy in per cent: ``paper, ours, difference, low, high``, the paired gain over Uniform in points:
        ``paper_gain, gain, gain_low, gain_high``, ``n`` (queries of a stream), ``seeds`` (streams), ``verdict``.
        ``paper`` is NaN where the paper has no such row.
    """
    printed = study.table if printed is None else printed
    rows, value = results.copy(), results.get("value", results["policy"])
    shapes = (rows["policy"] == "clear") & value.isin(["triangular", "quadratic"])
    rows.loc[shapes, "policy"] = value[shapes]
    rows = gains(rows) if (rows["policy"] == "uniform").any() else rows.assign(gain=np.nan)
    by = ["stream", "scarcity", "policy"]
    table = interval(rows, ["accuracy", "gain"], by)
    first = rows.groupby(by, sort=False)[["budget_per_query", "n"]].first().reset_index()
    table = table.merge(first, on=by)
    table[points] = 100 * table[points := [name for name in table if name.startswith(("accuracy", "gain"))]]
    table["paper_tokens"] = table["scarcity"].map(study.budgets_of(table["scarcity"]))

    def number(row: str, stream: str, tokens: int) -> float:
        cell = printed.get(PAPER_ROW.get(row, row), {}).get(stream, np.nan)
        return cell.get(tokens, np.nan) if isinstance(cell, Mapping) else cell

    cells = table[["stream", "paper_tokens"]].itertuples(index=False, name=None)
    table["paper"], base = np.array([
        (number(policy, *cell), number("uniform", *cell)) for policy, cell in zip(table["policy"], cells, strict=True)
    ]).T  # fmt: skip
    table["paper_gain"] = (table["paper"] - base).round(1)
    names = {"budget_per_query": "tokens", "accuracy": "ours", "accuracy_low": "low", "accuracy_high": "high"}
    table = table.rename(columns=names)
    unclear = (table["gain_low"] <= 0) & (table["gain_high"] >= 0)
    same = np.sign(table["gain"]) == np.sign(table["paper_gain"])
    cases = [table["policy"] == "uniform", table["paper"].isna(), unclear, same]
    on_gain = np.select(cases, [BASELINE, ABSENT, UNDECIDED, SAME], OPPOSITE)
    table = table.assign(difference=table["ours"] - table["paper"], verdict=_inside(table) if at_scale else on_gain)
    columns = [
        "stream", "scarcity", "policy", "tokens", "paper_tokens", "paper", "ours", "difference", "low", "high",
        "paper_gain", "gain", "gain_low", "gain_high", "n", "seeds", "verdict",
    ]  # fmt: skip
    return table[columns]


def _inside(table: pd.DataFrame) -> np.ndarray:
    """Whether ``paper`` is between ``low`` and ``high``."""
    sides = [table["paper"].isna(), table["paper"] > table["high"] + 1e-9, table["paper"] < table["low"] - 1e-9]
    return np.select(sides, [ABSENT, HIGHER, LOWER], INSIDE)


def data(rollouts: pd.DataFrame, sets: Sequence[paper.DataSet], use: str) -> pd.DataFrame:
    """Question counts, pass rates and mean lengths by tier, the paper's (Table 6 or 7) beside those of rollouts.

    Parameters
    ----------
    rollouts : DataFrame
        ``tier, verdict, length``, one rollout a question.
    sets : sequence of DataSet
    use : {"evaluation", "predictor"}
        Which sets.

    Returns
    -------
    DataFrame
        A row a tier (and ``all``) and quantity: ``tier, what, paper, ours, difference, low, high, n, verdict``. The
        interval is the 95% over questions: Wilson's of a share, 1.96 standard errors of a mean.
    """
    rows = []
    correct = rollouts["verdict"].eq("correct")
    for tier in (*TIERS, "all"):
        theirs = [row for row in sets if row.use == use and tier in (row.tier, "all")]
        mine = rollouts["tier"].eq(tier) | (tier == "all")
        n, right, lengths = int(mine.sum()), int(correct[mine].sum()), rollouts.loc[mine, "length"]
        total = sum(row.total for row in theirs) or np.nan
        if not (n or theirs):
            continue
        share = binomtest(right, n).proportion_ci(method="wilson") if n else (np.nan, np.nan)
        error = 1.96 * lengths.std() / np.sqrt(n) if n > 1 else np.nan
        mean = lengths.mean()
        rows += [
            (tier, "questions", total, n or np.nan, np.nan, np.nan, n),
            (tier, "Pass@1 (%)", 100 * sum(row.correct for row in theirs) / total, 100 * right / n if n else np.nan,
             100 * share[0], 100 * share[1], n),
            (tier, "mean length (tokens)", sum(row.total * row.mean_length for row in theirs) / total, mean,
             mean - error, mean + error, n),
        ]  # fmt: skip
    # As objects: counts stay whole numbers.
    table = pd.DataFrame(rows, columns=["tier", "what", "paper", "ours", "low", "high", "n"], dtype=object)
    table["difference"] = table["ours"] - table["paper"]
    counted = table["what"] == "questions"
    table["verdict"] = np.where(counted | table["ours"].isna(), "", _inside(table))
    return table
