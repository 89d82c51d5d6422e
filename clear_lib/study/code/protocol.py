"""The paper's Table 2: best of n programs under a budget of completion tokens, in three readings of one sentence.

In each of the :data:`READINGS` every policy spends the same number of tokens on the whole set of tasks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaln, ndtr

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.allocation.policies import POLICIES, divide
from clear_lib.allocation.problem import Problem, Truth
from clear_lib.study.code import shipping
from clear_lib.study.code.recording import KINDS, SAMPLES
from clear_lib.study.recordings.forecasts import cross_fitted
from clear_lib.study.setup.profiles import PredictorSpec, Profile

READINGS = {
    "trajectories": "every query has the same tokens, and the policy shares them among its n samples",
    "queries": "queries share the tokens, and the n samples of a query have equal caps",
    "samples": "queries share the tokens, and each spends its part on one sample after another",
}

CHOICES = ("all tests", "base tests")  # one of n programs is chosen as the paper scores, or by what one has
BUY = "buy-samples"  # our policy of the reading "samples"
CODE_POLICIES = (
    *("uniform", "predictor", "clear-heuristic", "clear-auction", "clear", "clear-exact", "clear-lognormal"),
    *(BUY, "oracle"),
)

#: Policies that have no part in a reading: the log-normal market is slow among equals (a sixth of a second for the
#: samples of one query), and samples can be bought only where they are the good.
LEFT_OUT = {"trajectories": ("clear-lognormal", BUY), "queries": (BUY,), "samples": ()}

SCARCITIES = (0.25, 0.5, 1.0, 2.0)  # mean cap of a trajectory, in mean lengths of a sample
LEAST = 50  # fewest greedy rollouts of a data set with which lengths are predicted

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


def shipped_pools(profile: Profile) -> list[Pool]:
    """Pools of what is shipped of a profile; none without samples and greedy rollouts to predict their lengths."""
    greedy, samples = (
        shipping.read(profile.name, [kind for kind, about in KINDS.items() if about.sampled is sampled])
        for sampled in (False, True)
    )
    enough = greedy.groupby("dataset")["dataset"].transform("size") >= LEAST
    if samples.empty or not enough.any():
        return []
    return make_pools(samples, cross_forecasts(greedy[enough], profile.predictor, profile.model_parameters))


def cross_forecasts(greedy: pd.DataFrame, forecaster: PredictorSpec, model_parameters: int) -> pd.DataFrame:
    """Forecasts of every task by a fit to the greedy rollouts of the others: in-domain, as the paper's are."""
    return cross_fitted(greedy.assign(verdict=greedy["base"]), forecaster, model_parameters)


def make_pools(samples: pd.DataFrame, forecasts: pd.DataFrame) -> list[Pool]:
    """One pool a data set, of the tasks with all samples, a forecast and both verdicts; or base tests stand for plus."""
    pools = []
    for dataset, rows in samples.groupby("dataset"):
        if (rows["plus"] == "none").all():
            rows = rows.assign(plus=rows["base"])
        elif dataset == "HumanEval":
            dataset = "HumanEval+"
        rows = rows[rows["plus"].ne("none") & rows["question_id"].isin(forecasts["question_id"])]
        wide = [rows.pivot(index="question_id", columns="sample", values=name) for name in ("length", "base", "plus")]
        whole = wide[0].reindex(columns=range(SAMPLES)).dropna().index
        if whole.empty:
            continue
        known = forecasts.set_index("question_id").loc[whole]
        given = {each.name: known[each.name].to_numpy() for each in fields(Forecasts) if each.name in known}
        length, base, plus = (table.loc[whole].to_numpy() for table in wide)
        verdicts = base == "correct", plus == "correct"
        pools.append(
            Pool(dataset, whole.to_numpy(), Forecasts(**given), length.astype(int), *verdicts, int(rows["cap"].max()))
        )
    return pools


def caps(pool: Pool, reading: str, policy: str, mean_cap: int, settings: Mapping[str, float]) -> Counts:
    """Cap of every sample, ``(n, k)``, tokens; their budget is ``mean_cap`` times their number."""
    if reading not in READINGS:
        raise ValueError(f"unknown reading {reading!r}; known: {', '.join(READINGS)}")
    if policy in LEFT_OUT[reading]:
        raise ValueError(f"policy {policy!r} has no part in the reading {reading!r}")
    n, k = pool.lengths.shape
    if policy == BUY:
        return bought(pool, n * k * mean_cap)

    def solve(forecasts: Forecasts, budget: int, cap: int, lengths: Counts, right: Flags) -> Counts:
        known = {name: value for name, value in settings.items() if name in POLICIES[policy].settings}
        return divide(Problem(forecasts, budget, cap, Truth(lengths, right)), policy, **known).tokens

    if reading == "trajectories":
        alike = (pool.forecasts.part([row] * k) for row in range(n))
        rows = zip(alike, pool.lengths, pool.plus, strict=True)
        return np.stack([solve(each, k * mean_cap, pool.cap, *truth) for each, *truth in rows])
    solvable = pool.plus.any(axis=1)
    if reading == "queries":
        shortest = np.where(pool.plus, pool.lengths, pool.cap).min(axis=1)
        return np.repeat(solve(pool.forecasts, n * mean_cap, pool.cap, shortest, solvable)[:, None], k, axis=1)
    first = pool.plus.argmax(axis=1)  # the first right sample is had when those before it are paid
    spent = pool.lengths.cumsum(axis=1)[np.arange(n), first]
    grants = solve(pool.forecasts, n * k * mean_cap, k * pool.cap, spent, solvable)
    before = pool.lengths.cumsum(axis=1) - pool.lengths  # one sample after another, until the grant is used up
    return np.clip(grants[:, None] - before, 0, pool.cap)


def first_right(solvable: Array, k: int, concentration: float = 1.0) -> Array:
    """Chance that the sample number 1, …, ``k`` is the first right one, ``(n, k)``; falls from left to right."""
    # A query's chance q of a right sample is uncertain: Beta with mean `solvable` and a + b = concentration. So the
    # chance is E[q(1−q)^(m−1)] = B(a + 1, b + m − 1)/B(a, b): the more samples failed, the less a query is worth.
    mean = np.clip(solvable, 1e-3, 1 - 1e-3)[:, None]
    a, b = concentration * mean, concentration * (1 - mean)
    return np.exp(betaln(a + 1, b + np.arange(k)) - betaln(a, b))


def expected_tokens(forecasts: Forecasts, cap: float) -> Array:
    """Mean tokens of a sample under a cap, ``E[min(ℓ, cap)]``, by the log-normal forecast of its length."""
    middle, spread = forecasts.log_median, np.maximum(forecasts.spread, 1e-6)
    z = (np.log(cap) - middle) / spread
    return np.exp(middle + spread**2 / 2) * ndtr(z - spread) + cap * ndtr(-z)


def order_of_samples(forecasts: Forecasts, cap: int, k: int, concentration: float = 1.0) -> Counts:
    """All samples, as positions in ``(n, k)``, by falling chance to be the first right one per expected token."""
    # The gain of m samples is concave in m, so one price clears the market: any beginning of this order is the best
    # plan for the tokens that it is expected to use, and a query's samples stand in it one after another.
    worth = first_right(forecasts.solvable, k, concentration) / expected_tokens(forecasts, cap)[:, None]
    return np.argsort(-worth, axis=None, kind="stable")


def bought(pool: Pool, budget: int) -> Counts:
    """Caps of samples ``(n, k)`` that are drawn in the order of their worth until the budget is used up."""
    order = order_of_samples(pool.forecasts, pool.cap, pool.lengths.shape[1])
    lengths = pool.lengths.ravel()[order]
    given = np.zeros(pool.lengths.size, dtype=np.int64)
    given[order] = np.clip(budget - (lengths.cumsum() - lengths), 0, pool.cap)
    return given.reshape(pool.lengths.shape)


def solved(pool: Pool, given: Counts, choice: str = CHOICES[0]) -> Flags:
    """Whether any sample that ended within its cap passes all tests, ``(n,)``; or the first that passes the base tests."""
    ended = (pool.lengths <= given) & (given > 0)
    if choice == "all tests":
        return (ended & pool.plus).any(axis=1)
    if choice != "base tests":
        raise ValueError(f"unknown choice {choice!r}; known: {', '.join(CHOICES)}")
    passing = ended & pool.base
    return (passing & pool.plus)[np.arange(len(passing)), passing.argmax(axis=1)]


_CELL = ["dataset", "reading", "choice", "scarcity", "mean_cap"]
_GAIN = ["n", "gain", "gain_low", "gain_high"]


def settings_of(profile: Profile, reference: float) -> dict[str, float]:
    """Floor and ``ε`` of a profile in tokens."""
    return {"floor": profile.floor_fraction * reference, "epsilon": profile.epsilon_fraction * reference}


def run(profile: Profile, pools: Iterable[Pool], scarcities: Sequence[float] = SCARCITIES) -> pd.DataFrame:
    """Whether a task is solved and the tokens that it used, by reading, policy, budget (per sample) and choice."""
    tables = [pd.DataFrame(columns=[*_CELL, "policy", "question_id", "solved", "used"])]
    for pool, reading, policy, scarcity in product(pools, READINGS, CODE_POLICIES, scarcities):
        if policy in LEFT_OUT[reading]:
            continue
        mean_cap = round(scarcity * pool.mean_length)
        given = caps(pool, reading, policy, mean_cap, settings_of(profile, pool.mean_length))
        used = np.minimum(pool.lengths, given).sum(axis=1)
        for choice in CHOICES:
            cell = dict(zip(_CELL, (pool.dataset, reading, choice, scarcity, mean_cap), strict=True))
            row = {"policy": policy, "question_id": pool.question_id, "solved": solved(pool, given, choice)}
            tables.append(pd.DataFrame(cell | row | {"used": used}))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def gains(results: pd.DataFrame, rival: str = "uniform") -> pd.DataFrame:
    """Lead of every policy over a rival in points, with a paired 95% bootstrap interval over tasks, for each cell."""
    rng, tables = np.random.default_rng(0), [pd.DataFrame(columns=[*_CELL, "policy", *_GAIN])]
    for key, cell in results.groupby(_CELL, sort=False):
        right = 100.0 * cell.pivot(index="question_id", columns="policy", values="solved")
        leads = right.sub(right[rival], axis=0).drop(columns=rival)
        drawn = rng.multinomial(len(leads), np.full(len(leads), 1 / len(leads)), 2000) @ leads / len(leads)
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        values = dict(zip(_GAIN, (len(leads), leads.mean(), low, high), strict=True))
        tables.append(pd.DataFrame(dict(zip(_CELL, key, strict=True)) | values).reset_index())
    return pd.concat(tables[1:] or tables, ignore_index=True)
