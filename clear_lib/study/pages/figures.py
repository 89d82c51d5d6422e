"""Figures of the book. They draw what they are given; nothing is computed here but positions of marks.

Every function returns a Matplotlib figure on a white ground, readable in a light and in a dark page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.policies import POLICIES
from clear_lib.allocation.stages import Promise, Stages
from clear_lib.allocation.utility import Utility
from clear_lib.study.experiments.phases import Bars, SurgeFit
from clear_lib.study.setup.streams import STREAMS, TIERS

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


def predicted_against_true(frame: pd.DataFrame, parts: Mapping[str, Sequence[str]]) -> Figure:
    """Figure 4: forecast against length, one panel a part of the pool, both axes logarithmic.

    Parameters
    ----------
    frame : DataFrame
        Columns ``tier``, ``length``, ``threshold`` (tokens).
    parts : mapping
        Tiers of each panel, by its title.
    """
    figure, axes = plt.subplots(1, len(parts), figsize=(3.9 * len(parts), 3.6), sharex=True, sharey=True, squeeze=False)
    ends = [frame["length"].min(), max(frame["length"].max(), frame["threshold"].max())]
    for ax, (title, tiers) in zip(axes[0], parts.items(), strict=True):
        for tier in tiers:
            rows = frame[frame["tier"] == tier]
            ax.scatter(
                rows["length"], rows["threshold"], s=9, alpha=0.6, color=TIER_COLORS[tier], linewidth=0, label=tier
            )
        ax.plot(ends, ends, color="0.4", linewidth=1, zorder=0)
        ax.set(xscale="log", yscale="log", title=title, xlabel="length of the solution (tokens)")
        ax.legend(frameon=False, markerscale=2, loc="upper left", handletextpad=0.1)
    axes[0, 0].set_ylabel("predicted threshold (tokens)")
    sns.despine(figure)
    figure.tight_layout()
    return figure


def stream_composition(shares: Mapping[str, Sequence[float]]) -> Figure:
    """Figure 3: one bar a stream, cut into its tiers."""
    figure, ax = plt.subplots(figsize=(7, 2.4))
    names, left = list(shares), np.zeros(len(shares))
    for i, tier in enumerate(TIERS):
        part = 100 * np.array([shares[name][i] for name in names])
        if not part.any():
            continue
        bars = ax.barh([STREAMS[name] for name in names], part, left=left, color=TIER_COLORS[tier], label=tier)
        dark = sum(TIER_COLORS[tier]) < 1.5
        labels = [f"{value:.0f}" if value >= 4 else "" for value in part]
        ax.bar_label(bars, labels, label_type="center", fontsize=9, color="white" if dark else "black")
        left += part
    ax.invert_yaxis()
    ax.set(xlabel="share of the queries (%)", xlim=(0, 100))
    ax.legend(frameon=False, ncols=len(TIERS), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    sns.despine(figure, left=True)
    ax.tick_params(axis="y", length=0)
    figure.tight_layout()
    return figure


def who_gets_what(served: Mapping[str, pd.DataFrame], column: str = "granted") -> Figure:
    """Figure 6: tokens granted to (or used by) each query of one stream, queries in order of their true length.

    Parameters
    ----------
    served : mapping
        For each policy, one row a query: ``length``, ``granted``, ``used``, ``solved``.
    column : {"granted", "used"}
        What is drawn.
    """
    columns = min(4, len(served))
    rows = -(-len(served) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9.2, 2.5 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, (policy, queries) in zip(axes.flat, served.items(), strict=False):
        queries = queries.sort_values("length", kind="stable").reset_index(drop=True)
        abandoned = queries["granted"] == 0
        kinds = {
            "abandoned": (abandoned, "#D55E00"),
            "granted, not solved": (~abandoned & ~queries["solved"], "0.6"),
            "solved": (queries["solved"], "#0072B2"),
        }
        for name, (which, color) in kinds.items():
            ax.scatter(queries.index[which], queries[column][which], s=5, color=color, linewidth=0, label=name)
        ax.plot(queries.index, queries["length"], color="black", linewidth=1, label="length of the solution", zorder=0)
        ax.set_title(POLICIES[policy].label, fontsize=10)
        ax.set_yscale("symlog", linthresh=10)
        ax.set_ylim(bottom=-2)
    for ax in axes.flat[len(served) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"tokens {column}")
    for ax in axes[-1]:
        ax.set_xlabel("query, by length")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.06 if rows > 1 else 0.1, 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=4, loc="lower center", markerscale=3)
    return figure


def by_tier(table: pd.DataFrame, column: str, xlabel: str) -> Figure:
    """A share of the queries of each tier, one panel a stream, one mark a policy, with its interval.

    Parameters
    ----------
    table : DataFrame
        ``stream, policy, tier``, then ``column``, ``column_low`` and ``column_high``, fractions.
    column, xlabel : str
        What is drawn and what it is called.
    """
    names = list(dict.fromkeys(table["stream"]))
    policies = list(dict.fromkeys(table["policy"]))
    figure, axes = plt.subplots(1, len(names), figsize=(9.2, 0.42 * len(policies) + 1.3), sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        for i, tier in enumerate(tier for tier in TIERS if tier in set(table["tier"])):
            rows = table[(table["stream"] == name) & (table["tier"] == tier)].set_index("policy").reindex(policies)
            value = 100 * rows[column]
            reach = [value - 100 * rows[f"{column}_low"], 100 * rows[f"{column}_high"] - value]
            height = np.arange(len(policies)) + 0.17 * (i - 1.5)
            ax.errorbar(
                value, height, xerr=np.maximum(reach, 0), fmt="o", markersize=4, color=TIER_COLORS[tier], label=tier
            )
        ax.set(title=STREAMS[name], xlabel=xlabel, xlim=(-4, 104))
        ax.grid(axis="x", color="0.92")
    axes[0, 0].set_yticks(range(len(policies)), [POLICIES[policy].label for policy in policies])
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    sns.despine(figure, left=True)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=len(TIERS), loc="lower center")
    return figure


def granted_and_used(table: pd.DataFrame) -> Figure:
    """Tokens granted and tokens used per query, one panel a budget, one pair of marks a policy.

    Parameters
    ----------
    table : DataFrame
        ``scarcity, policy, budget_per_query, granted, used``; tokens per query.
    """
    scarcities, policies = sorted(table["scarcity"].unique()), list(dict.fromkeys(table["policy"]))
    figure, axes = plt.subplots(
        1, len(scarcities), figsize=(9.2, 0.32 * len(policies) + 1.3), sharey=True, squeeze=False
    )
    heights = np.arange(len(policies))
    for ax, scarcity in zip(axes[0], scarcities, strict=True):
        rows = table[table["scarcity"] == scarcity].set_index("policy").loc[policies]
        budget = rows["budget_per_query"].iloc[0]
        ax.hlines(heights, rows["used"], rows["granted"], color="0.75", linewidth=2)
        ax.plot(rows["granted"], heights, "o", color="#E69F00", label="granted (the cap)")
        ax.plot(rows["used"], heights, "o", color="#0072B2", label="used (the bill)")
        ax.axvline(budget, color="0.4", linewidth=1, linestyle=":")
        ax.set(title=f"B̄ = {budget:.0f}", xlabel="tokens per query", xlim=(0, None))
    axes[0, 0].set_yticks(heights, [POLICIES[policy].label for policy in policies])
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    sns.despine(figure, left=True)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=2, loc="lower center")
    return figure


def pareto(table: pd.DataFrame, cost: str, xlabel: str) -> Figure:
    """Accuracy against cost, one panel a stream, one line a policy; bands are intervals of the accuracy.

    Parameters
    ----------
    table : DataFrame
        ``stream, policy``, a column ``cost`` (tokens per query) and ``accuracy, accuracy_low, accuracy_high``.
    cost, xlabel : str
        Column of the cost, and what it is called.
    """
    names = list(dict.fromkeys(table["stream"]))
    figure, axes = plt.subplots(2, -(-len(names) // 2), figsize=(9.2, 6.4), sharex=True, squeeze=False)
    for ax, name in zip(axes.flat, names, strict=False):
        for policy, rows in table[table["stream"] == name].groupby("policy", sort=False):
            color, marker, dashes = POLICY_STYLE[policy]
            rows = rows.sort_values(cost)
            ax.plot(
                rows[cost],
                100 * rows["accuracy"],
                dashes,
                marker=marker,
                color=color,
                markersize=5,
                linewidth=1.4,
                label=POLICIES[policy].label,
            )
            ax.fill_between(
                rows[cost],
                100 * rows["accuracy_low"],
                100 * rows["accuracy_high"],
                color=color,
                alpha=0.12,
                linewidth=0,
            )
        ax.set(xscale="log", title=STREAMS[name], ylim=(0, None))
        ax.set_xticks(ticks := _ticks(table[cost]), [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy (%)")
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=4, loc="lower center")
    return figure


def _ticks(values: pd.Series) -> list[float]:
    """Powers of two, and 1.5 times them where there is room, that cover the values."""
    low, high = np.floor(np.log2(values.min())), np.ceil(np.log2(values.max()))
    return [float(2**power) for power in np.arange(low, high + 1)]


def gains(table: pd.DataFrame, policies: Sequence[str]) -> Figure:
    """Gain over Uniform by scarcity, one panel a stream: ours with its interval, the paper's as open marks.

    Parameters
    ----------
    table : DataFrame
        Of :func:`clear_lib.study.evidence.comparison.compare`; points of accuracy.
    policies : sequence of str
        Which to draw.
    """
    names = list(dict.fromkeys(table["stream"]))
    figure, axes = plt.subplots(1, len(names), figsize=(9.2, 3.3), sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        for policy in policies:
            color, marker, _ = POLICY_STYLE[policy]
            rows = table[(table["stream"] == name) & (table["policy"] == policy)].sort_values("scarcity")
            text = POLICIES[policy].label
            ax.plot(rows["scarcity"], rows["gain"], "-", marker=marker, color=color, label=f"{text}, ours")
            ax.fill_between(rows["scarcity"], rows["gain_low"], rows["gain_high"], color=color, alpha=0.15, linewidth=0)
            ax.plot(
                rows["scarcity"],
                rows["paper_gain"],
                ":",
                marker=marker,
                color=color,
                markerfacecolor="white",
                label=f"{text}, paper",
            )
        ax.axhline(0, color="0.4", linewidth=0.8)
        ax.set(xscale="log", title=STREAMS[name], xlabel="budget / mean length")
        ax.set_xticks(ticks := sorted(table["scarcity"].unique()), [f"{tick:.2g}" for tick in ticks])
        ax.minorticks_off()
    axes[0, 0].set_ylabel("gain over Uniform (points)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.04 + 0.055 * len(policies), 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=2, loc="lower center")
    return figure


def promises(queries: Mapping[str, tuple[Promise, Array, Stages]]) -> Figure:
    """What unfinished queries promise: their index by tokens used, and chance against bill with its concave hull.

    Parameters
    ----------
    queries : mapping
        For each name, of one query: its promise, its index and its stages (:mod:`clear_lib.allocation.stages`).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6))
    for color, (name, (promised, index, stages)) in zip(sns.color_palette("colorblind"), queries.items(), strict=False):
        tokens, chance, bill = (part[0] for part in promised)
        goes_on = tokens[:-1] < tokens[-1]
        left.plot(tokens[:-1][goes_on], index[0, goes_on], color=color, linewidth=1.2, linestyle=":")
        left.step(tokens[:-1][goes_on], stages.prices[0, goes_on], where="post", color=color, label=name)
        right.plot(bill[0] - bill, chance[0] - chance, color=color, label=name)
        right.plot(tokens, chance[0] - chance, color=color, linewidth=1, linestyle="--")
        corners = 1 + np.flatnonzero(np.diff(stages.prices[0], append=0) < 0)
        right.plot((bill[0] - bill)[corners], (chance[0] - chance)[corners], ".", color=color, markersize=4)
    left.set(xlabel="tokens used without having ended", ylabel="correct answers per token", yscale="log")
    top = max(stages.prices[0, 0] for *_, stages in queries.values())
    left.set_ylim(top / 30, 8 * top)
    right.set(xlabel="tokens: expected bill (dashed: the cap)", ylabel="chance of a correct answer", xlim=(0, None))
    left.set_xlim(0, right.get_xlim()[1])
    right.legend(frameon=False, loc="lower right")
    sns.despine(figure)
    figure.tight_layout()
    return figure


def price_over_time(prices: Mapping[str, Array], optimum: float) -> Figure:
    """Prices that queries were served at, in the order of their arrival, and the price of the batch.

    Parameters
    ----------
    prices : mapping
        For each name an array of shape ``(n,)``, correct answers per token.
    optimum : float
        Price of the same queries as one batch.
    """
    figure, ax = plt.subplots(figsize=(7, 3.2))
    for color, (name, price) in zip(sns.color_palette("colorblind"), prices.items(), strict=False):
        ax.plot(price, color=color, linewidth=1.2, label=name)
    ax.axhline(optimum, color="0.3", linewidth=1, linestyle="--", label="as one batch")
    ax.set(yscale="log", xlabel="query, in order of arrival", ylabel="price (correct answers per token)")
    ax.legend(frameon=False, fontsize=9)
    sns.despine(figure)
    figure.tight_layout()
    return figure


def reliability(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """How often what was given a chance came about, one panel a part, with intervals; the line is a true forecast.

    Parameters
    ----------
    tables : mapping
        For each title a table of :func:`clear_lib.predictor.calibration.reliability`.
    """
    figure, axes = plt.subplots(
        1, len(tables), figsize=(3.9 * len(tables), 3.6), sharex=True, sharey=True, squeeze=False
    )
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        ax.plot([0, 1], [0, 1], color="0.4", linewidth=1, zorder=0)
        reach = [table["share"] - table["low"], table["high"] - table["share"]]
        ax.errorbar(table["chance"], table["share"], yerr=np.maximum(reach, 0), fmt="o", color="#0072B2")
        ax.set(title=title, xlabel="forecast chance of a correct solution", xlim=(0, 1), ylim=(0, 1))
    axes[0, 0].set_ylabel("share of correct solutions")
    sns.despine(figure)
    figure.tight_layout()
    return figure


def sweep(table: pd.DataFrame, xlabel: str, level: pd.DataFrame | None = None, level_name: str = "") -> Figure:
    """Accuracy along a sweep, one panel a budget, one line a policy or stream, with its band.

    Parameters
    ----------
    table : DataFrame
        ``scarcity``, ``value`` (above 0 on a logarithmic axis; a linear one if any is 0), ``policy`` or ``stream``,
        and ``accuracy, accuracy_low, accuracy_high``.
    xlabel : str
        What is swept.
    level : DataFrame, optional
        ``scarcity``, ``policy`` or ``stream``, and ``accuracy``: dashed levels in the same colours.
    level_name : str
        What the levels are called.
    """
    hue = "stream" if "stream" in table else "policy"
    names, scarcities = list(dict.fromkeys(table[hue])), sorted(table["scarcity"].unique())
    if hue == "policy":
        colors, labels = ({name: POLICY_STYLE[name][0] for name in names}, [POLICIES[name].label for name in names])
    else:
        colors, labels = (
            dict(zip(names, sns.color_palette("colorblind"), strict=False)),
            [STREAMS[name] for name in names],
        )
    figure, axes = plt.subplots(1, len(scarcities), figsize=(9.2, 3.4), sharex=True, squeeze=False)
    for ax, scarcity in zip(axes[0], scarcities, strict=True):
        for name, text in zip(names, labels, strict=True):
            rows = table[(table["scarcity"] == scarcity) & (table[hue] == name)].sort_values("value")
            ax.plot(
                rows["value"], 100 * rows["accuracy"], "-", marker="o", markersize=4, color=colors[name], label=text
            )
            ax.fill_between(
                rows["value"],
                100 * rows["accuracy_low"],
                100 * rows["accuracy_high"],
                color=colors[name],
                alpha=0.12,
                linewidth=0,
            )
            if level is not None:
                height = level[(level["scarcity"] == scarcity) & (level[hue] == name)]["accuracy"].mean()
                ax.axhline(100 * height, color=colors[name], linewidth=1, linestyle="--")
        ax.set(title=f"budget / mean length {scarcity:.2g}", xlabel=xlabel, ylim=(0, None))
        ax.title.set_fontsize(9)
        if (table["value"] > 0).all():
            ax.set_xscale("log")
            ticks = sorted(table["value"].unique())[:: max(1, table["value"].nunique() // 3)]
            ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            ax.minorticks_off()
    axes[0, 0].set_ylabel("accuracy (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if level is not None:
        handles.append(plt.Line2D([], [], color="0.4", linewidth=1, linestyle="--"))
        labels.append(level_name)
    sns.despine(figure)
    columns = min(len(labels), 5)
    figure.tight_layout(rect=(0, 0.02 + 0.07 * -(-len(labels) // columns), 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=columns, loc="lower center", fontsize=9)
    return figure


def velocity(table: pd.DataFrame) -> Figure:
    """Figure 8: accuracy and price against the initial velocity, one line a stream.

    Parameters
    ----------
    table : DataFrame
        ``stream``, ``value`` (initial velocity), ``accuracy``, ``price``.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    for color, (name, rows) in zip(sns.color_palette("colorblind"), table.groupby("stream", sort=False), strict=False):
        rows = rows.sort_values("value")
        left.plot(rows["value"], 100 * rows["accuracy"], "o-", markersize=4, color=color, label=STREAMS[name])
        right.plot(rows["value"], rows["price"], "o-", markersize=4, color=color)
    for ax in (left, right):
        ax.set(xscale="log", xlabel="initial velocity (utility per token)")
    left.set(ylabel="accuracy (%)", ylim=(0, None))
    right.set(ylabel="price (utility per token)", yscale="log")
    handles, labels = left.get_legend_handles_labels()
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=4, loc="lower center", fontsize=9)
    return figure


def paired_gains(table: pd.DataFrame, ylabel: str = "gain (points)") -> Figure:
    """Paired gains by budget, one panel a stream, one line a ``name``, with their bands.

    Parameters
    ----------
    table : DataFrame
        ``stream, scarcity, name``, and ``gain, gain_low, gain_high`` as fractions.
    """
    streams, names = list(dict.fromkeys(table["stream"])), list(dict.fromkeys(table["name"]))
    figure, axes = plt.subplots(1, len(streams), figsize=(9.2, 3.3), sharey=True, squeeze=False)
    for ax, stream in zip(axes[0], streams, strict=True):
        for color, name in zip(sns.color_palette("colorblind"), names, strict=False):
            rows = table[(table["stream"] == stream) & (table["name"] == name)].sort_values("scarcity")
            ax.plot(rows["scarcity"], 100 * rows["gain"], "o-", markersize=4, color=color, label=name)
            low, high = 100 * rows["gain_low"], 100 * rows["gain_high"]
            ax.fill_between(rows["scarcity"], low, high, color=color, alpha=0.13, linewidth=0)
        ax.axhline(0, color="0.4", linewidth=0.8)
        ax.set(xscale="log", title=STREAMS[stream], xlabel="budget / mean length")
        ax.set_xticks(ticks := sorted(table["scarcity"].unique()), [f"{tick:.2g}" for tick in ticks])
        ax.minorticks_off()
    axes[0, 0].set_ylabel(ylabel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=4, loc="lower center")
    return figure


def demand_curve(prices: Array, asked: Array, budget: float, exits: Sequence[float] = ()) -> Figure:
    """Tokens asked for by price, in dots, so that jumps stay open; the budget; prices at which queries leave.

    Parameters
    ----------
    prices, asked : array of shape (m,)
        Utility per token, and tokens of all queries together.
    budget : float
        Tokens.
    exits : sequence of float
        Prices, drawn as thin lines.
    """
    figure, ax = plt.subplots(figsize=(7, 3.1))
    top = 1.05 * max(np.max(asked), budget)
    ax.vlines([price for price in exits if prices[0] <= price <= prices[-1]], 0, top, color="0.85", linewidth=1)
    ax.plot(prices, asked, ".", markersize=2, color="C0", label="demand")
    ax.axhline(budget, color="C1", linestyle="--", label="budget")
    ax.set(xlabel="price λ (utility per token)", ylabel="tokens", ylim=(-0.03 * top, top))
    ax.legend(frameon=False, loc="upper right", markerscale=4)
    sns.despine(figure)
    figure.tight_layout()
    return figure


def dual_curve(prices: Array, bounds: Array, best: tuple[float, float], levels: Mapping[str, float]) -> Figure:
    """The dual bound by price, its lowest point, and utilities that were reached, as horizontal lines."""
    figure, ax = plt.subplots(figsize=(7, 3.1))
    ax.plot(prices, bounds, color="C0", label="dual bound g(λ)")
    ax.plot(*best, "o", color="C0")
    for i, (name, level) in enumerate(levels.items()):
        ax.axhline(level, color=f"C{i + 1}", linestyle=("-", "--", ":")[i % 3], label=name)
    ax.set(xlabel="price λ (utility per token)", ylabel="utility")
    ax.legend(frameon=False)
    sns.despine(figure)
    figure.tight_layout()
    return figure


def by_size(table: pd.DataFrame, ylabel: str) -> Figure:
    """One line a column against the index, the number of queries; both axes logarithmic."""
    figure, ax = plt.subplots(figsize=(7, 3.5))
    for name, marker in zip(table, ("-s", "-o", ":"), strict=False):
        ax.loglog(table.index, table[name], marker, label=name)
    ax.set(xlabel="queries N", ylabel=ylabel)
    ax.legend(frameon=False)
    sns.despine(figure)
    figure.tight_layout()
    return figure


def oracle_audit(bounds: Mapping[str, pd.DataFrame]) -> Figure:
    """The reported Oracle and lower bounds on a true one, one panel a stream.

    Parameters
    ----------
    bounds : mapping
        For the name of each bound, the table of :func:`clear_lib.study.evidence.audit.oracle_bounds`.
    """
    first = next(iter(bounds.values()))
    names = list(dict.fromkeys(first["stream"]))
    figure, axes = plt.subplots(1, len(names), figsize=(9.8, 3.3), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        rows = first[first["stream"] == name]
        places = np.arange(len(rows))
        ax.plot(places, rows["reported"], "o", color="black", markersize=6, label="reported Oracle")
        for shift, color, (text, table) in zip((-0.18, 0.18), ("#E69F00", "#0072B2"), bounds.items(), strict=False):
            rows = table[table["stream"] == name]
            ax.bar(places + shift, rows["bound"], width=0.34, color=color, label=f"at least: {text}")
        ax.set_xticks(places, rows["budget"], fontsize=9)
        ax.set(title=STREAMS[name], xlabel="tokens per query")
        ax.set_ylim(0.75 * min(table[table["stream"] == name]["bound"].min() for table in bounds.values()), None)
    axes[0, 0].set_ylabel("accuracy (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=3, loc="lower center")
    return figure


def regimes(tables: Mapping[str, pd.DataFrame], borders: Sequence[float] = ()) -> Figure:
    """Price, share abandoned and tokens per active query against the budget, one line for each table.

    Parameters
    ----------
    tables : mapping
        Of :func:`clear_lib.study.experiments.run.regimes`, by name.
    borders : sequence of float
        Budgets per query, drawn as dotted lines.
    """
    figure, axes = plt.subplots(3, 1, figsize=(7, 6.2), sharex=True)
    labels = {"price": "price, λ/v₀", "abandoned": "share abandoned", "granted": "tokens per\nactive query"}
    for ax, (column, label) in zip(axes, labels.items(), strict=True):
        for (name, table), style in zip(tables.items(), ("-", "--", ":"), strict=False):
            ax.plot(table["budget_per_query"], table[column], style, label=name)
        for border in borders:
            ax.axvline(border, color="0.5", linestyle=":", linewidth=1)
        ax.set(ylabel=label, ylim=(0, None))
    axes[0].legend(frameon=False)
    axes[-1].set_xlabel("budget (tokens per query)")
    sns.despine(figure)
    figure.tight_layout()
    return figure


def curves(utilities: Mapping[str, Utility]) -> Figure:
    """Utilities over the surge, and their best response over the price, both up to where they end."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    widest = 2.5 * max(float(utility.peak) for utility in utilities.values())
    dearest = 1.05 * max(float(utility.steepest) for utility in utilities.values())
    surges, prices = np.linspace(0, widest, 500), np.linspace(0, dearest, 500)
    for (name, utility), style in zip(utilities.items(), ("-", "--", "-."), strict=False):
        left.plot(surges, utility.value(surges), style, label=name)
        right.plot(prices, utility.best_response(prices), style, label=name)
    left.set(xlabel="surge (tokens past the threshold)", ylabel="utility")
    right.set(xlabel="price λ (utility per token)", ylabel="best response (tokens)")
    right.legend(frameon=False)
    sns.despine(figure)
    figure.tight_layout()
    return figure


def replica(table: pd.DataFrame, policies: Mapping[str, str]) -> Figure:
    """Accuracies of a replica against the paper's, one panel a policy, one mark a cell with its interval.

    Parameters
    ----------
    table : DataFrame
        Of :func:`clear_lib.study.evidence.comparison.compare`.
    policies : mapping
        What each panel is called, by its policy.
    """
    columns = 3
    rows = -(-len(policies) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9.2, 2.9 * rows), sharex=True, sharey=True, squeeze=False)
    top = 1.05 * table["high"].max()
    for ax, (policy, title) in zip(axes.flat, policies.items(), strict=False):
        for color, (stream, cells) in zip(
            sns.color_palette("colorblind"),
            table[table["policy"] == policy].groupby("stream", sort=False),
            strict=False,
        ):
            reach = [cells["ours"] - cells["low"], cells["high"] - cells["ours"]]
            ax.errorbar(
                cells["paper"],
                cells["ours"],
                yerr=np.maximum(reach, 0),
                fmt="o",
                markersize=4,
                color=color,
                label=STREAMS[stream],
            )
        ax.plot([0, top], [0, top], color="0.6", linewidth=1, zorder=0)
        ax.set_title(title, fontsize=10)
    for ax in axes.flat[len(policies) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("the paper (%)")
    for ax in axes[:, 0]:
        ax.set_ylabel("the replica (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.legend(handles, labels, frameon=False, ncols=4, loc="lower center")
    return figure


def solved_by_cap(table: pd.DataFrame, borders: tuple[float, float], title: str = "") -> Figure:
    """Figure 1: share solved against a common cap, one line and band a group; the Strict, Surge and Ample phases.

    Parameters
    ----------
    table : DataFrame
        Of :func:`clear_lib.study.experiments.phases.solved_by_cap`.
    borders : tuple of float
        Caps at which the Surge begins and ends, tokens.
    title : str
    """
    figure, ax = plt.subplots(figsize=(7, 3.8))
    groups, styles = list(dict.fromkeys(table["group"])), ("-", "--", "-.", ":")
    colors = (
        TIER_COLORS if set(groups) <= set(TIERS) else dict(zip(groups, sns.color_palette("colorblind"), strict=False))
    )
    for i, group in enumerate(groups):
        rows = table[table["group"] == group]
        text = f"{group} (n = {rows['questions'].iloc[0]})"
        ax.plot(rows["cap"], 100 * rows["mean"], styles[i % 4], color=colors[group], label=text)
        ax.fill_between(
            rows["cap"], 100 * rows["lower"], 100 * rows["upper"], color=colors[group], alpha=0.15, linewidth=0
        )
    ax.set(xscale="log", xlabel="cap (tokens)", ylabel="solved (%)", ylim=(0, None))
    ax.set_xlim(table["cap"].min(), table["cap"].max())
    ends = [ax.get_xlim()[0], *borders, ax.get_xlim()[1]]
    ax.axvspan(*borders, color="0.93", linewidth=0, zorder=0)
    for name, left, right in zip(("Strict", "Surge", "Ample"), ends, ends[1:], strict=False):
        ax.text(
            np.sqrt(left * right), 1.01, name, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=9
        )
    ax.set_title(title, fontsize=10, pad=18)
    _plain_ticks(ax, table["cap"])
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    sns.despine(figure)
    figure.tight_layout()
    return figure


def _plain_ticks(ax: plt.Axes, values: pd.Series) -> None:
    """Powers of two on a logarithmic axis, in plain numbers."""
    ticks = [tick for tick in _ticks(values) if values.min() <= tick <= values.max()]
    ax.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    ax.minorticks_off()


def observed(table: pd.DataFrame, column: str, fit: SurgeFit | None = None, title: str = "") -> Figure:
    """Accuracy of bins of solutions with intervals, against their length or, with a line at zero, their relative length.

    Parameters
    ----------
    table : DataFrame
        ``column``, ``mean``, ``lower``, ``upper``; fractions.
    column : {"length", "ratio"}
        Tokens, or multiples of the mean length of the question.
    fit : SurgeFit, optional
    title : str
    """
    figure, ax = plt.subplots(figsize=(7, 3.4))
    reach = [table["mean"] - table["lower"], table["upper"] - table["mean"]]
    ax.errorbar(table[column], 100 * table["mean"], 100 * np.maximum(reach, 0), fmt="o", color="#0072B2")
    ax.set_xscale("log")
    if fit is not None:
        tokens = np.geomspace(table[column].min() / 1.3, table[column].max() * 1.2, 300)
        ax.plot(tokens, 100 * fit(tokens), color="#D55E00", label="fitted surge (eq. 1)")
        ax.legend(frameon=False)
    if column == "length":
        ax.set(xlabel="length of the solution (tokens)", ylabel="accuracy (%)", ylim=(0, 100))
        _plain_ticks(ax, pd.Series(ax.get_xlim()))
    else:
        ax.axhline(0, color="0.5", linewidth=1)
        ax.set(xlabel="length / mean length of its question", ylabel="accuracy − question's own (points)")
        ticks = [tick for tick in (0.25, 0.5, 0.7, 1, 1.5, 2, 3) if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    ax.set_title(title, fontsize=10)
    sns.despine(figure)
    figure.tight_layout()
    return figure


def bars_by_question(questions: Sequence[Bars]) -> Figure:
    """Figure 2, one column a question: correct solutions by length with the fitted surge, and below, share solved by cap."""
    n = len(questions)
    figure, axes = plt.subplots(2, n, figsize=(2.4 * n + 0.6, 4.8), sharex="col", sharey="row", squeeze=False)
    for (top, bottom), bars in zip(axes.T, questions, strict=True):
        width = np.diff(bars.edges)
        top.bar(bars.edges[:-1], bars.correct, width, align="edge", color="#56B4E9", edgecolor="white", label="correct")
        top.stairs(bars.indifferent, bars.edges, color="0.25", linestyle="--", label="if length did not matter")
        tokens = np.linspace(bars.edges[0], bars.edges[-1], 200)
        if bars.fit:
            top.plot(tokens, bars.fit(tokens), color="#D55E00", label="fitted surge (eq. 1)")
        below = np.searchsorted(bars.lengths, tokens, side="right")
        bottom.plot(tokens, 100 * below / bars.count.sum(), color="#0072B2", drawstyle="steps-post")
        top.set_title(bars.name, fontsize=9)
        top.set_ylim(0, 1.25 * max(each.count.max() for each in questions))
        bottom.set(xlabel="tokens", ylim=(0, 100))
    axes[0, 0].set_ylabel("correct solutions\nof this length")
    axes[1, 0].set_ylabel("solved (%)\nunder this cap")
    labelled = max((ax.get_legend_handles_labels() for ax in axes[0]), key=lambda found: len(found[0]))
    sns.despine(figure)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.legend(*labelled, frameon=False, ncols=3, loc="lower center", fontsize=9)
    return figure
