"""Tables of the book: the paper's numbers beside ours. Nothing is measured here."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clear_lib.allocation.policies import POLICIES
from clear_lib.study.experiments.run import tally
from clear_lib.study.setup import paper
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import STREAMS

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

#: The last columns of every table of results.
SHAPE = ("paper", "ours", "difference", "95% interval", "n", "verdict")

#: Rows of Table 3 that are no policies of their own.
VARIANTS = {"triangular": "Triangular (Lambert)", "quadratic": "Quadratic (Lambert)"}

#: What the paper calls policies, streams and variants.
LABELS = {name: policy.label for name, policy in POLICIES.items()} | STREAMS | VARIANTS

#: A verdict of :func:`code` and two of :func:`settings`.
NOT_RUN, SAME, OTHER = "not yet run", "same", "differs"


def label(name: str) -> str:
    """What the paper calls a policy, a variant of CLEAR or a stream; any other text is left as it is."""
    return LABELS.get(name, name)


def _number(value: Any, sign: str = "") -> str:
    """Text as it is, nothing for NaN, whole numbers and those from 1,000 without decimals, others with one."""
    if isinstance(value, str) or pd.isna(value):
        return value if isinstance(value, str) else ""
    whole = isinstance(value, (int, np.integer)) or abs(value) >= 1000
    return f"{value:{sign},.0f}" if whole else f"{round(value, 1) + 0.0:{sign}.1f}"


def _interval(low: Any, high: Any, sign: str = "") -> str:
    return "" if pd.isna(low) else f"{_number(low, sign)} to {_number(high, sign)}"


def against(table: pd.DataFrame, caption: str) -> Styler:
    """Results beside the paper's, for display: what a row is about, then the columns of :data:`SHAPE`.

    Parameters
    ----------
    table : DataFrame
        With ``paper, ours, difference, low, high, n, verdict``, and ``seeds`` if there are several streams of ``n``.
        Of :func:`clear_lib.study.evidence.comparison.compare` it shows stream, policy, budget and gain, ours and the paper's in
        brackets; of any other table all other columns, as they are.
    caption : str
    """

    def both(column: str, other: str, sign: str = "") -> list[str]:
        pairs = zip(*([_number(value, sign) for value in table[name]] for name in (column, other)), strict=True)
        return [f"{ours} ({theirs})" if theirs else ours for ours, theirs in pairs]

    known = {"difference", "low", "high", "seeds", "scarcity", "tokens", "paper_tokens", *SHAPE}
    rest = [name for name in table if name not in known and "gain" not in name]
    shown = table[rest].copy()
    for name in {"stream", "policy"} & set(rest):
        shown[name] = table[name].map(label)
    if "tokens" in table:
        shown["budget"] = both("tokens", "paper_tokens")
        if table["gain"].notna().any():
            shown["gain (paper)"] = both("gain", "paper_gain", "+")
    shown["paper"], shown["ours"] = table["paper"].map(_number), table["ours"].map(_number)
    shown["difference"] = [_number(value, "+") for value in table["difference"]]
    shown["95% interval"] = [_interval(*ends) for ends in zip(table["low"], table["high"], strict=True)]
    shown["n"] = table["n"].map(_number)
    if "seeds" in table:
        shown["n"] = table["seeds"].map(str) + " × " + shown["n"]
    return captioned(shown.assign(verdict=table["verdict"]), caption).hide()


def code() -> pd.DataFrame:
    """Table 2, which no model of ours has run, for :func:`against`."""
    rows = [(task, policy, value) for policy, row in paper.TABLE_2.items() for task, value in row.items()]
    table = pd.DataFrame(rows, columns=["benchmark", "policy", "paper"])
    return table.assign(ours=np.nan, difference=np.nan, low=np.nan, high=np.nan, n=np.nan, verdict=NOT_RUN)


def movements(table: pd.DataFrame, caption: str) -> Styler:
    """How far results move with what the paper leaves open, for display, with the interval in brackets.

    Parameters
    ----------
    table : DataFrame
        Of :func:`clear_lib.study.experiments.sensitivity.movement`.
    caption : str
    """

    def points(name: str) -> list[str]:
        rows = 100 * table[[name, f"{name}_low", f"{name}_high"]]
        return [f"{_number(x, '+')} ({_interval(low, high, '+')})" for x, low, high in rows.itertuples(index=False)]

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
    return captioned(shown, f"{caption} In brackets: the central 95% over the streams that were drawn.").hide()


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as the paper lays it out: a row a policy, ``ours (paper)`` in each cell, in per cent.

    Parameters
    ----------
    table : DataFrame
        Of :func:`clear_lib.study.evidence.comparison.compare`.
    """
    shown = pd.DataFrame(
        {
            "policy": table["policy"].map(label),
            "stream": table["stream"].map(label),
            "budget": table["paper_tokens"],
            "cell": [
                f"{ours:.1f}" + ("" if np.isnan(paper) else f" ({paper:.1f})")
                for ours, paper in zip(table["ours"], table["paper"], strict=True)
            ],
        }
    )
    wide = shown.pivot(index="policy", columns=["stream", "budget"], values="cell")
    wide = wide.loc[shown["policy"].unique(), list(dict.fromkeys(zip(shown["stream"], shown["budget"], strict=True)))]
    return wide.rename_axis(index=None, columns=[None, None])


def by_accounting(results: pd.DataFrame, caption: str) -> Styler:
    """Mean accuracy in per cent by accounting and policy, stream and budget, for display."""
    names = {"stream": results["stream"].map(label), "policy": results["policy"].map(label)}
    shown = results.assign(**names, budget=results["scarcity"].map("{:.2f}".format))
    wide = 100 * shown.pivot_table(
        index=["accounting", "policy"], columns=["stream", "budget"], values="accuracy", sort=False
    )
    return captioned(wide.rename_axis(index=[None, None], columns=[None, None]), caption).format(precision=1)


def gaps(table: pd.DataFrame, caption: str) -> Styler:
    """Gains over a baseline and shares of its gap to the oracle that are closed, for display.

    Parameters
    ----------
    table : DataFrame
        Of :func:`clear_lib.study.experiments.run.gap_closed`.
    caption : str
    """
    shown = pd.DataFrame(
        {
            "stream": table["stream"].map(label),
            "budget / mean length": table["scarcity"].map("{:.2f}".format),
            "gain (points)": (100 * table["gain"]).map("{:+.1f}".format),
            "interval": [
                _interval(*ends, "+") for ends in zip(100 * table["gain_low"], 100 * table["gain_high"], strict=True)
            ],
            "gap to the oracle": (100 * table["gap"]).map("{:.1f}".format),
            "closed": ["no gap" if np.isnan(share) else f"{100 * share:.0f}%" for share in table["closed"]],
            "streams": table["seeds"],
        }
    )
    return captioned(shown, caption).hide()


def tallies(closed: Mapping[str, pd.DataFrame], caption: str) -> Styler:
    """Cells won and lost, mean gain and share of all gaps that is closed, a row a comparison, for display.

    Parameters
    ----------
    closed : mapping
        For each name a table of :func:`clear_lib.study.experiments.run.gap_closed`.
    caption : str
    """
    shown = pd.DataFrame({name: tally(table) for name, table in closed.items()}).T
    shown = pd.DataFrame(
        {
            **{name: shown[name].astype(int) for name in ("wins", "losses", "undecided", "no gap")},
            "mean gain (points)": (100 * shown["gain"]).map("{:+.1f}".format),
            "gap closed": (100 * shown["closed"]).map("{:.0f}%".format),
        }
    )
    return captioned(shown, caption)


def named(profile: Profile) -> str:
    """What a sentence calls the model."""
    return f"the {profile.label}" if profile.model == "embedded" else profile.label


def evaluated(profile: Profile) -> str:
    """How many evaluation questions there are, and of how many if they are not all recorded yet."""
    pool = sum(profile.pool_per_tier.values())
    wanted = profile.recorded.get("evaluation", (pool, pool))[1]
    return f"{pool:,} evaluation questions" if wanted == pool else f"{pool:,} of the {wanted:,} evaluation questions"


def lessons(profile: Profile) -> str:
    """How many predictor questions there are, as :func:`evaluated`."""
    there = sum(profile.predictor_per_tier.values())
    wanted = profile.recorded.get("predictor", (there, there))[1]
    return f"{there:,}" if wanted == there else f"{there:,} of {wanted:,}"


def made_of(profile: Profile, streams: bool = True) -> str:
    """What figures were made of, for their captions: model, questions and streams."""
    drawn = f"; {profile.stream_seeds} streams of N = {profile.stream_size}" if streams else ""
    return f"{profile.label}, {evaluated(profile)}{drawn}"


def stream_size(profile: Profile) -> str:
    """A sentence on how many queries a stream has, beside the paper's, and why."""
    n, theirs = profile.stream_size, paper.STREAM_SIZE
    if n == theirs:
        return f"A stream has {n} queries, as in the paper."
    why = "is all that is recorded so far" if profile.recorded else "is all that the pool has"
    return (
        f"A stream has {n} queries where the paper's has {theirs}: it is drawn from {evaluated(profile)}, which {why}."
        f"{' Accuracies vary more for that, and so do gains.' if n < theirs / 2 else ''}"
    )


def provenance(profile: Profile, intervals: bool = True) -> str:
    """What a caption must say of results: model, data, who stands in for whom, and what intervals cover."""
    recorded = "recorded greedy" if profile.recorded else "greedy"
    if profile.engine == "none" and not profile.recorded:
        recorded = "simulated" if profile.revision == "simulated" else "imported"
    parts = [
        f"Model: {profile.label}, {recorded} rollouts, at most {profile.cap:,} tokens; {evaluated(profile)}.",
        f"TALE-EP has a {profile.teacher.label}.",
    ]
    if intervals:
        parts.append(
            f"{profile.stream_seeds} streams of N = {profile.stream_size}; intervals are the central 95% over them and "
            f"cover the draw of the stream, not the pool or the training."
        )
    return " ".join(parts)


def verification(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Recorded questions of the shipped models that were decoded again, a row a run; empty if none were.

    Parameters
    ----------
    manifest : mapping
        Of :func:`clear_lib.rollouts.shipped.manifest`; the runs are those of :class:`clear_lib.study.recordings.shipping.Verified`.

    Returns
    -------
    DataFrame
        ``model, questions, at once, equal, same length, off by`` and ``shift`` (tokens, means), ``other verdict``, and
        ``other outcome``: the share of questions and budgets of which "solved within the budget" changed, in per cent.
    """
    rows = [
        (
            about["model"].rpartition("/")[2].removesuffix("-GGUF"),
            each["questions"],
            each["batch_size"],
            each["equal"],
            each["lengths"],
            each["apart"],
            each["shift"],
            each["verdicts"],
            100 * each["replayed"],
        )
        for about in manifest["profiles"].values()
        for each in about.get("verified", [])
    ]
    columns = [
        "model",
        "questions",
        "at once",
        "equal",
        "same length",
        "off by",
        "shift",
        "other verdict",
        "other outcome",
    ]
    return pd.DataFrame(rows, columns=columns)


def captioned(frame: pd.DataFrame, caption: str) -> Styler:
    """A table with a caption of its own, for display. All texts in it are shown as texts, whatever markup they hold."""
    columns = [
        pd.Series(list(map(_text, column)), column.index, object) if column.dtype.kind == "O" else column
        for _, column in frame.items()
    ]
    shown = pd.concat(columns, axis=1).set_axis(frame.columns, axis=1)
    return shown.rename(index=_text, columns=_text).style.set_caption(_text(caption))


def _text(value: Any) -> Any:
    """A text with its markup escaped; anything else as it is."""
    return html.escape(value, quote=False) if isinstance(value, str) else value


def listed(frame: pd.DataFrame, caption: str, decimals: int = 1) -> Styler:
    """A table row by row, for display: policies and streams by the paper's names, and numbers with some decimals."""
    names = [name for name in ("stream", "policy", "first", "second") if name in frame]
    shown = frame.assign(**{name: frame[name].map(label) for name in names})
    return captioned(shown, caption).hide().format(precision=decimals, na_rep="")
