"""Streams × budgets × policies × seeds: every combination replayed, in one long table.

Nothing is generated here. A pool holds, for each question, its recorded rollouts and its forecasts; a stream is
a draw from the pool; a policy grants tokens; and the recording says what they would have brought.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from clear_lib import predictor
from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.allocation.policies import OF_THE_PAPER, POLICIES, Allocation, allocate
from clear_lib.serving import batch as serving
from clear_lib.serving import online as controller
from clear_lib.study.recordings import recording
from clear_lib.study.setup import paper, streams
from clear_lib.study.setup.profiles import Profile

#: Columns of a table of results. ``accuracy`` and ``active`` are shares of the queries; ``granted`` and ``used``
#: are tokens per query, ``budget_per_query`` too; ``scarcity`` is the budget as a fraction of the reference
#: length; ``accounting`` says which tokens the budget limits (:data:`clear_lib.serving.batch.ACCOUNTINGS`); ``setting``
#: and ``value`` name the axis of a sweep.
COLUMNS = (
    "profile",
    "stream",
    "stream_seed",
    "predictor_seed",
    "policy",
    "accounting",
    "budget_per_query",
    "scarcity",
    "n",
    "accuracy",
    "granted",
    "used",
    "active",
    "price",
    "setting",
    "value",
)


def make_pool(evaluation: pd.DataFrame, rungs: pd.DataFrame, forecasts: pd.DataFrame) -> pd.DataFrame:
    """One row a question: what is predicted, and what was recorded.

    Parameters
    ----------
    evaluation : DataFrame
        Rollouts of the free prompt, one a question.
    rungs : DataFrame
        Rollouts of the rungs of the ladder, one a question and rung.
    forecasts : DataFrame
        Of :func:`clear_lib.predictor.forecast_table`; all of its columns are carried on.

    Returns
    -------
    DataFrame
        ``question_id, dataset, tier``, the forecasts, ``length`` (tokens) and ``correct`` of the free rollout,
        ``length@rung`` and ``correct@rung`` of the others. A verdict ``unknown`` does not count as correct.

    Raises
    ------
    ValueError
        If a question has no forecast, or not one rollout for each rung.
    """
    pool = evaluation[["question_id", "dataset", "tier", "length"]].copy()
    pool["correct"] = (evaluation["verdict"] == "correct").to_numpy()
    pool = pool.merge(forecasts, on="question_id", how="left", validate="one_to_one")
    ladder = rungs.assign(correct=rungs["verdict"] == "correct").pivot(
        index="question_id", columns="rung", values=["length", "correct"]
    )
    for kind in ("length", "correct"):
        for rung in ladder[kind].columns:
            pool[f"{kind}@{rung}"] = pool["question_id"].map(ladder[kind, rung])
    missing = pool.isna().any(axis=1)
    if missing.any():
        row = pool[missing].iloc[0]
        raise ValueError(
            f"question {row['question_id']!r} has no {', '.join(row.index[row.isna()])}; record and forecast all of "
            f"the pool"
        )
    kinds = {name: bool if name.startswith("correct") else np.int64 for name in pool if "@" in name}
    return pool.astype(kinds)


def read_pool(profile: Profile, artifacts: str | Path) -> pd.DataFrame:
    """The pool of a profile (:func:`make_pool`) from its recorded rollouts and the forecasts of chapter 06.

    Raises
    ------
    ValueError
        If rollouts or forecasts are missing; says what makes them.
    """
    rollouts = (recording.load(profile, kind, artifacts) for kind in ("evaluation", "rungs"))
    return make_pool(*rollouts, predictor.read_forecasts(profile, artifacts))


def distorted(pool: pd.DataFrame, factor: ArrayLike) -> pd.DataFrame:
    """The pool with forecasts of length that are wrong by a factor (section 7.1, Fig. 11).

    Parameters
    ----------
    pool : DataFrame
        Of :func:`make_pool`.
    factor : float or array of shape (n,)
        Multiplies ``threshold``, and the median of the length where there is one. The estimates of TALE-EP's teacher,
        spread and chance stay: nobody is told.

    Raises
    ------
    ValueError
        If a factor is not positive and finite.
    """
    factor = np.broadcast_to(np.asarray(factor, dtype=float), len(pool))
    wrong = ~(np.isfinite(factor) & (factor > 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"factor[{row}] must be positive and finite: {factor[row]}")
    changed = {"threshold": pool["threshold"] * factor}
    if "log_median" in pool:
        changed["log_median"] = np.maximum(pool["log_median"] + np.log(factor), 0.0)
    return pool.assign(**changed)


def reference_length(profile: Profile, pool: pd.DataFrame) -> float:
    """The unit of budgets, floor and ``ε``, tokens: the profile's, or the mean length of the pool's free rollouts."""
    return profile.reference_length or float(pool["length"].mean())


def budgets(profile: Profile, pool: pd.DataFrame) -> pd.DataFrame:
    """Budgets, floor, ``ε`` and cap as fractions of the reference length, in the paper's tokens and in ours.

    Returns
    -------
    DataFrame
        Columns ``what, fraction, paper, ours``; tokens (per query). The paper's ``ε`` is unknown: NaN. ``× easiest``
        is ours as a multiple of the median free length of the pool's easiest tier.
    """
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


def budget_per_query(scarcity: float, reference: float) -> int:
    """``B̄`` of a scarcity: whole tokens per query."""
    return round(scarcity * reference)


def settings_of(profile: Profile, reference: float, policy: str) -> dict[str, float]:
    """The floor and ``ε`` of a profile in tokens, for a policy that has them."""
    tokens = {"floor": profile.floor_fraction * reference, "epsilon": profile.epsilon_fraction * reference}
    return {name: value for name, value in tokens.items() if name in POLICIES[policy].settings}


def draw_stream(profile: Profile, pool: pd.DataFrame, stream: str, seed: int) -> pd.DataFrame:
    """The queries of a stream: rows of the pool. The same seed gives all policies the same queries."""
    shares = profile.stream_shares[stream]
    return pool.iloc[streams.draw(pool["tier"], shares, profile.stream_size, profile.seed + seed)].reset_index(
        drop=True
    )


def composition(profile: Profile, pool: pd.DataFrame) -> pd.DataFrame:
    """Share of each data set in each stream, mean over its draws: a row a stream, a column a data set, easy ones first."""
    drawn = {
        (stream, seed): draw_stream(profile, pool, stream, seed)["dataset"].value_counts(normalize=True)
        for stream in profile.stream_shares
        for seed in range(profile.stream_seeds)
    }
    order = np.argsort(pool["tier"].map(profile.tiers.index), kind="stable")
    table = pd.DataFrame(drawn).T.groupby(level=0, sort=False).agg(lambda shares: shares.fillna(0).mean())
    return table.reindex(columns=pool["dataset"].iloc[order].unique(), fill_value=0.0)


class Served(NamedTuple):
    """A stream that was served: the outcome, and one row a query with ``granted``, ``used``, ``solved``."""

    outcome: serving.Outcome
    queries: pd.DataFrame

    @property
    def allocation(self) -> Allocation | None:
        """What the policy granted at first; None of a sequential policy."""
        return self.outcome.allocation


def forecasts_of(queries: pd.DataFrame) -> Forecasts:
    """The forecasts in a table: ``threshold``, and ``spread``, ``solvable`` and ``log_median`` where it has them."""
    given = {name: queries[name].to_numpy() for name in ("spread", "solvable", "log_median") if name in queries}
    return Forecasts(queries["threshold"].to_numpy(), **given)


def serve(
    profile: Profile,
    queries: pd.DataFrame,
    policy: str,
    scarcity: float,
    reference: float,
    accounting: str = "caps",
    **settings: Any,
) -> Served:
    """Serve a stream under a budget, replaying its recording.

    TALE-EP instructs the model, so it is replayed on the rollouts of the rung that it chose for each query; all
    other policies on the free ones.

    Parameters
    ----------
    profile : Profile
    queries : DataFrame
        A stream (:func:`draw_stream`).
    policy : str
        Name in the registry.
    scarcity, reference : float
        Budget as a fraction of the reference length, and the reference length in tokens.
    accounting : str
        See :func:`clear_lib.serving.batch.serve`. A sequential policy is served with refunds in any case.
    **settings
        Settings of the policy, before those of the profile.

    Returns
    -------
    Served
        ``queries`` has the stream's columns and ``rung``, ``granted``, ``used`` (tokens), ``solved``.
    """
    forecasts, budget = forecasts_of(queries), budget_per_query(scarcity, reference) * len(queries)
    settings = {**settings_of(profile, reference, policy), **settings}
    lengths, correct = queries["length"].to_numpy(), queries["correct"].to_numpy()
    rungs = np.full(len(queries), "free", dtype=object)
    if POLICIES[policy].kind == "sequential":
        accounting = "refunds"
    else:
        estimates = queries["estimate"].to_numpy()
        settings |= {"lengths": lengths, "correct": correct, "estimates": estimates}
        if "estimates" in POLICIES[policy].needs:
            caps = allocate(forecasts, budget, policy, cap=profile.cap, **settings).tokens
            units = estimates if profile.rung_unit == "free length" else np.ones(len(queries))
            rungs = serving.choose_rungs(caps, units, profile.rungs)
            for rung in profile.rungs:
                lengths = np.where(rungs == rung, queries[f"length@{rung}"], lengths)
                correct = np.where(rungs == rung, queries[f"correct@{rung}"], correct)
    stepper = serving.ReplayStepper(lengths)
    outcome = serving.serve(policy, forecasts, budget, stepper, accounting=accounting, cap=profile.cap, **settings)
    answers = {"rung": rungs, "granted": outcome.granted, "used": outcome.used, "solved": outcome.finished & correct}
    return Served(outcome, pd.concat([queries, pd.DataFrame(answers, index=queries.index)], axis=1))


def served_streams(
    profile: Profile,
    pool: pd.DataFrame,
    policies: Sequence[str] = OF_THE_PAPER,
    scarcities: Iterable[float] | None = None,
    only: Iterable[str] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    **settings: Any,
) -> Iterator[tuple[dict[str, Any], Served]]:
    """Every stream (or ``only`` some) × seed × budget × policy of a profile, with what each is called.

    ``sweep`` names one setting and its values: a policy that has the setting is served with each of them.
    ``settings`` go to all policies, and to :func:`serve`.
    """
    reference = reference_length(profile, pool)
    if sweep and len(sweep) != 1:
        raise ValueError(f"a sweep has one setting, got {', '.join(sweep)}")
    ((axis, values),) = sweep.items() if sweep else [(None, [])]
    for stream in profile.stream_shares if only is None else only:
        for seed in range(profile.stream_seeds):
            queries = draw_stream(profile, pool, stream, seed)
            for scarcity in profile.scarcities if scarcities is None else scarcities:
                for policy in policies:
                    swept = axis in POLICIES[policy].settings
                    for value in values if swept else [np.nan]:
                        named = {"stream": stream, "stream_seed": seed, "scarcity": scarcity, "policy": policy}
                        named |= {"setting": axis if swept else None, "value": value}
                        own = settings | ({axis: value} if swept else {})
                        yield named, serve(profile, queries, policy, scarcity, reference, **own)


def run(profile: Profile, pool: pd.DataFrame, *, predictor_seed: int = 0, **choice: Any) -> pd.DataFrame:
    """Serve every stream × seed × budget × policy.

    Parameters
    ----------
    profile : Profile
    pool : DataFrame
        See :func:`make_pool`.
    predictor_seed : int
        Recorded with the results.
    **choice
        ``policies``, ``scarcities``, ``only``, ``sweep``, ``accounting`` and settings, see :func:`served_streams`
        and :func:`serve`.

    Returns
    -------
    DataFrame
        The columns of :data:`COLUMNS`, one row for each stream, seed, budget, policy and value of a sweep.
    """
    rows = []
    for named, (outcome, queries) in served_streams(profile, pool, **choice):
        rows.append(
            named
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
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def run_distorted(
    profile: Profile, pool: pd.DataFrame, factors: Mapping[float, ArrayLike], **choice: Any
) -> pd.DataFrame:
    """Results with forecasts that are wrong by each of some factors: :func:`run` on :func:`distorted` pools.

    Parameters
    ----------
    profile, pool, **choice
        See :func:`run`.
    factors : mapping
        For each ``value`` of the table, what multiplies the forecasts: a number, or an array of one for each question
        of the pool.

    Returns
    -------
    DataFrame
        As :func:`run`, with the ``setting`` ``"distortion"``.
    """
    runs = [
        run(profile, distorted(pool, factor), **choice).assign(setting="distortion", value=value)
        for value, factor in factors.items()
    ]
    return pd.concat(runs, ignore_index=True)


def mean_stream(results: pd.DataFrame) -> pd.DataFrame:
    """Accuracy averaged over the streams of a draw: columns ``stream_seed, scarcity, policy, value, accuracy``."""
    by = ["stream_seed", "scarcity", "policy", "value"]
    return results.groupby(by, sort=False, dropna=False)["accuracy"].mean().reset_index()


def by_tier(profile: Profile, pool: pd.DataFrame, **choice: Any) -> pd.DataFrame:
    """Who gets what: the same runs, tier by tier.

    Returns
    -------
    DataFrame
        One row for each stream, seed, budget, policy and tier: ``n`` queries, the share ``abandoned`` (granted
        nothing), the share ``lost`` (abandoned although the model solves them uncapped), the share ``short``
        (granted less than their rollout's length), the share ``solved``, and ``granted`` and ``used`` tokens per
        query.
    """
    tables = []
    for named, (_, queries) in served_streams(profile, pool, **choice):
        queries = queries.assign(abandoned=queries["granted"] == 0)
        queries["lost"] = queries["abandoned"] & queries["correct"]
        queries["short"] = queries["granted"] < queries["length"]
        columns = ["abandoned", "lost", "short", "solved", "granted", "used"]
        groups = queries.groupby("tier", sort=False)
        tables.append(groups[columns].mean().assign(n=groups.size(), **named).reset_index())
    table = pd.concat(tables, ignore_index=True)
    table["tier"] = pd.Categorical(table["tier"], profile.tiers, ordered=True)
    return table.sort_values("tier", kind="stable", ignore_index=True)


def gains(results: pd.DataFrame, column: str = "accuracy", baseline: str | pd.DataFrame = "uniform") -> pd.DataFrame:
    """Results with ``gain``: ``column`` minus its value under the baseline on the same stream and budget.

    ``baseline`` is a policy of these results, or results with one row for each stream, seed and budget.
    """
    key = ["stream", "stream_seed", "scarcity"]
    base = results[results["policy"] == baseline] if isinstance(baseline, str) else baseline
    if base.duplicated(key).any():
        raise ValueError("the baseline has several rows for one stream, seed and budget; choose one kind of run")
    base = base.set_index(key)[column]
    return results.assign(gain=results[column].to_numpy() - base.loc[pd.MultiIndex.from_frame(results[key])].to_numpy())


def best_fixed(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of a sweep at its best value: the one with the highest mean accuracy over all streams and budgets.

    One value for all cells, but chosen with the results in view: an opponent that is rather too strong.
    """
    return results[results["value"] == results.groupby("value")["accuracy"].mean().idxmax()]


def best_in_each(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the policy, accounting and value that are best in each cell, by the mean over its streams.

    Chosen cell by cell with the results in view: no one could have run it.
    """
    cell, kind = ["stream", "scarcity"], ["policy", "accounting", "setting", "value"]
    means = results.groupby([*cell, *kind], dropna=False, sort=False)["accuracy"].mean()
    best = pd.MultiIndex.from_tuples(means.groupby(cell, sort=False).idxmax(), names=means.index.names)
    return results.merge(best.to_frame(index=False), on=[*cell, *kind])


def gap_closed(
    results: pd.DataFrame,
    baseline: pd.DataFrame,
    ceiling: pd.DataFrame,
    by: Sequence[str] = ("stream", "scarcity", "policy"),
) -> pd.DataFrame:
    """Which share of the way from a baseline to a ceiling the results go.

    Parameters
    ----------
    results : DataFrame
        Of :func:`run`.
    baseline, ceiling : DataFrame
        Of :func:`run`, with one row for each stream, seed and budget: the true oracle's, say, as the ceiling.

    Returns
    -------
    DataFrame
        Columns ``by``, the paired ``gain`` over the baseline with ``gain_low`` and ``gain_high`` as of
        :func:`interval`, ``gap`` (ceiling minus baseline, means over seeds), ``closed`` (gain over gap; NaN where the
        gap is less than half a per cent of the queries), ``seeds``.
    """
    gained = gains(results, baseline=baseline)
    table = interval(gained, ["gain"], by)
    gap = gains(ceiling, baseline=baseline).groupby(["stream", "scarcity"])["gain"].mean()
    table["gap"] = gap.loc[pd.MultiIndex.from_frame(table[["stream", "scarcity"]])].to_numpy()
    table["closed"] = (table["gain"] / table["gap"]).where(table["gap"] >= 0.005)
    return table


def tally(table: pd.DataFrame) -> pd.Series:
    """How often the gains of :func:`gap_closed` are clear of chance, over cells of stream and budget.

    Returns
    -------
    Series
        ``wins`` and ``losses`` (the interval is above, below zero), ``undecided``, ``no gap`` (there is none to
        close), and over the cells with a gap the mean ``gain`` and the share of all gaps that is ``closed``.
    """
    gap, wins, losses = table["closed"].notna(), table["gain_low"] > 0, table["gain_high"] < 0
    counts = {"wins": gap & wins, "losses": gap & losses, "undecided": gap & ~wins & ~losses, "no gap": ~gap}
    open_ = table[gap]
    share = open_["gain"].sum() / open_["gap"].sum() if len(open_) else np.nan
    return pd.Series(
        {name: int(which.sum()) for name, which in counts.items()} | {"gain": open_["gain"].mean(), "closed": share}
    )


def arrivals(profile: Profile, pool: pd.DataFrame, rate: float, scarcities: Iterable[float]) -> pd.DataFrame:
    """Serve the streams as they come, by the controller and by fair shares, beside the batch with all known.

    The controller starts from the price of the whole pool as one batch, at the same budget per query.

    Parameters
    ----------
    profile : Profile
    pool : DataFrame
        With ``spread`` and ``solvable``.
    rate : float
        See :func:`clear_lib.serving.online.serve_online`.
    scarcities : iterable of float

    Returns
    -------
    DataFrame
        Columns ``stream, stream_seed, scarcity, order`` (``"random"``, or by forecast ``"easy first"`` or
        ``"hard first"``), and the accuracies of ``batch``, ``controller`` and ``fair share``.
    """

    def batch(queries: pd.DataFrame, budget: int) -> serving.Outcome:
        return serving.serve(
            "clear-sequential",
            forecasts_of(queries),
            budget,
            serving.ReplayStepper(queries["length"]),
            accounting="refunds",
            cap=profile.cap,
        )

    tokens = {scarcity: budget_per_query(scarcity, reference_length(profile, pool)) for scarcity in scarcities}
    start = {scarcity: batch(pool, each * len(pool)).price for scarcity, each in tokens.items()}
    rows = []
    for stream in profile.stream_shares:
        for seed in range(profile.stream_seeds):
            drawn = draw_stream(profile, pool, stream, seed)
            sorted_ = drawn.sort_values("threshold", kind="stable", ignore_index=True)
            orders = {"random": drawn, "easy first": sorted_, "hard first": sorted_[::-1].reset_index(drop=True)}
            for scarcity, each in tokens.items():
                known = batch(drawn, each * len(drawn)).finished & drawn["correct"]
                for order, queries in orders.items():
                    budget, lengths = each * len(queries), queries["length"]
                    online = controller.serve_online(
                        forecasts_of(queries),
                        budget,
                        serving.ReplayStepper(lengths),
                        price=start[scarcity],
                        rate=rate,
                        cap=profile.cap,
                    )
                    fair = controller.fair_share(budget, serving.ReplayStepper(lengths))
                    solved = {
                        "controller": online.finished & queries["correct"],
                        "fair share": fair.finished & queries["correct"],
                    }
                    named = {"stream": stream, "stream_seed": seed, "scarcity": scarcity, "order": order}
                    rows.append(
                        named | {"batch": known.mean()} | {name: which.mean() for name, which in solved.items()}
                    )
    return pd.DataFrame(rows)


def interval(
    results: pd.DataFrame, columns: Sequence[str], by: Sequence[str] = ("stream", "scarcity", "policy")
) -> pd.DataFrame:
    """Mean and central 95% over stream seeds.

    The interval says how much the draw of the stream matters. It covers neither the pool (one set of questions)
    nor the training of model and predictor.

    Returns
    -------
    DataFrame
        ``by``, then ``column``, ``column_low`` and ``column_high`` for each column, and ``seeds``.
    """
    groups = results.groupby(list(by), sort=False, observed=True)
    parts = {}
    for column in columns:
        parts[column] = groups[column].mean()
        parts[f"{column}_low"] = groups[column].quantile(0.025)
        parts[f"{column}_high"] = groups[column].quantile(0.975)
    return pd.DataFrame(parts | {"seeds": groups["stream_seed"].nunique()}).reset_index()


def regimes(thresholds: Array, per_query: Iterable[float], policy: str = "clear", **settings: Any) -> pd.DataFrame:
    """One market at many budgets: what it looks like from above.

    Parameters
    ----------
    thresholds : array of shape (n,)
        Tokens.
    per_query : iterable of float
        Budgets, tokens per query; rounded to whole tokens for the batch.
    policy : str
        A policy with a price.
    **settings
        Its settings.

    Returns
    -------
    DataFrame
        One row a budget: ``budget_per_query``, ``price``, ``abandoned`` (share of the queries), ``granted`` (tokens
        per active query), ``surge`` (of these, past the threshold), ``unspent`` (share of the budget).
    """
    rows = []
    for amount in per_query:
        grant = allocate(thresholds, round(amount * len(thresholds)), policy, **settings)
        active = grant.active
        rows.append(
            {
                "budget_per_query": grant.budget / active.size,
                "price": grant.price,
                "abandoned": 1 - active.mean(),
                "granted": grant.tokens[active].mean() if active.any() else np.nan,
                "surge": (grant.tokens - thresholds)[active].mean() if active.any() else np.nan,
                "unspent": grant.unspent / grant.budget if grant.budget else 0.0,
            }
        )
    return pd.DataFrame(rows)
