"""A model of the paper's experiment with few parameters, fitted to two rows of a table.

In each tier the log length of a solution is normal, and a share of the solutions is correct, long or short. A stream
mixes the tiers. A forecast is the log length with shrinkage and noise. So the rows of Uniform and of Predictor have a
closed form and can be fitted; all others are run on simulated rollouts (:mod:`.simulation`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.special import expit, log_softmax, logit, ndtr

from clear_lib.allocation.forecasts import Array
from clear_lib.study.setup import paper
from clear_lib.study.setup.streams import STREAMS, TIERS

#: Tiers of a replica (Tables 6 and 7), by how many there are. With two, the last two of three are one.
TIERS_OF = {2: TIERS[1:3], 3: TIERS[1:]}

#: The replicas by name: the studies of the paper that they are fitted to.
SOURCES = {f"replica-{size}": study for size, study in paper.STUDIES.items()}

#: Whose stream shares a replica takes if it has too few cells to fit them: the streams of Table 4 have the same names.
BORROWED = {"replica-30b": "replica-7b"}

#: A tier's median is at most so many e-folds above the one before it; and the distance of a tier's pass rate from the
#: printed one, in points, that costs as much as one point in a cell.
MOST_APART, SOFT = 4.0, 5.0


@dataclass(frozen=True)
class LengthModel:
    """Solutions: ``K`` tiers, and how the streams mix them."""

    medians: Array  #: median length of each tier, tokens, shortest first
    spread: float  #: standard deviation of the log length, the same in all tiers
    rates: Array  #: share of correct solutions of each tier
    shares: Mapping[str, Array]  #: of the tiers in each stream, summing to 1

    @property
    def mix(self) -> Array:
        """The shares as an array of shape (streams, K)."""
        return np.array(list(self.shares.values()))


@dataclass(frozen=True)
class ForecastModel:
    """A forecast: ``log τ̂ = center + slope·(log ℓ - center) + noise·z`` with standard normal ``z``."""

    center: float
    slope: float
    noise: float

    def log_forecast(self, log_length: Array, z: float | Array = 0.0) -> Array:
        """``log τ̂`` of solutions."""
        return self.center + self.slope * (log_length - self.center) + self.noise * z


def uniform_row(lengths: LengthModel, budgets: Sequence[float]) -> Array:
    """Accuracy under a cap for all, shape (streams, budgets), per cent."""
    within = ndtr(np.log(np.asarray(budgets, dtype=float) / lengths.medians[:, None]) / lengths.spread)
    return 100 * (lengths.mix * lengths.rates) @ within


def predictor_row(lengths: LengthModel, forecasts: ForecastModel, budgets: Sequence[float]) -> Array:
    """Accuracy of sharing in proportion to ``τ̂``, shape (streams, budgets), per cent; large N, floor and cap aside."""
    log_median = np.log(lengths.medians)
    center = forecasts.log_forecast(log_median)
    variance = (forecasts.slope * lengths.spread) ** 2 + forecasts.noise**2
    mean = lengths.mix @ np.exp(center + variance / 2)
    # A grant covers the solution if log(B̄ / mean τ̂) + log τ̂ - log ℓ > 0; the last two are jointly normal.
    deviation = max(math.hypot((forecasts.slope - 1) * lengths.spread, forecasts.noise), 1e-9)
    granted = np.log(np.asarray(budgets, dtype=float) / mean[:, None])[:, :, None]
    solved = ndtr((granted + center - log_median) / deviation)  # (streams, budgets, K)
    return 100 * np.einsum("sk,sbk->sb", lengths.mix * lengths.rates, solved)


def row_errors(model: Array, row: pd.Series) -> pd.DataFrame:
    """A model's row minus the printed one, in points: a row a stream, a column a budget."""
    return (model - row.unstack()).rename(STREAMS).rename_axis(index=None, columns=None)


def tier_counts(sets: pd.DataFrame, tiers: int) -> tuple[Array, Array]:
    """Questions of each tier in the evaluation sets of Table 6 or 7, and how many of them are solved."""
    rows = sets.query("use == 'evaluation'")
    tier = rows["tier"].map(TIERS_OF[3].index).clip(upper=tiers - 1)
    return np.bincount(tier, rows["total"]), np.bincount(tier, rows["correct"])


def pass_rates(sets: pd.DataFrame, tiers: int) -> Array:
    """Pass@1 of the evaluation sets of Table 6 or 7 by tier, as shares."""
    total, correct = tier_counts(sets, tiers)
    return correct / total


def training_mean(sets: pd.DataFrame) -> float:
    """Mean length of the MATH row that the predictor was trained on, tokens; that of GSM8K is misprinted in Table 6."""
    return sets.query("use == 'predictor'").set_index("name")["mean_length"]["MATH"]


def fit_lengths(row: pd.Series, rates: Array, *, shares: Mapping | None = None, starts: int = 6) -> LengthModel:
    """Fit tiers and, unless ``shares`` are given, streams to a Uniform row by least squares, from several starts.

    The row alone does not tell a tier's rate from its share, so rates are drawn softly (:data:`SOFT`) to the printed ones.
    """
    wanted, tiers, rng = row.unstack(), len(rates), np.random.default_rng(0)

    def build(x: Array) -> LengthModel:
        first, steps, spread, logits, free = np.split(x, [1, tiers, tiers + 1, 2 * tiers + 1])
        medians = np.exp(np.cumsum([*first, *MOST_APART * expit(steps)]))
        parts = zip(wanted.index, free.reshape(-1, tiers - 1), strict=not shares)
        mix = shares or {stream: np.exp(log_softmax(np.append(part, 0.0))) for stream, part in parts}
        return LengthModel(medians, math.exp(spread[0]), expit(logits), mix)

    def residuals(x: Array) -> Array:
        model = build(x)
        errors = uniform_row(model, wanted.columns) - wanted.to_numpy()
        return np.concatenate([errors.ravel(), 100 * (model.rates - rates) / SOFT])

    def start() -> Array:
        share = guess + 0.2 * rng.normal(size=guess.size)
        center = np.array([math.log(2 * wanted.columns[0]), *[0.0] * (tiers - 1), -0.7])
        scale = np.array([*[0.3] * tiers, 0.2])
        return np.concatenate([center + scale * rng.normal(size=tiers + 1), logit(rates), share])

    guess = np.zeros((len(wanted), tiers - 1))
    guess[:, 0] = logit(np.clip(wanted.max(axis=1) / 100 / rates[0], 0.05, 0.9))
    guess = guess.ravel()[: 0 if shares else None]
    fits = [least_squares(residuals, start()) for _ in range(starts)]
    return build(min(fits, key=lambda fit: fit.cost).x)


def fit_forecasts(row: pd.Series, lengths: LengthModel, mean_length: float, shrink: bool = True) -> ForecastModel:
    """Fit slope (between 0 and 1; 1 without ``shrink``) and noise of the forecasts to a Predictor row."""
    # Shares in proportion do not tell the level of the forecasts. But a regression is right on average where it was
    # trained: the center is the mean log length of solutions whose mean length is that of the training data.
    center, wanted = math.log(mean_length) - lengths.spread**2 / 2, row.unstack()

    def build(x: Array) -> ForecastModel:
        return ForecastModel(center, float(expit(x[1])) if shrink else 1.0, math.exp(x[0]))

    def residuals(x: Array) -> Array:
        return (predictor_row(lengths, build(x), wanted.columns) - wanted.to_numpy()).ravel()

    slopes = [[logit(0.3)], [logit(0.7)]] if shrink else [[]]
    starts = [[math.log(noise), *slope] for noise in (0.1, 0.3) for slope in slopes]
    return build(min((least_squares(residuals, start) for start in starts), key=lambda fit: fit.cost).x)


def fit(
    name: str, *, tiers: int = 2, shrink: bool = True, mean_length: float | None = None
) -> tuple[LengthModel, ForecastModel]:
    """Fit a replica of :data:`SOURCES` to the Uniform and the Predictor row of its source; shares may be borrowed."""
    source = SOURCES[name]
    shares = fit(BORROWED[name], tiers=tiers)[0].shares if name in BORROWED else None
    lengths = fit_lengths(source.table["uniform"], pass_rates(source.sets, tiers), shares=shares)
    trained = training_mean(source.sets) if mean_length is None else mean_length
    return lengths, fit_forecasts(source.table["predictor"], lengths, trained, shrink)


def parameters(lengths: LengthModel, forecasts: ForecastModel) -> dict[str, float]:
    """The parameters by name: medians in tokens, shares and rates as fractions."""
    tiers = TIERS_OF[len(lengths.medians)]
    found = {f"median, {tier}": float(value) for tier, value in zip(tiers, lengths.medians, strict=True)}
    found["spread"] = lengths.spread
    found |= {f"rate, {tier}": float(value) for tier, value in zip(tiers, lengths.rates, strict=True)}
    for stream, share in lengths.shares.items():
        found |= {f"{STREAMS[stream]}, {tier}": float(v) for tier, v in zip(tiers[:-1], share[:-1], strict=True)}
    return found | {"slope of the forecasts": forecasts.slope, "noise of the forecasts": forecasts.noise}


def bootstrap(name: str, lengths: LengthModel, forecasts: ForecastModel, times: int = 60) -> pd.DataFrame:
    """:func:`parameters` refitted to rows that the fitted model makes itself, from streams as large as the paper's."""
    rng, source, fits, n = np.random.default_rng(0), SOURCES[name], [], paper.STREAM_SIZE
    shares = lengths.shares if name in BORROWED else None
    for _ in range(times):
        uniform, predictor = {}, {}
        for stream, share in lengths.shares.items():
            tier = rng.choice(len(share), size=n, p=share)
            log_length = np.log(lengths.medians[tier]) + lengths.spread * rng.normal(size=n)
            correct, length = rng.random(n) < lengths.rates[tier], np.exp(log_length)
            forecast = np.exp(forecasts.log_forecast(log_length, rng.normal(size=n)))
            for budget in source.budgets:
                uniform[stream, budget] = 100 * np.mean(correct & (length <= budget))
                predictor[stream, budget] = 100 * np.mean(correct & (length <= budget * (forecast / forecast.mean())))
        again = fit_lengths(pd.Series(uniform), pass_rates(source.sets, 2), shares=shares, starts=2)
        fits.append(parameters(again, fit_forecasts(pd.Series(predictor), again, training_mean(source.sets))))
    return pd.DataFrame(fits)


def leave_one_stream_out(row: pd.Series, rates: Array) -> pd.DataFrame:
    """Fit without a stream, take its share from the cell of its largest budget, and predict its other cells."""
    found = []
    for stream, cells in row.unstack().iterrows():
        fit = fit_lengths(row.drop(stream), rates, starts=2)
        *budgets, last = cells.index
        easiest, hardest = np.eye(len(rates))[[0, -1]]
        most, least = uniform_row(replace(fit, shares={"most": easiest, "least": hardest}), [last])[:, 0]
        first = np.clip((cells[last] - least) / (most - least), 0, 1)
        share = first * easiest + (1 - first) * hardest
        model = uniform_row(replace(fit, shares={stream: share}), budgets)[0]
        found += [(stream, b, cells[b], value, value - cells[b]) for b, value in zip(budgets, model, strict=True)]
    return pd.DataFrame(found, columns=["stream", "budget", "paper", "model", "error"])


def budget_that_fits(lengths: LengthModel, row: pd.Series) -> float:
    """The budget (tokens per query) at which the replica's Uniform row is nearest to a printed one, by least squares."""
    budgets = np.geomspace(64, 4096, 2000)
    model = uniform_row(replace(lengths, shares={stream: lengths.shares[stream] for stream in row.index}), budgets)
    return float(budgets[((model - row.to_numpy()[:, None]) ** 2).sum(axis=0).argmin()])
