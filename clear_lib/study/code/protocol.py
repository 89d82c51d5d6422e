"""The paper's Table 2: best of n programs under a budget of completion tokens, in three readings of one sentence.

“Each trajectory has a cap, and each query receives the same total completion-token budget across methods.” Taken at
its word, nothing is left to share between queries. So there are three readings (:data:`READINGS`), and in each of them
every policy spends the same number of tokens on the whole set of tasks. A sample counts if it ended within its cap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaln, ndtr

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.allocation.policies import POLICIES, divide
from clear_lib.allocation.problem import Problem, Truth
from clear_lib.study.recordings.forecasts import cross_fitted, fitted_forecasts
from clear_lib.study.setup import paper
from clear_lib.study.setup.profiles import PredictorSpec, Profile

#: What the budget is shared among.
READINGS = {
    "trajectories": "every query has the same tokens, and the policy shares them among its n samples",
    "queries": "queries share the tokens, and the n samples of a query have equal caps",
    "samples": "queries share the tokens, and each spends its part on one sample after another",
}

#: How one of n programs is chosen: by all tests, as the paper scores, or by the base tests, which is what one has.
CHOICES = ("all tests", "base tests")

#: Policies that are compared. CLEAR as printed clears the market by one price and abandons equal queries together, as
#: the samples of one query are; the exact optimum keeps some of them.
CODE_POLICIES = (
    "uniform",
    "predictor",
    "clear-heuristic",
    "clear-auction",
    "clear",
    "clear-exact",
    "clear-lognormal",
    "oracle",
)

#: Our policy of the reading "samples".
BUY = "buy-samples"

#: Policies that have no part in a reading: the log-normal market is slow among equals (a sixth of a second for the
#: samples of one query), and samples can be bought only where they are the good.
LEFT_OUT = {"trajectories": ("clear-lognormal", BUY), "queries": (BUY,), "samples": ()}

#: Names of policies on pages.
LABELS = {name: POLICIES[name].label for name in CODE_POLICIES} | {BUY: "Samples at one price"}

#: Mean cap of a trajectory, as fractions of the mean length of a sample.
SCARCITIES = (0.25, 0.5, 1.0, 2.0)

Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pool:
    """Tasks of one data set with their forecasts and ``k`` samples each; arrays are ``(n,)`` and ``(n, k)``."""

    dataset: str
    question_id: NDArray[np.object_]
    forecasts: Forecasts
    lengths: Counts  #: tokens
    base: Flags
    plus: Flags
    cap: int  #: most tokens of a sample

    @property
    def mean_length(self) -> float:
        """Of the samples: the unit of budgets, floor and ``ε``."""
        return float(self.lengths.mean())


# ---- forecasts and pools --------------------------------------------------------------------------------------------


def cross_forecasts(greedy: pd.DataFrame, forecaster: PredictorSpec, model_parameters: int) -> pd.DataFrame:
    """Forecasts of every task by a fit to the greedy rollouts of the *other* data sets, or to other folds of the only one.

    ``greedy`` has the columns of a recording and ``base``, its verdict; see
    :func:`~clear_lib.study.recordings.forecasts.forecast_table` for those of the result.
    """
    greedy = greedy.assign(verdict=greedy["base"])
    parts = dict(list(greedy.groupby("dataset")))
    if len(parts) == 1:
        return cross_fitted(greedy, forecaster, model_parameters)
    tables = [
        fitted_forecasts(greedy[greedy["dataset"] != name], part, forecaster, model_parameters)[1]
        for name, part in parts.items()
    ]
    return pd.concat(tables, ignore_index=True)


def make_pools(samples: pd.DataFrame, forecasts: pd.DataFrame) -> list[Pool]:
    """One pool a data set, of the tasks that have all their samples, a forecast and both verdicts.

    HumanEval is HumanEval+ where the plus tests are at hand; where they are not, the base tests stand for them.
    """
    pools = []
    for dataset, rows in samples.groupby("dataset"):
        if (rows["plus"] == "none").all():
            rows = rows.assign(plus=rows["base"])
        elif dataset == "HumanEval":
            dataset = "HumanEval+"
        rows = rows[rows["plus"].ne("none") & rows["question_id"].isin(forecasts["question_id"])]
        table = rows.pivot(index="question_id", columns="sample", values=["length", "base", "plus"]).dropna()
        if table.empty:
            raise ValueError(f"no task of {dataset} has all of its samples, graded, and a forecast")
        known = forecasts.set_index("question_id").loc[table.index]
        names = [each.name for each in fields(Forecasts) if each.name in known]
        pools.append(
            Pool(
                str(dataset),
                table.index.to_numpy(),
                Forecasts(**{name: known[name].to_numpy() for name in names}),
                table["length"].to_numpy(np.int64),
                table["base"].eq("correct").to_numpy(),
                table["plus"].eq("correct").to_numpy(),
                int(rows["cap"].max()),
            )
        )
    return pools


# ---- caps of samples ------------------------------------------------------------------------------------------------


def caps(pool: Pool, reading: str, policy: str, mean_cap: int, settings: Mapping[str, float]) -> Counts:
    """Cap of every sample, ``(n, k)``, tokens; their budget is ``mean_cap`` times their number."""
    if reading not in READINGS:
        raise ValueError(f"unknown reading {reading!r}; known: {', '.join(READINGS)}")
    if policy in LEFT_OUT[reading]:
        raise ValueError(f"policy {policy!r} has no part in the reading {reading!r}")
    n, k = pool.lengths.shape
    if policy == BUY:
        return bought(pool, n * k * mean_cap)
    solve = partial(
        divide, policy=policy, **{name: settings[name] for name in settings if name in POLICIES[policy].settings}
    )
    if reading == "trajectories":
        rows = [
            solve(
                Problem(
                    pool.forecasts.part([row] * k), k * mean_cap, pool.cap, Truth(pool.lengths[row], pool.plus[row])
                )
            )
            for row in range(n)
        ]
        return np.stack([each.tokens for each in rows])
    if reading == "queries":
        shortest = np.where(pool.plus, pool.lengths, pool.cap + 1).min(axis=1)
        truth = Truth(np.minimum(shortest, pool.cap), pool.plus.any(axis=1))
        shares = solve(Problem(pool.forecasts, n * mean_cap, pool.cap, truth)).tokens
        return np.repeat(shares[:, None], k, axis=1)
    first = pool.plus.argmax(axis=1)  # the first right sample is had when those before it are paid
    spent = np.take_along_axis(pool.lengths.cumsum(axis=1), first[:, None], axis=1)[:, 0]
    problem = Problem(pool.forecasts, n * k * mean_cap, k * pool.cap, Truth(spent, pool.plus.any(axis=1)))
    return in_turn(solve(problem).tokens, pool)


def in_turn(grants: Counts, pool: Pool) -> Counts:
    """Caps of samples that are drawn one after another until the grant ``(n,)`` of their query is used up."""
    before = pool.lengths.cumsum(axis=1) - pool.lengths
    return np.clip(np.asarray(grants)[:, None] - before, 0, pool.cap)


# ---- samples as the good that is bought -----------------------------------------------------------------------------


def first_right(solvable: Array, k: int, concentration: float = 1.0) -> Array:
    """Chance that the sample number 1, …, ``k`` is the first right one, ``(n, k)``; falls from left to right.

    A query's chance ``q`` of a right sample is uncertain: Beta with mean ``solvable`` and ``a + b = concentration``. The
    chance is ``E[q(1−q)^(m−1)] = B(a + 1, b + m − 1)/B(a, b)``: the more samples failed, the less a query is worth.
    """
    mean = np.clip(solvable, 1e-3, 1 - 1e-3)[:, None]
    a, b = concentration * mean, concentration * (1 - mean)
    return np.exp(betaln(a + 1, b + np.arange(k)) - betaln(a, b))


def expected_tokens(forecasts: Forecasts, cap: float) -> Array:
    """Mean tokens of a sample under a cap, ``E[min(ℓ, cap)]``, by the log-normal forecast of its length."""
    middle = forecasts.log_median
    if forecasts.spread is None:
        return np.minimum(np.exp(middle), cap)
    spread = np.maximum(forecasts.spread, 1e-6)
    z = (np.log(cap) - middle) / spread
    return np.exp(middle + spread**2 / 2) * ndtr(z - spread) + cap * ndtr(-z)


def order_of_samples(forecasts: Forecasts, cap: int, k: int, concentration: float = 1.0) -> Counts:
    """All samples, as positions in ``(n, k)``, by falling chance to be the first right one per expected token.

    The gain of ``m`` samples is concave in ``m``, so one price clears the market: any beginning of this order is the
    best plan for the tokens that it is expected to use, and a query's samples stand in it one after another.
    """
    solvable = np.full(forecasts.n, 0.5) if forecasts.solvable is None else forecasts.solvable
    worth = first_right(solvable, k, concentration) / expected_tokens(forecasts, cap)[:, None]
    return np.argsort(-worth, axis=None, kind="stable")


def bought(pool: Pool, budget: int) -> Counts:
    """Caps of samples ``(n, k)`` that are drawn in the order of their worth until the budget is used up."""
    order = order_of_samples(pool.forecasts, pool.cap, pool.lengths.shape[1])
    lengths = pool.lengths.ravel()[order]
    given = np.zeros(pool.lengths.size, dtype=np.int64)
    given[order] = np.clip(budget - (lengths.cumsum() - lengths), 0, pool.cap)
    return given.reshape(pool.lengths.shape)


# ---- results --------------------------------------------------------------------------------------------------------


def solved(pool: Pool, given: Counts, choice: str = CHOICES[0]) -> Flags:
    """Whether each task is solved, ``(n,)``, by one of its samples that ended within their caps.

    By all tests: any sample is right. By the base tests: the first that passes them, judged by all.
    """
    ended = (pool.lengths <= given) & (given > 0)
    if choice == "all tests":
        return (ended & pool.plus).any(axis=1)
    if choice != "base tests":
        raise ValueError(f"unknown choice {choice!r}; known: {', '.join(CHOICES)}")
    passing = ended & pool.base
    return (passing & pool.plus)[np.arange(len(passing)), passing.argmax(axis=1)]


def settings_of(profile: Profile, reference: float) -> dict[str, float]:
    """Floor and ``ε`` of a profile in tokens."""
    return {"floor": profile.floor_fraction * reference, "epsilon": profile.epsilon_fraction * reference}


def run(
    profile: Profile,
    pools: Iterable[Pool],
    readings: Sequence[str] = tuple(READINGS),
    policies: Sequence[str] = (*CODE_POLICIES, BUY),
    scarcities: Sequence[float] = SCARCITIES,
) -> pd.DataFrame:
    """One row a task, reading, policy, budget and choice: whether it is solved, and the tokens that it used.

    ``mean_cap`` is the budget, tokens per sample.
    """
    tables = []
    for pool, reading, policy, scarcity in product(pools, readings, policies, scarcities):
        if policy in LEFT_OUT[reading]:
            continue
        mean_cap = round(scarcity * pool.mean_length)
        given = caps(pool, reading, policy, mean_cap, settings_of(profile, pool.mean_length))
        key = {
            "dataset": pool.dataset,
            "reading": reading,
            "policy": policy,
            "scarcity": scarcity,
            "mean_cap": mean_cap,
        }
        used = np.minimum(pool.lengths, given).sum(axis=1)
        for choice in CHOICES:
            row = {
                "choice": choice,
                "question_id": pool.question_id,
                "solved": solved(pool, given, choice),
                "used": used,
            }
            tables.append(pd.DataFrame(key | row))
    return pd.concat(tables, ignore_index=True)


_CELL = ["dataset", "reading", "choice", "scarcity", "mean_cap"]


def accuracies(results: pd.DataFrame) -> pd.DataFrame:
    """Share of solved tasks (percent) by policy (columns), for each data set, reading, choice and budget."""
    means = results.groupby([*_CELL, "policy"], sort=False)["solved"].mean().mul(100).unstack("policy")
    return means[[name for name in LABELS if name in means]].rename(columns=LABELS)


def gains(results: pd.DataFrame, rival: str = "uniform", draws: int = 2000) -> pd.DataFrame:
    """Lead of every policy over a rival in points, with a paired 95% bootstrap interval over tasks, for each cell."""
    rng, rows = np.random.default_rng(0), []
    for key, cell in results.groupby(_CELL, sort=False):
        right = 100.0 * cell.pivot(index="question_id", columns="policy", values="solved")
        leads = right.sub(right[rival], axis=0).drop(columns=rival)
        drawn = rng.multinomial(len(leads), np.full(len(leads), 1 / len(leads)), draws) @ leads / len(leads)
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        values = {"n": len(leads), "gain": leads.mean(), "gain_low": low, "gain_high": high}
        rows.append(pd.DataFrame(dict(zip(_CELL, key, strict=True)) | values).reset_index())
    return pd.concat(rows, ignore_index=True)


def table_2(results: pd.DataFrame, reading: str, scarcity: float, choice: str = CHOICES[0]) -> pd.DataFrame:
    """The paper's Table 2 beside ours: Uniform, CLEAR and its gain, the difference of the gains and our interval."""
    chosen = results.query("reading == @reading and scarcity == @scarcity and choice == @choice")
    ours = chosen.groupby(["dataset", "policy"])["solved"].mean().mul(100)
    rows: list[dict[str, Any]] = []
    for row in gains(chosen).query("policy == 'clear'").to_dict("records"):
        name = row["dataset"]
        printed = f"{name.removesuffix('+')}+"  # HumanEval alone, its base tests, stands beside HumanEval+
        theirs = {policy: paper.TABLE_2[policy].get(printed, np.nan) for policy in ("uniform", "clear")}
        for policy, label in (("uniform", "Uniform"), ("clear", "CLEAR (Lambert)")):
            value = ours[row["dataset"], policy]
            rows.append({"dataset": name, "row": label, "paper": theirs[policy], "ours": value, "n": row["n"]})
        gain = {"dataset": name, "row": "Gain", "paper": theirs["clear"] - theirs["uniform"], "ours": row["gain"]}
        rows.append(gain | {"low": row["gain_low"], "high": row["gain_high"], "n": row["n"]})
    return pd.DataFrame(rows).assign(difference=lambda table: table["ours"] - table["paper"])
