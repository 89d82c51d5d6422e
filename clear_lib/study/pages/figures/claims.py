"""The claims at a glance: an effect with its interval in each setting, and the word that follows from it."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clear_lib.study.evidence import verdicts
from clear_lib.study.evidence.claims import CLAIMS
from clear_lib.study.evidence.rules import LABORATORY, MATHEMATICS, PERCENT, PRINTED, REPLICA, TIMES

#: Inches: the width of a phone's screen (390 px), the names of the claims in it, and the height of a row.
WIDTH, NAMES, ROW = 390 / 96, 1.5, 0.25

#: Colour and marker of each word: apart for the colour-blind, and apart without colour.
ASIDE = "counts for nothing"
LOOKS = {
    verdicts.HOLDS: ("#0072B2", "o"),
    verdicts.FAILS: ("#D55E00", "X"),
    verdicts.UNCLEAR: ("0.25", "d"),
    ASIDE: ("0.55", "s"),
}


def from_mark(findings: pd.DataFrame) -> pd.DataFrame:
    """Effect, interval and far bound as distances from the mark of the claim; the largest of a row is one unit."""
    bounded, both = np.isfinite(findings["least"]), np.isfinite(findings[["least", "most"]]).all(axis=1)
    mark = findings["least"].where(bounded, findings["most"]).where(~both, 0.0)
    at = findings[["effect", "low", "high"]].sub(mark, axis=0).mul(np.where(bounded, 1.0, -1.0), axis=0)
    at["bound"] = findings["most"].where(both)
    row = [findings["claim"], findings["part"]]
    return at.div(at.abs().max(axis=1).groupby(row).transform("max").replace(0.0, 1.0), axis=0)


def short_setting(setting: str) -> str:
    """The name of a setting that fits its column; of a model its size."""
    size = re.search(r"[\d.]+B\b", setting)
    known = {MATHEMATICS: "maths", PRINTED: "printed", LABORATORY: "live", REPLICA: "replica"}
    return known.get(setting) or (size[0] if size else setting[:8])


def _cell(ax: Axes, x: int, y: float, finding: pd.Series, at: pd.Series) -> None:
    """A finding around its mark (a short vertical line): interval and effect, and below them the number."""
    color, marker = LOOKS[ASIDE if finding["aside"] else finding["verdict"]]
    if np.isfinite(at["bound"]):
        ax.fill_betweenx([y - 0.34, y + 0.02], x - 0.4 * at["bound"], x + 0.4 * at["bound"], color="0.9", linewidth=0)
    ax.plot([x, x], [y - 0.34, y + 0.02], "-", color="0.7", linewidth=0.8)
    ax.plot(x + 0.4 * at[["low", "high"]].astype(float), [y - 0.16] * 2, "-", color=color, linewidth=1.6)
    face = "white" if finding["aside"] else color
    ax.plot(x + 0.4 * at["effect"], y - 0.16, marker, color=color, markerfacecolor=face, markersize=4.5)
    text = verdicts.number(finding["effect"], finding["unit"]) + {PERCENT: "%", TIMES: "×"}.get(finding["unit"], "")
    ax.text(x, y + 0.06, text, ha="center", va="top", color=color, size=7)


def _names(ax: Axes, places: dict[tuple[str, str], float]) -> None:
    """A line with claim and title over its first row, and the names of its parts before theirs."""
    at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "size": 7.5}
    titles = {claim.id: claim.title for claim in CLAIMS}
    for (claim, part), y in places.items():
        if title := titles.pop(claim, None):
            ax.axhline(y - 1.15, xmin=-NAMES / (WIDTH - NAMES), color="0.85", linewidth=0.6, clip_on=False)
            ax.annotate(f"{claim}  {title}", (0, y - 0.8), (-NAMES * 72 + 4, 0), weight="bold", **at)
        ax.annotate(part, (0, y), (-NAMES * 72 + 10, 0), **at)


def verdict_figure(findings: pd.DataFrame) -> Figure:
    """Claims and their parts as rows, settings as columns: findings of ``verdicts.judge``, those that were tested."""
    shown = findings[findings["verdict"] != verdicts.UNTESTED]
    shown = shown.sort_values("claim", key=lambda claim: claim.str[1:].astype(int), kind="stable")
    claims, places, y = [], {}, 0.0
    for row in dict.fromkeys(zip(shown["claim"], shown["part"], strict=True)):
        y += 1.0 if row[0] in claims else 1.75
        claims.append(row[0])
        places[row] = y
    columns = [name for name in verdicts.settings(findings) if (shown["setting"] == name).any()]
    figure = plt.figure(figsize=(WIDTH, ROW * (y + 3.5)))
    ax = figure.add_axes((NAMES / WIDTH, 0, 1 - NAMES / WIDTH, 1))
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(y + 2.7, -0.8))
    ax.set_axis_off()
    for (_, finding), (_, at) in zip(shown.iterrows(), from_mark(shown).iterrows(), strict=True):
        _cell(ax, columns.index(finding["setting"]), places[finding["claim"], finding["part"]], finding, at)
    for x, name in enumerate(columns):
        ax.text(x, 0.3, short_setting(name), ha="center", va="bottom", size=7.5)
    _names(ax, places)
    looks = {word: {"color": color, "marker": marker} for word, (color, marker) in LOOKS.items()}
    looks[ASIDE]["markerfacecolor"] = "white"
    keys = [plt.Line2D([], [], linestyle="", markersize=4.5, label=word, **look) for word, look in looks.items()]
    figure.legend(handles=keys, loc="lower center", ncols=2, fontsize=7.5, frameon=False, handletextpad=0.2)
    return figure
