"""Pages with controls, as HTML with style, script and data inside: the market to be touched, and Table 1 by choice."""

import json
from importlib.resources import files
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.colors import to_hex

from clear_lib.study.experiments import budget_per_query
from clear_lib.study.pages.figures.style import looks
from clear_lib.study.pages.tables import label

WIDGETS = files(__package__) / "widgets"


def _widget(name: str, data: dict[str, Any], *scripts: str) -> HTML:
    """The markup of a widget with its data, the shared style, and its scripts."""

    def read(file: str) -> str:
        return (WIDGETS / file).read_text(encoding="utf-8")

    embedded = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    before, end, _ = read(f"{name}.html").rpartition("</section>")
    code = "\n".join(read(f"{script}.js") for script in (*scripts, name))
    html = f"<style>{read('widgets.css')}</style>\n{before}"
    html += f'<script type="application/json">{embedded}</script>\n{end}\n<script>\n{code}</script>'
    return HTML(html)


def two_dozen(pool: pd.DataFrame, n: int = 24) -> pd.DataFrame:
    """``n`` queries of a pool, as many of each tier, half of them answered correctly (or fewer), evenly spaced by length.

    Named A, B, … from the shortest on; ``error`` is the logarithm of forecast over length.
    """
    groups = pool.groupby(["tier", "correct"], sort=False)
    each = n // (2 * pool["tier"].nunique())
    parts = []
    for _, rows in groups:
        ranks = (np.arange(each) + 0.5) / each * len(rows)
        parts.append(rows.sort_values("length", kind="stable").iloc[np.unique(ranks.astype(int))])
    chosen = pd.concat(parts).sort_values("length", kind="stable", ignore_index=True)
    error = np.log(np.maximum(chosen["threshold"], 1.0) / np.maximum(chosen["length"], 1)).round(4)
    names = list(ascii_uppercase[: len(chosen)])
    return chosen[["tier", "length", "correct"]].assign(name=names, error=error)


def forecasts(queries: pd.DataFrame, noise: float) -> np.ndarray:
    """Forecasts of :func:`two_dozen`, tokens: the length at noise 0, the predictor's at 1, twice its errors at 2."""
    return queries["length"].to_numpy() * np.exp(noise * queries["error"].to_numpy())


def market(queries: pd.DataFrame, reference: float, epsilon: float, scarcity: float) -> HTML:
    """Sliders for budget, ``ε`` and noise over the market of :func:`two_dozen`, from ``scarcity`` and ``epsilon`` on."""
    widths = np.geomspace(1, max(reference, 4 * epsilon, 8), 33).round().astype(int)
    epsilons = sorted({*widths.tolist(), max(round(epsilon), 1)})
    data = {
        "queries": json.loads(queries.to_json(orient="records")),
        "reference": reference,
        "longest": 1.05 * float(max(queries["length"].max(), forecasts(queries, 1).max())),
        "most": budget_per_query(2, reference),
        "epsilons": epsilons,
        "start": {"budget": budget_per_query(scarcity, reference), "epsilon": epsilons.index(max(round(epsilon), 1))},
    }
    return _widget("market", data, "solver", "plot")


#: Policies that Table 1 shows before a reader chooses.
AT_FIRST = ("uniform", "clear", "clear-heuristic", "oracle")

#: What a cell of Table 1 has, of ``comparison.compare``.
CELL = "stream scarcity policy tokens paper_tokens ours low high paper gain gain_low gain_high paper_gain".split()


def table1(compared: pd.DataFrame, made: str) -> HTML:
    """Table 1 by stream, budget and policy, of a table of ``comparison.compare``; ``made`` says of what."""
    cells = compared[CELL].round({name: 2 for name in CELL if name not in ("stream", "policy", "scarcity")})
    cells = cells.sort_values("scarcity", kind="stable")
    budgets = cells[["scarcity", "tokens", "paper_tokens"]].drop_duplicates("scarcity")
    policies = [
        {
            "name": name,
            "label": look["label"],
            "marker": look["marker"],
            "dashes": look["linestyle"],
            "color": "var(--ink)" if to_hex(look["color"]) == "#000000" else to_hex(look["color"]),
            "at_first": name in AT_FIRST,
        }
        for name, look in looks(cells["policy"]).items()
    ]
    data = {
        "made": made,
        "streams": [{"name": name, "label": label(name)} for name in dict.fromkeys(compared["stream"])],
        "budgets": json.loads(budgets.to_json(orient="records")),
        "policies": policies,
        "cells": json.loads(cells.to_json(orient="records", double_precision=10)),
    }
    return _widget("table1", data, "plot")
