"""How the figures of the book look: one size, one colour, marker and dash for each thing, in every figure."""

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clear_lib.study.pages.tables import label
from clear_lib.study.setup.streams import TIERS

#: The width of a page's text, in inches (688 px), so that a figure is shown as large as it is drawn.
COLUMN = 688 / 96

COLORS = sns.color_palette("colorblind").as_hex()[:8]
MARKERS, DASHES = "osD^vP*X", ("-", "--", "-.", ":") * 2

#: What every figure looks like unless it says otherwise: 9 pt, no frame, lines that differ in more than their colour.
LOOK = {
    **dict.fromkeys([f"{part}.labelsize" for part in ("axes", "xtick", "ytick")], 9),
    **dict.fromkeys(["font.size", "axes.titlesize", "figure.titlesize", "legend.fontsize", "legend.title_fontsize"], 9),
    "figure.figsize": (COLUMN, 2.9),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=DASHES),
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "svg.hashsalt": "clear",
}

#: Colour, marker and dashes of each tier (darker as it gets harder) and of each policy, the same in every figure.
STYLES = {
    **dict(zip(TIERS, zip(("#E1A100", "#3FA35B", "#2C6FBB", "#3B0F5C"), MARKERS, DASHES, strict=False), strict=True)),
    "uniform": ("0.45", "o", "--"),
    "predictor": ("#56B4E9", "s", "--"),
    "tale-ep": ("#CC79A7", "<", "--"),
    "clear-heuristic": ("#E69F00", "^", "-"),
    "clear-auction": ("#009E73", "v", "-"),
    "clear": ("#D55E00", "D", "-"),
    "clear-exact": ("#4B0082", "d", "-."),
    "clear-lognormal": ("#8B5A2B", "p", "-."),
    "clear-sequential": ("#B8A000", "*", "-."),
    "oracle": ("black", "P", ":"),
    "oracle-paper": ("#0072B2", "X", ":"),
}
TIER_COLORS = {tier: STYLES[tier][0] for tier in TIERS}

BLUE, ORANGE, VERMILION, SKY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9"


def use_style() -> None:
    """Draw as the book does from here on: its look, as SVG in a notebook."""
    from matplotlib_inline.config import InlineBackend

    sns.set_theme(style="ticks", rc=LOOK)
    InlineBackend.instance().figure_formats = {"svg"}


#: Keyword arguments of a line, by the name of its policy, tier, stream or other group; panels, by what they are of.
Looks, Panels = dict[str, dict[str, Any]], dict[Any, Axes]


def looks(names: Iterable[str]) -> Looks:
    """Colour, marker, dashes and label of a line for each policy, tier, stream or other group."""
    found = {}
    for name, other in zip(dict.fromkeys(names), cycle(zip(COLORS, MARKERS, DASHES, strict=True)), strict=False):
        color, marker, dashes = STYLES.get(name, other)
        found[name] = {"color": color, "marker": marker, "linestyle": dashes, "label": label(name)}
    return found


def panels(
    n: int = 1, columns: int | None = None, *, height: float = 2.9, **shared: Any
) -> tuple[Figure, Sequence[Axes]]:
    """``n`` panels in rows of ``columns``, by default all in one row; ``height`` is that of a row, in inches."""
    columns = columns or n
    rows = -(-n // columns)
    size = (COLUMN, rows * height)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **shared)
    for ax in axes.flat[n:]:
        ax.set_visible(False)
    return figure, axes.flat[:n]


def panels_of(values: Iterable[Any], columns: int | None = None, **options: Any) -> tuple[Figure, Panels]:
    """One panel for each different value, with its label as the title."""
    values = list(dict.fromkeys(values))
    figure, axes = panels(len(values), columns, **options)
    for ax, value in zip(axes, values, strict=True):
        ax.set_title(label(value))
    return figure, dict(zip(values, axes, strict=True))


def legend(figure: Figure, columns: int = 4, **options: Any) -> Figure:
    """The figure with one legend below all panels, with each label once."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, handle)
    figure.legend(entries.values(), entries.keys(), ncols=columns, loc="outside lower center", **options)
    return figure


def percent(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The table with a column of fractions and its interval in per cent."""
    return table.assign(**100 * table[[name for name in table if name in (column, f"{column}_low", f"{column}_high")]])


def line_with_band(ax: Axes, rows: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    """Line of ``y`` against ``x`` and, where the table has them, the band from ``<y>_low`` to ``<y>_high``."""
    rows = rows.sort_values(x)
    ax.plot(rows[x], rows[y], **look)
    if f"{y}_low" in rows:
        ax.fill_between(rows[x], rows[f"{y}_low"], rows[f"{y}_high"], color=look["color"], alpha=0.13, linewidth=0)


def marks_with_intervals(
    ax: Axes, x: Any, y: Any, low: pd.Series, high: pd.Series, along: str = "y", **look: Any
) -> None:
    """Marks of ``y`` against ``x`` with intervals from ``low`` to ``high`` along an axis."""
    middle = {"x": x, "y": y}[along]
    look = {"marker": "o", "markersize": 4} | look | {"linestyle": ""}
    ax.errorbar(x, y, **look | {f"{along}err": np.maximum([middle - low, high - middle], 0)})


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
