"""Figures of results: streams, who is served, and accuracy by budget, policy and setting."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from clear_lib.study.pages.figures import style
from clear_lib.study.pages.tables import label
from clear_lib.study.setup.streams import TIERS

BUDGET, ACCURACY = "budget / mean length", "accuracy (%)"


def stream_composition(shares: pd.DataFrame) -> Figure:
    """Figure 3: one bar a stream (row), cut into tiers or data sets (columns); fractions."""
    table = 100 * shares.loc[:, shares.any()].rename(label)
    figure, (ax,) = style.panels(height=2.4)
    for (name, part), left in zip(table.items(), (table.T.cumsum() - table.T).to_numpy(), strict=True):
        color = style.looks(table)[name]["color"]
        bars = ax.barh(table.index, part, left=left, color=color, edgecolor="white", label=name)
        texts = [f"{value:.0f}" if value >= 4 else "" for value in part]
        ax.bar_label(bars, texts, label_type="center", color="white" if sum(to_rgb(color)) < 1.5 else "black")
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    sns.despine(figure, left=True)
    ax.set(xlabel="share of the queries (%)", xlim=(0, 100))
    return style.legend(figure)


def who_gets_what(served: Mapping[str, pd.DataFrame], column: str = "granted") -> Figure:
    """Figure 6: tokens granted to (or ``used`` by) each query of a stream by rank of its length, one panel a policy."""
    figure, axes = style.panels(len(served), min(4, len(served)), height=2.6, sharex=True, sharey=True)
    for ax, (policy, queries) in zip(axes, served.items(), strict=True):
        queries = queries.sort_values("length", kind="stable").reset_index(drop=True)
        abandoned = queries["granted"] == 0
        kinds = {
            "abandoned": (abandoned, style.VERMILION, "|"),
            "granted, not solved": (~abandoned & ~queries["solved"], "0.6", "v"),
            "solved": (queries["solved"], style.BLUE, "."),
        }
        for name, (which, color, marker) in kinds.items():
            look = {"s": 9, "color": color, "marker": marker, "linewidth": 0.5, "label": name}
            ax.scatter(queries.index[which], queries[column][which], **look)
        ax.plot(queries.index, queries["length"], color="black", linewidth=1, label="length of the solution", zorder=0)
        ax.set_title(label(policy))
        ax.set_yscale("symlog", linthresh=10)
        ax.set(xlabel="query, by length", ylabel=f"tokens {column}")
        ax.label_outer()
    axes[0].set_ylim(bottom=-2)
    return style.legend(figure, markerscale=2)


def by_tier(table: pd.DataFrame, column: str, xlabel: str) -> Figure:
    """A share of the queries of each tier with its interval, one panel a ``stream``, one row a ``policy``."""
    policies, table = list(dict.fromkeys(table["policy"])), style.percent(table, column)
    figure, axes = style.panels_of(table["stream"], height=0.42 * len(policies) + 1.3, sharey=True)
    for stream, ax in axes.items():
        for i, tier in enumerate(tier for tier in TIERS if tier in set(table["tier"])):
            rows = table[(table["stream"] == stream) & (table["tier"] == tier)].set_index("policy").reindex(policies)
            value, low, high = (rows[name] for name in (column, f"{column}_low", f"{column}_high"))
            height = np.arange(len(policies)) + 0.17 * (i - 1.5)
            style.marks_with_intervals(ax, value, height, low, high, "x", **style.looks([tier])[tier])
        ax.set(xlabel=xlabel, xlim=(-4, 104))
        ax.grid(axis="x", color="0.92")
    style.policy_rows(ax, policies)
    return style.legend(figure)


def granted_and_used(table: pd.DataFrame) -> Figure:
    """Tokens ``granted`` and ``used`` per query, one panel a ``scarcity`` with its budget, one row a ``policy``."""
    policies = list(dict.fromkeys(table["policy"]))
    figure, axes = style.panels_of(sorted(table["scarcity"]), height=0.32 * len(policies) + 1.3, sharey=True)
    heights = np.arange(len(policies))
    for scarcity, ax in axes.items():
        rows = table[table["scarcity"] == scarcity].set_index("policy").loc[policies]
        budget = rows["budget_per_query"].iloc[0]
        ax.hlines(heights, rows["used"], rows["granted"], color="0.75", linewidth=2)
        ax.plot(rows["granted"], heights, "D", color=style.ORANGE, label="granted (the cap)")
        ax.plot(rows["used"], heights, "o", color=style.BLUE, label="used (the bill)")
        ax.axvline(budget, color="0.4", linewidth=1, linestyle=":")
        ax.set(title=f"B̄ = {budget:.0f}", xlabel="tokens per query", xlim=(0, None))
    style.policy_rows(ax, policies)
    return style.legend(figure, 2)


def _lines(
    axes: style.Panels, table: pd.DataFrame, x: str, y: str, looks: style.Looks, hue: str = "policy", by: str = "stream"
) -> None:
    """Draw ``y`` against ``x`` with bands: in the panel of each value of ``by``, one line for each of ``hue``."""
    for value, ax in axes.items():
        for name, look in looks.items():
            style.line_with_band(ax, table[(table[by] == value) & (table[hue] == name)], x, y, **look)


def pareto(table: pd.DataFrame, cost: str, xlabel: str) -> Figure:
    """Accuracy with its interval by cost (tokens per query), one panel a ``stream``, one line a ``policy``."""
    columns = -(-table["stream"].nunique() // 2)
    figure, axes = style.panels_of(table["stream"], columns, height=3.2, sharex=True)
    _lines(axes, style.percent(table, "accuracy"), cost, "accuracy", style.looks(table["policy"]))
    for ax in axes.values():
        style.log_ticks(ax)
        ax.set_ylim(0, None)
    for ax in figure.axes[-columns:]:
        ax.set_xlabel(xlabel)
    for ax in figure.axes[::columns]:
        ax.set_ylabel(ACCURACY)
    return style.legend(figure)


#: Lines of the picture in the README: label, policy and accounting.
OVERVIEW = {
    "Uniform": ("uniform", "caps"),
    "CLEAR, the paper's method, ε chosen on other streams": ("clear", "caps"),
    "CLEAR (log-normal) with refunds, ours": ("clear-lognormal", "refunds"),
    "Oracle": ("oracle", "caps"),
}


def overview(results: pd.DataFrame, title: str) -> Figure:
    """Accuracy by budget of the policies of :data:`OVERVIEW`, mean over streams and draws."""
    figure, (ax,) = style.panels(height=4.4)
    figure.set_figwidth(style.COLUMN * 7 / 12)  # of the first page, beside the doors
    for name, (policy, accounting) in OVERVIEW.items():
        rows = results[(results["policy"] == policy) & (results["accounting"] == accounting)]
        means = 100 * rows.groupby("scarcity")["accuracy"].mean()
        ax.plot(means.index, means, **style.looks([policy])[policy] | {"label": name})
    ax.set(xlabel=BUDGET, ylabel=ACCURACY, title=title, ylim=(0, None))
    style.log_ticks(ax, results["scarcity"])
    return style.legend(figure, 1)


def gains(table: pd.DataFrame, policies: Sequence[str]) -> Figure:
    """Gains over Uniform of a table of ``comparison.compare``: ours with intervals, the paper's as open marks."""
    looks = style.looks(policies)
    paper = {"linestyle": ":", "markerfacecolor": "white"}
    ours = {name: look | {"label": f"{look['label']}, ours"} for name, look in looks.items()}
    theirs = {name: look | paper | {"label": f"{look['label']}, paper"} for name, look in looks.items()}
    figure, axes = _gain_panels(table, "gain over Uniform (points)", table["scarcity"])
    _lines(axes, table, "scarcity", "gain", ours)
    _lines(axes, table, "scarcity", "paper_gain", theirs)
    return style.legend(figure, 2)


def paired_gains(table: pd.DataFrame, ylabel: str = "gain (points)") -> Figure:
    """Paired gains (fractions) with their intervals by ``scarcity``, one panel a ``stream``, one line a ``name``."""
    figure, axes = _gain_panels(table, ylabel, table["scarcity"])
    _lines(axes, style.percent(table, "gain"), "scarcity", "gain", style.looks(table["name"]), "name")
    return style.legend(figure)


def frontier(table: pd.DataFrame, marked: Sequence[float]) -> Figure:
    """Gains over Uniform by ``scarcity`` (``effects.paired_effects``), one panel a ``stream``; some budgets are marked."""
    points = table.rename(columns={"effect": "gain", "low": "gain_low", "high": "gain_high"})
    rows_of = {"columns": -(-table["stream"].nunique() // 2), "height": 3.2, "sharex": True}
    figure, axes = _gain_panels(table, "gain over Uniform (points)", marked, **rows_of)
    _lines(axes, style.percent(points, "gain"), "scarcity", "gain", style.looks(table["policy"]))
    for ax in axes.values():
        for budget in marked:
            ax.axvline(budget, color="0.75", linewidth=0.8, linestyle=":", zorder=0)
    return style.legend(figure)


def _gain_panels(table: pd.DataFrame, ylabel: str, ticks: Iterable[float], **size: Any) -> tuple[Figure, style.Panels]:
    """One panel a ``stream`` with its budgets, and a line at no gain."""
    figure, axes = style.panels_of(table["stream"], sharey=True, **size)
    for ax in axes.values():
        ax.axhline(0, color="0.4", linewidth=0.8)
        ax.set(xlabel=BUDGET, ylabel=ylabel)
        ax.label_outer()
        style.log_ticks(ax, ticks)
    return figure, axes


def sweep(table: pd.DataFrame, xlabel: str, level: pd.DataFrame | None = None, level_name: str = "") -> Figure:
    """Accuracy by ``value``, one panel a ``scarcity``, one line a ``stream`` or else a ``policy``; ``level`` is dashed."""
    hue = "stream" if "stream" in table else "policy"
    looks = style.looks(table[hue])
    figure, axes = style.panels_of(sorted(table["scarcity"]), height=3.4, sharex=True)
    _lines(axes, style.percent(table, "accuracy"), "value", "accuracy", looks, hue, "scarcity")
    values = sorted(table["value"].unique())
    for scarcity, ax in axes.items():
        if level is not None:
            heights = level[level["scarcity"] == scarcity].groupby(hue)["accuracy"].mean()
            for name, height in heights.items():
                ax.axhline(100 * height, color=looks[name]["color"], linewidth=1, linestyle="--")
            ax.plot([], [], color="0.4", linewidth=1, linestyle="--", label=level_name)
        ax.set_title(f"{BUDGET} {scarcity:.2g}")
        ax.set(xlabel=xlabel, ylim=(0, None))
        if values[0] > 0:
            style.log_ticks(ax, values[:: max(1, len(values) // 3)])
    figure.axes[0].set_ylabel(ACCURACY)
    return style.legend(figure, 5)


def velocity(table: pd.DataFrame) -> Figure:
    """Figure 8: accuracy and price by initial velocity (``value``), one line a ``stream``."""
    figure, (left, right) = style.panels(2)
    for name, look in style.looks(table["stream"]).items():
        rows = table[table["stream"] == name]
        style.line_with_band(left, style.percent(rows, "accuracy"), "value", "accuracy", **look)
        style.line_with_band(right, rows, "value", "price", **look)
    speed = {"xscale": "log", "xlabel": "initial velocity (utility per token)"}
    left.set(ylabel=ACCURACY, ylim=(0, None), **speed)
    right.set(ylabel="price (utility per token)", yscale="log", **speed)
    return style.legend(figure)


def oracle_audit(bounds: Mapping[str, pd.DataFrame]) -> Figure:
    """The reported Oracle and lower bounds on a true one: tables of ``audit.oracle_bounds`` by what they rest on."""
    figure, axes = style.panels_of(next(iter(bounds.values()))["stream"])
    for stream, ax in axes.items():
        parts = {name: table[table["stream"] == stream].set_index("budget") for name, table in bounds.items()}
        wide = pd.DataFrame({f"at least: {name}": part["bound"] for name, part in parts.items()})
        wide.plot.bar(ax=ax, width=0.72, color=[style.SKY, style.BLUE], legend=False, rot=0)
        for bar in ax.containers[1]:
            bar.set(hatch="//", edgecolor="white")
        reported = next(iter(parts.values()))["reported"]
        ax.plot(range(len(reported)), reported, "o", color="black", markersize=6, label="reported Oracle")
        ax.set(xlabel="tokens per query", ylabel=ACCURACY if ax is figure.axes[0] else "")
        ax.set_ylim(0.75 * wide.min(axis=None), None)
    return style.legend(figure, 3)


def replica(table: pd.DataFrame, policies: Mapping[str, str]) -> Figure:
    """Accuracies of a replica by the paper's, a table of ``comparison.compare``; ``policies`` has titles of the panels."""
    figure, axes = style.panels(len(policies), 3, height=2.9, sharex=True, sharey=True)
    top = 1.05 * table["high"].max()
    for ax, (policy, title) in zip(axes, policies.items(), strict=True):
        for stream, look in style.looks(table["stream"]).items():
            cells = table[(table["policy"] == policy) & (table["stream"] == stream)]
            style.marks_with_intervals(ax, cells["paper"], cells["ours"], cells["low"], cells["high"], **look)
        ax.plot([0, top], [0, top], color="0.6", linewidth=1, zorder=0)
        ax.set_title(title)
        ax.set(xlabel="the paper (%)", ylabel="the replica (%)")
        ax.label_outer()
    return style.legend(figure)
