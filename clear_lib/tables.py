"""Tables of the book: the paper's numbers beside ours. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import paper
from .experiments import gains, interval, tally
from .policies import POLICIES
from .profiles import Profile
from .streams import STREAMS

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

#: The paper's row that each policy is compared with: it reports one oracle, we run two readings of it.
PAPER_ROW = {name: name for name in paper.TABLE_1} | {"oracle-paper": "oracle"}

#: Verdicts of :func:`compare`.
SAME, OPPOSITE, UNDECIDED, BASELINE = "same sign", "opposite sign", "undecided", "baseline"
#: That of :func:`variants` where the paper has no number.
ABSENT = "not in the paper"


def label(name: str) -> str:
    """What the paper calls a policy or a stream."""
    return POLICIES[name].label if name in POLICIES else STREAMS[name]


def compare(results: pd.DataFrame) -> pd.DataFrame:
    """Table 1, cell by cell.

    Accuracies of different models on different questions cannot agree, so the verdict is about the *gain over
    Uniform*: whether it has the sign that it has in the paper, or the interval of the paired gain has zero
    inside (or at its edge).

    Parameters
    ----------
    results : DataFrame
        Of :func:`clear_lib.experiments.run`, with the policy ``uniform`` among its policies.

    Returns
    -------
    DataFrame
        Columns ``stream, scarcity, policy`` (names), ``tokens`` (ours, per query), ``paper_tokens``, then
        accuracy in per cent: ``paper, ours, difference, low, high``, the paired gain over Uniform in points:
        ``paper_gain, gain, gain_low, gain_high``, ``n`` (queries of a stream), ``seeds`` (streams), ``verdict``.
    """
    gained = gains(results)
    table = _in_points(interval(gained, ["accuracy", "gain"]))
    first = gained.groupby(["stream", "scarcity", "policy"], sort=False)[["budget_per_query", "n"]].first()
    table = table.merge(first.reset_index(), on=["stream", "scarcity", "policy"])
    table["paper_tokens"] = table["scarcity"].map(paper.budget_of)
    cells = list(zip(table["policy"], table["stream"], table["paper_tokens"], strict=True))
    table["paper"] = [paper.TABLE_1[PAPER_ROW[policy]][stream][tokens] for policy, stream, tokens in cells]
    base = [paper.TABLE_1["uniform"][stream][tokens] for _, stream, tokens in cells]
    table["paper_gain"] = (table["paper"] - base).round(1)
    table = _judged(table, table["policy"] == "uniform")
    columns = [
        "stream", "scarcity", "policy", "tokens", "paper_tokens", "paper", "ours", "difference", "low", "high",
        "paper_gain", "gain", "gain_low", "gain_high", "n", "seeds", "verdict",
    ]  # fmt: skip
    return table.rename(columns={"budget_per_query": "tokens"})[columns]


def _in_points(table: pd.DataFrame) -> pd.DataFrame:
    """Of :func:`clear_lib.experiments.interval`: accuracy in per cent as ``ours, low, high``, gains in points."""
    shares = [name for name in table if name.startswith(("accuracy", "gain"))]
    table[shares] *= 100
    return table.rename(columns={"accuracy": "ours", "accuracy_low": "low", "accuracy_high": "high"})


def _judged(table: pd.DataFrame, baseline: pd.Series) -> pd.DataFrame:
    """The table with ``difference`` and ``verdict``; a row whose ``paper`` is NaN has none to be compared with."""
    unclear = (table["gain_low"] <= 0) & (table["gain_high"] >= 0)
    same = np.sign(table["gain"]) == np.sign(table["paper_gain"])
    verdict = np.select(
        [baseline, table["paper"].isna(), unclear, same], [BASELINE, ABSENT, UNDECIDED, SAME], default=OPPOSITE
    )
    return table.assign(difference=table["ours"] - table["paper"], verdict=verdict)


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as the paper lays it out: a row a policy, ``ours (paper)`` in each cell, in per cent.

    Parameters
    ----------
    table : DataFrame
        Of :func:`compare`.
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


def listing(table: pd.DataFrame, stream: str, profile: Profile) -> Styler:
    """One stream of :func:`compare`, for display, in the columns of every table of results: paper · ours ·
    difference · interval · n · verdict."""
    table = table[table["stream"] == stream]
    shown = pd.DataFrame(
        {
            "policy": table["policy"].map(label),
            "budget": [f"{ours} ({theirs:,})" for ours, theirs in zip(table["tokens"], table["paper_tokens"], strict=True)],
            "paper": table["paper"].map("{:.1f}".format),
            "ours": table["ours"].map("{:.1f}".format),
            "difference": table["difference"].map("{:+.1f}".format),
            "interval": [f"{low:.1f} to {high:.1f}" for low, high in zip(table["low"], table["high"], strict=True)],
            "n": [f"{seeds} × {n}" for seeds, n in zip(table["seeds"], table["n"], strict=True)],
            "gain (paper)": [
                f"{ours:+.1f} ({theirs:+.1f})" for ours, theirs in zip(table["gain"], table["paper_gain"], strict=True)
            ],
            "verdict": table["verdict"],
        }
    )
    caption = f"{label(stream)} stream, accuracy in %. Budgets and gains: ours (paper's). {provenance(profile)}"
    return captioned(shown, caption).hide()


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
        Of :func:`clear_lib.experiments.gap_closed`.
    caption : str
    """
    shown = pd.DataFrame(
        {
            "stream": table["stream"].map(label),
            "budget / mean length": table["scarcity"].map("{:.2f}".format),
            "gain (points)": (100 * table["gain"]).map("{:+.1f}".format),
            "interval": [
                f"{low:+.1f} to {high:+.1f}"
                for low, high in zip(100 * table["gain_low"], 100 * table["gain_high"], strict=True)
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
        For each name a table of :func:`clear_lib.experiments.gap_closed`.
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


def provenance(profile: Profile, intervals: bool = True) -> str:
    """What a caption must say of results: model, data, who stands in for whom, and what intervals cover."""
    pool = sum(profile.pool_per_tier.values())
    parts = [
        f"Model: {profile.model}, {'greedy' if profile.engine != 'none' else 'imported rollouts'}, at most {profile.cap} "
        f"tokens; {pool:,} evaluation questions.",
        f"TALE-EP has a {profile.teacher.label}.",
    ]
    if intervals:
        parts.append(
            f"{profile.stream_seeds} streams of N = {profile.stream_size}; intervals are the central 95% over them and "
            f"cover the draw of the stream, not the pool or the training."
        )
    return " ".join(parts)


def captioned(frame: pd.DataFrame, caption: str) -> Styler:
    """A table with a caption of its own, for display."""
    return frame.style.set_caption(caption)


def listed(frame: pd.DataFrame, caption: str, decimals: int = 1) -> Styler:
    """A table row by row, for display: policies and streams by the paper's names, and numbers with some decimals."""
    names = [name for name in ("stream", "policy", "first", "second") if name in frame]
    shown = frame.assign(**{name: frame[name].map(label) for name in names})
    return captioned(shown, caption).hide().format(precision=decimals, na_rep="")


#: Rows of Table 3 that are no policies of their own.
VARIANTS = {"triangular": "Triangular (Lambert)", "quadratic": "Quadratic (Lambert)"}


def variants(results: pd.DataFrame) -> pd.DataFrame:
    """Table 3: CLEAR on other curves at the scarcest budget, the paper's numbers beside ours.

    The verdict is about the gain over Uniform, as in :func:`compare`.

    Parameters
    ----------
    results : DataFrame
        Of :func:`clear_lib.experiments.run` with ``uniform``, and ``clear`` swept over ``utility``; other policies
        have no number of the paper.

    Returns
    -------
    DataFrame
        One row a stream and variant: accuracy in per cent, ``paper, ours, difference, low, high``; the paired gain
        over Uniform in points, ``paper_gain, gain, gain_low, gain_high``; ``n``, ``seeds``, ``verdict``.
    """
    gained = gains(results)
    scarce = gained[gained["scarcity"] == gained["scarcity"].min()]
    swept = (scarce["policy"] == "clear") & (scarce["value"] != "surge")
    scarce = scarce.assign(variant=scarce["value"].where(swept, scarce["policy"]))
    table = _in_points(interval(scarce, ["accuracy", "gain"], by=("stream", "variant")))
    printed = [
        (paper.TABLE_3.get(variant, {}).get(stream, np.nan), paper.TABLE_3["uniform"].get(stream, np.nan))
        for stream, variant in zip(table["stream"], table["variant"], strict=True)
    ]
    table["paper"], base = np.array(printed).T
    table["paper_gain"] = (table["paper"] - base).round(1)
    table["n"] = int(results["n"].iloc[0])
    table = _judged(table, table["variant"] == "uniform")
    columns = [
        "stream", "variant", "paper", "ours", "difference", "low", "high", "paper_gain", "gain", "gain_low", "gain_high",
        "n", "seeds", "verdict",
    ]  # fmt: skip
    return table[columns]


def variant_listing(table: pd.DataFrame, profile: Profile) -> Styler:
    """The table of :func:`variants`, for display, in the columns of every table of results."""

    def number(column: str, form: str) -> list[str]:
        return ["" if np.isnan(value) else form.format(value) for value in table[column]]

    gains_shown = [
        f"{ours} ({theirs})" if theirs else ours
        for ours, theirs in zip(number("gain", "{:+.1f}"), number("paper_gain", "{:+.1f}"), strict=True)
    ]
    shown = pd.DataFrame(
        {
            "stream": table["stream"].map(label),
            "variant": [VARIANTS.get(name) or label(name) for name in table["variant"]],
            "paper": number("paper", "{:.1f}"),
            "ours": number("ours", "{:.1f}"),
            "difference": number("difference", "{:+.1f}"),
            "interval": [f"{low:.1f} to {high:.1f}" for low, high in zip(table["low"], table["high"], strict=True)],
            "n": [f"{seeds} × {n}" for seeds, n in zip(table["seeds"], table["n"], strict=True)],
            "gain (paper)": gains_shown,
            "verdict": table["verdict"],
        }
    )
    caption = f"Accuracy in % at the scarcest budget. Gains over Uniform: ours (paper's). {provenance(profile)}"
    return captioned(shown, caption).hide()


def against(table: pd.DataFrame, caption: str) -> Styler:
    """Cells of :func:`clear_lib.replica.residuals`, for display, in the columns of every table of results: paper ·
    ours · difference · interval · n · verdict."""
    shown = pd.DataFrame(
        {
            "policy": table["policy"],
            "stream": table["stream"],
            "budget": table["budget"],
            "paper": table["paper"],
            "ours": table["ours"],
            "difference": table["error"].map("{:+.1f}".format).replace("+nan", ""),
            "interval": [f"{low:.1f} to {high:.1f}" for low, high in zip(table["low"], table["high"], strict=True)],
            "n": [f"{seeds} × {n}" for seeds, n in zip(table["seeds"], table["n"], strict=True)],
            "verdict": table["verdict"],
        }
    )
    return listed(shown, caption)
