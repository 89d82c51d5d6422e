"""Linear models: one length for all questions, and regressions on words and pairs of words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.linear_model import Ridge as RidgeRegression

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.predictor.base import Model, Predictor, fitted, log_lengths


class LinearModel(Model):
    """Weights and an intercept (``level``) on the features of questions, ``_features(texts)`` of shape ``(n, width)``."""

    state = ("level", "weights")
    weights = None
    penalty = 1.0  # L2

    def _fit_features(self, texts: Sequence[str]) -> Any:
        """Features of the training questions; overridden where they are fitted themselves."""
        return self._features(texts)

    def _linear(self, texts: Sequence[str]) -> Array:
        weights = np.asarray(fitted(self.weights))
        return self._features(texts) @ weights + self.level


class LengthModel(LinearModel, Predictor):
    """A ridge regression of the log length."""

    def _regression(self) -> RidgeRegression | RidgeCV:
        return RidgeRegression(alpha=self.penalty)

    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        target = log_lengths(texts, lengths)
        regression = self._regression().fit(self._fit_features(texts), target)
        self.weights, self.level = regression.coef_, float(regression.intercept_)
        return self

    def predict(self, texts: Sequence[str]) -> Forecasts:
        return Forecasts(np.exp(self._linear(texts)))


class LogisticModel(LinearModel):
    """A logistic regression of correct and wrong."""

    def fit(self, texts: Sequence[str], correct: Any) -> Self:
        """Learn from questions and whether their solutions are correct."""
        features, correct = self._fit_features(texts), np.asarray(correct, dtype=bool)
        if correct.all() or not correct.any():  # nothing to tell apart: the rule of succession
            share = (correct.sum() + 1) / (correct.size + 2)
            self.weights, self.level = np.zeros(features.shape[1]), float(np.log(share / (1 - share)))
        else:
            regression = LogisticRegression(C=1 / self.penalty, max_iter=1000).fit(features, correct)
            self.weights, self.level = regression.coef_[0], float(regression.intercept_[0])
        return self

    def logit(self, texts: Sequence[str]) -> Array:
        """Log odds of a correct solution, shape ``(n,)``."""
        return self._linear(texts)


@dataclass(eq=False)
class Constant(LengthModel):
    """Predicts the geometric mean of the training lengths for every question: a regression without features."""

    kind = "constant"

    def _features(self, texts: Sequence[str]) -> Array:
        return np.zeros((len(texts), 1))

    def cost(self, texts: Sequence[str]) -> Array:
        return np.zeros(len(texts))


@dataclass(eq=False, kw_only=True)
class Words(LinearModel):
    """TF-IDF features of words, digits and signs, and of pairs of them; ``penalty`` is the L2 of the regression.

    A term counts if it is in ``min_count`` questions, or in any where there are 50 training questions at most.
    """

    penalty: float = 1.0
    min_count: int = 2
    state = (*LinearModel.state, "scale", "terms", "idf")

    def _vectorizer(self, **settings: Any) -> TfidfVectorizer:
        pattern = r"[A-Za-z]+|\d|[^\sA-Za-z\d]"
        return TfidfVectorizer(token_pattern=pattern, ngram_range=(1, 2), sublinear_tf=True, norm=None, **settings)

    def _fit_features(self, texts: Sequence[str]) -> Any:
        self.vectorizer = self._vectorizer(min_df=self.min_count if len(texts) > 50 else 1)
        matrix = self.vectorizer.fit_transform(texts)
        self.terms, self.idf = self.vectorizer.get_feature_names_out().tolist(), self.vectorizer.idf_
        # Rows of unit mean square norm: a penalty means the same for any vocabulary.
        self.scale = float(np.sqrt(matrix.power(2).sum(axis=1).mean()))
        return matrix / self.scale

    def _features(self, texts: Sequence[str]) -> Any:
        return self.vectorizer.transform(texts) / self.scale

    def cost(self, texts: Sequence[str]) -> Array:
        """One multiplication for each different term of a question."""
        fitted(self.weights)
        return self._features(texts).getnnz(axis=1).astype(float)

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        super()._restore(folder, state)
        self.vectorizer = self._vectorizer(vocabulary=self.terms)
        self.vectorizer.idf_ = np.array(self.idf)


class Ridge(Words, LengthModel):
    """Ridge regression of the log length on words."""

    kind = "ridge"


class Logistic(Words, LogisticModel):
    """Logistic regression of correct and wrong on words."""

    kind = "logistic"
