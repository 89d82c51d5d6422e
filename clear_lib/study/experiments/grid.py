"""Streams × budgets × policies × seeds: every cell served from the recording, in one long table."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from clear_lib import serving
from clear_lib.allocation.forecasts import Array
from clear_lib.allocation.policies import OF_THE_PAPER, POLICIES, allocate, divide
from clear_lib.allocation.policies.rule import whole_tokens
from clear_lib.allocation.problem import Problem
from clear_lib.study.experiments.effects import leave_one_out
from clear_lib.study.experiments.pool import (
    budget_per_query,
    distorted,
    draws,
    halves,
    has_rungs,
    problem_of,
    reference_length,
)
from clear_lib.study.experiments.told import choose_rungs
from clear_lib.study.setup.profiles import Profile

#: Columns of a table of results. ``accuracy`` and ``active`` are shares of the queries; ``granted``, ``used`` and
#: ``budget_per_query`` are tokens per query; ``scarcity`` is the budget as a fraction of the reference length;
#: ``accounting`` says which tokens the budget limits; ``setting`` and ``value`` name the axis of a sweep.
COLUMNS = (
    *("profile", "stream", "stream_seed", "predictor_seed", "policy", "accounting", "budget_per_query", "scarcity"),
    *("n", "accuracy", "granted", "used", "active", "price", "setting", "value", "constant"),
)

#: Values tried beside the profile's own: ``ε`` as fractions of the reference length, and ``c`` of ``1/β = c·B̄`` (eq. 16).
EPSILONS, SHARES = (0.05, 0.1, 0.2, 0.4, 0.8), (0.25, 0.5, 1.0, 2.0)

#: Scarcities of the fine grid beside the paper's.
GRID = (0.05, 0.1, 0.15, 0.28, 0.55, 1.1, 1.8, 2.0)


class Constant(NamedTuple):
    """A policy with what it leaves open chosen: ``settings`` of a budget per query (tokens)."""

    policy: str
    name: str | None = None
    settings: Callable[[float], dict[str, Any]] = lambda tokens: {}


class ServedStream(NamedTuple):
    """A stream that was served, and the rung and the success of each query."""

    outcome: serving.Outcome
    drawn: pd.DataFrame
    rung: np.ndarray
    solved: np.ndarray

    @property
    def queries(self) -> pd.DataFrame:
        """The columns of the stream, and ``rung, granted, used`` (tokens), ``solved``."""
        granted, used = self.outcome.granted, self.outcome.used
        return self.drawn.assign(rung=self.rung, granted=granted, used=used, solved=self.solved)


def _always(**settings: Any) -> Callable[[float], dict[str, Any]]:
    return lambda tokens: settings


def _decay(share: float) -> Callable[[float], dict[str, Any]]:
    return lambda tokens: {"decay": 1 / max(share * tokens, 1.0)}


def candidates(profile: Profile, pool: pd.DataFrame) -> list[Constant]:
    """Every policy with every choice of what it leaves open, ours first; ``ε`` and floors in mean lengths."""
    reference, own = reference_length(profile, pool), profile.epsilon_fraction
    slack = {f"ε = {part:.3g}": part * reference for part in (own, *EPSILONS)}
    rates = {name: _always(epsilon=tokens) for name, tokens in slack.items()}
    rates |= {f"1/β = {share:g} B̄": _decay(share) for share in SHARES}
    found = [Constant(policy, *rate) for policy in ("clear", "clear-exact") for rate in rates.items()]
    for name, tokens in slack.items():
        found.append(Constant("clear", f"{name}, proportional when ample", _always(epsilon=tokens, fallback=True)))
    found.append(Constant("clear", "1/β = 3 max(ε, B̄ - τ̄)", _always(stretch=3.0, epsilon=own * reference)))
    for kappa, affine in product((1.0, 0.5, 2.0), ("sum", "shift")):
        found.append(Constant("clear-heuristic", f"κ = {kappa:g}, {affine}", _always(kappa=kappa, affine=affine)))
    for fallback, affine in product((False, True), ("sum", "shift")):
        name = affine + (", proportional when ample" if fallback else "")
        found.append(Constant("clear-auction", name, _always(fallback=fallback, affine=affine)))
    for policy, times in product(("predictor", "tale-ep"), (1.0, 0.0, 4.0)):
        part = times * profile.floor_fraction
        found.append(Constant(policy, f"floor = {part:.3g}", _always(floor=part * reference)))
    return found


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
    told: bool | None = None,
    **settings: Any,
) -> ServedStream:
    """Serve a stream from its recording; a model that is ``told`` its caps (default: by TALE-EP) answers on the rungs."""
    problem = problem_of(profile, queries, scarcity, reference)
    settings = settings_of(profile, reference, policy) | settings
    lengths, correct = queries["length"].to_numpy(), queries["correct"].to_numpy()
    rungs = np.full(len(queries), "free", dtype=object)
    if POLICIES[policy].kind == "sequential":
        accounting = "refunds"
    elif has_rungs(queries) and ("estimate" in POLICIES[policy].needs if told is None else told):
        caps = divide(problem, policy, **settings).tokens
        units = queries["estimate"] if profile.rung_unit == "free length" else np.ones(len(queries))
        rungs = choose_rungs(caps, units, profile.rungs)
        for rung in profile.rungs:
            lengths = np.where(rungs == rung, queries[f"length@{rung}"], lengths)
            correct = np.where(rungs == rung, queries[f"correct@{rung}"], correct)
    outcome = serving.serve(problem, serving.ReplayStepper(lengths), policy, accounting=accounting, **settings)
    return ServedStream(outcome, queries, rungs, outcome.finished & correct)


def served_streams(
    profile: Profile,
    pool: pd.DataFrame,
    policies: Sequence[str | Constant] = OF_THE_PAPER,
    scarcities: Iterable[float] | None = None,
    only: Iterable[str] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    **settings: Any,
) -> Iterator[tuple[dict[str, Any], ServedStream]]:
    """Every stream (or ``only`` some) × draw × budget × policy × value of the one setting of a sweep, with its cell."""
    reference = reference_length(profile, pool)
    if sweep and len(sweep) != 1:
        raise ValueError(f"a sweep has one setting, got {', '.join(sweep)}")
    ((axis, values),) = sweep.items() if sweep else [(None, [])]
    budgets = profile.scarcities if scarcities is None else list(scarcities)
    for stream, seed, queries in draws(profile, pool, only):
        for scarcity, choice in product(budgets, policies):
            policy, name, settings_at = Constant(choice) if isinstance(choice, str) else choice
            own = settings_at(budget_per_query(scarcity, reference))
            cell = {"stream": stream, "stream_seed": seed, "scarcity": scarcity, "policy": policy, "constant": name}
            swept = axis in POLICIES[policy].settings
            for value in values if swept else [np.nan]:
                fixed = settings | own | ({axis: value} if swept else {})
                served = serve(profile, queries, policy, scarcity, reference, **fixed)
                yield cell | {"setting": axis if swept else None, "value": value}, served


def run(profile: Profile, pool: pd.DataFrame, *, predictor_seed: int = 0, **choice: Any) -> pd.DataFrame:
    """Results of :func:`served_streams` (with ``choice``) and their accuracy: :data:`COLUMNS`, one row a cell."""
    rows = [
        cell
        | {
            "profile": profile.name,
            "predictor_seed": predictor_seed,
            "accounting": served.outcome.accounting,
            "budget_per_query": served.outcome.budget // served.solved.size,
            "n": served.solved.size,
            "accuracy": served.solved.mean(),
            "granted": served.outcome.granted.mean(),
            "used": served.outcome.used.mean(),
            "active": (served.outcome.granted > 0).mean(),
            "price": np.nan if served.outcome.price is None else served.outcome.price,
        }
        for cell, served in served_streams(profile, pool, **choice)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def chosen(swept: pd.DataFrame, choices: Iterable[Constant]) -> dict[str, list[Constant]]:
    """For each stream, every policy with the constant that :func:`leave_one_out` takes."""
    known = {(each.policy, each.name): each for each in choices}
    pairs = leave_one_out(swept)[["stream", "policy", "constant"]].drop_duplicates().groupby("stream", sort=False)
    return {stream: [known[row.policy, row.constant] for row in rows.itertuples()] for stream, rows in pairs}


def run_chosen(
    profile: Profile,
    pool: pd.DataFrame,
    constants: dict[str, list[Constant]],
    policies: Iterable[str] = (),
    serve: Callable[..., pd.DataFrame] = run,
    **choice: Any,
) -> pd.DataFrame:
    """Results (``serve``: :func:`run` or a like) of each stream with its constants, and of policies without any."""
    order = list(POLICIES)
    runs = []
    for stream, own in constants.items():
        every = sorted([*policies, *own], key=lambda one: order.index(one if isinstance(one, str) else one.policy))
        runs.append(serve(profile, pool, policies=every, only=[stream], **choice))
    return pd.concat(runs, ignore_index=True)


def run_rule(
    profile: Profile, pool: pd.DataFrame, name: str, rule: Callable[[Problem, Any], Array], values: Iterable[Any]
) -> pd.DataFrame:
    """Results of a rule of a chapter's own, as those of a sweep: ``rule(problem, value)`` says the tokens, as shares."""
    reference, rows = reference_length(profile, pool), []
    for (stream, seed, queries), scarcity, value in product(draws(profile, pool), profile.scarcities, values):
        problem = problem_of(profile, queries, scarcity, reference)
        tokens = whole_tokens(rule(problem, value), problem.budget, problem.cap)
        accuracy = (queries["correct"] & (queries["length"] <= tokens)).mean()
        rows.append((stream, seed, scarcity, name, value, accuracy))
    return pd.DataFrame(rows, columns=["stream", "stream_seed", "scarcity", "policy", "value", "accuracy"])


def run_in_halves(profile: Profile, pool: pd.DataFrame, serve: Callable = run, **choice: Any) -> pd.DataFrame:
    """Results (``serve``: :func:`run` or a like) on each half of the questions, ``half`` 0 and 1, under equal budgets."""
    # What is best among several is selected on one half and judged on the other: draws of one pool share its luck.
    same = replace(profile, reference_length=reference_length(profile, pool))
    parts = enumerate(halves(pool))
    return pd.concat([serve(same, part, **choice).assign(half=half) for half, part in parts], ignore_index=True)


def run_both(profile: Profile, pool: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Results (:func:`run`) of policies whose caps the model is told, and of the same that cut it off: ``told``."""
    both = [run(profile, pool, policies=policies, told=told).assign(told=told) for told in (False, True)]
    return pd.concat(both, ignore_index=True)


def run_distorted(
    profile: Profile, pool: pd.DataFrame, factors: Mapping[float, ArrayLike], **choice: Any
) -> pd.DataFrame:
    """Results (:func:`run`) with forecasts that are wrong by each of some factors; ``value`` is the key of the factor."""
    runs = [run(profile, distorted(pool, factor), **choice).assign(value=value) for value, factor in factors.items()]
    return pd.concat(runs, ignore_index=True).assign(setting="distortion")


def by_tier(profile: Profile, pool: pd.DataFrame, **choice: Any) -> pd.DataFrame:
    """The same cells tier by tier, in means; ``lost``: abandoned, though solved uncapped; ``short``: granted too little."""
    tables, columns = [], ["abandoned", "lost", "short", "solved", "granted", "used", "threshold"]
    for cell, served in served_streams(profile, pool, **choice):
        queries = served.queries
        queries = queries.assign(abandoned=queries["granted"] == 0, short=queries["granted"] < queries["length"])
        groups = queries.assign(lost=queries["abandoned"] & queries["correct"]).groupby("tier", sort=False)
        tables.append(groups[columns].mean().assign(n=groups.size(), **cell).reset_index())
    table = pd.concat(tables, ignore_index=True)
    table["tier"] = pd.Categorical(table["tier"], profile.tiers, ordered=True)
    return table.sort_values("tier", kind="stable", ignore_index=True)


def arrivals(profile: Profile, pool: pd.DataFrame, rate: float, scarcities: Iterable[float]) -> pd.DataFrame:
    """Accuracy of the ``controller`` and of the ``fair share`` as queries arrive, and of the ``batch`` with all known."""
    # The controller starts from the price of the whole pool as one batch.
    reference, policy = reference_length(profile, pool), "clear-sequential"
    start = {scarcity: serve(profile, pool, policy, scarcity, reference).outcome.price for scarcity in scarcities}
    rows = []
    for (stream, seed, drawn), (scarcity, price) in product(draws(profile, pool), start.items()):
        easy = drawn.sort_values("threshold", kind="stable", ignore_index=True)  # by forecast
        orders = {"random": drawn, "easy first": easy, "hard first": easy[::-1].reset_index(drop=True)}
        batch = serve(profile, drawn, policy, scarcity, reference).solved.mean()
        for order, queries in orders.items():
            problem, lengths = problem_of(profile, queries, scarcity, reference), queries["length"]
            controller = serving.serve_online(problem, serving.ReplayStepper(lengths), price=price, rate=rate)
            fair = serving.fair_share(problem.budget, serving.ReplayStepper(lengths))
            cell = {"stream": stream, "stream_seed": seed, "scarcity": scarcity, "order": order, "batch": batch}
            solved = {"controller": controller.finished, "fair share": fair.finished}
            rows.append(cell | {rule: (ended & queries["correct"]).mean() for rule, ended in solved.items()})
    return pd.DataFrame(rows)


def regimes(thresholds: Array, per_query: Iterable[float], policy: str = "clear", **settings: Any) -> pd.DataFrame:
    """One batch at many budgets (tokens per query) of a policy with a price; ``granted`` and ``surge`` per active query."""
    rows = []
    for amount in per_query:
        allocation = allocate(thresholds, round(amount * len(thresholds)), policy, **settings)
        active, budget, tokens = allocation.active, allocation.budget, allocation.tokens
        granted, past = (each[active].mean() if active.any() else np.nan for each in (tokens, tokens - thresholds))
        unspent = allocation.unspent / budget if budget else 0.0
        rows.append((budget / active.size, allocation.price, 1 - active.mean(), granted, past, unspent))
    return pd.DataFrame(rows, columns=["budget_per_query", "price", "abandoned", "granted", "surge", "unspent"])
