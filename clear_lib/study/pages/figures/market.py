"""Figures of the market: utilities, demand, prices and regimes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.stages import Promise, Stages
from clear_lib.allocation.utility import Utility
from clear_lib.study.pages.figures import style

PRICE = "price λ (utility per token)"


def utilities(shapes: Mapping[str, Utility]) -> Figure:
    """Utilities by surge, and best responses by price, both up to where they end."""
    figure, (left, right) = style.panels(2)
    widest = 2.5 * max(float(utility.peak) for utility in shapes.values())
    dearest = 1.05 * max(float(utility.steepest) for utility in shapes.values())
    surges, prices = np.linspace(0, widest, 500), np.linspace(0, dearest, 500)
    for name, utility in shapes.items():
        left.plot(surges, utility.value(surges), label=name)
        right.plot(prices, utility.best_response(prices))
    left.set(xlabel="surge (tokens past the threshold)", ylabel="utility")
    right.set(xlabel=PRICE, ylabel="best response (tokens)")
    return style.legend(figure)


def demand_curve(prices: Array, asked: Array, budget: float, exits: Sequence[float] = ()) -> Figure:
    """Total demand by price, as dots so that jumps stay open; the budget; exit prices of queries as thin lines."""
    figure, (ax,) = style.panels(height=3.1)
    top = 1.05 * max(np.max(asked), budget)
    ax.vlines([price for price in exits if prices[0] <= price <= prices[-1]], 0, top, color="0.85", linewidth=1)
    ax.plot(prices, asked, ".", markersize=2, color="C0", label="demand")
    ax.axhline(budget, color="C1", linestyle="--", label="budget")
    ax.set(xlabel=PRICE, ylabel="tokens", ylim=(-0.03 * top, top))
    return style.legend(figure, markerscale=4)


def dual_curve(prices: Array, bounds: Array, best: tuple[float, float], levels: Mapping[str, float]) -> Figure:
    """The dual bound by price, its lowest point, and utilities that were reached, as horizontal lines."""
    figure, (ax,) = style.panels(height=3.1)
    ax.plot(prices, bounds, color="C0", label="dual bound g(λ)")
    ax.plot(*best, "o", color="C0")
    for i, (name, level) in enumerate(levels.items()):
        ax.axhline(level, color=f"C{i + 1}", linestyle=("-", "--", ":")[i % 3], label=name)
    ax.set(xlabel=PRICE, ylabel="utility")
    return style.legend(figure)


def by_size(table: pd.DataFrame, ylabel: str) -> Figure:
    """One line a column against the index, the number of queries; both axes logarithmic."""
    figure, (ax,) = style.panels(height=3.5)
    for name, look in style.looks(table).items():
        ax.loglog(table.index, table[name], **look)
    ax.set(xlabel="queries N", ylabel=ylabel)
    return style.legend(figure)


def regimes(tables: Mapping[str, pd.DataFrame], borders: Sequence[float] = ()) -> Figure:
    """Price, share abandoned and tokens per active query by budget, one line a table; dotted lines at the borders."""
    figure, axes = style.panels(3, 1, height=1.8, sharex=True)
    labels = {"price": "price, λ/v₀", "abandoned": "share abandoned", "granted": "tokens per\nactive query"}
    for ax, (column, text) in zip(axes, labels.items(), strict=True):
        for name, table in tables.items():
            ax.plot(table["budget_per_query"], table[column], label=name)
        for border in borders:
            ax.axvline(border, color="0.5", linestyle=":", linewidth=1)
        ax.set(ylabel=text, ylim=(0, None))
    axes[-1].set_xlabel("budget (tokens per query)")
    figure.align_ylabels()
    return style.legend(figure)


def promises(queries: Mapping[str, tuple[Promise, Array, Stages]]) -> Figure:
    """Index of unfinished queries by tokens used; chance of success by expected bill, and corners of its concave hull."""
    figure, (left, right) = style.panels(2, height=3.4)
    looks = style.looks(queries).values()
    for look, (name, (promise, index, stages)) in zip(looks, queries.items(), strict=True):
        color = look["color"]
        tokens, chance, bill = (part[0] for part in promise)
        price, going_on = stages.prices[0], tokens[:-1] < tokens[-1]
        left.plot(tokens[:-1][going_on], index[0, going_on], color=color, linestyle=":")
        left.step(tokens[:-1][going_on], price[going_on], where="post", color=color, linestyle="-")
        spent, solved = bill[0] - bill, chance[0] - chance
        corners = 1 + np.flatnonzero(np.diff(price, append=0) < 0)
        right.plot(spent, solved, **look | {"linestyle": "-", "label": name, "markevery": corners})
        right.plot(tokens, solved, color=color, linewidth=1, linestyle="--")
    left.set(xlabel="tokens used without having ended", ylabel="correct answers per token", yscale="log")
    top = max(stages.prices[0, 0] for *_, stages in queries.values())
    left.set_ylim(top / 30, 8 * top)
    right.set(xlabel="tokens: expected bill (dashed: the cap)", ylabel="chance of a correct answer", xlim=(0, None))
    left.set_xlim(0, right.get_xlim()[1])
    return style.legend(figure)


def price_over_time(prices: Mapping[str, Array], optimum: float) -> Figure:
    """Prices that queries were served at, in order of arrival, and the price of the same queries as one batch."""
    figure, (ax,) = style.panels(height=3.2)
    for name, price in prices.items():
        ax.plot(price, label=name)
    ax.axhline(optimum, color="0.3", linewidth=1, linestyle=(0, (8, 4)), label="as one batch")
    ax.set(yscale="log", xlabel="query, in order of arrival", ylabel="price (correct answers per token)")
    return style.legend(figure)
