"""Rollouts and forecasts that a replica makes up, and the paper's rows that it was not fitted to, judged against them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax, ndtri

from clear_lib.allocation.forecasts import Array
from clear_lib.rollouts.store import SCHEMA
from clear_lib.study import experiments
from clear_lib.study.evidence import comparison, replica
from clear_lib.study.evidence.replica import SOURCES, TIERS_OF, ForecastModel, LengthModel
from clear_lib.study.experiments.grid import Constant
from clear_lib.study.experiments.sensitivity import Reading
from clear_lib.study.recordings import new_profile
from clear_lib.study.recordings.importing import parameters_of
from clear_lib.study.setup import paper, profiles
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import STREAMS, TIERS


def make_rollouts(lengths: LengthModel, model: str, cap: int, per_tier: int = 2000) -> pd.DataFrame:
    """Rollouts of a replica of ``model``, without text, their lengths spread evenly over the quantiles of their tier."""
    rng, parts = np.random.default_rng(0), []
    for tier, median, rate in zip(TIERS_OF[len(lengths.medians)], lengths.medians, lengths.rates, strict=True):
        z = ndtri((rng.permutation(per_tier) + 0.5) / per_tier)
        length = np.maximum(np.round(median * np.exp(lengths.spread * z)), 1).astype(np.int64)
        correct = (rng.permutation(per_tier) < rate * per_tier) & (length <= cap)
        columns = {
            "question_id": [f"{tier}-{number}" for number in range(per_tier)],
            "tier": tier,
            "length": np.minimum(length, cap),
            "finish_reason": np.where(length <= cap, "stop", "length"),
            "verdict": np.where(correct, "correct", "wrong"),
        }
        parts.append(pd.DataFrame(columns))
    same = dict.fromkeys(("question", "gold", "prompt"), "") | dict.fromkeys(("completion", "answer"))
    same |= {"dataset": "simulated", "split": "evaluation", "rung": "free", "sample": 0, "seed": 0, "temperature": 0.0}
    same |= {"model": f"replica of {model} (simulated)", "revision": "simulated", "dtype": "none", "cap": cap}
    same |= {"engine": "replica", "engine_version": "1"}
    return pd.concat(parts, ignore_index=True).assign(**same)[SCHEMA.names]


def make_forecasts(
    rollouts: pd.DataFrame, lengths: LengthModel, forecasts: ForecastModel, prior: Array
) -> pd.DataFrame:
    """Forecasts of a replica's rollouts, free of cost; no teacher is modelled, so the estimate is the threshold.

    Spread, chance and median length are the posterior given the forecast, with tiers as frequent as ``prior``.
    """
    rng = np.random.default_rng([0, 1])
    forecast = forecasts.log_forecast(np.log(rollouts["length"].to_numpy()), rng.normal(size=len(rollouts)))
    log_median = np.log(lengths.medians)
    variance = (forecasts.slope * lengths.spread) ** 2 + forecasts.noise**2
    z = (forecast[:, None] - forecasts.log_forecast(log_median)) / math.sqrt(variance)
    weight = np.exp(log_softmax(-(z**2) / 2 + np.log(prior), axis=1)) * lengths.rates
    expected = log_median + forecasts.slope * lengths.spread**2 / math.sqrt(variance) * z
    left = (lengths.spread * forecasts.noise) ** 2 / variance
    solvable = weight.sum(axis=1)
    center = (weight * expected).sum(axis=1) / solvable
    spread = np.sqrt((weight * (expected - center[:, None]) ** 2).sum(axis=1) / solvable + left)
    columns = {"threshold": np.exp(forecast), "spread": spread, "solvable": solvable, "log_median": center}
    columns |= {"estimate": columns["threshold"], "threshold_cost": 0.0, "estimate_cost": 0.0}
    return pd.DataFrame({"question_id": rollouts["question_id"], **columns})


def make_profile(name: str, lengths: LengthModel, rollouts: pd.DataFrame, seeds: int) -> Profile:
    """A profile with the paper's stream size, budgets and floor in tokens, and the fitted shares."""
    source, reference, tiers = SOURCES[name], float(rollouts["length"].mean()), TIERS_OF[len(lengths.medians)]
    none = dict.fromkeys(TIERS, 0.0)
    shares = {
        stream: tuple((none | dict(zip(tiers, share.tolist(), strict=True))).values())
        for stream, share in lengths.shares.items()
    }
    sizes = dict.fromkeys(tiers, len(rollouts) // len(tiers))
    simulated = f"simulated forecasts: shrinkage and noise, fitted to the Predictor row of Table {source.number}"
    predictor = profiles.PredictorSpec("constant", simulated, tiers, "all", {})
    return replace(
        profiles.load("tiny"),
        name=name,
        model=rollouts["model"].iloc[0],
        revision="simulated",
        model_parameters=parameters_of(source.model),
        engine="none",
        prompts={"free": "{question}"},
        rungs={},
        cap=source.cap,
        tiers=tiers,
        pool_per_tier=sizes,
        predictor_per_tier=sizes,
        sampled=0,
        stream_size=paper.STREAM_SIZE,
        stream_seeds=seeds,
        stream_shares=shares,
        scarcities=tuple(budget / reference for budget in source.budgets),
        floor_fraction=paper.FLOOR / reference,
        epsilon_fraction=paper.FLOOR / reference,  # chosen before any row of CLEAR was looked at
        predictor=predictor,
        teacher=replace(predictor, label="stand-in for a teacher, the simulated forecast itself, and no instruction"),
    )


def _simulate(
    name: str, lengths: LengthModel, forecasts: ForecastModel, seeds: int, per_tier: int
) -> tuple[Profile, pd.DataFrame, pd.DataFrame]:
    """Profile, rollouts and forecasts of a replica."""
    source = SOURCES[name]
    rollouts = make_rollouts(lengths, source.model, source.cap, per_tier)
    total, _ = replica.tier_counts(source.sets, len(lengths.medians))
    table = make_forecasts(rollouts, lengths, forecasts, total / total.sum())
    return make_profile(name, lengths, rollouts, seeds), rollouts, table


def simulate(
    name: str, lengths: LengthModel, forecasts: ForecastModel, *, seeds: int = 10, per_tier: int = 2000
) -> tuple[Profile, pd.DataFrame]:
    """Profile and pool of a replica, for :func:`clear_lib.study.experiments.run`; ``seeds`` streams of each kind."""
    profile, rollouts, table = _simulate(name, lengths, forecasts, seeds, per_tier)
    return profile, experiments.make_pool(rollouts, table)


def write_profile(name: str, artifacts: str | Path, *, seeds: int = 12, per_tier: int = 2000) -> Path:
    """Fit a replica and write its profile, rollouts and forecasts, in place of earlier ones; the profile's file."""
    if name not in SOURCES:
        raise ValueError(f"no replica {name!r}; known: {', '.join(SOURCES)}")
    profile, rollouts, table = _simulate(name, *replica.fit(name), seeds, per_tier)
    return new_profile.write_profile(profile, {"evaluation": rollouts}, table, Path(artifacts))


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Errors by policy of a table of :func:`.comparison.compare` in points; ``inside``: cells with the paper's number, %."""
    cells = cells.assign(error=cells["difference"].abs(), inside=100 * (cells["verdict"] == comparison.INSIDE))
    groups = cells.dropna(subset="paper").groupby("policy", sort=False)
    measures = {"mean": ("error", "mean"), "worst": ("error", "max"), "bias": ("difference", "mean")}
    return groups.agg(**measures, inside=("inside", "mean")).reset_index()


def held_out(name: str = "replica-7b", *, fallback: bool = False, seeds: int = 3, **variant: Any) -> dict[str, float]:
    """Mean absolute errors in points of a variant of :func:`.replica.fit`, by policy, and its number of ``parameters``.

    With ``fallback``, Auction and CLEAR share in proportion where the budget fits all forecasts.
    """
    source = SOURCES[name]
    lengths, forecasts = replica.fit(name, **variant)
    profile, pool = simulate(name, lengths, forecasts, seeds=seeds)
    runs = [experiments.run(profile, pool, policies=["oracle", "oracle-paper", "clear-heuristic"])]
    runs.append(experiments.run(profile, pool, policies=["clear-auction", "clear"], fallback=fallback))
    cells = comparison.compare(pd.concat(runs, ignore_index=True), source, at_scale=True)
    uniform = replica.uniform_row(lengths, source.budgets)
    predictor = replica.predictor_row(lengths, forecasts, source.budgets)
    fitted = {
        policy: replica.row_errors(row, source.table[policy]).abs().to_numpy().mean()
        for policy, row in (("uniform", uniform), ("predictor", predictor))
    }
    count = len(replica.parameters(lengths, forecasts)) - (not variant.get("shrink", True))
    return {"parameters": count} | fitted | summary(cells).set_index("policy")["mean"].to_dict()


def clear_errors(
    name: str, profile: Profile, pool: pd.DataFrame, factors: Sequence[float], slacks: Sequence[float]
) -> pd.DataFrame:
    """Mean absolute error of the CLEAR row in points, by level of the forecasts (rows: factors) and ``ε`` (columns)."""
    errors = {}
    for factor, slack in product(factors, slacks):
        rows = experiments.run(profile, experiments.distorted(pool, factor), policies=["clear"], epsilon=slack)
        cells = comparison.compare(rows, SOURCES[name], at_scale=True)
        errors[factor, slack] = cells["difference"].abs().mean()
    return pd.Series(errors).unstack().rename_axis(index="level", columns="ε")


#: Forms of eq. 16, by name, and constants of each: ``ε`` in tokens, and factors.
FORMS: dict[str, tuple[Callable[[float, float], dict[str, float]], tuple[float, ...]]] = {
    "max(ε, B̄ - τ̄)": (lambda constant, tokens: {"epsilon": constant}, (8, 32, 64, 128, 256, 512)),
    "k max(32, B̄ - τ̄)": (lambda constant, tokens: {"epsilon": 32.0, "stretch": constant}, (1, 2, 3, 4, 6)),
    "c B̄": (lambda constant, tokens: {"decay": 1 / (constant * tokens)}, (0.125, 0.25, 0.5, 0.75, 1, 1.5, 2)),
}


def forms_of_decay(name: str, profile: Profile, pool: pd.DataFrame) -> pd.DataFrame:
    """Forms of ``1/β`` (eq. 16) by the mean absolute ``error`` of CLEAR's cells, and how many are ``below`` Uniform's."""
    uniform, found = experiments.run(profile, pool, policies=["uniform"]), []
    for form, (rule, constants) in FORMS.items():
        for constant in constants:
            own = experiments.run(profile, pool, policies=[Constant("clear", form, partial(rule, constant))])
            cells = comparison.compare(pd.concat([own, uniform]), SOURCES[name], at_scale=True)
            for stream, part in cells[cells["policy"] == "clear"].groupby("stream", sort=False):
                error, below = part["difference"].abs().mean(), int((part["gain"] < 0).sum())
                found.append((form, constant, stream, error, below))
    return pd.DataFrame(found, columns=["form", "constant", "stream", "error", "below"])


def held_out_forms(scored: pd.DataFrame) -> pd.DataFrame:
    """Errors of each form with the constant that fits the other streams best, and with the one best for all."""
    rows = {}
    for form, table in scored.groupby("form", sort=False):
        errors = table.pivot(index="constant", columns="stream", values="error")
        taken = {stream: errors.drop(columns=stream).mean(axis=1).idxmin() for stream in errors}
        kept = table[table["constant"] == table["stream"].map(taken)]
        constants = ", ".join(f"{constant:g}" for constant in sorted(set(taken.values())))
        rows[form] = (kept["error"].mean(), errors.mean(axis=1).min(), int(kept["below"].sum()), constants)
    return pd.DataFrame(rows, index=["held out", "in hindsight", "below", "constants"]).T


def readings(
    name: str, lengths: LengthModel, forecasts: ForecastModel, drawn: pd.DataFrame, *, seeds: int
) -> list[Reading]:
    """What a fit with two tiers leaves open: groups of parameters at both ends of their intervals in a bootstrap."""
    fitted, found = replica.parameters(lengths, forecasts), []
    for end, row in drawn.quantile([0.025, 0.975]).iterrows():
        firsts = {stream: row[f"{label}, {TIERS_OF[2][0]}"] for stream, label in STREAMS.items()}
        shares = {stream: np.array([first, 1 - first]) for stream, first in firsts.items()}
        medians = np.array([lengths.medians[0], row["median, hard"]])
        slope, noise = row["slope of the forecasts"], row["noise of the forecasts"]
        changed = {
            "fitted shares of the first tier": (replace(lengths, shares=shares), forecasts, "uniform"),
            "median, hard": (replace(lengths, medians=medians), forecasts, "uniform"),
            "slope of the forecasts": (lengths, replace(forecasts, slope=slope), "predictor"),
            "noise of the forecasts": (lengths, replace(forecasts, noise=noise), "predictor"),
        }
        for item, (*models, baseline) in changed.items():
            ours, other = "as fitted", f"{end:.1%} of the bootstrap"
            if item in fitted:
                ours, other = (f"{x:,.0f} tokens" if x > 1 else f"{x:.2f}" for x in (fitted[item], row[item]))
            profile, pool = simulate(name, *models, seeds=seeds)
            change = {"profile": profile, "pool": pool}
            found += [Reading(item, ours, other, policy, {}, change) for policy in (baseline, "clear")]
    return found
