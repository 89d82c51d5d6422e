"""Forecasts from the text of a question: the predictor of thresholds, and the teacher of TALE-EP.

All predictors regress the *logarithm* of the length of the model's solution on the question (eq. 15), and their
threshold is the exponential of that. A solution that was stopped by the cap counts with the cap as its length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

from clear_lib.allocation.forecasts import Array, Forecasts, vector
from clear_lib.rollouts import shipped as recordings
from clear_lib.study.setup.profiles import Forecaster, Profile


class Predictor(Protocol):
    """Predicts the emergence threshold of a question from its text."""

    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        """Learn from questions and the lengths (tokens, above 0) of their solutions."""
        ...

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """Forecasts of questions, in their order; ``RuntimeError`` before :meth:`fit`."""
        ...

    def cost(self, texts: Sequence[str]) -> Array:
        """Multiplications by a weight that predicting each question takes: weights in use × tokens read."""
        ...

    def save(self, folder: str | Path) -> None:
        """Write the fitted predictor into a folder, as JSON and safetensors."""
        ...


def build(forecaster: Forecaster, seed: int = 0, checkpoints: str | Path | None = None) -> Predictor:
    """An unfitted predictor as a profile describes it.

    Parameters
    ----------
    forecaster : Forecaster
        Its kind and options.
    seed : int
        Of the kinds that are trained by chance (``"encoder"``, ``"deberta"``).
    checkpoints : path, optional
        Folder in which the training of these leaves its checkpoints, so that it goes on where it was stopped.

    Raises
    ------
    ValueError
        If the kind is unknown or does not know an option.
    """
    trained = forecaster.kind in ("encoder", "deberta")
    made = _new(forecaster.kind, dict(forecaster.options) | ({"seed": seed} if trained else {}))
    if trained:
        made.checkpoints = checkpoints
    return made


def load(folder: str | Path) -> Predictor:
    """Read a predictor that was saved; ``ValueError`` if the folder holds none."""
    path = Path(folder) / "predictor.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no predictor (predictor.json is missing)")
    state = json.loads(path.read_text(encoding="utf-8"))
    predictor = _new(state["kind"], state["options"])
    predictor._restore(Path(folder), state)
    return predictor


def _new(kind: str, options: dict[str, Any]) -> Any:
    if kind == "encoder":
        from clear_lib.predictor.encoder import Encoder as made
    elif kind == "deberta":
        from clear_lib.predictor.deberta import Deberta as made
    elif kind == "sentence":
        from clear_lib.predictor.sentence import Sentence as made
    elif kind == "sentence-chance":
        from clear_lib.predictor.sentence import SentenceChance as made
    elif kind == "ridge":
        from clear_lib.predictor.linear import Ridge as made
    elif kind == "constant":
        from clear_lib.predictor.linear import Constant as made
    elif kind == "chance":
        from clear_lib.predictor.linear import Chance as made
    elif kind == "doubting":
        from clear_lib.predictor.doubting import Doubting as made
    else:
        known = "deberta, encoder, sentence, ridge, constant, doubting"
        raise ValueError(f"unknown kind of predictor {kind!r}; known: {known}")
    try:
        return made(**options)
    except TypeError as error:
        raise ValueError(f"predictor {kind!r}: {error}") from None


def write_state(folder: str | Path, kind: str, options: dict[str, Any], **state: Any) -> Path:
    """Write ``predictor.json`` of a predictor and return its folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"kind": kind, "options": options, **state}, ensure_ascii=False, indent=1)
    (folder / "predictor.json").write_text(text, encoding="utf-8")
    return folder


def log_lengths(texts: Sequence[str], lengths: Any) -> Array:
    """Logarithms of the lengths of ``texts``' solutions; ``ValueError`` names one that is not above 0."""
    lengths = vector("lengths", lengths, n=len(texts))
    if (lengths == 0).any():
        raise ValueError(f"lengths[{int(np.argmax(lengths == 0))}] is 0: a solution has at least one token")
    return np.log(lengths)


def held_out(texts: Sequence[str], share: float, seed: int) -> Array:
    """Which questions to keep out: a bool array of about that share, one question at least unless it is 0.

    A question that occurs twice is on one side, and one question at least is kept.
    """
    kinds, which = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    count = min(max(1, round(share * kinds.size)), kinds.size - 1) if share else 0
    return np.isin(which, np.random.default_rng(seed).permutation(kinds.size)[:count])


def training_rollouts(forecaster: Forecaster, rollouts: pd.DataFrame) -> pd.DataFrame:
    """The rollouts of the predictor split that a predictor or teacher is fitted to.

    Parameters
    ----------
    forecaster : Forecaster
        Says which tiers, and whether all rollouts or the correct ones only.
    rollouts : DataFrame
        Columns ``tier`` and ``verdict`` at least.

    Raises
    ------
    ValueError
        If none is left.
    """
    kept = rollouts[rollouts["tier"].isin(forecaster.tiers)]
    if forecaster.rollouts == "correct":
        kept = kept[kept["verdict"] == "correct"]
    if kept.empty:
        raise ValueError(f"no rollouts to fit: tiers {', '.join(forecaster.tiers)}, {forecaster.rollouts} rollouts")
    return kept


#: Options of those that stand beside a predictor (:func:`rivals`), by their kind. The DeBERTa has random weights.
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
    "constant": ("constant", {}),
    "ridge": ("ridge on TF-IDF", {}),
    "sentence": ("frozen sentence encoder + ridge", {}),
    "encoder": ("small encoder, from scratch", {}),
    "deberta": ("small DeBERTa, from scratch", {"width": 64, "learning_rate": 1e-3}),
}


def rivals(forecaster: Forecaster, texts: Sequence[str] = ()) -> list[Forecaster]:
    """Who stands beside a predictor, fitted to the same rollouts: one of every other kind of :data:`RIVALS`.

    Of questions whose text is not at hand (:mod:`clear_lib.rollouts.shipped`) only those that need none.
    """
    known = (
        RIVALS
        if not texts or not recordings.without_text(texts)
        else {kind: RIVALS[kind] for kind in ("constant", "sentence")}
    )
    others = {kind: rival for kind, rival in known.items() if kind != forecaster.kind}
    return [replace(forecaster, kind=kind, label=label, options=options) for kind, (label, options) in others.items()]


def rank_correlation(frame: pd.DataFrame, parts: dict[str, Sequence[str]]) -> pd.DataFrame:
    """How well forecasts rank (Spearman, section 7.1) and fit (R², Figures 4 and 10) lengths, in parts of a pool.

    Parameters
    ----------
    frame : DataFrame
        Columns ``tier``, ``length`` and ``threshold`` (tokens).
    parts : dict
        Tiers of each part, by its name.

    Returns
    -------
    DataFrame
        Columns ``part, n, spearman, low, high, r2, ratio``; ``low`` and ``high`` bound the central 95% of 500
        resamples of the questions; NaN where all forecasts are the same. ``r2`` is 1 less the squared error of the
        log length over its variance: below 0 the mean length would have been the better forecast. ``ratio`` is the
        median of threshold over length.
    """
    rows = []
    for name, tiers in parts.items():
        pairs = frame.loc[frame["tier"].isin(tiers), ["length", "threshold"]].to_numpy(float).T
        length, threshold = np.log(pairs)
        spread = length.var()
        r2 = 1 - np.square(threshold - length).mean() / spread if spread else np.nan
        found = _spearman(*pairs), *_resampled(_spearman, pairs)
        rows.append((name, pairs.shape[1], *found, r2, float(np.median(pairs[1] / pairs[0]))))
    return pd.DataFrame(rows, columns=["part", "n", "spearman", "low", "high", "r2", "ratio"])


def rank_leads(frame: pd.DataFrame, thresholds: dict[str, Array], parts: dict[str, Sequence[str]]) -> pd.DataFrame:
    """By how much the first of several forecasts ranks the same questions better than each of the others.

    Parameters
    ----------
    frame : DataFrame
        Columns ``tier`` and ``length`` (tokens).
    thresholds : dict
        Forecasts of the questions of ``frame``, in its order, by name. One that is constant is left out.
    parts : dict
        Tiers of each part, by its name.

    Returns
    -------
    DataFrame
        Columns ``part, rival, lead, low, high``: difference of the two Spearman correlations with the lengths, and
        the bounds of its central 95% over 500 resamples of the questions, the same for both.
    """

    def lead(length: Array, mine: Array, theirs: Array) -> float:
        return _spearman(length, mine) - _spearman(length, theirs)

    rows = []
    ours, *others = thresholds
    for part, tiers in parts.items():
        here = frame["tier"].isin(tiers).to_numpy()
        for rival in others:
            values = np.array([frame["length"], thresholds[ours], thresholds[rival]], dtype=float)[:, here]
            if not np.isnan(found := lead(*values)):
                rows.append((part, rival, found, *_resampled(lead, values)))
    return pd.DataFrame(rows, columns=["part", "rival", "lead", "low", "high"])


def _spearman(length: Array, threshold: Array) -> float:
    """NaN where one of them is constant."""
    from scipy.stats import rankdata

    constant = any((values == values[0]).all() for values in (length, threshold))
    return np.nan if constant else float(np.corrcoef(rankdata(length), rankdata(threshold))[0, 1])


def _resampled(statistic: Callable[..., float], values: Array) -> tuple[float, float]:
    """Central 95% of a statistic of the rows of ``values`` over 500 resamples of the columns."""
    rng, n = np.random.default_rng(0), values.shape[1]
    draws = [statistic(*values[:, rng.integers(0, n, n)]) for _ in range(500)]
    return tuple(np.nanpercentile(draws, [2.5, 97.5])) if np.isfinite(draws).any() else (np.nan, np.nan)


def forecast_table(
    predictor: Predictor, teacher: Predictor, questions: pd.DataFrame, model_parameters: int
) -> pd.DataFrame:
    """What predictor and teacher say about questions, and what asking them costs.

    A predictor multiplies its weights with each token it reads; the reasoner does the same with each token it
    writes. So a prediction costs weights in use × tokens read / weights of the reasoner, in tokens of the
    reasoner.

    Parameters
    ----------
    predictor, teacher : Predictor
        Fitted.
    questions : DataFrame
        Columns ``question_id`` and ``question``.
    model_parameters : int
        Weights of the reasoner.

    Returns
    -------
    DataFrame
        Columns ``question_id``, ``threshold`` and ``estimate`` (tokens, of predictor and teacher),
        ``threshold_cost`` and ``estimate_cost`` (tokens of the reasoner); and of a predictor that knows its doubts
        ``spread``, ``solvable`` and ``log_median``, see :class:`~clear_lib.allocation.forecasts.Forecasts`.
    """
    texts = list(questions["question"])
    forecasts = predictor.predict(texts)
    doubts = {"spread": forecasts.spread, "solvable": forecasts.solvable, "log_median": forecasts.log_median}
    return pd.DataFrame(
        {
            "question_id": questions["question_id"].to_numpy(),
            "threshold": forecasts.threshold,
            **(doubts if forecasts.spread is not None else {}),
            "estimate": teacher.predict(texts).threshold,
            "threshold_cost": predictor.cost(texts) / model_parameters,
            "estimate_cost": teacher.cost(texts) / model_parameters,
        }
    )


def forecast_file(profile: Profile, artifacts: str | Path) -> Path:
    """Where the forecasts of a profile are kept."""
    return profile.artifacts(artifacts) / "predictor" / "forecasts.parquet"


def read_forecasts(profile: Profile, artifacts: str | Path) -> pd.DataFrame:
    """The table of :func:`forecast_table` that chapter 06 writes; ``ValueError`` says so if it is missing."""
    path = forecast_file(profile, artifacts)
    if not path.is_file():
        raise ValueError(f"{path} is missing: run notebooks/06_predictor.ipynb with profile {profile.name!r} first")
    return pd.read_parquet(path)
