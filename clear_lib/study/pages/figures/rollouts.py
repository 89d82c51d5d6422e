"""Figures of rollouts and forecasts: phases, lengths, forecasts and their calibration."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from clear_lib.study.experiments.phases import Bars, SurgeFit
from clear_lib.study.pages.figures import style

LENGTH = "length of the solution (tokens)"


def predicted_against_true(frame: pd.DataFrame, parts: Mapping[str, Sequence[str]]) -> Figure:
    """Figure 4: forecast (``threshold``) by ``length``, one panel for the tiers of each part, both axes logarithmic."""
    figure, axes = style.panels(len(parts), height=3.6, sharex=True, sharey=True)
    ends = [frame["length"].min(), frame[["length", "threshold"]].max().max()]
    for ax, (title, tiers) in zip(axes, parts.items(), strict=True):
        for tier in tiers:
            rows = frame[frame["tier"] == tier]
            look = style.looks([tier])[tier] | {"linestyle": "", "markersize": 3, "alpha": 0.6}
            ax.plot(rows["length"], rows["threshold"], **look)
        ax.plot(ends, ends, color="0.4", linewidth=1, zorder=0)
        ax.set(xscale="log", yscale="log", title=title, xlabel=LENGTH)
    axes[0].set_ylabel("predicted threshold (tokens)")
    return style.legend(figure, markerscale=2)


def calibration_curves(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of correct solutions by their forecast chance, in equal-count bins with intervals, one panel a table."""
    figure, axes = style.panels(len(tables), height=3.6, sharex=True, sharey=True)
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        ax.plot([0, 1], [0, 1], color="0.4", linewidth=1, zorder=0)
        style.marks_with_intervals(ax, table["chance"], table["share"], table["low"], table["high"], color=style.BLUE)
        ax.set(title=title, xlabel="forecast chance of a correct solution", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("share of correct solutions")
    return figure


def solved_by_cap(table: pd.DataFrame, borders: tuple[float, float], title: str = "") -> Figure:
    """Figure 1: share solved by cap (of ``phases.solved_by_cap``), a line a group; borders of the Surge in tokens."""
    figure, (ax,) = style.panels(height=3.8)
    table = style.percent(table.rename(columns={"lower": "mean_low", "upper": "mean_high"}), "mean")
    for group, look in style.looks(table["group"]).items():
        rows = table[table["group"] == group]
        text = f"{group} (n = {rows['questions'].iloc[0]})"
        style.line_with_band(ax, rows, "cap", "mean", **look | {"markevery": 0.12, "label": text})
    style.log_ticks(ax)
    ax.set(xlabel="cap (tokens)", ylabel="solved (%)", ylim=(0, None), xlim=(table["cap"].min(), table["cap"].max()))
    ends = [ax.get_xlim()[0], *borders, ax.get_xlim()[1]]
    ax.axvspan(*borders, color="0.93", linewidth=0, zorder=0)
    for name, left, right in zip(("Strict", "Surge", "Ample"), ends, ends[1:], strict=False):
        middle = np.sqrt(left * right)
        ax.text(middle, 1.01, name, transform=ax.get_xaxis_transform(), ha="center", va="bottom")
    ax.set_title(title, pad=18)
    return style.legend(figure)


def accuracy_by_length(table: pd.DataFrame, column: str, fit: SurgeFit | None = None, title: str = "") -> Figure:
    """Accuracy by ``length`` (tokens) or, less the question's own, by its ``ratio`` to the question's mean length."""
    figure, (ax,) = style.panels(height=3.4)
    shares = (100 * table[name] for name in ("mean", "lower", "upper"))
    style.marks_with_intervals(ax, table[column], *shares, color=style.BLUE)
    ax.set_title(title)
    if fit is not None:
        tokens = np.geomspace(table[column].min() / 1.3, table[column].max() * 1.2, 300)
        ax.plot(tokens, 100 * fit(tokens), color=style.VERMILION, label="fitted surge (eq. 1)")
        style.legend(figure)
    if column == "length":
        style.log_ticks(ax)
        ax.set(xlabel=LENGTH, ylabel="accuracy (%)", ylim=(0, 100))
    else:
        ax.axhline(0, color="0.5", linewidth=1)
        ax.set(xscale="log", xlabel="length / mean length of its question", ylabel="accuracy − question's own (points)")
        low, high = ax.get_xlim()
        style.log_ticks(ax, [tick for tick in (0.25, 0.5, 0.7, 1, 1.5, 2, 3) if low <= tick <= high])
    return figure


def bars_by_question(questions: Sequence[Bars]) -> Figure:
    """Figure 2, a column a question: correct solutions by length with the fitted surge; below, share solved by cap."""
    n = len(questions)
    figure, axes = style.panels(2 * n, n, height=2.2, sharex="col", sharey="row")
    for top, bottom, bars in zip(axes[:n], axes[n:], questions, strict=True):
        width = np.diff(bars.edges)
        top.bar(bars.edges[:-1], bars.correct, width, align="edge", color=style.SKY, edgecolor="white", label="correct")
        top.stairs(bars.indifferent, bars.edges, color="0.25", linestyle="--", label="if length did not matter")
        tokens = np.linspace(bars.edges[0], bars.edges[-1], 200)
        if bars.fit:
            top.plot(tokens, bars.fit(tokens), color=style.VERMILION, label="fitted surge (eq. 1)")
        below = np.searchsorted(bars.lengths, tokens, side="right")
        bottom.plot(tokens, 100 * below / bars.count.sum(), color=style.BLUE, drawstyle="steps-post")
        top.set_title(bars.name)
        bottom.set(xlabel="tokens", ylim=(0, 100))
    axes[0].set_ylim(0, 1.25 * max(bars.count.max() for bars in questions))
    axes[0].set_ylabel("correct solutions\nof this length")
    axes[n].set_ylabel("solved (%)\nunder this cap")
    return style.legend(figure, 3)
