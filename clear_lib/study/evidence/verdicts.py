"""The rules by which the verdicts on the claims fall: functions of tables, without an opinion of their own.

A rule belongs to one claim and one setting: the mathematics, the paper's own tables, recorded rollouts of a model (each
model is judged by itself), what must be decoded while the pages are made, the replica. It says in which cells the claim
is true and in which it is false; cells in which chance could turn it either way count for neither. :func:`verdict` makes
a word of the two counts, the same for all rules.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from clear_lib.allocation import market
from clear_lib.allocation.utility import Surge
from clear_lib.rollouts import shipped as recordings
from clear_lib.study.evidence import audit
from clear_lib.study.evidence.claims import CLAIMS
from clear_lib.study.experiments import run as experiments
from clear_lib.study.setup import paper, profiles
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import TIERS

HOLDS, IN_PART, FAILS, UNTESTED = "holds", "holds in part", "does not hold", "not testable here"

#: Where a rule finds its evidence. In findings the label of each model stands for ``RECORDED``; ``LABORATORY``, which is
#: the label of that model, has what needs a live one.
MATHEMATICS, PRINTED, RECORDED = "mathematics", "the paper's tables", "recorded model"
LABORATORY, REPLICA = "laboratory model", "replica of the 7B model"

#: Tables of results by name, and such tables by the label of the model whose book they are from.
Tables = Mapping[str, pd.DataFrame]
Evidence = Mapping[str, Tables]


class Count(NamedTuple):
    """Cells in which a claim is true, is false, or could be either; and what a cell is."""

    true: int
    false: int
    unclear: int
    what: str


@dataclass(frozen=True)
class Rule:
    """How a claim is judged in a setting.

    Attributes
    ----------
    claim, setting : str
        ``C1``, …, and one of the five settings.
    words : str
        What is true in a cell that speaks for the claim.
    judge : callable
        ``judge(table) -> Count``; the table is None if the rule needs none.
    table : str, optional
        Name of the table of results that it needs, a file in ``artifacts/<profile>/results``.
    universal : bool
        Whether the claim says *always*, so that one cell against it is enough.
    """

    claim: str
    setting: str
    words: str
    judge: Callable[[pd.DataFrame | None], Count]
    table: str | None = None
    universal: bool = False


def verdict(count: Count, universal: bool = False) -> str:
    """*Holds* if no cell is against it and at least as many are for it as unclear; *does not hold* if some are against
    it and none is for it, or it is universal; *not testable* without any decided cell; *in part* otherwise."""
    if count.true + count.false == 0:
        return UNTESTED
    if count.true == 0 or (universal and count.false):
        return FAILS
    return HOLDS if count.false == 0 and count.true >= count.unclear else IN_PART


# ---- counting ---------------------------------------------------------------------------------------------------


def _cells(true: Iterable[bool], what: str) -> Count:
    true = np.asarray(list(true), dtype=bool)
    return Count(int(true.sum()), int((~true).sum()), 0, what)


def _gains(results: pd.DataFrame, policy: str, baseline: str) -> Count:
    """Cells in which a policy's paired gain over a baseline is above or below zero, its interval included."""
    gained = experiments.gains(results, baseline=baseline)
    return _sides(experiments.interval(gained[gained["policy"] == policy], ["gain"]), "cells of stream and budget")


def _sides(table: pd.DataFrame, what: str, level: float = 0.0) -> Count:
    """Gains (of :func:`clear_lib.study.experiments.run.interval`) whose interval is above or below a level."""
    true, false = int((table["gain_low"] > level).sum()), int((table["gain_high"] < level).sum())
    return Count(true, false, len(table) - true - false, what)


def _ratio(results: pd.DataFrame) -> Count:
    """A ratio to next to nothing says nothing: streams of which Uniform solves less than half a per cent do not count."""
    scarce = results[results["scarcity"] == results["scarcity"].min()]
    means = scarce.groupby(["stream", "policy"])["accuracy"].mean().unstack()
    means = means[means["uniform"] >= 0.005]
    if means.empty:
        return Count(0, 0, 1, "best ratio at the scarcest budget")
    return _cells([(means["clear"] / means["uniform"]).max() >= 3], "best ratio at the scarcest budget")


def _largest_gain_where_scarcest(results: pd.DataFrame) -> Count:
    gained = experiments.gains(results)
    means = gained[gained["policy"] == "clear"].groupby(["stream", "scarcity"])["gain"].mean().unstack()
    return _cells((means.idxmax(axis=1) == means.columns.min()).to_numpy(), "streams")


def _no_variant_is_better(results: pd.DataFrame) -> Count:
    """CLEAR against each variant of its own and TALE-EP, in each cell where both were run."""
    rivals = [name for name in ("clear-heuristic", "clear-auction", "tale-ep") if name in set(results["policy"])]
    counts = [_gains(results, "clear", rival) for rival in rivals]
    true, false, unclear = (sum(count[side] for count in counts) for side in range(3))
    return Count(true, false, unclear, "cells and rivals")


def _oracle_is_above(results: pd.DataFrame) -> Count:
    """Whether the oracle of the paper's numbered steps reaches the true one."""
    means = results.groupby(["stream", "scarcity", "policy"])["accuracy"].mean().unstack()
    return _cells(means["oracle-paper"] >= means["oracle"] - 1e-12, "cells of stream and budget")


def _most_are_short(tiers: pd.DataFrame) -> Count:
    """Under Uniform and Predictor, most queries of a stream are granted less than their length."""
    rows = tiers[tiers["policy"].isin(["uniform", "predictor"]) & (tiers["scarcity"] == tiers["scarcity"].min())]
    rows = rows.assign(short=rows["short"] * rows["n"]).groupby(["policy", "stream"])[["short", "n"]].sum()
    return _cells(rows["short"] > rows["n"] / 2, "policies and streams")


def _hard_ones_are_abandoned(tiers: pd.DataFrame) -> Count:
    """CLEAR grants nothing to a larger share of the hardest tier than of the easiest, of those in play."""
    rows = tiers[(tiers["policy"] == "clear") & (tiers["scarcity"] == tiers["scarcity"].min())]
    order = [tier for tier in TIERS if tier in set(rows["tier"])]
    share = rows.groupby(["stream", "tier"], observed=True)["abandoned"].mean().unstack()
    both = share[[order[0], order[-1]]].dropna()
    return _cells(both[order[-1]] > both[order[0]], "streams")


def _most_noise(results: pd.DataFrame) -> Count:
    """The gain over Uniform at the largest value of a distortion."""
    return _gains(results[results["value"] == results["value"].max()], "clear", "uniform")


def _adaptive_is_near_the_best(results: pd.DataFrame) -> Count:
    """The adaptive rule is not a point or more behind the fixed rate that is best in the cell, with hindsight."""
    adaptive, static = (results[results["setting"] == name] for name in ("epsilon", "decay"))
    behind = experiments.interval(experiments.gains(adaptive, baseline=experiments.best_in_each(static)), ["gain"])
    return _sides(behind, "cells of stream and budget", level=-0.01)


def _velocity_only_scales(results: pd.DataFrame) -> Count:
    """Accuracy moves by less than half a point, and the price by the factor of the velocity."""
    by = results.groupby(["stream", "scarcity", "value"])[["accuracy", "price"]].mean().reset_index()
    by["price"] /= by["value"]
    spread = by.groupby(["stream", "scarcity"])[["accuracy", "price"]].agg(["min", "max"])
    still = spread["accuracy", "max"] - spread["accuracy", "min"] < 0.005
    return _cells(
        still & np.isclose(spread["price", "max"], spread["price", "min"], rtol=0.01), "cells of stream and budget"
    )


def _ranks_are_enough(results: pd.DataFrame) -> Count:
    """Distortions that keep all ranks change CLEAR's accuracy by less than a point; value 1 is no distortion."""
    rows = results[results["policy"] == "clear"]
    gained = experiments.gains(
        rows[rows["value"] != 1],
        baseline=rows[rows["value"] == 1].drop_duplicates(["stream", "stream_seed", "scarcity"]),
    )
    table = experiments.interval(gained, ["gain"], by=["setting", "value", "stream", "scarcity"])
    still, moved = table[["gain_low", "gain_high"]].abs().max(axis=1) < 0.01, (table["gain"].abs() >= 0.01)
    moved &= (table["gain_low"] > 0) | (table["gain_high"] < 0)
    return Count(int(still.sum()), int(moved.sum()), int((~still & ~moved).sum()), "distortions and cells")


def _shapes_are_above(results: pd.DataFrame) -> Count:
    """At the scarcest budget the other two curves gain over Uniform."""
    scarce = results[results["scarcity"] == results["scarcity"].min()]
    base = scarce[scarce["policy"] == "uniform"].drop_duplicates(["stream", "stream_seed"])
    rows = scarce[(scarce["policy"] == "clear") & scarce["value"].isin(["triangular", "quadratic"])]
    table = experiments.interval(experiments.gains(rows, baseline=base), ["gain"], by=["stream", "value"])
    return _sides(table, "shapes and streams")


def _steep(capped: pd.DataFrame) -> bool:
    """Nothing at the smallest cap, steepest inside, flat over the last doubling of the cap."""
    share, cap = capped["mean"].to_numpy(), capped["x"].to_numpy()
    steepest = np.argmax(np.diff(share) / np.diff(cap))
    before_last_doubling = share[cap <= cap[-1] / 2][-1]
    return share[0] < 0.05 * share[-1] and 0 < steepest < len(share) - 2 and before_last_doubling > 0.95 * share[-1]


def _s_shaped(phases: pd.DataFrame) -> Count:
    """Share solved against the cap, for each tier of which anything is solved."""
    tiers = [rows for _, rows in phases[phases["view"] == "cap"].groupby("tier", sort=False) if rows["mean"].max() > 0]
    return _cells([_steep(rows) for rows in tiers], "tiers under caps")


def _apart(rows: pd.DataFrame, end: int) -> tuple[bool, bool]:
    """Whether the bin at one end is below the best bin, and whether it is the best, intervals apart."""
    best, last, middle = rows["mean"].argmax(), rows.iloc[end], rows["mean"].median()
    return last["upper"] < rows["lower"].iloc[best], last["lower"] > middle


def _ends(phases: pd.DataFrame, end: int) -> Count:
    found = [_apart(rows, end) for view, rows in phases.groupby("view", sort=False) if view != "cap"]
    true, false = sum(below for below, _ in found), sum(above for _, above in found)
    return Count(true, false, len(found) - true - false, "views by length (pooled, within questions)")


def _short_ones_fail(phases: pd.DataFrame) -> Count:
    """The Strict phase: the shortest solutions are right less often than the best bin; against it, more than half of all
    bins."""
    return _ends(phases, 0)


def _long_ones_fail(phases: pd.DataFrame) -> Count:
    """The decline: the same for the longest solutions, and under caps a larger one that solves fewer."""
    observed, capped = _ends(phases, -1), phases[phases["view"] == "cap"].groupby("tier")["mean"]
    if not sum(observed[:3]):  # no view by length
        return observed
    fall = int(capped.agg(lambda share: (share.diff() < -1e-12).any()).sum())
    what = "views by length, and tiers under caps"
    return Count(observed.true + fall, observed.false + capped.ngroups - fall, observed.unclear, what)


def _pricing_is_cheap(latency: pd.DataFrame) -> Count:
    """Pricing a stream of 500 queries costs less than a hundredth of the tokens of *one* of them (256 on average), as if
    all 500 were decoded side by side in the time of one."""
    return _cells([latency.loc["Algorithm 1", "tokens"] < 0.01 * 256], "stream of 500 queries")


def _wraps(wrapper: pd.DataFrame) -> Count:
    """A policy wraps the model if the weights are the same after it as before, every completion is the beginning of what
    the model writes without a wrapper, and the bill is within the budget."""
    fine = (
        wrapper["same_weights"] & (wrapper["begins_alike"] == wrapper["n"]) & (wrapper["charged"] <= wrapper["budget"])
    )
    return _cells(fine, "policies around the live model")


# ---- the paper's own tables -------------------------------------------------------------------------------------


def _printed_ratio(_: None) -> Count:
    found = audit.gains(paper.TABLE_1, paper.TABLE_1_GAIN)
    return _cells([found["ratio"].max() >= 3], "best ratio of Table 1")


def _printed_gains(_: None) -> Count:
    found = audit.gains(paper.TABLE_1, paper.TABLE_1_GAIN)["recomputed"]
    return Count(int((found > 0).sum()), int((found < 0).sum()), int((found == 0).sum()), "cells of Table 1")


def _printed_largest(_: None) -> Count:
    found = audit.gains(paper.TABLE_1, paper.TABLE_1_GAIN)
    largest = found.loc[found.groupby("stream")["recomputed"].idxmax(), "budget"]
    return _cells(largest == min(paper.BUDGETS), "streams of Table 1")


def _printed_best(_: None) -> Count:
    above = audit.better_than_clear(paper.TABLE_1)[["stream", "budget"]].drop_duplicates()
    cells = len(audit.gains(paper.TABLE_1, paper.TABLE_1_GAIN))
    return Count(cells - len(above), len(above), 0, "cells of Table 1")


def _printed_oracle(_: None) -> Count:
    """A cell is for the claim only where the bound could have refuted it: at the scarcest budget."""
    bounds = audit.oracle_bounds(paper.TABLE_1, paper.STREAM_SIZE)
    short = bounds["short"] > 0
    return Count(0, int(short.sum()), int((~short).sum()), "cells of Table 1")


def _printed_code(_: None) -> Count:
    return _cells(
        (paper.TABLE_2["clear"][name] > paper.TABLE_2["uniform"][name] for name in paper.TABLE_2["clear"]),
        "benchmarks of Table 2",
    )


def _printed_shapes(_: None) -> Count:
    gains = [
        paper.TABLE_3[shape][stream] - paper.TABLE_3["uniform"][stream]
        for shape in ("triangular", "quadratic")
        for stream in paper.TABLE_3["uniform"]
    ]
    return _cells((gain >= 5 for gain in gains), "cells of Table 3, five points or more")


def _printed_30b(_: None) -> Count:
    return _cells(audit.gains(paper.TABLE_4, paper.TABLE_4_GAIN)["recomputed"] > 0, "cells of Table 4")


def _printed_splits(_: None) -> Count:
    """False where a set's printed training rows are as many as a part of it that is evaluated on."""
    evaluated = {"MATH"}  # MATH 500 is a part of MATH's test split
    rows = pd.concat([audit.split_sizes(table) for table in (paper.TABLE_6, paper.TABLE_7)])
    clean = [
        name not in evaluated or "test" not in equals for name, equals in zip(rows["set"], rows["equals"], strict=True)
    ]
    return _cells(clean, "training sets of Tables 6 and 7")


# ---- mathematics ------------------------------------------------------------------------------------------------

_BATCHES = 20


def _batches() -> Iterable[tuple[np.ndarray, int, Surge]]:
    """Batches of log-normal thresholds under a scarce budget: 20 queries, then 500."""
    rng = np.random.default_rng(0)
    for _ in range(_BATCHES):
        for n in (20, 500):
            yield rng.lognormal(np.log(665), 0.8, n), 128 * n, Surge(1.0, 1 / 64)


def _closed_form(_: None) -> Count:
    """The best response against the best of a fine grid, at prices over the whole range."""
    curve, grid = Surge(1.0, 0.01), np.linspace(0, 400, 400_001)
    best = [grid[np.argmax(curve.value(grid) - price * grid)] for price in np.linspace(0.01, 0.95, 12)]
    exact = [float(curve.best_response(price)) for price in np.linspace(0.01, 0.95, 12)]
    return _cells(np.isclose(best, exact, atol=0.01), "prices")


def _price_clears(_: None) -> Count:
    """Whether demand around the price of Algorithm 1 meets the budget, within a token in ten thousand."""
    found = []
    for thresholds, budget, curve in _batches():
        price, _ = market.clear_market(thresholds, budget, curve)
        sides = [market.demand(price * (1 + step), thresholds, curve).sum() for step in (-1e-9, 1e-9)]
        found.append(min(abs(side - budget) for side in sides) <= 1e-4 * budget)
    return _cells(found, "batches")


def _price_governs(_: None) -> Count:
    """Whether Algorithm 1 attains 99% of the optimum."""
    found = []
    for thresholds, budget, curve in _batches():
        _, tokens = market.clear_market(thresholds, budget, curve)
        best = market.solve_shared(thresholds, budget, curve)
        found.append(curve.value(tokens - thresholds).sum() >= 0.99 * best.value)
    return _cells(found, "batches")


def _abandoned_above_velocity(_: None) -> Count:
    """Whether the price at which a query leaves is as high as its initial velocity."""
    curve = Surge(1.0, 0.01)
    return _cells(market.exit_price(np.array([10.0, 100.0, 1000.0]), curve) >= curve.velocity, "thresholds")


RULES = (
    Rule("C4", MATHEMATICS, "the closed form is the best of a fine grid", _closed_form, universal=True),
    Rule("C5", MATHEMATICS, "demand meets the budget at the price of Algorithm 1", _price_clears, universal=True),
    Rule("C6", MATHEMATICS, "Algorithm 1 attains 99% of the optimum", _price_governs),
    Rule("C7", MATHEMATICS, "queries leave at a price of at least v0", _abandoned_above_velocity),
    Rule("C10", PRINTED, "CLEAR is above Uniform", _printed_gains),
    Rule("C11", PRINTED, "CLEAR solves at least 3 times as many somewhere", _printed_ratio),
    Rule("C12", PRINTED, "the gain is largest at the scarcest budget", _printed_largest),
    Rule("C13", PRINTED, "no other practical row is above CLEAR", _printed_best),
    Rule("C14", PRINTED, "the reported row is not below the bound by Uniform", _printed_oracle, universal=True),
    Rule("C17", PRINTED, "CLEAR is above Uniform", _printed_code),
    Rule("C21", PRINTED, "both shapes are at least 5 points above Uniform", _printed_shapes),
    Rule("C22", PRINTED, "CLEAR is above Uniform", _printed_30b),
    Rule("C23", PRINTED, "no training set has the size of what is evaluated on", _printed_splits),
    *(
        Rule(claim, setting, words, judge, table, claim == "C14")
        # A replica that is off by two points must not judge claims about less (C13, C22).
        for setting, table, few in ((RECORDED, "table1", ()), (REPLICA, "replica-7b", ("C13",)))
        for claim, words, judge in (
            ("C10", "the paired gain over Uniform is above zero", lambda rows: _gains(rows, "clear", "uniform")),
            ("C11", "CLEAR solves at least 3 times as many somewhere", _ratio),
            ("C12", "the gain is largest at the scarcest budget", _largest_gain_where_scarcest),
            ("C13", "CLEAR is above its variants and TALE-EP", _no_variant_is_better),
            ("C14", "the oracle of the numbered steps reaches the true one", _oracle_is_above),
        )
        if claim not in few
    ),
    Rule("C1", RECORDED, "share solved is an S in the cap", _s_shaped, "phases"),
    Rule("C2", RECORDED, "the shortest solutions are clearly below the best bin", _short_ones_fail, "phases"),
    Rule("C3", RECORDED, "the longest solutions, or caps, are below the best", _long_ones_fail, "phases"),
    Rule("C8", LABORATORY, "pricing costs less than a hundredth of the decoding", _pricing_is_cheap, "latency"),
    Rule("C9", RECORDED, "distortions that keep ranks change less than a point", _ranks_are_enough, "ranks"),
    Rule("C15", RECORDED, "most queries are granted less than their length", _most_are_short, "tiers"),
    Rule("C16", RECORDED, "the hardest tier is abandoned more than the easiest", _hard_ones_are_abandoned, "tiers"),
    Rule("C18", RECORDED, "the gain over Uniform is above zero at the most noise", _most_noise, "noise"),
    Rule("C19", RECORDED, "the best fixed rate is not a point ahead", _adaptive_is_near_the_best, "decay"),
    Rule("C20", RECORDED, "accuracy stays, the price scales", _velocity_only_scales, "velocity"),
    Rule("C21", RECORDED, "the gain of both shapes over Uniform is above zero", _shapes_are_above, "shapes"),
    Rule("C24", LABORATORY, "same weights, beginnings of its own texts, in budget", _wraps, "wrapper", universal=True),
)


def save(folder: str | Path, **tables: pd.DataFrame) -> None:
    """Write tables of results where :func:`load` finds them, each under its name."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_parquet(Path(folder) / f"{name}.parquet")


def load(folder: str | Path) -> dict[str, pd.DataFrame]:
    """The tables of results (``*.parquet``) in a folder, by name."""
    return {path.stem: pd.read_parquet(path) for path in sorted(Path(folder).glob("*.parquet"))}


def gather(profile: Profile, artifacts: str | Path) -> dict[str, dict[str, pd.DataFrame]]:
    """The evidence of a book: its own results, and those of other shipped models of which there is a book, too.

    Returns
    -------
    dict
        Tables of results by name (:func:`load`), by the label of the model; the book's own first.
    """
    found = {profile.label: load(profile.artifacts(artifacts) / "results")}
    for name in recordings.manifest()["profiles"]:
        own = Path(artifacts) / name
        if name != profile.name and (tables := load(own / "results")):
            made = own / "profile.yaml"
            found.setdefault(profiles.load(made if made.is_file() else name).label, tables)
    return found


def settle(evidence: Evidence) -> pd.DataFrame:
    """Apply all rules.

    Parameters
    ----------
    evidence : mapping
        Of :func:`gather`. Rules of recorded rollouts judge each model; the others take the first table that there is.
        A rule whose table is missing says *not testable here*.

    Returns
    -------
    DataFrame
        ``claim, setting, rule, true, false, unclear, cells, verdict``; a row a rule and model.
    """
    rows, anyones = [], {}
    for tables in reversed(evidence.values()):
        anyones |= tables
    for rule in RULES:
        for setting, tables in evidence.items() if rule.setting == RECORDED else [(rule.setting, anyones)]:
            there = rule.table is None or rule.table in tables
            count = rule.judge(tables.get(rule.table)) if there else Count(0, 0, 0, f"no table {rule.table!r}")
            rows.append((rule.claim, setting, rule.words, *count, verdict(count, rule.universal)))
    return pd.DataFrame(rows, columns=["claim", "setting", "rule", "true", "false", "unclear", "cells", "verdict"])


def overall(findings: pd.DataFrame) -> pd.Series:
    """One word a claim: what all settings agree on, *holds in part* if they do not.

    A universal claim that fails in one setting fails. Claims without a rule or without evidence are *not testable
    here*, and so are those that hold in the paper's tables only: that a table agrees with the text beside it does not
    show that its numbers would come again.
    """
    always, words = {rule.claim for rule in RULES if rule.universal}, {}
    for claim in (claim.name for claim in CLAIMS):
        tested = findings[(findings["claim"] == claim) & (findings["verdict"] != UNTESTED)]
        own = set(tested["verdict"])
        if own == {HOLDS} and set(tested["setting"]) == {PRINTED}:
            own = set()
        if claim in always and FAILS in own:
            own = {FAILS}
        words[claim] = own.pop() if len(own) == 1 else IN_PART if own else UNTESTED
    return pd.Series(words, name="verdict")


def settings(findings: pd.DataFrame) -> list[str]:
    """The settings of findings in the order of the columns: one for each recorded model among the four that are fixed."""
    fixed = (MATHEMATICS, PRINTED, LABORATORY, REPLICA)
    models = [name for name in findings["setting"].unique() if name not in fixed]
    return [MATHEMATICS, PRINTED, *models, LABORATORY, REPLICA]


def summary(findings: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: its title, the verdict in each setting that has a rule, and overall.

    Parameters
    ----------
    findings : DataFrame
        Of :func:`settle`.
    """
    wide = findings.pivot(index="claim", columns="setting", values="verdict").reindex(columns=settings(findings))
    titles = pd.Series({claim.name: claim.title for claim in CLAIMS}, name="what the paper says, in short")
    return pd.concat([titles, wide.reindex(titles.index).fillna(""), overall(findings)], axis=1).rename_axis("claim")


def readme(page: str, findings: pd.DataFrame) -> str:
    """A page with the table between its two marks made anew.

    Raises
    ------
    ValueError
        If the page has no marks.
    """
    rows = summary(findings).reset_index()
    lines = [list(rows), ["---"] * rows.shape[1], *rows.to_numpy().tolist()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    made, times = re.subn(
        r"(<!-- claims -->\n).*?(\n<!-- /claims -->)", lambda mark: mark[1] + table + mark[2], page, flags=re.S
    )
    if times != 1:
        raise ValueError(f"expected one pair of marks <!-- claims --> and <!-- /claims -->, found {times}")
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the table of claims and verdicts into a page.")
    parser.add_argument("page", type=Path)
    parser.add_argument(
        "results", type=Path, help="folder with the tables of results of a profile: artifacts/NAME/results"
    )
    given = parser.parse_args()
    home = given.results.resolve().parent
    missing = sorted({rule.table for rule in RULES if rule.table} - set(load(given.results)))
    if missing:
        parser.error(f"{given.results} lacks the tables {', '.join(missing)}; run `make book` first")
    made = home / "profile.yaml"
    book = profiles.load(made if made.is_file() else home.name)
    text = given.page.read_text(encoding="utf-8")
    given.page.write_text(readme(text, settle(gather(book, home.parent))), encoding="utf-8")
