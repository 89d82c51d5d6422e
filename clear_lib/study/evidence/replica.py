"""A model of the paper's experiment with few parameters, fitted to some rows of its tables and judged on others.

Queries come in two (or three) tiers. In each, the logarithm of a solution's length is normal, and a share of the
solutions is correct, long or short. A stream mixes the tiers. A forecaster sees the true length through shrinkage
and noise. The rows of Uniform and of Predictor have closed forms in this model, so they can be fitted; all other
rows are *run*: the replica writes rollouts and forecasts, and the same streams, policies and replay as for a real
model make the results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.special import expit, log_softmax, logit, ndtr, ndtri

from clear_lib.allocation.forecasts import Array
from clear_lib.rollouts import store as rollouts
from clear_lib.study.evidence import comparison
from clear_lib.study import experiments
from clear_lib.study.experiments import sensitivity
from clear_lib.study.recordings.importing import parameters_of
from clear_lib.study.recordings.new_profile import clear_folder, write_profile
from clear_lib.study.setup import paper, profiles
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import STREAMS, TIERS

#: What the tiers of a replica stand for (Tables 6 and 7), by how many there are.
TIERS_OF = {2: ("moderate", "hard"), 3: ("moderate", "hard", "very hard")}


#: The replicas, by name: the studies of the paper that they are fitted to. Each can be a profile (:func:`adopt`).
SOURCES = {f"replica-{size}": study for size, study in paper.STUDIES.items()}

#: Whose streams a replica takes that has too few cells to tell their shares: those of Table 4 have the same names.
BORROWED = {"replica-30b": "replica-7b"}

#: Nodes and weights for means over a standard normal variable.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(48)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()

#: A tier's median is at most this many e-folds above the one before it.
_MOST_APART = 4.0

#: How far, in points, a tier's pass rate may be from the printed one at the cost of one point in a cell of a table.
SOFT = 5.0


@dataclass(frozen=True)
class Lengths:
    """Solutions: ``K`` tiers and how the streams mix them.

    Attributes
    ----------
    medians : array of shape (K,)
        Median length of each tier, tokens, shortest first.
    spread : float
        Standard deviation of the log length, the same in all tiers.
    rates : array of shape (K,)
        Share of correct solutions.
    shares : mapping
        For each stream an array of shape ``(K,)`` that sums to 1.
    """

    medians: Array
    spread: float
    rates: Array
    shares: Mapping[str, Array]

    @property
    def mix(self) -> Array:
        """The shares as an array of shape (streams, K)."""
        return np.array(list(self.shares.values()))


@dataclass(frozen=True)
class Forecaster:
    """A forecast: ``log τ̂ = center + slope·(log ℓ - center) + noise·z`` with standard normal ``z``."""

    center: float
    slope: float
    noise: float


# ---- what the model says of a row -------------------------------------------------------------------------------


def uniform_row(lengths: Lengths, budgets: Sequence[float]) -> Array:
    """Accuracy under a cap for all, shape (streams, budgets), per cent."""
    within = ndtr(np.log(np.asarray(budgets, dtype=float) / lengths.medians[:, None]) / lengths.spread)
    return 100 * (lengths.mix * lengths.rates) @ within


def predictor_row(lengths: Lengths, forecaster: Forecaster, budgets: Sequence[float]) -> Array:
    """Accuracy of sharing in proportion to ``τ̂``, shape (streams, budgets), per cent; large N, floor and cap aside."""
    log_median = np.log(lengths.medians)[:, None]
    deviation = max(math.hypot(forecaster.slope * lengths.spread, forecaster.noise), 1e-9)
    center = forecaster.center + forecaster.slope * (log_median - forecaster.center)
    forecast = center + deviation * _NODES  # (K, nodes)
    # Given its forecast, the log length is normal again.
    expected = log_median + forecaster.slope * lengths.spread**2 / deviation * _NODES
    left = max(lengths.spread * forecaster.noise / deviation, 1e-6)
    mean = lengths.mix @ np.exp(center[:, 0] + deviation**2 / 2)
    granted = np.log(np.asarray(budgets, dtype=float) / mean[:, None])[:, :, None, None] + forecast
    solved = ndtr((granted - expected) / left) @ _WEIGHTS  # (streams, budgets, K)
    return 100 * np.einsum("sk,sbk->sb", lengths.mix * lengths.rates, solved)


def printed(row: Mapping[str, Mapping[int, float]]) -> Array:
    """A row of Table 1 or 4 as an array of shape (streams, budgets)."""
    return np.array([list(cells.values()) for cells in row.values()])


def pass_rates(table: Sequence[paper.DataSet], tiers: int) -> Array:
    """Pass@1 of the evaluation sets of Table 6 or 7 by tier, as shares; with two tiers, all above the first are one."""
    rows = [row for row in table if row.use == "evaluation"]
    groups = [[row for row in rows if row.tier == tier] for tier in TIERS_OF[3]]
    if tiers == 2:
        groups = [groups[0], groups[1] + groups[2]]
    return np.array([sum(row.correct for row in group) / sum(row.total for row in group) for group in groups])


# ---- fitting ----------------------------------------------------------------------------------------------------


def fit_lengths(
    row: Mapping[str, Mapping[int, float]],
    rates: Array,
    *,
    shares: Mapping[str, Array] | None = None,
    starts: int = 6,
    seed: int = 0,
) -> Lengths:
    """Fit tiers and streams to a Uniform row by least squares, from several starts.

    ``K`` medians, a spread, ``K`` rates and ``K - 1`` shares a stream; the rates are drawn softly (:data:`SOFT`)
    to the printed ones, since the row alone does not tell a tier's rate from its share.

    Parameters
    ----------
    row : mapping
        Accuracy in per cent by stream and tokens per query.
    rates : array of shape (K,)
        Printed pass rates (:func:`pass_rates`).
    shares : mapping, optional
        Shares that are known; fitted if omitted.
    starts, seed : int
        Starting points, and the root of their draw.
    """
    streams, budgets, wanted, tiers = list(row), list(next(iter(row.values()))), printed(row), len(rates)

    def build(x: Array) -> Lengths:
        steps = np.concatenate([x[:1], _MOST_APART * expit(x[1:tiers])])
        free = x[2 * tiers + 1 :].reshape(len(streams), -1) if shares is None else None
        mix = shares or {
            stream: np.exp(log_softmax(np.append(part, 0.0))) for stream, part in zip(streams, free, strict=True)
        }
        return Lengths(np.exp(np.cumsum(steps)), math.exp(x[tiers]), expit(x[tiers + 1 : 2 * tiers + 1]), mix)

    def residuals(x: Array) -> Array:
        model = build(x)
        return np.concatenate([(uniform_row(model, budgets) - wanted).ravel(), 100 * (model.rates - rates) / SOFT])

    rng, first, found = np.random.default_rng(seed), math.log(2 * budgets[0]), []
    top = [] if shares else logit(np.clip(wanted.max(axis=1) / 100 / rates[0], 0.05, 0.9))
    guess = np.pad(np.reshape(top, (-1, 1)), ((0, 0), (0, tiers - 2))).ravel()
    for _ in range(starts):
        share = guess + 0.2 * rng.normal(size=guess.size)
        start = np.concatenate(
            [
                [first + 0.3 * rng.normal()],
                0.3 * rng.normal(size=tiers - 1),
                [-0.7 + 0.2 * rng.normal()],
                logit(rates),
                share,
            ]
        )
        found.append(least_squares(residuals, start))
    return build(min(found, key=lambda fit: fit.cost).x)


def fit_forecaster(
    row: Mapping[str, Mapping[int, float]], lengths: Lengths, mean_length: float, shrink: bool = True
) -> Forecaster:
    """Fit slope and noise of the forecasts to a Predictor row, given the solutions.

    Shares in proportion do not change when all forecasts are doubled, so the row does not tell their level. But a
    regression is right on average where it was trained: ``center`` is the mean log length of solutions whose mean
    length is ``mean_length``.

    Parameters
    ----------
    row : mapping
        Accuracy in per cent by stream and tokens per query.
    lengths : Lengths
    mean_length : float
        Mean length in the predictor's training data, tokens.
    shrink : bool
        Whether the slope is fitted (between 0 and 1) or 1.
    """
    budgets, wanted = list(next(iter(row.values()))), printed(row)
    center = math.log(mean_length) - lengths.spread**2 / 2

    def build(x: Array) -> Forecaster:
        return Forecaster(center, float(expit(x[1])) if shrink else 1.0, math.exp(x[0]))

    def residuals(x: Array) -> Array:
        return (predictor_row(lengths, build(x), budgets) - wanted).ravel()

    slopes = [[logit(0.3)], [logit(0.7)]] if shrink else [[]]
    starts = [[math.log(noise), *slope] for noise in (0.1, 0.3) for slope in slopes]
    return build(min((least_squares(residuals, start) for start in starts), key=lambda fit: fit.cost).x)


def fit(
    name: str,
    *,
    tiers: int = 2,
    shrink: bool = True,
    mean_length: float | None = None,
    shares: Mapping[str, Array] | None = None,
) -> tuple[Lengths, Forecaster]:
    """Fit a replica to the Uniform and the Predictor row of its source.

    Parameters
    ----------
    name : str
        Of :data:`SOURCES`.
    tiers : int
        2 or 3.
    shrink, mean_length
        See :func:`fit_forecaster`; ``mean_length`` is the training mean of the source if omitted.
    shares : mapping, optional
        See :func:`fit_lengths`; if omitted, those of another replica in some cases (:data:`BORROWED`).
    """
    source = SOURCES[name]
    if shares is None and name in BORROWED:
        shares = fit(BORROWED[name], tiers=tiers)[0].shares
    lengths = fit_lengths(source.table["uniform"], pass_rates(source.sets, tiers), shares=shares)
    trained = training_mean(source.sets) if mean_length is None else mean_length
    return lengths, fit_forecaster(source.table["predictor"], lengths, trained, shrink)


def row_errors(model: Array, row: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """A model's row minus the printed one, in points: a row a stream, a column a budget."""
    return pd.DataFrame(model - printed(row), [STREAMS[stream] for stream in row], list(next(iter(row.values()))))


def bootstrap(
    name: str, lengths: Lengths, forecaster: Forecaster, *, n: int = paper.STREAM_SIZE, times: int = 60, seed: int = 0
) -> pd.DataFrame:
    """Parameters refitted to rows that the fitted model makes itself, from streams of ``n`` queries.

    Returns
    -------
    DataFrame
        One row a repetition, the columns of :func:`parameters`.
    """
    rng, source, fits = np.random.default_rng(seed), SOURCES[name], []
    rates, mean_length, budgets = pass_rates(source.sets, 2), training_mean(source.sets), source.budgets
    shares = lengths.shares if name in BORROWED else None
    for _ in range(times):
        rows: dict[str, dict] = {"uniform": {}, "predictor": {}}
        for stream, share in lengths.shares.items():
            tier = rng.choice(len(share), size=n, p=share)
            log_length = np.log(lengths.medians[tier]) + lengths.spread * rng.normal(size=n)
            correct = rng.random(n) < lengths.rates[tier]
            forecast = np.exp(_forecast(log_length, forecaster, rng.normal(size=n)))
            granted = {b: forecast * (b / forecast.mean()) for b in budgets}
            length = np.exp(log_length)
            rows["uniform"][stream] = {b: 100 * np.mean(correct & (length <= b)) for b in budgets}
            rows["predictor"][stream] = {b: 100 * np.mean(correct & (length <= granted[b])) for b in budgets}
        again = fit_lengths(rows["uniform"], rates, shares=shares, starts=2)
        fits.append(parameters(again, fit_forecaster(rows["predictor"], again, mean_length)))
    return pd.DataFrame(fits)


def readings(
    name: str, lengths: Lengths, forecaster: Forecaster, drawn: pd.DataFrame, *, seeds: int
) -> list[sensitivity.Reading]:
    """What the fit of a replica with two tiers leaves open: groups of parameters at both ends of their intervals.

    Parameters
    ----------
    name, lengths, forecaster
        A replica.
    drawn : DataFrame
        Of :func:`bootstrap`; the ends are its 2.5% and 97.5%.
    seeds : int
        Streams of each kind.
    """
    fitted, found = parameters(lengths, forecaster), []
    for end, row in drawn.quantile([0.025, 0.975]).iterrows():
        shares = {stream: row[f"{label}, {TIERS_OF[2][0]}"] for stream, label in STREAMS.items()}
        shares = {stream: np.array([share, 1 - share]) for stream, share in shares.items()}
        medians = np.array([lengths.medians[0], row["median, hard"]])
        slope, noise = row["slope of the forecasts"], row["noise of the forecasts"]
        changed = {
            "fitted shares of the first tier": (replace(lengths, shares=shares), forecaster, "uniform"),
            "median, hard": (replace(lengths, medians=medians), forecaster, "uniform"),
            "slope of the forecasts": (lengths, replace(forecaster, slope=slope), "predictor"),
            "noise of the forecasts": (lengths, replace(forecaster, noise=noise), "predictor"),
        }
        for item, (other, seer, baseline) in changed.items():
            profile, pool = study(name, other, seer, seeds=seeds)
            ours, said = "as fitted", f"{end:.1%} of the bootstrap"
            if item in fitted:
                ours, said = (f"{x:,.0f} tokens" if x > 1 else f"{x:.2f}" for x in (fitted[item], row[item]))
            for policy in (baseline, "clear"):
                first = {"policies": [policy]}
                second = first | {"profile": profile, "pool": pool}
                found.append(sensitivity.Reading(item, ours, said, first, second))
    return found


def clear_errors(
    name: str, profile: Profile, pool: pd.DataFrame, factors: Sequence[float], slacks: Sequence[float]
) -> pd.DataFrame:
    """Mean absolute error of the CLEAR row in points, by level of the forecasts (rows: factors) and ``ε`` (columns)."""
    errors, level = {}, {factor: factor for factor in factors}
    for slack in slacks:
        runs = experiments.run_distorted(profile, pool, level, policies=["clear"], epsilon=slack)
        for factor, rows in runs.groupby("value"):
            cells = comparison.compare(rows, SOURCES[name], at_scale=True)
            errors[factor, slack] = cells["difference"].abs().mean()
    return pd.Series(errors).unstack().rename_axis(index="level", columns="ε")


def parameters(lengths: Lengths, forecaster: Forecaster | None = None) -> dict[str, float]:
    """The parameters by name: medians in tokens, shares and rates as fractions."""
    tiers = TIERS_OF[len(lengths.medians)]
    found = {f"median, {tier}": float(value) for tier, value in zip(tiers, lengths.medians, strict=True)}
    found["spread"] = lengths.spread
    found |= {f"rate, {tier}": float(value) for tier, value in zip(tiers, lengths.rates, strict=True)}
    for stream, share in lengths.shares.items():
        found |= {f"{STREAMS[stream]}, {tier}": float(v) for tier, v in zip(tiers[:-1], share[:-1], strict=True)}
    if forecaster is not None:
        found |= {"slope of the forecasts": forecaster.slope, "noise of the forecasts": forecaster.noise}
    return found


def leave_one_stream_out(row: Mapping[str, Mapping[int, float]], rates: Array) -> pd.DataFrame:
    """Fit without a stream, give it the share that its largest budget asks for, and predict its other cells.

    Returns
    -------
    DataFrame
        ``stream, budget, paper, model, error`` of the cells that were not used.
    """
    found = []
    for stream, cells in row.items():
        fit = fit_lengths({name: other for name, other in row.items() if name != stream}, rates, starts=2)
        *budgets, last = cells
        ends = [uniform_row(replace(fit, shares={stream: np.eye(len(rates))[k]}), [last])[0, 0] for k in (0, -1)]
        first = float(np.clip((cells[last] - ends[1]) / (ends[0] - ends[1]), 0, 1))
        share = np.zeros(len(rates))
        share[0], share[-1] = first, 1 - first
        model = uniform_row(replace(fit, shares={stream: share}), budgets)[0]
        found += [(stream, b, cells[b], value, value - cells[b]) for b, value in zip(budgets, model, strict=True)]
    return pd.DataFrame(found, columns=["stream", "budget", "paper", "model", "error"])


# ---- a profile of its own ---------------------------------------------------------------------------------------


def _forecast(log_length: Array, forecaster: Forecaster, z: Array) -> Array:
    return forecaster.center + forecaster.slope * (log_length - forecaster.center) + forecaster.noise * z


def make_rollouts(lengths: Lengths, model: str, cap: int, per_tier: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Rollouts that the replica of ``model`` makes up: lengths and verdicts in the schema of real ones, no text.

    Lengths are spread evenly over the quantiles of their tier. A solution above the cap is cut off, and wrong.
    """
    rng, parts = np.random.default_rng(seed), []
    for tier, median, rate in zip(TIERS_OF[len(lengths.medians)], lengths.medians, lengths.rates, strict=True):
        z = ndtri((rng.permutation(per_tier) + 0.5) / per_tier)
        length = np.maximum(np.round(median * np.exp(lengths.spread * z)), 1).astype(np.int64)
        correct = (rng.permutation(per_tier) < rate * per_tier) & (length <= cap)
        parts.append(
            pd.DataFrame(
                {
                    "question_id": [f"{tier}-{number}" for number in range(per_tier)],
                    "tier": tier,
                    "length": np.minimum(length, cap),
                    "finish_reason": np.where(length <= cap, "stop", "length"),
                    "verdict": np.where(correct, "correct", "wrong"),
                }
            )
        )
    same = {
        "dataset": "simulated",
        "split": "evaluation",
        "question": "",
        "gold": "",
        "prompt": "",
        "rung": "free",
        "sample": 0,
        "seed": seed,
        "temperature": 0.0,
        "cap": cap,
        "completion": None,
        "answer": None,
        "model": f"replica of {model} (simulated)",
        "revision": "simulated",
        "dtype": "none",
        "engine": "replica",
        "engine_version": "1",
    }
    return pd.concat(parts, ignore_index=True).assign(**same)[rollouts.SCHEMA.names]


def make_forecasts(
    recorded: pd.DataFrame, lengths: Lengths, forecaster: Forecaster, prior: Array, seed: int = 0
) -> pd.DataFrame:
    """Forecasts of a replica's rollouts, as of :func:`clear_lib.predictor.forecast_table`.

    ``threshold`` is the paper's: the forecast as it is. ``spread``, ``solvable`` and ``log_median`` are what someone
    could know who has seen many forecasts and what became of them: the conditional chance of a correct solution, and
    mean and deviation of its log length, when tiers are as frequent as ``prior``. No teacher is modelled: the
    ``estimate`` is the threshold, and both are free of cost.
    """
    rng = np.random.default_rng([seed, 1])
    log_length = np.log(recorded["length"].to_numpy())
    forecast = _forecast(log_length, forecaster, rng.normal(size=len(recorded)))
    log_median = np.log(lengths.medians)
    variance = (forecaster.slope * lengths.spread) ** 2 + forecaster.noise**2
    z = (forecast[:, None] - _forecast(log_median, forecaster, np.zeros(log_median.size))) / math.sqrt(variance)
    weight = np.exp(log_softmax(-(z**2) / 2 + np.log(prior), axis=1)) * lengths.rates
    expected = log_median + forecaster.slope * lengths.spread**2 / math.sqrt(variance) * z
    left = (lengths.spread * forecaster.noise) ** 2 / variance
    solvable = weight.sum(axis=1)
    center = (weight * expected).sum(axis=1) / solvable
    spread = np.sqrt((weight * (expected - center[:, None]) ** 2).sum(axis=1) / solvable + left)
    return pd.DataFrame(
        {
            "question_id": recorded["question_id"],
            "threshold": np.exp(forecast),
            "spread": spread,
            "solvable": solvable,
            "log_median": center,
            "estimate": np.exp(forecast),
            "threshold_cost": 0.0,
            "estimate_cost": 0.0,
        }
    )


def make_profile(name: str, lengths: Lengths, recorded: pd.DataFrame, seeds: int) -> Profile:
    """A profile for a replica's rollouts: the paper's stream size, budgets and floor in tokens, and the fitted shares.

    ``ε`` is 32 tokens, the floor: chosen before any row of CLEAR was looked at.
    """
    source, reference, tiers = SOURCES[name], float(recorded["length"].mean()), TIERS_OF[len(lengths.medians)]
    shares = {
        stream: tuple(float(share[tiers.index(tier)]) if tier in tiers else 0.0 for tier in TIERS)
        for stream, share in lengths.shares.items()
    }
    sizes = {tier: int((recorded["tier"] == tier).sum()) for tier in tiers}
    simulated = f"simulated forecasts: shrinkage and noise, fitted to the Predictor row of Table {source.number}"
    seer = profiles.Forecaster("constant", simulated, tiers, "all", {})
    return replace(
        profiles.load("tiny"),
        name=name,
        model=recorded["model"].iloc[0],
        revision="simulated",
        model_parameters=parameters_of(source.model),
        engine="none",
        prompts={"free": "{question}"},
        rungs={"free": 1.0},
        cap=source.cap,
        tiers=tiers,
        pool_per_tier=sizes,
        predictor_per_tier=sizes,
        sampled_per_tier=0,
        stream_size=paper.STREAM_SIZE,
        stream_seeds=seeds,
        stream_shares=shares,
        scarcities=tuple(budget / reference for budget in source.budgets),
        floor_fraction=paper.FLOOR / reference,
        epsilon_fraction=paper.FLOOR / reference,
        predictor=seer,
        teacher=replace(seer, label="stand-in for a teacher, the simulated forecast itself, and no instruction"),
    )


def _made(
    name: str, lengths: Lengths, forecaster: Forecaster, seeds: int, per_tier: int, seed: int
) -> tuple[Profile, pd.DataFrame, pd.DataFrame]:
    """Profile, rollouts and forecasts of a replica."""
    source = SOURCES[name]
    recorded = make_rollouts(lengths, source.model, source.cap, per_tier, seed)
    rows = [row for row in source.sets if row.use == "evaluation"]
    counts = np.array([sum(row.total for row in rows if row.tier == tier) for tier in TIERS_OF[3]], dtype=float)
    if len(lengths.medians) == 2:
        counts = np.array([counts[0], counts[1:].sum()])
    foretold = make_forecasts(recorded, lengths, forecaster, counts / counts.sum(), seed)
    return make_profile(name, lengths, recorded, seeds), recorded, foretold


def study(
    name: str, lengths: Lengths, forecaster: Forecaster, *, seeds: int = 10, per_tier: int = 2000, seed: int = 0
) -> tuple[Profile, pd.DataFrame]:
    """Profile and pool of a replica of :data:`SOURCES`, for :func:`clear_lib.study.experiments.run`."""
    profile, recorded, foretold = _made(name, lengths, forecaster, seeds, per_tier, seed)
    return profile, experiments.make_pool(recorded, recorded, foretold)


def adopt(name: str, artifacts: str | Path, *, seeds: int = 12, per_tier: int = 2000) -> Path:
    """Fit a replica and make it a profile with rollouts and forecasts of its own, in place of an earlier one.

    Parameters
    ----------
    name : str
        Of :data:`SOURCES`; also that of the profile.
    artifacts : path
        Folder of all profiles' artifacts.
    seeds, per_tier : int
        Streams of each kind, and questions of each tier.

    Returns
    -------
    Path
        The profile's own file.

    Raises
    ------
    ValueError
        If there is no such replica.
    """
    if name not in SOURCES:
        raise ValueError(f"no replica {name!r}; known: {', '.join(SOURCES)}")
    clear_folder(Path(artifacts) / name)
    profile, recorded, foretold = _made(name, *fit(name), seeds, per_tier, 0)
    file, _ = write_profile(asdict(profile), {"evaluation": recorded}, foretold, Path(artifacts))
    return file


def held_out(name: str = "replica-7b", *, fallback: bool = False, seeds: int = 3, **variant: Any) -> dict[str, float]:
    """Fit one variant of a replica to Uniform and Predictor, run the rest, and report mean absolute errors.

    Parameters
    ----------
    name : str
        Of :data:`SOURCES`.
    fallback : bool
        Whether Auction and CLEAR share in proportion where the budget fits all forecasts.
    seeds : int
        Streams of each kind.
    **variant
        Of :func:`fit`.

    Returns
    -------
    dict
        ``parameters`` (how many are fitted), the error of ``uniform`` and ``predictor`` (fitted), then of each
        policy that was not looked at, in points.
    """
    source = SOURCES[name]
    lengths, forecaster = fit(name, **variant)
    profile, pool = study(name, lengths, forecaster, seeds=seeds)
    runs = [experiments.run(profile, pool, policies=["oracle", "oracle-paper", "clear-heuristic"])]
    runs.append(experiments.run(profile, pool, policies=["clear-auction", "clear"], fallback=fallback))
    cells = comparison.compare(pd.concat(runs, ignore_index=True), source, at_scale=True)
    tiers = len(lengths.medians)
    uniform = row_errors(uniform_row(lengths, source.budgets), source.table["uniform"])
    predictor = row_errors(predictor_row(lengths, forecaster, source.budgets), source.table["predictor"])
    fitted = {
        "parameters": 2 * tiers + 1 + len(lengths.shares) * (tiers - 1) + 1 + variant.get("shrink", True),
        "uniform": uniform.abs().to_numpy().mean(),
        "predictor": predictor.abs().to_numpy().mean(),
    }
    return fitted | summary(cells).set_index("policy")["mean"].to_dict()


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """A replica's results (:func:`clear_lib.study.evidence.comparison.compare`) where the paper has a number, policy by policy.

    Returns
    -------
    DataFrame
        ``policy``; ``mean`` and ``worst`` absolute error, ``bias`` (mean error), in points; ``inside``: how many per
        cent of the cells have the paper's number inside their interval.
    """
    groups = cells.dropna(subset="paper").groupby("policy", sort=False)
    return pd.DataFrame(
        {
            "mean": groups["difference"].agg(lambda error: error.abs().mean()),
            "worst": groups["difference"].agg(lambda error: error.abs().max()),
            "bias": groups["difference"].mean(),
            "inside": groups["verdict"].agg(lambda verdict: 100 * (verdict == comparison.INSIDE).mean()),
        }
    ).reset_index()


def training_mean(sets: Sequence[paper.DataSet]) -> float:
    """Mean length of the MATH row that the predictor was trained on, tokens (Table 6 or 7).

    It is nine tenths of the training data; the mean of the other row, GSM8K, is misprinted in Table 6.
    """
    return next(row.mean_length for row in sets if row.use == "predictor" and row.name == "MATH")


def budget_that_fits(lengths: Lengths, row: Mapping[str, float], low: float = 64, high: float = 4096) -> float:
    """The budget (tokens per query) at which the replica's Uniform row is nearest to a printed one, by least squares."""
    budgets = np.geomspace(low, high, 2000)
    model = uniform_row(replace(lengths, shares={stream: lengths.shares[stream] for stream in row}), budgets)
    return float(budgets[((model - np.array(list(row.values()))[:, None]) ** 2).sum(axis=0).argmin()])
