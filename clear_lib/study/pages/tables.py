"""Tables of the book for display, most of them the paper's numbers beside ours. Nothing is measured here."""

import html
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from clear_lib.allocation.policies import POLICIES
from clear_lib.study.experiments import tally
from clear_lib.study.setup.streams import STREAMS

#: The last columns of every table of results.
SHAPE = ("paper", "ours", "difference", "95% interval", "n", "verdict")

#: The paper's names of policies, streams, and the rows of Table 3 that are no policies of their own.
LABELS = {
    **{name: policy.label for name, policy in POLICIES.items()},
    **STREAMS,
    "triangular": "Triangular (Lambert)",
    "quadratic": "Quadratic (Lambert)",
}

#: What a cell of numbers holds: one or several, an interval, a count of streams and queries, or nothing.
NUMBERS = r"(?:[\d\s.,+−–%×()/e-]|to|no gap|nan|None)*"


def label(name: Any) -> Any:
    """The paper's name of a policy, a variant of CLEAR or a stream; anything else as it is."""
    return LABELS.get(name, name)


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its streams and policies by the paper's names."""
    names = {"stream", "policy", "first", "second"} & set(table)
    return table.assign(**{name: table[name].map(label) for name in names})


def _number(value: Any, sign: str = "") -> str:
    """Text as it is, nothing for NaN, whole numbers and those from 1,000 without decimals, others with one."""
    if isinstance(value, str) or pd.isna(value):
        return value if isinstance(value, str) else ""
    whole = isinstance(value, (int, np.integer)) or abs(value) >= 1000
    return f"{value:{sign},.0f}" if whole else f"{round(value, 1) + 0.0:{sign}.1f}"


def _intervals(low: Iterable[Any], high: Iterable[Any], sign: str = "") -> list[str]:
    ends = zip(low, high, strict=True)
    return ["" if pd.isna(a) else f"{_number(a, sign)} to {_number(b, sign)}" for a, b in ends]


def _ours_and_theirs(table: pd.DataFrame, ours: str, theirs: str, sign: str = "") -> list[str]:
    """Two columns as ``ours (theirs)``; without brackets where the paper has no number."""
    pairs = zip(table[ours], table[theirs], strict=True)
    return [_number(a, sign) + ("" if pd.isna(b) else f" ({_number(b, sign)})") for a, b in pairs]


def beside_paper(table: pd.DataFrame, caption: str) -> Styler:
    """Results beside the paper's: what a row is about (budget and gain, of ``comparison.compare``), then :data:`SHAPE`."""
    known = {"difference", "low", "high", "seeds", "scarcity", "tokens", "paper_tokens", *SHAPE}
    shown = _labelled(table[[name for name in table if name not in known and "gain" not in name]])
    if "tokens" in table:
        shown["budget"] = _ours_and_theirs(table, "tokens", "paper_tokens")
        if table["gain"].notna().any():
            shown["gain (paper)"] = _ours_and_theirs(table, "gain", "paper_gain", "+")
    shown["paper"], shown["ours"] = table["paper"].map(_number), table["ours"].map(_number)
    shown["difference"] = [_number(value, "+") for value in table["difference"]]
    shown["95% interval"] = _intervals(table["low"], table["high"])
    shown["n"] = table["n"].map(_number)
    if "seeds" in table:
        shown["n"] = table["seeds"].map(str) + " × " + shown["n"]
    return captioned(shown.assign(verdict=table["verdict"]), caption).hide()


def movements(table: pd.DataFrame, caption: str) -> Styler:
    """Changes with what the paper leaves open, a table of ``sensitivity.movement``, in points."""

    def points(name: str) -> list[str]:
        value, low, high = (100 * table[column] for column in (name, f"{name}_low", f"{name}_high"))
        return [f"{_number(x, '+')} ({ends})" for x, ends in zip(value, _intervals(low, high, "+"), strict=True)]

    shown = pd.DataFrame(
        {
            "open": table["item"],
            "policy": table["policy"].map(label),
            "our choice": table["ours"],
            "another": table["other"],
            "mean change": points("change"),
            "worst cell": points("worst"),
            "where": table["stream"].map(label) + table["scarcity"].map(" {:.2f}".format),
            "n": table["seeds"].map(str) + " × " + table["n"].map(str),
        }
    )
    return captioned(shown, f"{caption} In brackets: 95% intervals, by resampled questions.").hide()


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1, of a table of ``comparison.compare``: ``ours (paper)`` in per cent, by budget in tokens, ours (paper's)."""
    cells, tokens = _ours_and_theirs(table, "ours", "paper"), _ours_and_theirs(table, "tokens", "paper_tokens")
    shown = _labelled(table).assign(cell=cells, tokens=tokens)
    wide = shown.pivot_table("cell", ["stream", "policy"], "tokens", aggfunc="first", sort=False)
    return wide.rename_axis(columns=None)


def by_accounting(results: pd.DataFrame, caption: str) -> Styler:
    """Mean accuracy in per cent by stream and policy, accounting and budget."""
    shown = _labelled(results).assign(budget=results["scarcity"].map("{:.2f}".format))
    wide = 100 * shown.pivot_table("accuracy", ["stream", "policy"], ["accounting", "budget"], sort=False)
    wide = wide.sort_index(axis=1).rename_axis(columns=[None, None])
    return captioned(wide, caption).format(precision=1, na_rep="")


def gaps(table: pd.DataFrame, caption: str) -> Styler:
    """Gains over a baseline, and shares of its gap to the oracle that are closed: a table of ``results.gap_closed``."""
    shown = pd.DataFrame(
        {
            "stream": table["stream"].map(label),
            "budget / mean length": table["scarcity"].map("{:.2f}".format),
            "gain (points)": (100 * table["gain"]).map("{:+.1f}".format),
            "interval": _intervals(100 * table["gain_low"], 100 * table["gain_high"], "+"),
            "gap to the oracle": (100 * table["gap"]).map("{:.1f}".format),
            "closed": table["closed"].map("{:.0%}".format).where(table["closed"].notna(), "no gap"),
            "streams": table["seeds"],
        }
    )
    return captioned(shown, caption).hide()


def tallies(closed: Mapping[str, pd.DataFrame], caption: str) -> Styler:
    """Cells won and lost, mean gain and share of all gaps that is closed, a row for each table as of :func:`gaps`."""
    shown = pd.DataFrame({name: tally(table) for name, table in closed.items()}).T
    counts = shown[["wins", "losses", "undecided", "no gap"]].astype(int)
    gain, share = (100 * shown["gain"]).map("{:+.1f}".format), shown["closed"].map("{:.0%}".format)
    return captioned(counts.assign(**{"mean gain (points)": gain, "gap closed": share}), caption)


def effects(table: pd.DataFrame, caption: str) -> Styler:
    """Effects with intervals (fractions, shown in points), as of ``experiments.effects``, with what they are of."""
    shown = table.drop(columns=["low", "high", "p", "p_holm"], errors="ignore")
    shown = shown.assign(effect=(100 * table["effect"]).map("{:+.1f}".format))
    intervals = _intervals(100 * table["low"], 100 * table["high"], "+")
    shown.insert(shown.columns.get_loc("effect") + 1, "95% interval", intervals)
    if "share_of_cells_above" in shown:
        above = (table["share_of_cells_above"] * table["cells"]).round().astype(int)
        shown["cells above zero"] = [f"{k} of {n:.0f}" for k, n in zip(above, table["cells"], strict=True)]
    return listed(shown.drop(columns=["share_of_cells_above", "cells"], errors="ignore"), caption)


#: The caption of :func:`verification`.
DECODED_AGAIN = "Decoded again. equal: to the last token; off by, shift: tokens; other outcome: % of questions × budgets that changed."


def verification(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Recorded questions that were decoded again with their model, a row a run, by the fields of ``verifying.Verified``."""
    rows = [
        each | {"model": about["model"].rpartition("/")[2].removesuffix("-GGUF"), "replayed": 100 * each["replayed"]}
        for about in manifest["profiles"].values()
        for each in about.get("verified", [])
    ]
    columns = ["model", "questions", "batch_size", "equal", "lengths", "apart", "shift", "verdicts", "replayed"]
    names = {"batch_size": "at once", "lengths": "same length", "apart": "off by"}
    names |= {"verdicts": "other verdict", "replayed": "other outcome"}
    return pd.DataFrame(rows, columns=columns).rename(columns=names)


def captioned(frame: pd.DataFrame, caption: str) -> Styler:
    """A table with a caption, of which all that follows a line break is folded; the best policy of a stream is bold."""
    columns = [
        pd.Series(list(map(_text, column)), column.index, object) if column.dtype.kind == "O" else column
        for _, column in frame.items()
    ]
    shown = pd.concat(columns, axis=1).set_axis(frame.columns, axis=1)
    shown = shown.rename(index=_text, columns=_text)
    said, _, made = map(str.strip, _text(caption).partition("\n"))
    fold = f" <details><summary>How this was made</summary>{made}</details>" if made else ""
    left = [name for name, column in shown.items() if not column.map(str).str.fullmatch(NUMBERS).all()]
    styles = {name: [{"selector": "", "props": "text-align: left; white-space: normal"}] for name in left}
    styler = shown.style.set_caption(said + fold).set_table_styles(styles)
    return styler.apply(_best) if shown.index.names == ["stream", "policy"] else styler


def _best(column: pd.Series) -> Iterable[str]:
    """The style of each number of a column: bold for the highest of a stream, oracles aside."""
    number = column.map(str).str.extract(r"^(-?\d+\.?\d*)", expand=False).astype(float).round(1)
    ours = number.mask(column.index.get_level_values("policy").str.startswith("Oracle"))
    return np.where(ours.eq(ours.groupby(level="stream").transform("max")), "font-weight: bold", "")


def _text(value: Any) -> Any:
    """A text with its markup escaped; anything else as it is."""
    return html.escape(value, quote=False) if isinstance(value, str) else value


def listed(frame: pd.DataFrame, caption: str, decimals: int = 1) -> Styler:
    """A table without its index: policies and streams by the paper's names, numbers with some decimals."""
    return captioned(_labelled(frame), caption).hide().format(precision=decimals, na_rep="")
