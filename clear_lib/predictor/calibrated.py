"""Any predictor of thresholds with calibrated uncertainty: a spread of the length and a chance of a correct solution."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from clear_lib.allocation.forecasts import Array, Forecasts, vector
from clear_lib.predictor.base import Predictor, build, fitted, held_out, load

if TYPE_CHECKING:
    import pandas as pd

#: Lower bound of every spread (log tokens): lengths are whole tokens, and even a known style varies a little.
LEAST_SPREAD = 0.02

#: Precision of the normal prior of each slope: a handful of questions fits none.
PRIOR = 4.0


@dataclass(frozen=True)
class Calibration:
    """Corrects forecasts ``y`` of the log length and ``z`` of the log odds of a correct solution on held-out questions.

    The log length of a correct solution is normal with the median ``y + shift + tilt·(y - mean_y)`` and a spread whose
    logarithm is ``log_spread + spread_by_length·(y - mean_y) - spread_by_odds·(z - mean_z)``, clipped to
    ``[least_spread, most_spread]``, the central 95% of the held-out questions: a line does not extrapolate. The log
    odds are ``odds_shift + odds_slope·z`` (Platt scaling).
    """

    mean_y: float
    mean_z: float
    shift: float
    tilt: float
    log_spread: float
    spread_by_length: float
    spread_by_odds: float
    odds_shift: float
    odds_slope: float
    least_spread: float
    most_spread: float

    @classmethod
    def fit(cls, threshold: ArrayLike, logit: ArrayLike, lengths: ArrayLike, correct: ArrayLike) -> Self:
        """Maximum a posteriori estimate (:data:`PRIOR`); ``ValueError`` if no solution is correct.

        All arrays have shape ``(n,)``: predicted length (tokens) and log odds, true length (tokens) and correctness.
        """
        correct, z = np.asarray(correct, dtype=bool), np.asarray(logit, dtype=float)
        y = np.log(vector("threshold", threshold, n=correct.size))
        error = np.log(vector("lengths", lengths, n=correct.size)) - y
        if not correct.any():
            raise ValueError(f"none of the {correct.size} held-out solutions is correct: give more questions")
        mean_y, mean_z = float(y.mean()), float(z.mean())
        dy, dz, error = (y - mean_y)[correct], (z - mean_z)[correct], error[correct]

        def length_loss(parameters: Array) -> float:
            """Negative log posterior of the lengths of correct solutions."""
            shift, tilt, level, by_length, by_odds = parameters
            log_spread = np.clip(level + by_length * dy - by_odds * dz, np.log(LEAST_SPREAD), 5.0)
            residual = (error - shift - tilt * dy) / np.exp(log_spread)
            penalty = PRIOR * (tilt**2 + by_length**2 + by_odds**2) / 2
            return float((residual**2 / 2 + log_spread).sum() + penalty)

        def odds_loss(parameters: Array) -> float:
            """Negative log posterior of correct and wrong."""
            odds = parameters[0] + parameters[1] * z
            likelihood = np.logaddexp(0.0, np.where(correct, -odds, odds)).sum()
            return float(likelihood + PRIOR * (parameters[1] - 1) ** 2 / 2)

        level = np.log(max(float(error.std()), LEAST_SPREAD))
        shift, tilt, level, by_length, by_odds = minimize(length_loss, [error.mean(), 0.0, level, 0.0, 0.0]).x
        spread = np.exp(level + by_length * (y - mean_y) - by_odds * (z - mean_z))
        bounds = np.maximum(np.quantile(spread, [0.025, 0.975]), LEAST_SPREAD)
        estimates = shift, tilt, level, by_length, by_odds, *minimize(odds_loss, [0.0, 1.0]).x, *bounds
        return cls(mean_y, mean_z, *map(float, estimates))

    def apply(self, threshold: ArrayLike, logit: ArrayLike) -> Forecasts:
        """Complete forecasts, shape ``(n,)``. ``threshold`` stays as it is: ``log_median`` is what is corrected."""
        y, z = np.log(vector("threshold", threshold)), np.asarray(logit, dtype=float)
        dy, dz = y - self.mean_y, z - self.mean_z
        log_median = np.maximum(y + self.shift + self.tilt * dy, 0.0)  # a solution has a token
        log_spread = self.log_spread + self.spread_by_length * dy - self.spread_by_odds * dz
        spread = np.clip(np.exp(np.minimum(log_spread, 5.0)), self.least_spread, self.most_spread)
        return Forecasts(threshold, spread, expit(self.odds_shift + self.odds_slope * z), log_median)


class Calibrated(Predictor):
    """A predictor, a classifier of correct and wrong, and the calibration of both on questions that neither has seen.

    The threshold is the predictor's own (eq. 15). The classifier is a logistic regression on words, or on the
    embedding where the predictor is a frozen sentence encoder. Heads for spread and chance, trained jointly with the
    threshold, were better in no proper score in one trial (a small DeBERTa from scratch).

    ``predictor`` is not fitted yet; ``held_out`` is the share of the questions that the calibration is fitted to, and
    ``seed`` that of their choice; ``penalty`` is the L2 penalty of the classifier, if not its default.
    """

    kind = "calibrated"
    options: dict[str, Any] = {}
    calibration: Calibration | None = None
    #: What wins on rollouts that it had not seen, for the wrapper: :func:`clear_lib.serving.tuning.advice`.
    advice: Mapping[str, Any] = {}

    def __init__(
        self, predictor: Predictor | None = None, held_out: float = 0.2, penalty: float | None = None, seed: int = 0
    ) -> None:
        self.options = {"held_out": held_out, "penalty": penalty, "seed": seed}
        self.predictor = predictor
        kind = "sentence-logistic" if getattr(predictor, "kind", None) == "sentence" else "logistic"
        self.classifier = build(kind, {} if penalty is None else {"penalty": penalty})

    def held_out(self, texts: Sequence[str], correct: ArrayLike) -> Array:
        """Mask of the questions that :meth:`fit` leaves to the calibration: the same share of solved and unsolved ones."""
        return held_out(texts, self.options["held_out"], self.options["seed"], correct)

    def fit(self, texts: Sequence[str], lengths: Any, correct: Any) -> Self:
        """Learn from questions, the lengths (tokens) of their solutions, and which of these are correct.

        ``ValueError`` if the arrays differ in length, a length is not above 0, or no held-out solution is correct.
        """
        lengths, correct = np.asarray(lengths), np.asarray(correct, dtype=bool)
        for name, values in {"lengths": lengths, "correct": correct}.items():
            if len(values) != len(texts):
                raise ValueError(f"{name} has {len(values)} values for {len(texts)} questions")
        out, texts = self.held_out(texts, correct), np.asarray(texts, dtype=object)
        train, unseen = list(texts[~out]), list(texts[out])
        self.predictor.fit(train, lengths[~out])
        self.classifier.fit(train, correct[~out])
        predicted = self.predictor.predict(unseen).threshold, self.classifier.logit(unseen)
        self.calibration = Calibration.fit(*predicted, lengths[out], correct[out])
        return self

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """Forecasts with ``spread``, ``solvable`` and ``log_median``, that of correct solutions."""
        calibration = fitted(self.calibration)
        return calibration.apply(self.predictor.predict(texts).threshold, self.classifier.logit(texts))

    def cost(self, texts: Sequence[str]) -> Array:
        """The costs of predictor and classifier, shape ``(n,)``; a sentence encoder serves both."""
        cost = self.predictor.cost(texts)
        return cost if self.classifier.kind == "sentence-logistic" else cost + self.classifier.cost(texts)

    def _files(self) -> dict[str, bytes]:
        parts = {"classifier": self.classifier, "predictor": self.predictor}
        files = {f"{part}/{name}": content for part in parts for name, content in parts[part]._files().items()}
        return files | super()._files()

    def _state(self) -> dict[str, Any]:
        return {"trained_on": self.trained_on, "calibration": asdict(self.calibration), "advice": self.advice}

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        self.predictor, self.classifier = load(folder / "predictor"), load(folder / "classifier")
        self.trained_on, self.calibration = state["trained_on"], Calibration(**state["calibration"])
        self.advice = state.get("advice", {})


def fit_to_rollouts(
    rollouts: pd.DataFrame, kind: str = "ridge", options: Mapping[str, Any] | None = None, *, seed: int = 0
) -> Calibrated:
    """A calibrated predictor of a kind (:func:`build`), fitted to rollouts.

    Their columns are ``question, length, verdict, model``; the models become the predictor's ``trained_on``.
    """
    model = Calibrated(build(kind, options, seed=seed))
    model.fit(list(rollouts["question"]), rollouts["length"], rollouts["verdict"] == "correct")
    model.trained_on = sorted(set(rollouts["model"]))
    return model


def unseen(rollouts: pd.DataFrame, kind: str = "ridge", *, folds: int = 5, seed: int = 0) -> Forecasts:
    """Forecasts of every rollout by a fit to the questions of the other folds; otherwise as :func:`fit_to_rollouts`."""
    questions, which = np.unique(rollouts["question"].to_numpy(dtype=str), return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(questions.size) % folds)[which]
    columns = np.empty((4, len(rollouts)))
    for here in (fold == k for k in np.unique(fold)):
        part = fit_to_rollouts(rollouts[~here], kind, seed=seed).predict(list(rollouts["question"][here]))
        columns[:, here] = part.threshold, part.spread, part.solvable, part.log_median
    return Forecasts(*columns)


class OtherModelWarning(UserWarning):
    """A predictor forecasts one model and was trained on another."""


def warn_of_other_model(trained_on: Sequence[str], used: Sequence[str]) -> bool:
    """Warn (:class:`OtherModelWarning`) if a predictor was trained on other models than it forecasts; True if so.

    Names are compared without the folder or owner before them. Without names in ``trained_on`` there is no warning.
    """
    trained_on, used = sorted(set(trained_on)), sorted(set(used))
    plain = [{Path(model).name.casefold() for model in models} for models in (trained_on, used)]
    if not trained_on or plain[0] == plain[1]:
        return False
    warnings.warn(
        f"THE PREDICTOR WAS TRAINED ON ANOTHER MODEL'S ROLLOUTS: it learned from {', '.join(trained_on)} and "
        f"forecasts {', '.join(used)}. Models differ in how long they think and in what they can solve; expect its "
        f"thresholds to be off in level, and in rank.",
        OtherModelWarning,
        stacklevel=2,
    )
    return True
