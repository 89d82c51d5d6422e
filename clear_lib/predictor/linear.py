"""What a predictor has to beat: one length for all, and a ridge regression on words and pairs of words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.predictor import log_lengths, write_state


class Constant:
    """Predicts the geometric mean of the training lengths for every question."""

    level: float | None = None

    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        """See :class:`~clear_lib.predictor.Predictor`."""
        self.level = float(log_lengths(texts, lengths).mean())
        return self

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """See :class:`~clear_lib.predictor.Predictor`."""
        if self.level is None:
            raise RuntimeError("fit the predictor before it predicts")
        return Forecasts(np.full(len(texts), np.exp(self.level)))

    def cost(self, texts: Sequence[str]) -> Array:
        """No weight is multiplied: zeros."""
        return np.zeros(len(texts))

    def save(self, folder: str | Path) -> None:
        """See :class:`~clear_lib.predictor.Predictor`."""
        write_state(folder, "constant", {}, level=self.level)

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        self.level = state["level"]


def log_odds(features: Any, correct: Any, penalty: float) -> tuple[Array, float]:
    """Weights and level of a logistic regression with a ridge."""
    from sklearn.linear_model import LogisticRegression

    correct = np.asarray(correct, dtype=bool)
    if correct.all() or not correct.any():  # nothing to tell apart: as many as there would be one more of each
        share = (correct.sum() + 1) / (correct.size + 2)
        return np.zeros(features.shape[1]), float(np.log(share / (1 - share)))
    regression = LogisticRegression(C=1 / penalty, max_iter=1000).fit(features, correct)
    return regression.coef_[0], float(regression.intercept_[0])


class _Words:
    """A linear model on the TF-IDF weights of words, digits and signs, and of pairs of them."""

    kind: str

    def __init__(self, penalty: float = 1.0, min_count: int = 2) -> None:
        self.options = {"penalty": penalty, "min_count": min_count}
        self.weights: Array | None = None

    def _vectorizer(self, **settings: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(
            token_pattern=r"[A-Za-z]+|\d|[^\sA-Za-z\d]", ngram_range=(1, 2), sublinear_tf=True, norm=None, **settings
        )

    def _learn(self, texts: Sequence[str]) -> Any:
        """The matrix of the training questions, whose terms are the ones that count from now on."""
        # A term may be as rare as it likes in a handful of questions.
        self.vectorizer = self._vectorizer(min_df=self.options["min_count"] if len(texts) > 50 else 1)
        matrix = self.vectorizer.fit_transform(texts)
        # TF-IDF weights are several units each; scaled so that a penalty means the same for any vocabulary.
        self.scale = float(np.sqrt(matrix.power(2).sum(axis=1).mean()))
        return matrix / self.scale

    def _matrix(self, texts: Sequence[str]) -> Any:
        if self.weights is None:
            raise RuntimeError("fit the predictor before it predicts")
        return self.vectorizer.transform(texts) / self.scale

    def _line(self, texts: Sequence[str]) -> Array:
        return self._matrix(texts) @ self.weights + self.level

    def cost(self, texts: Sequence[str]) -> Array:
        """One multiplication for each different term of a question."""
        return self._matrix(texts).getnnz(axis=1).astype(float)

    def save(self, folder: str | Path) -> None:
        """See :class:`~clear_lib.predictor.Predictor`."""
        from safetensors.numpy import save_file

        terms = sorted(self.vectorizer.vocabulary_, key=self.vectorizer.vocabulary_.get)
        folder = write_state(folder, self.kind, self.options, level=self.level, scale=self.scale, terms=terms)
        save_file({"weights": self.weights, "idf": self.vectorizer.idf_}, folder / "weights.safetensors")

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        from safetensors.numpy import load_file

        arrays = load_file(folder / "weights.safetensors")
        self.weights, self.level, self.scale = arrays["weights"], state["level"], state["scale"]
        self.vectorizer = self._vectorizer(vocabulary={term: i for i, term in enumerate(state["terms"])})
        self.vectorizer.idf_ = arrays["idf"]


class Ridge(_Words):
    """Ridge regression on the TF-IDF weights of words, digits and signs, and of pairs of them.

    Parameters
    ----------
    penalty : float
        Strength of the ridge.
    min_count : int
        Questions that a term must be in to count.
    """

    kind = "ridge"

    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        """See :class:`~clear_lib.predictor.Predictor`."""
        from sklearn.linear_model import Ridge as Regression

        target = log_lengths(texts, lengths)
        regression = Regression(alpha=self.options["penalty"]).fit(self._learn(texts), target)
        self.weights, self.level = regression.coef_, float(regression.intercept_)
        return self

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """See :class:`~clear_lib.predictor.Predictor`."""
        return Forecasts(np.exp(self._line(texts)))


class Chance(_Words):
    """Logistic regression on the same terms: the log odds that a solution is correct. Not a predictor of lengths.

    Parameters
    ----------
    penalty, min_count
        See :class:`Ridge`.
    """

    kind = "chance"

    def fit(self, texts: Sequence[str], correct: Any) -> Self:
        """Learn from questions and whether their solutions are correct."""
        self.weights, self.level = log_odds(self._learn(texts), correct, self.options["penalty"])
        return self

    def logit(self, texts: Sequence[str]) -> Array:
        """Log odds of a correct solution, shape ``(len(texts),)``."""
        return self._line(texts)
