"""The rules by which the claims are judged: each reduces one table of results to one effect with a 95% interval.

Mathematics comes first, then the paper's own tables, then the tables of results. :mod:`.verdicts` makes words of effects.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clear_lib.allocation import market, optimum
from clear_lib.allocation.utility import Surge
from clear_lib.study.evidence import audit
from clear_lib.study.experiments import effects
from clear_lib.study.setup import paper

#: Where a rule finds its evidence. In findings the label of each model stands for ``RECORDED``; ``LABORATORY``, which is
#: the label of that model, has what needs a live one.
MATHEMATICS, PRINTED, RECORDED = "mathematics", "the paper's tables", "recorded model"
LABORATORY, REPLICA = "laboratory model", "replica of the 7B model"

#: Why a finding counts for nothing.
BY_CONSTRUCTION, AGREES, SIMULATED = "by construction", "its own numbers", "Uniform is fitted"
CONFOUNDED, OURS = "length is also difficulty", "ours, not the paper's"

#: Units of effects, and the number by which a fraction is multiplied in each.
POINTS, PERCENT, TIMES, TOKENS = "points", "%", "times", "tokens"
SCALE = {POINTS: 100.0, PERCENT: 100.0, TIMES: 1.0, TOKENS: 1.0}

#: Regions in which a claim is true: effects above a mark, near zero, nothing at all, or all of the cells.
Region = tuple[float, float]
ABOVE, NONE, ALL = (0.0, math.inf), (-math.inf, 1e-9), (1 - 1e-9, math.inf)


class Effect(NamedTuple):
    """An effect, its 95% interval and, if it is a mean over cells, the share of these in which it is above zero."""

    effect: float
    low: float
    high: float
    share: float = math.nan


class Rule(NamedTuple):
    """How a claim, or the ``part`` of it, is judged in a setting."""

    claim: str
    setting: str
    measure: Callable[..., Effect]  #: of the table of results, if there is one
    table: str | None = None
    part: str = ""
    unit: str = POINTS
    region: Region = ABOVE  #: where the claim is true
    aside: str = ""  #: why the finding counts for nothing


RULES: list[Rule] = []


def rule(claim: str, table: str | None = None, setting=RECORDED, parts: Mapping | None = None, aside="", **options):
    """Register a function as the rule of a claim, once for each of its ``parts``, whose value is its second argument."""

    def register(measure: Callable[..., Effect]) -> Callable[..., Effect]:
        for part, value in (parts or {"": None}).items():
            why = aside if isinstance(aside, str) else aside.get(part, "")
            bound = partial(measure, part=value) if parts else measure
            RULES.append(Rule(claim, setting, bound if table else cache(bound), table, part, aside=why, **options))
        return measure

    return register


def exact(value: float) -> Effect:
    """An effect without chance in it; NaN where nothing can be measured."""
    return Effect(value, value, value)


#: Rivals, distortions of forecasts, bins by length, queries and budgets, by the name of the part of a claim.
RIVALS = {"over Heuristic": "clear-heuristic", "over Auction": "clear-auction", "over TALE-EP": "tale-ep"}
FACTORS = {"all halved": ("factor", 0.5), "all doubled": ("factor", 2.0)}
POWERS = {"square roots": ("power", 0.5), "squares": ("power", 2.0)}
SHORTEST = {"within questions": ("within", 0), "over all questions": ("pooled", 0)}
LONGEST = {"within questions": ("within", -1), "over all questions": ("pooled", -1)}
SIZES = {"": paper.STREAM_SIZE, "in batches of 20": 20}
BUDGETS = {"scarcest budget": 0, "second": 1, "third": 2, "amplest": 3}


def _batches(n: int) -> Iterator[tuple[np.ndarray, int, Surge]]:
    """Twenty batches of log-normal thresholds under a scarce budget."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        yield rng.lognormal(np.log(665), 0.8, n), 128 * n, Surge(1.0, 1 / 64)


@rule("C4", setting=MATHEMATICS, unit=PERCENT, region=ALL, aside=BY_CONSTRUCTION)
def _closed_form():
    curve, grid, prices = Surge(1.0, 0.01), np.linspace(0, 400, 400_001), np.linspace(0.01, 0.95, 12)
    best = [grid[np.argmax(curve.value(grid) - price * grid)] for price in prices]
    return exact(np.isclose(best, [float(curve.best_response(price)) for price in prices], atol=0.01).mean())


@rule("C5", setting=MATHEMATICS, unit=PERCENT, region=ALL)
def _price_clears():
    """Demand just below or just above the price of Algorithm 1 is within a token in ten thousand of the budget."""
    clears = []
    for thresholds, budget, curve in _batches(paper.STREAM_SIZE):
        price = market.clear_market(thresholds, budget, curve).price
        sides = [market.demand(price * (1 + step), thresholds, curve).sum() for step in (-1e-9, 1e-9)]
        clears.append(min(abs(side - budget) for side in sides) <= 1e-4 * budget)
    return exact(np.mean(clears))


@rule("C6", setting=MATHEMATICS, parts=SIZES, aside={"in batches of 20": OURS}, unit=PERCENT, region=(0.99, math.inf))
def _price_governs(part):
    """The interval is that of the mean over twenty batches."""
    attained = []
    for thresholds, budget, curve in _batches(part):
        tokens = market.clear_market(thresholds, budget, curve).tokens
        best = optimum.solve_shared(thresholds, budget, curve).value
        attained.append(curve.value(tokens - thresholds).sum() / best)
    return Effect(*effects.of_questions(attained))


@rule("C7", setting=MATHEMATICS, unit=PERCENT, region=ALL)
def _abandoned_above_velocity():
    """By a search over tokens, not by the rule of the market."""
    rng = np.random.default_rng(0)
    thresholds, velocities, decays = rng.lognormal((6, 0, -4), 0.8, (200, 3)).T
    tokens = np.linspace(0, 20_000, 20_001)[1:, None]
    utility = Surge(velocities, decays).value(tokens - thresholds)
    prices = velocities * rng.uniform(1, 2, 200)
    return exact(((utility - prices * tokens).max(axis=0) <= 0).mean())


@rule("C7", setting=MATHEMATICS, parts={"and only then": 1.0}, aside=OURS, unit=PERCENT, region=ALL)
def _abandoned_only_above_velocity(part):
    """The share of thresholds of which the query stays until the price is the velocity that all share."""
    curve = Surge(part, 0.01)
    return exact((market.exit_price(np.geomspace(10, 1000, 100), curve) >= curve.velocity).mean())


def _printed() -> Iterator[tuple[str, str, float, dict[str, Any]]]:
    """Claim, part, effect, and more of the rule."""
    cells, larger, code, shapes = (
        table / 100 for table in (paper.TABLE_1, paper.TABLE_4, paper.TABLE_2, paper.TABLE_3.mean())
    )
    gain = cells["clear"] - cells["uniform"]
    for name, other in (("over Uniform", "uniform"), ("over Predictor", "predictor")):
        yield "C10", name, (cells["clear"] - cells[other]).mean(), {}
    ratio = (cells["clear"] / cells["uniform"]).xs(min(paper.BUDGETS), level="budget").max()
    yield "C11", "", ratio, {"unit": TIMES, "region": (3.0, math.inf)}
    by_budget = gain.groupby("budget").mean()
    yield "C12", "largest", by_budget.iloc[0] - by_budget.iloc[1:].max(), {}
    yield "C12", "shrinking", -by_budget.diff().max(), {}
    for name, other in RIVALS.items():
        yield "C13", name, (cells["clear"] - cells[other]).mean(), {}
    # A row that is not below a lower bound of a true oracle may still be too low, so zero is unclear.
    yield "C14", "", -audit.oracle_bounds(paper.TABLE_1, paper.STREAM_SIZE)["short"].max() / 100, {"aside": ""}
    yield "C17", "", (code["clear"] - code["uniform"]).mean(), {}
    for shape in ("triangular", "quadratic"):
        yield "C21", shape, shapes[shape] - shapes["uniform"] - (shapes["clear"] - shapes["uniform"]) / 2, {}
    yield "C22", "", (larger["clear"] - larger["uniform"]).mean(), {}
    yield "C23", "", audit.share_trained_on(paper.TABLE_6), {"aside": "", "unit": PERCENT, "region": NONE}


RULES += [
    Rule(claim, PRINTED, partial(exact, float(effect)), part=part, **{"aside": AGREES} | options)
    for claim, part, effect, options in _printed()
]


def _policy(results: pd.DataFrame, name: str = "clear") -> pd.DataFrame:
    return results[results["policy"] == name]


def _scarcest(results: pd.DataFrame) -> pd.DataFrame:
    return results[results["scarcity"] == results["scarcity"].min()]


def _gain(rows: pd.DataFrame, baseline: pd.DataFrame) -> Effect:
    """Mean paired gain in accuracy over a baseline on the same streams and budgets."""
    return Effect(*effects.mean_effect(rows, rows, baseline)[:4]) if len(rows) and len(baseline) else exact(math.nan)


def _least(found: Iterable[Effect]) -> Effect:
    """The smallest of several effects, all of which a claim needs, with the lowest end of all their intervals."""
    found = list(found)  # that all of them are above a mark needs no correction for their number
    effect, _, high, share = min(found)
    return Effect(effect, min(each.low for each in found), high, share)


def _halves(results: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The half of the questions on which something is chosen, and that on which it is judged; or of the draws."""
    judged = results["half"] if "half" in results else results["stream_seed"] % 2
    return results[judged == 0], results[judged == 1]


@rule("C10", "table1", parts={"over Uniform": "uniform", "over Predictor": "predictor"})
@rule("C13", "table1", parts=RIVALS, aside={"over TALE-EP": OURS})
def _above_baseline(results, part):
    return _gain(_policy(results), _policy(results, part))


@rule("C13", "told", parts={"over TALE-EP that tells the model": "tale-ep"}, aside=OURS)
def _above_when_told(results, part):
    """CLEAR only cuts solutions off, as in the paper; its rival's are answers to an instruction."""
    return _gain(_policy(results[~results["told"]]), _policy(results[results["told"]], part))


@rule("C10", "frontier", parts={"over Uniform, by tokens used": "uniform"})
def _above_at_same_use(results, part):
    """Uniform's accuracy between two budgets is that of a mixture of them; what is beyond its largest use is left out."""
    draw, pairs = ["stream", "stream_seed"], []
    for key, curve in _policy(results, part).sort_values("used").groupby(draw):
        rows = _policy(results).set_index(draw).sort_index().loc[[key]].reset_index()
        pairs.append(rows.assign(same=np.interp(rows["used"], curve["used"], curve["accuracy"], right=np.nan)))
    own = pd.concat(pairs).dropna(subset="same")
    return _gain(own, own.assign(accuracy=own["same"]))


@rule("C11", "halves", unit=TIMES, region=(3.0, math.inf))
def _best_ratio(results):
    """Where Uniform solves less than half a per cent, a ratio says nothing, neither to choose by nor to judge by."""
    first, second = _halves(_scarcest(results))
    means = first.pivot_table("accuracy", "stream", "policy").query("uniform >= 0.005")
    if means.empty:
        return exact(math.nan)
    rows = second[second["stream"] == (means["clear"] / means["uniform"]).idxmax()]
    wide = rows.pivot_table("accuracy", "stream_seed", "policy")
    if wide.empty or wide["uniform"].mean() < 0.005:
        return exact(math.nan)
    return Effect(*effects.of_draws(wide["clear"] / wide["uniform"].clip(lower=0.005)))


@rule("C12", "table1", parts={"largest": False, "shrinking": True})
def _gain_falls(results, part):
    """The least of the leads of the scarcest budget, or (``part``) of the falls from each budget to the next."""
    own = effects.gains(_policy(results), _policy(results, "uniform"))
    gains = own.pivot_table("gain", "stream_seed", "scarcity")
    budgets = list(gains)
    pairs = zip(budgets, budgets[1:], strict=False) if part else ((budgets[0], other) for other in budgets[1:])
    return _least(Effect(*effects.of_draws(gains[one] - gains[other])) for one, other in pairs)


@rule("C14", "table1", aside=BY_CONSTRUCTION)
def _steps_reach_the_true_oracle(results):
    return _gain(_policy(results, "oracle-paper"), _policy(results, "oracle"))


RULES += [
    rule._replace(setting=REPLICA, table="replica-7b", aside=rule.aside or SIMULATED)
    for rule in RULES
    if rule.table in ("table1", "halves")
    and rule.claim != "C13"  # a replica that is off by two points must not judge less
]

# The same in streams with the paper's share of solvable queries, and its budgets beside the easiest tier.
RULES += [
    rule._replace(table="like_paper", part=", ".join(filter(None, (rule.part, "paper-like"))))
    for rule in RULES
    if rule.table in ("table1", "halves") and rule.claim in ("C10", "C11", "C12")
]


@rule("C1", "phases", unit=PERCENT, region=ALL, aside=BY_CONSTRUCTION)
def _s_shaped(phases):
    """Where anything is solved: nothing at the smallest cap, steepest inside, flat at the end."""
    found = []
    for _, group in phases[phases["view"] == "cap"].groupby("tier", sort=False):
        share, cap = group["mean"].to_numpy(), group["x"].to_numpy()
        if share.max() > 0:
            steepest = np.argmax(np.diff(share) / np.diff(cap))
            flat = share[cap <= cap[-1] / 2][-1] > 0.95 * share[-1]
            found.append(share[0] < 0.05 * share[-1] and 0 < steepest < len(share) - 2 and flat)
    return exact(np.mean(found) if found else math.nan)


@rule("C3", "phases", parts=LONGEST, aside={"over all questions": CONFOUNDED})
@rule("C2", "phases", parts=SHORTEST, aside={"over all questions": CONFOUNDED})
def _end_is_worse(phases, part):
    """How far the bin at one end is below the mean: the question's own, which is 0, or that of all solutions."""
    (view, end), bins = part, phases[phases["view"] == part[0]]
    if bins.empty:
        return exact(math.nan)
    last, level = bins.iloc[end], 0.0 if view == "within" else np.average(bins["mean"], weights=bins["n"])
    return Effect(level - last["mean"], level - last["upper"], level - last["lower"])


@rule("C3", "phases", parts={"under a larger cap": "cap"}, aside=BY_CONSTRUCTION)
def _larger_caps_lose(phases, part):
    """The largest fall of the share solved from one cap to the next."""
    falls = -phases[phases["view"] == part].groupby("tier", sort=False)["mean"].diff()
    return exact(max(falls.max(), 0.0))


@rule("C8", "latency", LABORATORY, unit=TOKENS, region=(-math.inf, 2.56))
def _pricing_is_cheap(latency):
    """As if all 500 queries were decoded side by side in the time of one, whose 256 tokens are the measure."""
    return exact(latency.loc["Algorithm 1", "tokens"])


@rule("C9", "ranks", parts=FACTORS | POWERS, region=(-0.01, 0.01))
def _ranks_are_enough(results, part):
    """Against the same forecasts without distortion (value 1)."""
    (kind, value), rows = part, _policy(results)
    plain = rows[rows["value"] == 1].drop_duplicates(effects.REPLICATE)
    return _gain(rows[(rows["setting"] == kind) & (rows["value"] == value)], plain)


@rule("C15", "tiers", parts={"Uniform": "uniform", "Predictor": "predictor"}, unit=PERCENT, region=(0.5, math.inf))
def _most_are_short(tiers, part):
    rows = _policy(_scarcest(tiers), part)
    draws = rows.assign(short=rows["short"] * rows["n"]).groupby("stream_seed")[["short", "n"]].sum()
    short = draws["short"] / draws["n"]
    return Effect(*np.clip(effects.of_draws(short), 0, 1))


@rule("C16", "tiers", aside=BY_CONSTRUCTION)
def _costly_ones_are_abandoned(tiers):
    """The claim is about cost, which the forecasts stand for; a harder tier need not cost more."""
    streams = _policy(_scarcest(tiers)).sort_values("threshold").groupby(["stream_seed", "stream"])["abandoned"]
    return Effect(*effects.of_draws((streams.last() - streams.first()).groupby("stream_seed").mean()))


@rule("C17", "code")
def _programs_above_uniform(gains):
    """Best of n by all tests, where queries share the tokens, at the budget with the least mean gain over the sets."""
    # At twice the mean length most samples end under both policies, so neither can show much. At a quarter Uniform cuts
    # nearly all, so whoever leaves some out can hardly be below: that budget alone does not make the claim hold. The mean
    # of the ends of intervals is no narrower than the interval of the mean.
    cells = "policy == 'clear' and reading == 'queries' and choice == 'all tests' and scarcity <= 1 and n >= 30"
    ends = gains.query(cells).groupby("scarcity")[["gain", "gain_low", "gain_high"]].mean() / 100
    return _least(Effect(*row) for row in ends.itertuples(index=False)) if len(ends) else exact(math.nan)


@rule("C18", "noise", parts={"σ = 0.5": 0.5, "σ = 1": 1.0, "σ = 2": 2.0}, aside={"σ = 2": OURS})
def _above_uniform_under_noise(results, part):
    return _above_baseline(results[results["value"] == part], "uniform")


@rule("C19", "decay", parts=BUDGETS, aside=BY_CONSTRUCTION, region=(-0.01, math.inf))
def _adaptive_is_near_the_best(results, part):
    """Below the mean threshold the adaptive rate is a fixed one, ``1/ε``; above it every ample slack grants the same."""
    results = results[results["scarcity"] == sorted(results["scarcity"].unique())[part]]
    first, second = _halves(results)
    fixed = first[first["setting"] == "decay"].groupby("value")["accuracy"].mean().idxmax()
    rival = second[(second["setting"] == "decay") & (second["value"] == fixed)]
    return _gain(second[second["setting"] == "epsilon"], rival)


@rule(
    "C20",
    "velocity",
    parts={"accuracy": "accuracy", "price": "price"},
    aside=BY_CONSTRUCTION,
    unit=PERCENT,
    region=(-math.inf, 0.01),
)
def _velocity_only_scales(results, part):
    """The largest range over velocities of a cell: of its accuracy, or of its price by velocity as a share of itself."""
    means = results.groupby(["stream", "scarcity", "value"])[["accuracy", "price"]].mean().reset_index()
    means["price"] /= means["value"]
    cells = means.groupby(["stream", "scarcity"])[part].agg(["min", "max"])
    spread = cells["max"] - cells["min"]
    return exact((spread if part == "accuracy" else spread / cells["max"]).max())


@rule("C21", "shapes", parts={"triangular": "triangular", "quadratic": "quadratic"})
def _shape_is_above(results, part):
    """The shape's gain over Uniform less half of the surge's: its accuracy over the mean of Uniform and surge."""
    shapes, uniform = (_policy(_scarcest(results), name) for name in ("clear", "uniform"))
    pair = uniform.drop_duplicates(effects.REPLICATE), shapes[shapes["value"] == "surge"]
    half = sum(rows.set_index(effects.REPLICATE)["accuracy"] / 2 for rows in pair)
    return _gain(shapes[shapes["value"] == part], half.reset_index())


@rule("C24", "wrapper", LABORATORY, unit=PERCENT, region=ALL, aside=BY_CONSTRUCTION)
def _wraps(wrapper):
    """Weights stay, each completion is the beginning of what the model writes alone, the bill is within the budget."""
    whole = wrapper["begins_alike"] == wrapper["n"]
    return exact((wrapper["same_weights"] & whole & (wrapper["charged"] <= wrapper["budget"])).mean())
