"""Our numbers beside the paper's: accuracies cell by cell, and the data and settings that they were made with; and
models of ours beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from clear_lib import predictor
from clear_lib.allocation.policies import POLICIES
from clear_lib.predictor.doubting import Doubting
from clear_lib.rollouts import shipped as recordings
from clear_lib.study.experiments import gains, interval, make_pool
from clear_lib.study.recordings import packing, recording
from clear_lib.study.recordings.tiers import largest_stream
from clear_lib.study.setup import paper, profiles
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import TIERS

#: The paper's row that a policy is compared with, where it has another name: the paper reports one oracle.
PAPER_ROW = {"oracle-paper": "oracle"}

#: Verdicts of :func:`compare`: on the gain over Uniform; at the paper's scale (and of :func:`data`) on the number.
SAME, OPPOSITE, UNDECIDED, BASELINE = "same sign", "opposite sign", "undecided", "baseline"
INSIDE, HIGHER, LOWER = "inside", "paper higher", "paper lower"
#: Of both, where the paper has no number.
ABSENT = "not in the paper"
#: Of :func:`settings`, and of :func:`changes` from one model to another.
EQUAL, OTHER = "same", "differs"
HIGHER_THERE, LOWER_THERE, UNCLEAR = "rises", "falls", "no clear change"


def compare(
    results: pd.DataFrame,
    study: paper.Study,
    printed: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    at_scale: bool = False,
) -> pd.DataFrame:
    """Results beside a table of accuracies of the paper, cell by cell.

    Accuracies of different models on different questions cannot agree, so the verdict is about the *gain over
    Uniform*: whether it has the sign that it has in the paper, or the interval of the paired gain has zero
    inside (or at its edge).

    Parameters
    ----------
    results : DataFrame
        Of :func:`clear_lib.study.experiments.run`; without the policy ``uniform`` there are no gains. CLEAR with another
        ``utility`` counts as a policy of that name (Table 3).
    study : Study
        Says which printed budget each of ours stands for, and which table is meant.
    printed : mapping, optional
        Another table of the paper: Table 3.
    at_scale : bool
        Whether the results claim to be at the paper's own scale (a replica). Then the verdict is about the number:
        whether the paper's is inside the interval.

    Returns
    -------
    DataFrame
        Columns ``stream, scarcity, policy`` (names), ``tokens`` (ours, per query), ``paper_tokens``, then
        accuracy in per cent: ``paper, ours, difference, low, high``, the paired gain over Uniform in points:
        ``paper_gain, gain, gain_low, gain_high``, ``n`` (queries of a stream), ``seeds`` (streams), ``verdict``.
        ``paper`` is NaN where the paper has no such row.
    """
    printed = study.table if printed is None else printed
    rows, value = results.copy(), results.get("value", results["policy"])
    shapes = (rows["policy"] == "clear") & value.isin(["triangular", "quadratic"])
    rows.loc[shapes, "policy"] = value[shapes]
    rows = gains(rows) if (rows["policy"] == "uniform").any() else rows.assign(gain=np.nan)
    by = ["stream", "scarcity", "policy"]
    table = interval(rows, ["accuracy", "gain"], by)
    first = rows.groupby(by, sort=False)[["budget_per_query", "n"]].first().reset_index()
    table = table.merge(first, on=by)
    table[points] = 100 * table[points := [name for name in table if name.startswith(("accuracy", "gain"))]]
    table["paper_tokens"] = table["scarcity"].map(study.budgets_of(table["scarcity"]))

    def number(row: str, stream: str, tokens: int) -> float:
        cell = printed.get(PAPER_ROW.get(row, row), {}).get(stream, np.nan)
        return cell.get(tokens, np.nan) if isinstance(cell, Mapping) else cell

    cells = table[["stream", "paper_tokens"]].itertuples(index=False, name=None)
    table["paper"], base = np.array(
        [(number(policy, *cell), number("uniform", *cell)) for policy, cell in zip(table["policy"], cells, strict=True)]
    ).T
    table["paper_gain"] = (table["paper"] - base).round(1)
    names = {"budget_per_query": "tokens", "accuracy": "ours", "accuracy_low": "low", "accuracy_high": "high"}
    table = table.rename(columns=names)
    unclear = (table["gain_low"] <= 0) & (table["gain_high"] >= 0)
    same = np.sign(table["gain"]) == np.sign(table["paper_gain"])
    cases = [table["policy"] == "uniform", table["paper"].isna(), unclear, same]
    on_gain = np.select(cases, [BASELINE, ABSENT, UNDECIDED, SAME], OPPOSITE)
    table = table.assign(difference=table["ours"] - table["paper"], verdict=_inside(table) if at_scale else on_gain)
    columns = [
        "stream",
        "scarcity",
        "policy",
        "tokens",
        "paper_tokens",
        "paper",
        "ours",
        "difference",
        "low",
        "high",
        "paper_gain",
        "gain",
        "gain_low",
        "gain_high",
        "n",
        "seeds",
        "verdict",
    ]
    return table[columns]


def _inside(table: pd.DataFrame) -> np.ndarray:
    """Whether ``paper`` is between ``low`` and ``high``."""
    sides = [table["paper"].isna(), table["paper"] > table["high"] + 1e-9, table["paper"] < table["low"] - 1e-9]
    return np.select(sides, [ABSENT, HIGHER, LOWER], INSIDE)


def data(rollouts: pd.DataFrame, sets: Sequence[paper.DataSet], use: str) -> pd.DataFrame:
    """Question counts, pass rates and mean lengths, the paper's (Table 6 or 7) beside those of rollouts.

    By data set, if rollouts are of the paper's sets; else by tier.

    Parameters
    ----------
    rollouts : DataFrame
        ``tier, verdict, length`` and, where it is known, ``dataset``; one rollout a question.
    sets : sequence of DataSet
    use : {"evaluation", "predictor"}
        Which sets.

    Returns
    -------
    DataFrame
        A row a ``set`` or ``tier`` (and ``all``) and quantity: ``what, paper, ours, difference, low, high, n, verdict``.
        The interval is the 95% over questions: Wilson's of a share, 1.96 standard errors of a mean.
    """
    printed = [row for row in sets if row.use == use]
    names = dict.fromkeys(row.name for row in printed)
    if "dataset" in rollouts and rollouts["dataset"].isin(names).any():
        column, ours, theirs = "set", rollouts["dataset"], [row.name for row in printed]
        groups = dict.fromkeys([*names, *ours])
    else:
        column, ours, theirs, groups = "tier", rollouts["tier"], [row.tier for row in printed], TIERS
    rows = []
    for group in (*groups, "all"):
        there = [row for row, own in zip(printed, theirs, strict=True) if group in (own, "all")]
        part = rollouts[ours.eq(group) | (group == "all")]
        if there or len(part):
            rows += [(group, *row) for row in _measured(there, part)]
    # As objects: counts stay whole numbers.
    table = pd.DataFrame(rows, columns=[column, "what", "paper", "ours", "low", "high", "n"], dtype=object)
    table["difference"] = table["ours"] - table["paper"]
    table["verdict"] = np.where(table["low"].isna(), "", _inside(table))
    return table


def _measured(printed: Sequence[paper.DataSet], rollouts: pd.DataFrame) -> list[tuple[Any, ...]]:
    """``what, paper, ours, low, high, n`` of some of the paper's sets and of rollouts."""
    n, right, total = (
        len(rollouts),
        int(rollouts["verdict"].eq("correct").sum()),
        sum(row.total for row in printed) or np.nan,
    )
    lengths = rollouts["length"]
    share = binomtest(right, n).proportion_ci(method="wilson") if n else (np.nan, np.nan)
    error, mean = 1.96 * lengths.std() / np.sqrt(n) if n > 1 else np.nan, lengths.mean()
    return [
        ("questions", total, n or np.nan, np.nan, np.nan, n),
        (
            "Pass@1 (%)",
            100 * sum(row.correct for row in printed) / total,
            100 * right / n if n else np.nan,
            100 * share[0],
            100 * share[1],
            n,
        ),
        (
            "mean length (tokens)",
            sum(row.total * row.mean_length for row in printed) / total,
            mean,
            mean - error,
            mean + error,
            n,
        ),
    ]


def settings(profile: Profile) -> pd.DataFrame:
    """Table 5, the paper's settings beside a profile's: ``setting, paper, ours, verdict`` and empty columns of numbers."""
    study, five = paper.study_of(profile.model), paper.TABLE_5
    options = getattr(predictor.build(profile.predictor), "options", {})
    decoded = profile.engine != "none" or profile.recorded
    questions = f"{sum(profile.pool_per_tier.values()):,} questions, {len(profile.tiers)} tiers"
    if profile.recorded:
        there, wanted = profile.recorded["evaluation"]
        questions = five.evaluation if there == wanted else f"the same sets: {there:,} of {wanted:,} questions recorded"
    weights = "4-bit, computed with in " if "q4" in (profile.weights or {}).get("file", "") else ""
    rows = {
        "model": (study.model, profile.label),
        "weights": ("", weights + profile.dtype if decoded else None),
        "most new tokens": (study.cap, profile.cap),
        "decoding": (five.decoding, five.decoding if decoded else "as recorded"),
        "predictor": (five.predictor, profile.predictor.label),
        "it learns from": (five.training, _lessons(profile)),
        "most tokens of a question": (five.predictor_context, options.get("context")),
        "learning rate": (five.learning_rate, options.get("learning_rate")),
        "weight decay": (five.weight_decay, options.get("weight_decay")),
        "batch size": (five.batch_size, options.get("batch_size")),
        "epochs": (five.epochs, options.get("epochs")),
        "halvings of the bisection": (five.bisection_iterations, POLICIES["clear"].settings["iterations"]),
        "queries of a stream": (paper.STREAM_SIZE, profile.stream_size),
        "evaluation": (five.evaluation, questions),
    }

    def text(value: Any) -> str:
        return "none" if value is None else value if isinstance(value, str) else f"{value:,.6g}"

    table = pd.DataFrame(
        [(what, text(theirs), text(ours)) for what, (theirs, ours) in rows.items()],
        columns=["setting", "paper", "ours"],
    )
    verdict = np.where(table["paper"] == table["ours"], EQUAL, OTHER)
    verdict = np.where(table["setting"] == "weights", ABSENT, verdict)
    return table.assign(difference=np.nan, low=np.nan, high=np.nan, n=np.nan, verdict=verdict)


def _lessons(profile: Profile) -> str:
    """What a predictor learns from, and how much of it is recorded."""
    if not profile.recorded:
        return f"tiers {', '.join(profile.predictor.tiers)}"
    there, wanted = profile.recorded["predictor"]
    return f"GSM8K, MATH (train): {there:,} of {wanted:,} questions recorded"


#: Rollouts of a kind that a model needs to stand beside another.
ENOUGH = 20


# ---- two models -------------------------------------------------------------------------------------------------


class Model(NamedTuple):
    """A shipped model on the questions that all of them have answered.

    Attributes
    ----------
    profile : Profile
        With streams as large as the pool can fill, and budgets as fractions of the model's own mean length.
    pool : DataFrame
        Of :func:`clear_lib.study.experiments.make_pool`, with ``verdict`` and ``finish_reason``; the same questions in the
        same order for all models.
    lessons : int
        Rollouts that its predictor is fitted to, of the same questions for all models.
    """

    profile: Profile
    pool: pd.DataFrame
    lessons: int


def shipped_models(names: Iterable[str], folder: Path = recordings.FOLDER, seed: int = 0) -> dict[str, Model]:
    """Models that are shipped as recordings, brought to the same questions, each with a predictor fitted as in chapter 06.

    Parameters
    ----------
    names : iterable of str
        Profiles, the smallest model first. One of which fewer than :data:`ENOUGH` evaluation or predictor rollouts are
        shipped is left out.
    folder : path
        Of the recordings.
    seed : int
        Of the predictors.

    Returns
    -------
    dict
        Models by label.

    Raises
    ------
    ValueError
        As :func:`clear_lib.rollouts.shipped.read`.
    """
    listed = recordings.manifest(folder)["profiles"]
    known = [
        name
        for name in names
        if all(
            listed.get(name, {}).get("kinds", {}).get(kind, {}).get("there", 0) >= ENOUGH
            for kind in ("evaluation", "predictor")
        )
    ]
    with TemporaryDirectory() as home:
        made = [profiles.load(packing.unpack(profiles.load(name), home, folder)) for name in known]
        rollouts = {
            kind: _shared([recording.load(each, kind, home) for each in made]) for kind in ("evaluation", "predictor")
        }
    models = {}
    for profile, evaluation, lessons in zip(made, *rollouts.values(), strict=True):
        sizes = evaluation["tier"].value_counts().to_dict()
        wanted = profiles.load(profile.name).stream_size
        size = largest_stream(profile.stream_shares, sizes, wanted, packing.PART)
        lessons = predictor.training_rollouts(profile.predictor, lessons)
        model = Doubting(predictor.build(profile.predictor, seed))
        model.fit(list(lessons["question"]), lessons["length"], lessons["verdict"] == "correct")
        forecasts = predictor.forecast_table(model, model, evaluation, profile.model_parameters)
        pool = make_pool(evaluation, evaluation.assign(rung="free"), forecasts)
        pool = pool.assign(
            verdict=evaluation["verdict"].to_numpy(), finish_reason=evaluation["finish_reason"].to_numpy()
        )
        models[profile.label] = Model(replace(profile, stream_size=size, reference_length=None), pool, len(lessons))
    return models


def _shared(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Rollouts of the questions that are in all tables, in the order of the first."""
    if not tables:
        return []
    ids = [each for each in tables[0]["question_id"] if all(each in set(table["question_id"]) for table in tables)]
    return [table.set_index("question_id").loc[ids].reset_index() for table in tables]


def by_set(models: Mapping[str, Model]) -> pd.DataFrame:
    """Pass@1 and mean length by data set: the models', and what Tables 6 and 7 print of the paper's two.

    Returns
    -------
    DataFrame
        ``set, what, n`` (questions that our models share), then a column for each model; no ``n`` without models.
    """
    columns, questions = {}, {}
    for label, model in models.items():
        table = data(model.pool, paper.TABLE_6, "evaluation").set_index(["set", "what"])
        columns[label], questions["n"] = table["ours"], table["n"]
    for study in paper.STUDIES.values():
        printed = [row for row in study.sets if row.use == "evaluation"]
        rows = {
            (row.name, what): value
            for row in printed
            for what, value in (("Pass@1 (%)", row.pass_at_1), ("mean length (tokens)", row.mean_length))
        }
        every = _measured(printed, pd.DataFrame({"verdict": [], "length": []}))[1:]
        columns[study.model] = pd.Series(rows | {("all", what): value for what, value, *_ in every})
    table = pd.DataFrame(columns).astype(float)
    if questions:
        table.insert(0, "n", questions["n"].astype(int))
    order = [
        (name, what)
        for what in ("Pass@1 (%)", "mean length (tokens)")
        for name in (*(row.name for row in paper.TABLE_6 if row.use == "evaluation"), "all")
    ]
    return table.loc[order].rename_axis(["set", "what"]).reset_index()


def mean_gains(results: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Gains over Uniform, in points, a column for each model and for each of the paper's two.

    Parameters
    ----------
    results : mapping
        Of :func:`clear_lib.study.experiments.run`, by the label of the model; its oracle is the one of the numbered steps.

    Returns
    -------
    DataFrame
        Index ``budgets`` (the scarcest, or all) and ``policy``; means over the streams and these budgets.
    """
    printed = {
        study.model: pd.DataFrame(
            [
                (stream, 0, tokens, policy, value / 100)
                for policy, row in study.table.items()
                for stream, cells in row.items()
                for tokens, value in cells.items()
            ],
            columns=["stream", "stream_seed", "scarcity", "policy", "accuracy"],
        )
        for study in paper.STUDIES.values()
    }
    columns = {}
    for label, rows in {**results, **printed}.items():
        gained = gains(rows[rows["policy"] != "oracle"].replace({"policy": PAPER_ROW}) if label in results else rows)
        scarce = gained[gained["scarcity"] == gained["scarcity"].min()]
        means = {
            name: 100 * part.groupby("policy", sort=False)["gain"].mean()
            for name, part in (("scarcest", scarce), ("all", gained))
        }
        columns[label] = pd.concat(means, names=["budgets"])
    table = pd.DataFrame(columns)
    order = [(budgets, policy) for budgets in ("scarcest", "all") for policy in paper.TABLE_4 if policy != "uniform"]
    return table.loc[order]


def changes(models: Mapping[str, Model], results: Mapping[str, pd.DataFrame], draws: int = 500) -> pd.DataFrame:
    """What is measured of each model, and how it changes from the first to the last.

    Parameters
    ----------
    models : mapping
        Of :func:`shipped_models`.
    results : mapping
        Of :func:`clear_lib.study.experiments.run` on the same streams, by the same labels.
    draws : int
        Resamples of the questions.

    Returns
    -------
    DataFrame
        ``what``, a column for each model, ``n``; of several models also ``difference``, ``low`` and ``high`` (its
        central 95% over resampled questions, or over streams, the same for both models), and ``verdict``.
    """
    rng, questions = np.random.default_rng(0), len(next(iter(models.values())).pool)
    resamples = [rng.integers(0, questions, questions) for _ in range(draws)]
    rows = []
    for what, statistic in _OF_POOLS.items():
        values = [statistic(model.pool) for model in models.values()]
        ends = (models[label].pool for label in (list(models)[0], list(models)[-1]))
        first, last = ([statistic(pool.iloc[rows]) for rows in resamples] if len(models) > 1 else [] for pool in ends)
        rows.append((what, *values, f"{questions:,}", np.subtract(last, first)))
    gained = [gains(results[label]).assign(gain=lambda rows: 100 * rows["gain"]) for label in models]
    for policy in ("predictor", "clear-heuristic", "clear-auction", "clear", "oracle"):
        for budgets, part in (
            ("the scarcest budget", lambda rows: rows["scarcity"] == rows["scarcity"].min()),
            ("all budgets", lambda rows: rows["scarcity"] > 0),
        ):
            seeds = [
                rows[part(rows) & (rows["policy"] == policy)].groupby("stream_seed")["gain"].mean() for rows in gained
            ]
            n = f"{len(seeds[0])} × {results[next(iter(models))]['n'].iloc[0]}"
            rows.append(
                (
                    f"gain of {POLICIES[policy].label}, {budgets} (points)",
                    *(each.mean() for each in seeds),
                    n,
                    seeds[-1] - seeds[0],
                )
            )
    table = pd.DataFrame([row[:-1] for row in rows], columns=["what", *models, "n"])
    if len(models) > 1:
        ends = np.array([np.nanpercentile(row[-1], [2.5, 97.5]) for row in rows])
        table["difference"], table["low"], table["high"] = table[list(models)[-1]] - table[list(models)[0]], *ends.T
        table["verdict"] = np.select([table["low"] > 0, table["high"] < 0], [HIGHER_THERE, LOWER_THERE], UNCLEAR)
    return table


#: What is measured of a pool, in words.
_OF_POOLS: Mapping[str, Callable[[pd.DataFrame], float]] = {
    "solved (%)": lambda pool: 100 * pool["correct"].mean(),
    "mean length (tokens)": lambda pool: pool["length"].mean(),
    "stopped by the cap (%)": lambda pool: 100 * pool["finish_reason"].eq("length").mean(),
    "rank correlation of forecasts": lambda pool: pool["threshold"].corr(pool["length"], method="spearman"),
    "forecast / length (median)": lambda pool: (pool["threshold"] / pool["length"]).median(),
}
