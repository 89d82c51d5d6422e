"""Streams × budgets × policies × seeds: every cell served from the recording, in one long table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from clear_lib import serving
from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.policies import OF_THE_PAPER, POLICIES, allocate, divide
from clear_lib.study.experiments.pool import distorted, draws, problem_of, reference_length
from clear_lib.study.experiments.replay import choose_rungs
from clear_lib.study.setup.profiles import Profile

#: Columns of a table of results. ``accuracy`` and ``active`` are shares of the queries; ``granted``, ``used`` and
#: ``budget_per_query`` are tokens per query; ``scarcity`` is the budget as a fraction of the reference length;
#: ``accounting`` says which tokens the budget limits; ``setting`` and ``value`` name the axis of a sweep.
COLUMNS = tuple(
    "profile stream stream_seed predictor_seed policy accounting budget_per_query scarcity n accuracy granted used "
    "active price setting value".split()
)


class ServedStream(NamedTuple):
    """A stream that was served; ``queries`` has its columns and ``rung, granted, used`` (tokens), ``solved``."""

    outcome: serving.Outcome
    queries: pd.DataFrame


def settings_of(profile: Profile, reference: float, policy: str) -> dict[str, float]:
    """The floor and ``ε`` of a profile in tokens, for a policy that has them."""
    tokens = {"floor": profile.floor_fraction * reference, "epsilon": profile.epsilon_fraction * reference}
    return {name: value for name, value in tokens.items() if name in POLICIES[policy].settings}


def serve(
    profile: Profile,
    queries: pd.DataFrame,
    policy: str,
    scarcity: float,
    reference: float,
    accounting: str = "caps",
    **settings: Any,
) -> ServedStream:
    """Serve a stream from its recording; ``settings`` come before those of the profile.

    TALE-EP replays the rung that it chose for each query. A sequential policy is served with refunds in any case.
    """
    problem = problem_of(profile, queries, scarcity, reference)
    settings = settings_of(profile, reference, policy) | settings
    lengths, correct = queries["length"].to_numpy(), queries["correct"].to_numpy()
    rungs = np.full(len(queries), "free", dtype=object)
    if POLICIES[policy].kind == "sequential":
        accounting = "refunds"
    elif "estimate" in POLICIES[policy].needs:
        caps = divide(problem, policy, **settings).tokens
        units = queries["estimate"] if profile.rung_unit == "free length" else np.ones(len(queries))
        rungs = choose_rungs(caps, units, profile.rungs)
        for rung in profile.rungs:
            lengths = np.where(rungs == rung, queries[f"length@{rung}"], lengths)
            correct = np.where(rungs == rung, queries[f"correct@{rung}"], correct)
    outcome = serving.serve(problem, serving.ReplayStepper(lengths), policy, accounting=accounting, **settings)
    solved = outcome.finished & correct
    return ServedStream(outcome, queries.assign(rung=rungs, granted=outcome.granted, used=outcome.used, solved=solved))


def served_streams(
    profile: Profile,
    pool: pd.DataFrame,
    policies: Sequence[str] = OF_THE_PAPER,
    scarcities: Iterable[float] | None = None,
    only: Iterable[str] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    **settings: Any,
) -> Iterator[tuple[dict[str, Any], ServedStream]]:
    """Every stream (or ``only`` some) × seed × budget × policy, served, with the key of its cell.

    ``sweep`` names one setting and its values: a policy that has the setting is served with each of them.
    """
    reference = reference_length(profile, pool)
    if sweep and len(sweep) != 1:
        raise ValueError(f"a sweep has one setting, got {', '.join(sweep)}")
    ((axis, values),) = sweep.items() if sweep else [(None, [])]
    budgets = profile.scarcities if scarcities is None else list(scarcities)
    for stream, seed, queries in draws(profile, pool, only):
        for scarcity, policy in product(budgets, policies):
            cell = {"stream": stream, "stream_seed": seed, "scarcity": scarcity, "policy": policy}
            if axis not in POLICIES[policy].settings:
                served = serve(profile, queries, policy, scarcity, reference, **settings)
                yield cell | {"setting": None, "value": np.nan}, served
                continue
            for value in values:
                served = serve(profile, queries, policy, scarcity, reference, **settings | {axis: value})
                yield cell | {"setting": axis, "value": value}, served


def run(profile: Profile, pool: pd.DataFrame, *, predictor_seed: int = 0, **choice: Any) -> pd.DataFrame:
    """Results of :func:`served_streams` (with ``choice``) and their accuracy: :data:`COLUMNS`, one row a cell."""
    rows = [
        cell
        | {
            "profile": profile.name,
            "predictor_seed": predictor_seed,
            "accounting": outcome.accounting,
            "budget_per_query": outcome.budget // len(queries),
            "n": len(queries),
            "accuracy": queries["solved"].mean(),
            "granted": queries["granted"].mean(),
            "used": queries["used"].mean(),
            "active": (queries["granted"] > 0).mean(),
            "price": np.nan if outcome.price is None else outcome.price,
        }
        for cell, (outcome, queries) in served_streams(profile, pool, **choice)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def run_distorted(
    profile: Profile, pool: pd.DataFrame, factors: Mapping[float, ArrayLike], **choice: Any
) -> pd.DataFrame:
    """Results (:func:`run`) with forecasts that are wrong by each of some factors; ``value`` is the key of the factor."""
    runs = [
        run(profile, distorted(pool, factor), **choice).assign(setting="distortion", value=value)
        for value, factor in factors.items()
    ]
    return pd.concat(runs, ignore_index=True)


def by_tier(profile: Profile, pool: pd.DataFrame, **choice: Any) -> pd.DataFrame:
    """The same cells tier by tier: ``n`` queries, mean ``granted`` and ``used`` tokens, and shares of the queries.

    Shares: ``abandoned`` (granted nothing), ``lost`` (abandoned, though solved uncapped), ``short`` (granted less than
    the length of the rollout), ``solved``.
    """
    tables, columns = [], ["abandoned", "lost", "short", "solved", "granted", "used", "threshold"]
    for cell, (_, queries) in served_streams(profile, pool, **choice):
        queries = queries.assign(abandoned=queries["granted"] == 0, short=queries["granted"] < queries["length"])
        queries["lost"] = queries["abandoned"] & queries["correct"]
        groups = queries.groupby("tier", sort=False)
        tables.append(groups[columns].mean().assign(n=groups.size(), **cell).reset_index())
    table = pd.concat(tables, ignore_index=True)
    table["tier"] = pd.Categorical(table["tier"], profile.tiers, ordered=True)
    return table.sort_values("tier", kind="stable", ignore_index=True)


def regimes(thresholds: Array, per_query: Iterable[float], policy: str = "clear", **settings: Any) -> pd.DataFrame:
    """One batch at many budgets (tokens per query) of a policy with a price; ``granted`` and ``surge`` per active query."""
    rows = []
    for amount in per_query:
        allocation = allocate(thresholds, round(amount * len(thresholds)), policy, **settings)
        active, budget = allocation.active, allocation.budget
        past = allocation.tokens - thresholds
        rows.append(
            {
                "budget_per_query": budget / active.size,
                "price": allocation.price,
                "abandoned": 1 - active.mean(),
                "granted": allocation.tokens[active].mean() if active.any() else np.nan,
                "surge": past[active].mean() if active.any() else np.nan,
                "unspent": allocation.unspent / budget if budget else 0.0,
            }
        )
    return pd.DataFrame(rows)
