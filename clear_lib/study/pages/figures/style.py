"""Colours, markers, panels and legends that all figures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clear_lib.study.pages.tables import label
from clear_lib.study.setup.streams import TIERS

#: One colour a tier, from light to dark as it gets harder.
TIER_COLORS = dict(zip(TIERS, sns.color_palette("viridis_r", len(TIERS) + 1)[1:], strict=True))

#: Colour, marker and dashes of each policy, the same in every figure.
POLICY_STYLE = {
    "uniform": ("0.45", "o", "--"),
    "predictor": ("#56B4E9", "s", "--"),
    "tale-ep": ("#CC79A7", "D", "--"),
    "clear-heuristic": ("#E69F00", "^", "-"),
    "clear-auction": ("#009E73", "v", "-"),
    "clear": ("#D55E00", "o", "-"),
    "clear-exact": ("#882255", "d", "-"),
    "clear-lognormal": ("#117733", "p", "-"),
    "clear-sequential": ("#7B3294", "*", "-"),
    "oracle": ("black", "P", ":"),
    "oracle-paper": ("#0072B2", "X", ":"),
}

BLUE, ORANGE, VERMILION, SKY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9"

#: Keyword arguments of a line, by the name of its policy, tier, stream or other group.
Looks = dict[str, dict[str, Any]]


def looks(names: Iterable[str]) -> Looks:
    """Colour, marker, dashes and label of a line for each policy, tier, stream or other group."""
    names, found = list(dict.fromkeys(names)), {}
    for name, other in zip(names, sns.color_palette("colorblind", len(names)), strict=True):
        color, marker, dashes = POLICY_STYLE.get(name, (TIER_COLORS.get(name, other), "o", "-"))
        found[name] = {"color": color, "marker": marker, "linestyle": dashes, "label": label(name)}
    return found


def panels(
    n: int = 1, columns: int | None = None, *, width: float = 9.2, height: float = 3.3, **shared: Any
) -> tuple[Figure, Sequence[Axes]]:
    """``n`` panels in rows of ``columns``, by default all in one row; ``height`` is that of a row, in inches."""
    columns = columns or n
    rows = -(-n // columns)
    size = (width, rows * height)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **shared)
    sns.despine(figure)
    for ax in axes.flat[n:]:
        ax.set_visible(False)
    return figure, axes.flat[:n]


def panels_of(values: Iterable[Any], columns: int | None = None, **options: Any) -> tuple[Figure, dict[Any, Axes]]:
    """One panel for each different value, with its label as the title."""
    values = list(dict.fromkeys(values))
    figure, axes = panels(len(values), columns, **options)
    for ax, value in zip(axes, values, strict=True):
        ax.set_title(label(value))
    return figure, dict(zip(values, axes, strict=True))


def legend(figure: Figure, columns: int = 4, **options: Any) -> None:
    """One legend below all panels, with each label once."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, handle)
    figure.legend(entries.values(), entries.keys(), frameon=False, ncols=columns, loc="outside lower center", **options)


def percent(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The table with a column of fractions and its interval in per cent."""
    return table.assign(**100 * table[[name for name in table if name in (column, f"{column}_low", f"{column}_high")]])


def line_with_band(ax: Axes, rows: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    """Line of ``y`` against ``x`` and, where the table has them, the band from ``<y>_low`` to ``<y>_high``."""
    rows = rows.sort_values(x)
    ax.plot(rows[x], rows[y], **{"markersize": 5, "linewidth": 1.4} | look)
    if f"{y}_low" in rows:
        ax.fill_between(rows[x], rows[f"{y}_low"], rows[f"{y}_high"], color=look["color"], alpha=0.13, linewidth=0)


def marks_with_intervals(ax: Axes, x: pd.Series, y: pd.Series, low: pd.Series, high: pd.Series, **look: Any) -> None:
    """Marks of ``y`` against ``x`` with vertical intervals from ``low`` to ``high``."""
    ax.errorbar(x, y, np.maximum([y - low, high - y], 0), fmt="o", **look)


def log_ticks(ax: Axes, values: Iterable[float] | None = None) -> None:
    """A logarithmic x axis with ticks at some values, to two digits; without values at powers of two."""
    if values is None:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:,g}")
    else:
        ax.set_xscale("log")
        ticks = sorted(set(values))
        ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        ax.minorticks_off()


def policy_rows(ax: Axes, policies: Sequence[str]) -> None:
    """The vertical axis as a list of policies from top to bottom."""
    ax.set_yticks(range(len(policies)), [label(policy) for policy in policies])
    ax.invert_yaxis()
    sns.despine(ax.figure, left=True)
