"""The rules by which the claims are judged: each a function of one table of results, registered under its claim.

A rule belongs to one claim and one setting. For each cell of its table it answers +1 or True where the claim is true, -1
or False where it is false, and 0 where chance could turn it either way. Mathematics comes first, then the paper's own
tables, then the tables of results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from clear_lib.allocation import market, optimum
from clear_lib.allocation.utility import Surge
from clear_lib.study import experiments
from clear_lib.study.evidence import audit
from clear_lib.study.setup import paper

#: Where a rule finds its evidence. In findings the label of each model stands for ``RECORDED``; ``LABORATORY``, which is
#: the label of that model, has what needs a live one.
MATHEMATICS, PRINTED, RECORDED = "mathematics", "the paper's tables", "recorded model"
LABORATORY, REPLICA = "laboratory model", "replica of the 7B model"

_CELLS, _VIEWS = "cells of stream and budget", "views by length (pooled, within questions)"
_WRAPPED = "policies around the live model"


@dataclass(frozen=True)
class Rule:
    """How a claim is judged in a setting: what is true in a cell that speaks for it (``words``), and what a cell is.

    ``table`` names the table of results that ``answers`` takes, if any. A ``universal`` claim says *always*: one cell
    against it is enough.
    """

    claim: str
    setting: str
    words: str
    cells: str
    answers: Callable[..., Iterable[float]]
    table: str | None = None
    universal: bool = False

    def count(self, *table: pd.DataFrame) -> tuple[int, int, int]:
        """Cells in which the claim is true, false and unclear, given the table that the rule needs, if any."""
        answers = np.asarray(list(self.answers(*table)))
        signs = np.where(answers, 1, -1) if answers.dtype == bool else np.sign(answers)
        return int((signs > 0).sum()), int((signs < 0).sum()), int((signs == 0).sum())


RULES: list[Rule] = []


def _rule(claim: str, words: str, cells: str, table: str | None = None, setting: str = RECORDED, universal=False):
    """Register a function as the rule of a claim in a setting."""

    def register(answers: Callable[..., Iterable[float]]) -> Callable[..., Iterable[float]]:
        RULES.append(Rule(claim, setting, words, cells, answers, table, universal))
        return answers

    return register


def _policy(results: pd.DataFrame, name: str = "clear") -> pd.DataFrame:
    return results[results["policy"] == name]


def _scarcest(results: pd.DataFrame) -> pd.DataFrame:
    return results[results["scarcity"] == results["scarcity"].min()]


def _gain(rows: pd.DataFrame, baseline: pd.DataFrame, by: Sequence[str] = ("stream", "scarcity")) -> pd.DataFrame:
    """Mean paired gain in accuracy over a baseline, and its 95% interval."""
    return experiments.interval(experiments.gains(rows, baseline=baseline), ["gain"], by)


def _signs(gain: pd.DataFrame, level: float = 0.0) -> np.ndarray:
    """+1 or -1 where the whole interval of a gain is above or below a level, else 0."""
    return np.select([gain["gain_low"] > level, gain["gain_high"] < level], [1, -1], 0)


def _batches() -> Iterator[tuple[np.ndarray, int, Surge]]:
    """Batches of log-normal thresholds, 20 queries and 500 in turn, under a scarce budget."""
    rng = np.random.default_rng(0)
    for n in (20, 500) * 20:
        yield rng.lognormal(np.log(665), 0.8, n), 128 * n, Surge(1.0, 1 / 64)


@_rule("C4", "the closed form is the best of a fine grid", "prices", setting=MATHEMATICS, universal=True)
def _closed_form():
    curve, grid, prices = Surge(1.0, 0.01), np.linspace(0, 400, 400_001), np.linspace(0.01, 0.95, 12)
    best = [grid[np.argmax(curve.value(grid) - price * grid)] for price in prices]
    return np.isclose(best, [float(curve.best_response(price)) for price in prices], atol=0.01)


@_rule("C5", "demand meets the budget at the price of Algorithm 1", "batches", setting=MATHEMATICS, universal=True)
def _price_clears():
    """Demand just below or just above the price is within a token in ten thousand of the budget."""
    for thresholds, budget, curve in _batches():
        price = market.clear_market(thresholds, budget, curve).price
        sides = [market.demand(price * (1 + step), thresholds, curve).sum() for step in (-1e-9, 1e-9)]
        yield min(abs(side - budget) for side in sides) <= 1e-4 * budget


@_rule("C6", "Algorithm 1 attains 99% of the optimum", "batches", setting=MATHEMATICS)
def _price_governs():
    for thresholds, budget, curve in _batches():
        tokens = market.clear_market(thresholds, budget, curve).tokens
        best = optimum.solve_shared(thresholds, budget, curve)
        yield curve.value(tokens - thresholds).sum() >= 0.99 * best.value


@_rule("C7", "queries leave at a price of at least v0", "thresholds", setting=MATHEMATICS)
def _abandoned_above_velocity():
    curve = Surge(1.0, 0.01)
    return market.exit_price(np.array([10.0, 100.0, 1000.0]), curve) >= curve.velocity


def _printed() -> Iterator[tuple[str, str, str, Iterable[float]]]:
    """Claim, what is true in a cell that speaks for it, what a cell is, and the answers."""
    cells, larger = audit.by_policy(paper.TABLE_1), audit.by_policy(paper.TABLE_4)
    gain, ratio = cells["clear"] - cells["uniform"], cells["clear"] / cells["uniform"]
    yield "C10", "CLEAR is above Uniform", "cells of Table 1", gain
    yield "C11", "CLEAR solves at least 3 times as many somewhere", "best ratio of Table 1", [ratio.max() >= 3]
    best_budget = gain.unstack("stream").idxmax()
    yield "C12", "the gain is largest at the scarcest budget", "streams of Table 1", best_budget == min(paper.BUDGETS)
    best = cells[list(audit.PRACTICAL)].max(axis=1)
    yield "C13", "no other practical row is above CLEAR", "cells of Table 1", cells["clear"] >= best
    # A row that reaches the lower bound of a true oracle is no evidence that it is one, and so unclear.
    short = audit.oracle_bounds(paper.TABLE_1, paper.STREAM_SIZE)["short"]
    yield "C14", "the reported row is not below the bound by Uniform", "cells of Table 1", -short
    code = pd.DataFrame(paper.TABLE_2)
    yield "C17", "CLEAR is above Uniform", "benchmarks of Table 2", code["clear"] > code["uniform"]
    shapes = pd.DataFrame(paper.TABLE_3)
    enough = shapes[["triangular", "quadratic"]].sub(shapes["uniform"], axis=0).stack() >= 5
    yield "C21", "both shapes are at least 5 points above Uniform", "cells of Table 3, five points or more", enough
    yield "C22", "CLEAR is above Uniform", "cells of Table 4", larger["clear"] > larger["uniform"]
    # MATH 500 is a part of MATH's test split, which must not be in the training rows.
    splits = pd.concat([audit.split_sizes(table) for table in (paper.TABLE_6, paper.TABLE_7)])
    leak = (splits["set"] == "MATH") & splits["equals"].str.contains("test")
    yield "C23", "no training set has the size of what is evaluated on", "training sets of Tables 6 and 7", ~leak


RULES += [
    Rule(claim, PRINTED, words, cells, partial(tuple, answers), universal=claim == "C14")
    for claim, words, cells, answers in _printed()
]


@_rule("C10", "the paired gain over Uniform is above zero", _CELLS, "table1")
def _above_uniform(results):
    return _signs(_gain(_policy(results), _policy(results, "uniform")))


@_rule("C11", "CLEAR solves at least 3 times as many somewhere", "best ratio at the scarcest budget", "table1")
def _best_ratio(results):
    """Streams of which Uniform solves less than half a per cent do not count: such a ratio says nothing."""
    accuracy = _scarcest(results).pivot_table("accuracy", "stream", "policy")
    accuracy = accuracy[accuracy["uniform"] >= 0.005]
    return [0] if accuracy.empty else [(accuracy["clear"] / accuracy["uniform"]).max() >= 3]


@_rule("C12", "the gain is largest at the scarcest budget", "streams", "table1")
def _largest_gain_where_scarcest(results):
    gain = experiments.gains(_policy(results), baseline=_policy(results, "uniform"))
    gain = gain.pivot_table("gain", "stream", "scarcity")
    return gain.idxmax(axis=1) == gain.columns.min()


@_rule("C13", "CLEAR is above its variants and TALE-EP", "cells and rivals", "table1")
def _above_rivals(results):
    rivals = [_policy(results, name) for name in ("clear-heuristic", "clear-auction", "tale-ep")]
    return [sign for rival in rivals if len(rival) for sign in _signs(_gain(_policy(results), rival))]


@_rule("C14", "the oracle of the numbered steps reaches the true one", _CELLS, "table1", universal=True)
def _paper_oracle_reaches_oracle(results):
    accuracy = results.pivot_table("accuracy", ["stream", "scarcity"], "policy")
    return accuracy["oracle-paper"] >= accuracy["oracle"] - 1e-12


# A replica that is off by two points must not judge claims about less (C13, C22).
RULES += [
    replace(rule, setting=REPLICA, table="replica-7b")
    for rule in RULES
    if rule.table == "table1" and rule.claim != "C13"
]


@_rule("C1", "share solved is an S in the cap", "tiers under caps", "phases")
def _s_shaped(phases):
    """In each tier of which anything is solved: nothing at the smallest cap, steepest inside, flat at the end."""
    for _, tier in phases[phases["view"] == "cap"].groupby("tier", sort=False):
        share, cap = tier["mean"].to_numpy(), tier["x"].to_numpy()
        if share.max() > 0:
            steepest = np.argmax(np.diff(share) / np.diff(cap))
            before_last_doubling = share[cap <= cap[-1] / 2][-1]
            inside = 0 < steepest < len(share) - 2
            yield bool(share[0] < 0.05 * share[-1] and inside and before_last_doubling > 0.95 * share[-1])


@_rule("C2", "the shortest solutions are clearly below the best bin", _VIEWS, "phases")
def _end_is_below_best(phases, end=0):
    """In each view by length: the bin at one end is below the best; against it, above half of all; intervals apart."""
    signs = []
    for _, bins in phases[phases["view"] != "cap"].groupby("view", sort=False):
        last = bins.iloc[end]
        below_best = last["upper"] < bins["lower"].iloc[bins["mean"].argmax()]
        signs.append(int(below_best) - int(last["lower"] > bins["mean"].median()))
    return signs


@_rule("C3", "the longest solutions, or caps, are below the best", "views by length, and tiers under caps", "phases")
def _more_is_worse(phases):
    """Tiers under caps count only beside a view by length, and for the claim where a larger cap solves fewer."""
    signs = _end_is_below_best(phases, end=-1)
    tiers = phases[phases["view"] == "cap"].groupby("tier")["mean"] if signs else ()
    return signs + [1 if (share.diff() < -1e-12).any() else -1 for _, share in tiers]


@_rule("C8", "pricing costs less than a hundredth of the decoding", "stream of 500 queries", "latency", LABORATORY)
def _pricing_is_cheap(latency):
    """A hundredth of the 256 tokens of *one* query, as if all 500 were decoded side by side in the time of one."""
    return [latency.loc["Algorithm 1", "tokens"] < 0.01 * 256]


@_rule("C9", "distortions that keep ranks change less than a point", "distortions and cells", "ranks")
def _ranks_are_enough(results):
    """CLEAR's accuracy against that without distortion (value 1)."""
    rows, level = _policy(results), 0.01
    plain = rows[rows["value"] == 1].drop_duplicates(["stream", "stream_seed", "scarcity"])
    gain = _gain(rows[rows["value"] != 1], plain, ["setting", "value", "stream", "scarcity"])
    unchanged = gain[["gain_low", "gain_high"]].abs().max(axis=1) < level
    return np.select([unchanged, (_signs(gain) != 0) & (gain["gain"].abs() >= level)], [1, -1], 0)


@_rule("C15", "most queries are granted less than their length", "policies and streams", "tiers")
def _most_are_short(tiers):
    """Under Uniform and Predictor."""
    rows = _scarcest(tiers)
    rows = rows[rows["policy"].isin(["uniform", "predictor"])].assign(short=rows["short"] * rows["n"])
    rows = rows.groupby(["policy", "stream"])[["short", "n"]].sum()
    return rows["short"] > rows["n"] / 2


@_rule("C16", "the tier with the largest forecasts is abandoned more than that with the smallest", "streams", "tiers")
def _costly_ones_are_abandoned(tiers):
    """The claim is about cost, which the forecasts stand for; a harder tier need not cost more."""
    rows = _policy(_scarcest(tiers))
    means = rows.groupby(["stream", "tier"], observed=True)[["threshold", "abandoned"]].mean().dropna()
    streams = [each.droplevel("stream") for _, each in means.groupby("stream") if len(each) > 1]
    return [each.abandoned[each.threshold.idxmax()] > each.abandoned[each.threshold.idxmin()] for each in streams]


@_rule("C17", "the paired gain over Uniform is above zero", "data sets and budgets up to the mean length", "code")
def _programs_above_uniform(gains):
    """Best of n by all tests, where queries share the tokens.

    Taken at its word the protocol shares them among equal samples of one query, and CLEAR cannot be above Uniform. At
    twice the mean length most samples end under both, so neither can show much. At a quarter Uniform cuts nearly all,
    so whoever leaves some out can hardly be below: those cells alone do not make the claim hold.
    """
    cells = "policy == 'clear' and reading == 'queries' and choice == 'all tests' and scarcity <= 1 and n >= 30"
    return _signs(gains.query(cells))


@_rule("C18", "the gain over Uniform is above zero at the most noise", _CELLS, "noise")
def _most_noise(results):
    return _above_uniform(results[results["value"] == results["value"].max()])


@_rule("C19", "the best fixed rate is not a point ahead", _CELLS, "decay")
def _adaptive_is_near_the_best(results):
    """The fixed rate that is best in the cell, with hindsight."""
    adaptive, fixed = (results[results["setting"] == name] for name in ("epsilon", "decay"))
    return _signs(_gain(adaptive, experiments.best_in_each(fixed)), level=-0.01)


@_rule("C20", "accuracy stays, the price scales", _CELLS, "velocity")
def _velocity_only_scales(results):
    """Accuracy moves by less than half a point, and the price by the factor of the velocity."""
    means = results.groupby(["stream", "scarcity", "value"])[["accuracy", "price"]].mean().reset_index()
    means["price"] /= means["value"]
    spread = means.groupby(["stream", "scarcity"])[["accuracy", "price"]].agg(["min", "max"])
    unchanged = spread["accuracy", "max"] - spread["accuracy", "min"] < 0.005
    return unchanged & np.isclose(spread["price", "max"], spread["price", "min"], rtol=0.01)


@_rule("C21", "the gain of both shapes over Uniform is above zero", "shapes and streams", "shapes")
def _shapes_are_above(results):
    """At the scarcest budget."""
    results = _scarcest(results)
    uniform = _policy(results, "uniform").drop_duplicates(["stream", "stream_seed"])
    rows = _policy(results)
    return _signs(_gain(rows[rows["value"].isin(["triangular", "quadratic"])], uniform, ["stream", "value"]))


@_rule("C24", "same weights, beginnings of its own texts, in budget", _WRAPPED, "wrapper", LABORATORY, universal=True)
def _wraps(wrapper):
    """Weights stay, each completion is the beginning of what the model writes alone, the bill is within the budget."""
    whole = wrapper["begins_alike"] == wrapper["n"]
    return wrapper["same_weights"] & whole & (wrapper["charged"] <= wrapper["budget"])
