"""Recorded models beside each other on the same questions and streams: what changes with the model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from clear_lib.allocation.policies import POLICIES
from clear_lib.predictor import fit_to_rollouts
from clear_lib.rollouts import shipped
from clear_lib.study.evidence.comparison import PAPER_ROW, data, quantities
from clear_lib.study.experiments import gains, make_pool
from clear_lib.study.experiments.forecasting import training_rollouts
from clear_lib.study.recordings import packing
from clear_lib.study.recordings.forecasts import forecast_table
from clear_lib.study.recordings.tiers import largest_stream
from clear_lib.study.setup import paper, profiles
from clear_lib.study.setup.profiles import Profile

#: Verdicts of :func:`changes`.
RISES, FALLS, UNCLEAR = "rises", "falls", "no clear change"

#: Fewest evaluation and predictor rollouts with which a model can be compared.
ENOUGH = 20


class Model(NamedTuple):
    """A shipped model on the questions that all of them have answered."""

    profile: Profile  #: streams as large as the pool can fill; budgets are fractions of the model's own mean length
    pool: pd.DataFrame  #: of :func:`make_pool`, with ``verdict`` and ``finish_reason``; the same order for all models
    trained_on: int  #: training rollouts of its predictor, of the same questions for all models


def shipped_models(names: Iterable[str], folder: Path = shipped.FOLDER) -> dict[str, Model]:
    """Shipped models (profiles) with :data:`ENOUGH` rollouts, on the questions that all have answered, by label."""
    kinds, listed = ("evaluation", "predictor"), shipped.manifest(folder)["profiles"]
    sizes = {name: {kind: each["there"] for kind, each in made["kinds"].items()} for name, made in listed.items()}
    known = [name for name in names if all(sizes.get(name, {}).get(kind, 0) >= ENOUGH for kind in kinds)]
    read = [packing.read_unpacked(profiles.load(name), folder) for name in known]
    evaluation, training = (_shared([tables[kind] for _, tables in read]) for kind in kinds)
    models = map(_model, (made for made, _ in read), evaluation, training)
    return {model.profile.label: model for model in models}


def _shared(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Rollouts of the questions that are in all tables, in the order of the first."""
    indexed = [table.set_index("question_id") for table in tables]
    ids = [each for each in indexed[0].index if all(each in table.index for table in indexed)] if tables else []
    return [table.loc[ids].reset_index() for table in indexed]


def _model(profile: Profile, evaluation: pd.DataFrame, training: pd.DataFrame) -> Model:
    """A model with a predictor fitted to its own training rollouts, as in chapter 6."""
    training = training_rollouts(profile.predictor, training)
    fitted = fit_to_rollouts(training, profile.predictor.kind, profile.predictor.options)
    forecasts = forecast_table(fitted, fitted, evaluation, profile.model_parameters)
    pool = make_pool(evaluation, forecasts)
    pool = pool.assign(**{name: evaluation[name].to_numpy() for name in ("verdict", "finish_reason")})
    sizes, wanted = evaluation["tier"].value_counts().to_dict(), profiles.load(profile.name).stream_size
    size = largest_stream(profile.stream_shares, sizes, wanted, packing.PART)
    return Model(replace(profile, stream_size=size, reference_length=None), pool, len(training))


def by_set(models: Mapping[str, Model]) -> pd.DataFrame:
    """Pass@1 and mean length by data set, of each model and as Tables 6 and 7 print them; ``n`` questions of ours."""
    columns, measured = {}, ["Pass@1 (%)", "mean length (tokens)"]
    for label, model in models.items():
        table = data(model.pool, paper.TABLE_6, "evaluation").set_index(["set", "what"])
        columns |= {"n": table["n"].astype(int), label: table["ours"].astype(float)}
    for study in paper.STUDIES.values():
        printed = study.sets.query("use == 'evaluation'").set_index("name")
        values = printed[["pass_at_1", "mean_length"]].set_axis(measured, axis=1).astype(float)
        _, *every = quantities(printed, pd.DataFrame({"verdict": [], "length": []}))
        values.loc["all"] = [theirs for _, theirs, *_ in every]
        columns[study.model] = values.stack()
    table = pd.DataFrame(columns).loc[[(name, what) for what in measured for name in values.index]]
    return table.rename_axis(["set", "what"]).reset_index()


def mean_gains(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean gains over Uniform in points at the scarcest and at all budgets, by policy, of our models and the paper's."""
    columns = {}
    for label, rows in results.items():
        columns[label] = _means(rows[rows["policy"] != "oracle"].replace({"policy": PAPER_ROW}))
    for study in paper.STUDIES.values():
        cells = (study.table / 100).rename_axis(["stream", "scarcity"])
        rows = cells.melt(ignore_index=False, var_name="policy", value_name="accuracy").reset_index()
        columns[study.model] = _means(rows.assign(stream_seed=0))
    order = [(budgets, policy) for budgets in ("scarcest", "all") for policy in paper.TABLE_4 if policy != "uniform"]
    return pd.DataFrame(columns).loc[order]


def _means(rows: pd.DataFrame) -> pd.Series:
    """Mean gain over Uniform in points, by ``budgets`` and policy."""
    gained = gains(rows)
    parts = {"scarcest": gained[gained["scarcity"] == gained["scarcity"].min()], "all": gained}
    means = {budgets: 100 * part.groupby("policy", sort=False)["gain"].mean() for budgets, part in parts.items()}
    return pd.concat(means, names=["budgets"])


#: Statistics of a pool, by name.
_OF_POOLS = {
    "solved (%)": lambda pool: 100 * pool["correct"].mean(),
    "mean length (tokens)": lambda pool: pool["length"].mean(),
    "stopped by the cap (%)": lambda pool: 100 * pool["finish_reason"].eq("length").mean(),
    "rank correlation of forecasts": lambda pool: pool["threshold"].corr(pool["length"], method="spearman"),
    "forecast / length (median)": lambda pool: (pool["threshold"] / pool["length"]).median(),
}

#: Policies whose gains are compared.
_POLICIES = ("predictor", "clear-heuristic", "clear-auction", "clear", "oracle")


def changes(models: Mapping[str, Model], results: Mapping[str, pd.DataFrame], draws: int = 500) -> pd.DataFrame:
    """What is measured of each model, and how it changes from the first to the last, on the same questions and streams."""
    rows = [*_changes_of_pools([model.pool for model in models.values()], draws)]
    rows += _changes_of_gains([results[label] for label in models])
    table = pd.DataFrame([(what, *values, n) for what, values, n, _ in rows], columns=["what", *models, "n"])
    if len(models) > 1:
        first, *_, last = models
        table["difference"] = table[last] - table[first]
        table[["low", "high"]] = [np.nanpercentile(differences, [2.5, 97.5]) for *_, differences in rows]
        table["verdict"] = np.select([table["low"] > 0, table["high"] < 0], [RISES, FALLS], UNCLEAR)
    return table


def _changes_of_pools(pools: Sequence[pd.DataFrame], draws: int) -> Iterator[tuple]:
    """Name, value for each pool, ``n``, and differences of the last and first pool on resampled questions."""
    rng, n = np.random.default_rng(0), len(pools[0])
    resamples = [rng.integers(0, n, n) for _ in range(draws if len(pools) > 1 else 0)]
    for what, statistic in _OF_POOLS.items():
        differences = [statistic(pools[-1].iloc[rows]) - statistic(pools[0].iloc[rows]) for rows in resamples]
        yield what, [statistic(pool) for pool in pools], f"{n:,}", differences


def _changes_of_gains(results: Sequence[pd.DataFrame]) -> Iterator[tuple]:
    """Name, value for each model, ``n``, and differences of the last and first model on the same streams."""
    gained = [gains(rows).assign(gain=lambda rows: 100 * rows["gain"]) for rows in results]
    scarcest = [rows[rows["scarcity"] == rows["scarcity"].min()] for rows in gained]
    for policy in _POLICIES:
        for budgets, tables in (("the scarcest budget", scarcest), ("all budgets", gained)):
            seeds = [rows[rows["policy"] == policy].groupby("stream_seed")["gain"].mean() for rows in tables]
            what, n = f"gain of {POLICIES[policy].label}, {budgets} (points)", results[0]["n"].iloc[0]
            yield what, [each.mean() for each in seeds], f"{len(seeds[0])} × {n}", seeds[-1] - seeds[0]
