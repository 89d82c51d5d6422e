"""Other forecasts for a pool, and how good forecasts are: ranks, proper scores (lower is better), calibration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, xlogy
from scipy.stats import beta, norm, rankdata

from clear_lib.allocation.forecasts import Array, Forecasts, vector
from clear_lib.predictor import Predictor, build, fit_to_rollouts
from clear_lib.predictor.calibrated import LEAST_SPREAD
from clear_lib.rollouts import shipped
from clear_lib.study.recordings import recording
from clear_lib.study.setup.profiles import PredictorSpec, Profile

#: Labels and options of the predictors that a profile's own is compared with, by kind. The DeBERTa is not pretrained.
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
    "constant": ("constant", {}),
    "ridge": ("ridge on TF-IDF", {}),
    "sentence": ("frozen sentence encoder + ridge", {}),
    "encoder": ("small encoder, from scratch", {}),
    "deberta": ("small DeBERTa, from scratch", {"width": 64, "learning_rate": 1e-3}),
}

COLUMNS = ["threshold", "spread", "solvable", "log_median"]  # what is forecast
FOLDS = 5  # parts of the evaluation questions; each is forecast by a fit to the others

Parts = Mapping[str, Sequence[str]]  # tiers of each part of a pool


def rivals(forecaster: PredictorSpec, texts: Sequence[str] = ()) -> list[PredictorSpec]:
    """One of every other kind of :data:`RIVALS`, fitted to the same rollouts; without texts, those that need none."""
    kinds = ("constant", "sentence") if texts and shipped.without_text(texts) else RIVALS
    others = {kind: RIVALS[kind] for kind in kinds if kind != forecaster.kind}
    return [replace(forecaster, kind=kind, label=label, options=options) for kind, (label, options) in others.items()]


def unfitted(forecaster: PredictorSpec, **settings: Any) -> Predictor:
    """The predictor that a profile describes; ``settings`` are the seed and the checkpoints."""
    return build(forecaster.kind, forecaster.options, **settings)


def training_rollouts(forecaster: PredictorSpec, rollouts: pd.DataFrame) -> pd.DataFrame:
    """The rollouts (``tier, verdict``) that a predictor or teacher is fitted to; ``ValueError`` if there are none."""
    kept = rollouts["tier"].isin(forecaster.tiers)
    if forecaster.rollouts == "correct":
        kept &= rollouts["verdict"] == "correct"
    if not kept.any():
        raise ValueError(f"no rollouts to fit: tiers {', '.join(forecaster.tiers)}, {forecaster.rollouts} rollouts")
    return rollouts[kept]


def forecast(profile: Profile, pool: pd.DataFrame, artifacts: str | Path) -> tuple[pd.DataFrame, bool]:
    """The pool with forecasts by the teacher's kind, and whether it was cross-fitted since the lessons lack a tier."""
    training, asked = recording.load(profile, "predictor", artifacts), _asked(profile, pool, artifacts)
    crossed = not set(pool["tier"]) <= set(training["tier"])
    fold = np.random.default_rng(0).permutation(len(pool)) % FOLDS if crossed else np.zeros(len(pool))
    new = np.empty((len(pool), len(COLUMNS)))
    for part in np.unique(fold):
        here = fold == part
        fitted = fit_to_rollouts(pd.concat([training, asked[~here]]), profile.teacher.kind, profile.teacher.options)
        new[here] = _columns(fitted, asked["question"][here])
    return pool.assign(**dict(zip(COLUMNS, new.T, strict=True))), crossed


def retrained(profile: Profile, pool: pd.DataFrame, artifacts: str | Path, seed: int) -> pd.DataFrame:
    """The pool with forecasts by the profile's predictor, fitted to as many of its rollouts, drawn with replacement."""
    lessons = training_rollouts(profile.predictor, recording.load(profile, "predictor", artifacts))
    drawn = lessons.sample(frac=1, replace=True, random_state=seed)
    fitted = fit_to_rollouts(drawn, profile.predictor.kind, profile.predictor.options, seed=seed)
    new = _columns(fitted, _asked(profile, pool, artifacts)["question"])
    return pool.assign(**dict(zip(COLUMNS, new.T, strict=True)))


def _asked(profile: Profile, pool: pd.DataFrame, artifacts: str | Path) -> pd.DataFrame:
    """The evaluation rollouts of a pool's questions, in its order."""
    return recording.load(profile, "evaluation", artifacts).set_index("question_id").loc[pool["question_id"]]


def _columns(fitted: Predictor, questions: pd.Series) -> Array:
    forecasts = fitted.predict(list(questions))
    return np.column_stack([getattr(forecasts, name) for name in COLUMNS])


def constant_forecast(lengths: ArrayLike, correct: ArrayLike, n: int) -> Forecasts:
    """The averages of known rollouts, lengths those of the correct ones, as forecasts of ``n`` questions."""
    correct = np.asarray(correct, dtype=bool)
    logs = np.log(np.asarray(lengths, dtype=float)[correct])
    values = np.exp(float(logs.mean())), max(float(logs.std()), LEAST_SPREAD), correct.mean()
    return Forecasts(*(np.full(n, value) for value in values))


def rank_correlation(frame: pd.DataFrame, parts: Parts) -> pd.DataFrame:
    """How well forecasts rank (Spearman) and fit lengths: R² of the log, and the median ``ratio`` of threshold to length."""
    rows = []
    for name, tiers in parts.items():
        pairs = frame.loc[frame["tier"].isin(tiers), ["length", "threshold"]].to_numpy(float).T
        length, threshold = np.log(pairs)
        spread = length.var()
        r2 = 1 - np.square(threshold - length).mean() / spread if spread else np.nan
        ranks = _spearman(*pairs), *_bootstrap(_spearman, pairs)
        rows.append((name, pairs.shape[1], *ranks, r2, float(np.median(pairs[1] / pairs[0]))))
    return pd.DataFrame(rows, columns=["part", "n", "spearman", "low", "high", "r2", "ratio"])


def rank_leads(frame: pd.DataFrame, thresholds: Mapping[str, Array], parts: Parts) -> pd.DataFrame:
    """By how much the first of several forecasts ranks the same questions better (Spearman) than each of the others."""

    def lead(length: Array, first: Array, other: Array) -> float:
        return _spearman(length, first) - _spearman(length, other)

    rows = []
    first, *others = thresholds
    for (part, tiers), rival in product(parts.items(), others):
        here = frame["tier"].isin(tiers).to_numpy()
        values = np.array([frame["length"], thresholds[first], thresholds[rival]], dtype=float)[:, here]
        if not np.isnan(estimate := lead(*values)):
            rows.append((part, rival, estimate, *_bootstrap(lead, values)))
    return pd.DataFrame(rows, columns=["part", "rival", "lead", "low", "high"])


def _spearman(length: Array, threshold: Array) -> float:
    """Spearman's rank correlation; NaN where one of them is constant."""
    constant = any((values == values[0]).all() for values in (length, threshold))
    return np.nan if constant else float(np.corrcoef(rankdata(length), rankdata(threshold))[0, 1])


def _bootstrap(statistic: Callable[..., float], values: Array) -> tuple[float, float]:
    """95% percentile interval over 500 resamples of the columns of ``values``, those without a statistic aside."""
    rng, n = np.random.default_rng(0), values.shape[1]
    draws = [statistic(*values[:, rng.integers(0, n, n)]) for _ in range(500)]
    return tuple(np.nanpercentile(draws, [2.5, 97.5])) if np.isfinite(draws).any() else (np.nan, np.nan)


def crps(forecasts: Forecasts, lengths: ArrayLike) -> Array:
    """Continuous ranked probability score of the log length (log tokens), shape ``(n,)``, in closed form."""
    spread = np.maximum(forecasts.spread, LEAST_SPREAD)
    z = (np.log(vector("lengths", lengths, n=forecasts.n)) - forecasts.log_median) / spread
    return spread * (z * (2 * ndtr(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


def brier(forecasts: Forecasts, correct: ArrayLike) -> Array:
    """Squared error of the probability of a correct solution, shape ``(n,)``."""
    return np.square(forecasts.solvable - np.asarray(correct, dtype=float))


def log_loss(forecasts: Forecasts, correct: ArrayLike) -> Array:
    """Negative log probability of what happened (nats), shape ``(n,)``; infinite where it was excluded."""
    correct = np.asarray(correct, dtype=float)
    return -xlogy(correct, forecasts.solvable) - xlogy(1 - correct, 1 - forecasts.solvable)


def coverage(forecasts: Forecasts, lengths: ArrayLike, levels: Sequence[float] = (0.5, 0.8, 0.95)) -> Array:
    """Share of the lengths inside the central interval of each level, shape ``(len(levels),)``."""
    z = (np.log(vector("lengths", lengths, n=forecasts.n)) - forecasts.log_median) / forecasts.spread
    return np.array([(np.abs(z) <= ndtri((1 + level) / 2)).mean() for level in levels])


def scores(
    named: Mapping[str, Forecasts], frame: pd.DataFrame, parts: Parts, levels: Sequence[float] = (0.5, 0.8, 0.95)
) -> pd.DataFrame:
    """Mean scores and coverage of forecasts, in parts of a pool; lengths are judged on correct solutions."""
    rows = {}
    for part, tiers in parts.items():
        here = frame["tier"].isin(tiers).to_numpy()
        lengths, correct = frame["length"].to_numpy()[here], frame["correct"].to_numpy(bool)[here]
        for name, whole in named.items():
            forecasts = whole.part(here)
            row = {"n": correct.size, "brier": brier(forecasts, correct).mean()}
            row["log_loss"] = log_loss(forecasts, correct).mean()
            if correct.any():
                solved = forecasts.part(correct), lengths[correct]
                row["crps"] = crps(*solved).mean()
                shares = coverage(*solved, levels)
                row |= {f"within {level:.0%}": share for level, share in zip(levels, shares, strict=True)}
            rows[part, name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["part", "forecast"])


def calibration_curve(chance: ArrayLike, correct: ArrayLike, bins: int = 8) -> pd.DataFrame:
    """Calibration curve of the chance in equal-count bins: ``chance, share, low, high`` (95%, Jeffreys), ``n``."""
    chance, correct = vector("chance", chance, high=1.0), np.asarray(correct, dtype=bool)
    parts = [part for part in np.array_split(np.argsort(chance, kind="stable"), bins) if part.size]
    hits, n = np.array([correct[part].sum() for part in parts]), np.array([part.size for part in parts])
    low, high = beta.ppf([[0.025], [0.975]], hits + 0.5, n - hits + 0.5)
    table = {"chance": [chance[part].mean() for part in parts], "share": hits / n, "low": low, "high": high, "n": n}
    return pd.DataFrame(table)


def learning_curve(
    make: Callable[[], Predictor], texts: Sequence[str], lengths: ArrayLike, sizes: Iterable[int]
) -> pd.DataFrame:
    """Squared error of the log length over its variance (a constant gets 1) on a held-out fifth, by training rollouts."""
    texts, logs = np.asarray(texts, dtype=object), np.log(vector("lengths", lengths, n=len(texts)))
    rng, most = np.random.default_rng(0), len(texts) - max(1, len(texts) // 5)
    errors = {min(size, most): [] for size in sizes}
    for _ in range(10):
        order = rng.permutation(len(texts))
        test = order[most:]
        for size, drawn in errors.items():
            fitted = make().fit(list(texts[order[:size]]), np.exp(logs[order[:size]]))
            residual = np.log(fitted.predict(list(texts[test])).threshold) - logs[test]
            drawn.append(np.square(residual).mean() / logs.var())
    rows = {size: (np.mean(drawn), *np.quantile(drawn, [0.025, 0.975])) for size, drawn in errors.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high"]).rename_axis("lessons")
