"""The pool of recorded questions with their forecasts, the streams drawn from it, and their budgets."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.problem import Problem, Truth
from clear_lib.study.recordings import recording
from clear_lib.study.recordings.forecasts import read_forecasts
from clear_lib.study.setup import paper, streams
from clear_lib.study.setup.profiles import Profile


def make_pool(evaluation: pd.DataFrame, forecasts: pd.DataFrame, rungs: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a question: forecasts, ``length`` (tokens) and ``correct`` of its free rollout, and ``…@rung`` of the rungs."""
    pool = evaluation[["question_id", "dataset", "tier", "length"]].copy()
    pool["correct"] = (evaluation["verdict"] == "correct").to_numpy()
    pool = pool.merge(forecasts, on="question_id", how="left", validate="one_to_one")
    if rungs is not None:
        rungs = rungs.assign(correct=rungs["verdict"] == "correct")
        ladder = rungs.pivot(index="question_id", columns="rung", values=["length", "correct"])
        ladder.columns = [f"{kind}@{rung}" for kind, rung in ladder]
        pool = pool.join(ladder, on="question_id")
    if (missing := pool.isna().any(axis=1)).any():
        row = pool[missing].iloc[0]
        lacking = ", ".join(row.index[row.isna()])
        raise ValueError(f"question {row['question_id']!r} has no {lacking}; record and forecast all of the pool")
    kinds = {name: bool if name.startswith("correct") else np.int64 for name in pool if "@" in name}
    return pool.astype(kinds)


def read_pool(profile: Profile, artifacts: str | Path, told: bool = False) -> pd.DataFrame:
    """The recorded pool of a profile, with rungs if all its questions have them; ``told``: of the questions that do."""
    evaluation, forecasts = recording.load(profile, "evaluation", artifacts), read_forecasts(profile, artifacts)
    rungs = recording.load(profile, "rungs", artifacts) if profile.rungs else evaluation.head(0)
    counts = rungs.groupby("question_id").size().reindex(evaluation["question_id"], fill_value=0).to_numpy()
    whole = (counts == len(profile.rungs)) & (counts > 0)
    if told:
        evaluation = evaluation[whole].reset_index(drop=True)
    return make_pool(evaluation, forecasts, rungs if told or whole.all() else None)


def has_rungs(pool: pd.DataFrame) -> bool:
    """Whether a pool has what the model answered when it was told a length."""
    return any("@" in column for column in pool)


def distorted(pool: pd.DataFrame, factor: ArrayLike) -> pd.DataFrame:
    """The pool with ``threshold`` and the median length multiplied by ``factor``, one or one a question (section 7.1)."""
    factor = np.broadcast_to(np.asarray(factor, dtype=float), len(pool))
    wrong = ~(np.isfinite(factor) & (factor > 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"factor[{row}] must be positive and finite: {factor[row]}")
    changed = {"threshold": pool["threshold"] * factor}
    if "log_median" in pool:
        changed["log_median"] = np.maximum(pool["log_median"] + np.log(factor), 0.0)
    return pool.assign(**changed)


def draw_stream(profile: Profile, pool: pd.DataFrame, stream: str, seed: int, resample: bool = False) -> pd.DataFrame:
    """The queries of a stream: different rows of the pool, or with ``resample`` (and its ``weight``) of a resampled one."""
    shares, more = profile.stream_shares[stream], {"resample": resample, "weights": pool.get("weight")}
    rows = streams.draw(pool["tier"], shares, profile.stream_size, profile.seed + seed, **more)
    return pool.iloc[rows].reset_index(drop=True)


def draws(
    profile: Profile, pool: pd.DataFrame, only: Iterable[str] | None = None
) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Every stream (or ``only`` some) of every seed, which resamples the questions for all streams alike, then draws."""
    for stream in profile.stream_shares if only is None else only:
        for seed in range(profile.stream_seeds):
            yield stream, seed, draw_stream(profile, pool, stream, seed, resample=True)


def halves(pool: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two pools with half of each tier's questions: one to select on, one to judge on."""
    order = pool.sample(frac=1, random_state=seed).groupby("tier").cumcount()
    second = order.reindex(pool.index) % 2 == 1
    return tuple(pool[part].reset_index(drop=True) for part in (~second, second))


def composition(profile: Profile, pool: pd.DataFrame) -> pd.DataFrame:
    """Share of each data set (columns, easy ones first) in each stream (rows), mean over its draws."""
    drawn = draws(profile, pool)
    shares = {(stream, seed): rows["dataset"].value_counts(normalize=True) for stream, seed, rows in drawn}
    order = np.argsort(pool["tier"].map(profile.tiers.index), kind="stable")
    table = pd.DataFrame(shares).fillna(0).T.groupby(level=0, sort=False).mean()
    return table.reindex(columns=pool["dataset"].iloc[order].unique(), fill_value=0.0)


def reference_length(profile: Profile, pool: pd.DataFrame) -> float:
    """The unit of budgets, floor and ``ε``, tokens: the profile's, or the mean length of the pool's free rollouts."""
    return profile.reference_length or float(pool["length"].mean())


def budget_per_query(scarcity: float, reference: float) -> int:
    """``B̄`` of a scarcity: whole tokens per query."""
    return round(scarcity * reference)


def budgets(profile: Profile, pool: pd.DataFrame) -> pd.DataFrame:
    """Budgets, floor, ``ε`` (the paper's is unknown) and cap: ``fraction`` of the reference length, tokens, ``× easiest``."""
    reference = reference_length(profile, pool)
    easiest = next(tier for tier in profile.tiers if (pool["tier"] == tier).any())
    median = pool.loc[pool["tier"] == easiest, "length"].median()
    study = paper.study_of(profile.model)
    theirs = study.budgets_of(profile.scarcities)
    rows = [("budget", s, float(theirs[s]), float(budget_per_query(s, reference))) for s in profile.scarcities]
    rows += [
        ("floor", profile.floor_fraction, float(paper.FLOOR), profile.floor_fraction * reference),
        ("ε", profile.epsilon_fraction, np.nan, profile.epsilon_fraction * reference),
        ("cap", profile.cap / reference, float(study.cap), float(profile.cap)),
    ]
    table = pd.DataFrame(rows, columns=["what", "fraction", "paper", "ours"])
    return table.assign(**{"× easiest": table["ours"] / median})


def forecasts_of(queries: pd.DataFrame) -> Forecasts:
    """The forecasts in a table: the fields of :class:`Forecasts` that it has as columns."""
    names = [field.name for field in fields(Forecasts) if field.name in queries]
    return Forecasts(**{name: queries[name].to_numpy() for name in names})


def problem_of(profile: Profile, queries: pd.DataFrame, scarcity: float, reference: float) -> Problem:
    """The allocation problem of a stream: its forecasts, its budget, the profile's cap, and the truth for the oracles."""
    truth = Truth(queries["length"].to_numpy(), queries["correct"].to_numpy())
    return Problem(forecasts_of(queries), budget_per_query(scarcity, reference) * len(queries), profile.cap, truth)
