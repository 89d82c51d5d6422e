"""Figures of the market: utilities, demand, prices and regimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.stages import Promise, Stages
from clear_lib.allocation.utility import Utility
from clear_lib.study.pages.figures.style import panels

PRICE = "price λ (utility per token)"


def utilities(shapes: Mapping[str, Utility]) -> Figure:
    """Utilities by surge, and best responses by price, both up to where they end."""
    figure, (left, right) = panels(2, width=8, height=3)
    widest = 2.5 * max(float(utility.peak) for utility in shapes.values())
    dearest = 1.05 * max(float(utility.steepest) for utility in shapes.values())
    surges, prices = np.linspace(0, widest, 500), np.linspace(0, dearest, 500)
    for (name, utility), style in zip(shapes.items(), ("-", "--", "-."), strict=False):
        left.plot(surges, utility.value(surges), style, label=name)
        right.plot(prices, utility.best_response(prices), style, label=name)
    left.set(xlabel="surge (tokens past the threshold)", ylabel="utility")
    right.set(xlabel=PRICE, ylabel="best response (tokens)")
    right.legend(frameon=False)
    return figure


def demand_curve(prices: Array, asked: Array, budget: float, exits: Sequence[float] = ()) -> Figure:
    """Total demand by price, as dots so that jumps stay open; the budget; exit prices of queries as thin lines."""
    figure, (ax,) = panels(width=7, height=3.1)
    top = 1.05 * max(np.max(asked), budget)
    ax.vlines([price for price in exits if prices[0] <= price <= prices[-1]], 0, top, color="0.85", linewidth=1)
    ax.plot(prices, asked, ".", markersize=2, color="C0", label="demand")
    ax.axhline(budget, color="C1", linestyle="--", label="budget")
    ax.set(xlabel=PRICE, ylabel="tokens", ylim=(-0.03 * top, top))
    ax.legend(frameon=False, loc="upper right", markerscale=4)
    return figure


def dual_curve(prices: Array, bounds: Array, best: tuple[float, float], levels: Mapping[str, float]) -> Figure:
    """The dual bound by price, its lowest point, and utilities that were reached, as horizontal lines."""
    figure, (ax,) = panels(width=7, height=3.1)
    ax.plot(prices, bounds, color="C0", label="dual bound g(λ)")
    ax.plot(*best, "o", color="C0")
    for i, (name, level) in enumerate(levels.items()):
        ax.axhline(level, color=f"C{i + 1}", linestyle=("-", "--", ":")[i % 3], label=name)
    ax.set(xlabel=PRICE, ylabel="utility")
    ax.legend(frameon=False)
    return figure


def by_size(table: pd.DataFrame, ylabel: str) -> Figure:
    """One line a column against the index, the number of queries; both axes logarithmic."""
    figure, (ax,) = panels(width=7, height=3.5)
    for name, marker in zip(table, ("-s", "-o", ":"), strict=False):
        ax.loglog(table.index, table[name], marker, label=name)
    ax.set(xlabel="queries N", ylabel=ylabel)
    ax.legend(frameon=False)
    return figure


def regimes(tables: Mapping[str, pd.DataFrame], borders: Sequence[float] = ()) -> Figure:
    """Price, share abandoned and tokens per active query by budget, one line a table; dotted lines at the borders."""
    figure, axes = panels(3, 1, width=7, height=2.1, sharex=True)
    labels = {"price": "price, λ/v₀", "abandoned": "share abandoned", "granted": "tokens per\nactive query"}
    for ax, (column, text) in zip(axes, labels.items(), strict=True):
        for (name, table), style in zip(tables.items(), ("-", "--", ":"), strict=False):
            ax.plot(table["budget_per_query"], table[column], style, label=name)
        for border in borders:
            ax.axvline(border, color="0.5", linestyle=":", linewidth=1)
        ax.set(ylabel=text, ylim=(0, None))
    axes[0].legend(frameon=False)
    axes[-1].set_xlabel("budget (tokens per query)")
    figure.align_ylabels()
    return figure


def promises(queries: Mapping[str, tuple[Promise, Array, Stages]]) -> Figure:
    """Index of unfinished queries by tokens used; chance of success by expected bill, and corners of its concave hull."""
    figure, (left, right) = panels(2, height=3.6)
    for color, (name, (promise, index, stages)) in zip(sns.color_palette("colorblind"), queries.items(), strict=False):
        tokens, chance, bill = (part[0] for part in promise)
        price, going_on = stages.prices[0], tokens[:-1] < tokens[-1]
        left.plot(tokens[:-1][going_on], index[0, going_on], color=color, linewidth=1.2, linestyle=":")
        left.step(tokens[:-1][going_on], price[going_on], where="post", color=color, label=name)
        spent, solved = bill[0] - bill, chance[0] - chance
        right.plot(spent, solved, color=color, label=name)
        right.plot(tokens, solved, color=color, linewidth=1, linestyle="--")
        corners = 1 + np.flatnonzero(np.diff(price, append=0) < 0)
        right.plot(spent[corners], solved[corners], ".", color=color, markersize=4)
    left.set(xlabel="tokens used without having ended", ylabel="correct answers per token", yscale="log")
    top = max(stages.prices[0, 0] for *_, stages in queries.values())
    left.set_ylim(top / 30, 8 * top)
    right.set(xlabel="tokens: expected bill (dashed: the cap)", ylabel="chance of a correct answer", xlim=(0, None))
    left.set_xlim(0, right.get_xlim()[1])
    right.legend(frameon=False, loc="lower right")
    return figure


def price_over_time(prices: Mapping[str, Array], optimum: float) -> Figure:
    """Prices that queries were served at, in order of arrival, and the price of the same queries as one batch."""
    figure, (ax,) = panels(width=7, height=3.2)
    for color, (name, price) in zip(sns.color_palette("colorblind"), prices.items(), strict=False):
        ax.plot(price, color=color, linewidth=1.2, label=name)
    ax.axhline(optimum, color="0.3", linewidth=1, linestyle="--", label="as one batch")
    ax.set(yscale="log", xlabel="query, in order of arrival", ylabel="price (correct answers per token)")
    ax.legend(frameon=False, fontsize=9)
    return figure
