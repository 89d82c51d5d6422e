"""Rollouts of other programs as a profile of the study, without a model at hand.

The profile ``imported`` has all that the chapters need: tiers, streams of a size that the questions allow, and
forecasts of every question by a predictor that has not seen it.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clear_lib import predictor
from clear_lib.predictor.doubting import Doubting
from clear_lib.study.recordings.new_profile import clear_folder, write_profile
from clear_lib.study.recordings.tiers import LEAST, largest_stream, nearest_tier, shares_among, sizes_of, tiers_of
from clear_lib.study.setup import profiles
from clear_lib.study.setup.profiles import Forecaster, Profile
from clear_lib.study.setup.streams import TIERS

#: Name of the profile that an import makes.
NAME = "imported"

#: Weights of a model whose name does not say it. They only turn the cost of a forecast into tokens.
PARAMETERS = 1_000_000_000

ANOTHER_MODEL = (
    "THE PREDICTOR WAS TRAINED ON ANOTHER MODEL'S ROLLOUTS: it learned from {taught} and forecasts {used}. Models "
    "differ in how long they think and in what they can solve; expect its thresholds to be off in level, and in rank."
)


class AnotherModel(UserWarning):
    """A predictor forecasts one model and was trained on another."""


def warn_of_another_model(taught: Sequence[str], used: Sequence[str]) -> bool:
    """Warn (:class:`AnotherModel`) if a predictor learned from other models than those that it forecasts.

    A model is the same with and without the folder or the owner before its name. Where it is not known who taught
    (none is given), there is nothing to say.

    Returns
    -------
    bool
        Whether there was reason to.
    """
    taught, used = sorted(set(taught)), sorted(set(used))
    if not taught or _plain_names(taught) == _plain_names(used):
        return False
    warnings.warn(ANOTHER_MODEL.format(taught=", ".join(taught), used=", ".join(used)), AnotherModel, stacklevel=2)
    return True


def _plain_names(models: Sequence[str]) -> set[str]:
    return {Path(model).name.casefold() for model in models}


def teach(lessons: pd.DataFrame, forecaster: Forecaster, folder: str | Path | None = None) -> Doubting:
    """A predictor with doubts, fitted to rollouts.

    Parameters
    ----------
    lessons : DataFrame
        Rollouts: ``question, length, verdict, model``.
    forecaster : Forecaster
        What is fitted.
    folder : path, optional
        Where to save it, together with the names of the models whose rollouts these are (:func:`taught_by`).
    """
    correct = lessons["verdict"].eq("correct").to_numpy()
    pupil = Doubting(predictor.build(forecaster)).fit(list(lessons["question"]), lessons["length"].to_numpy(), correct)
    if folder is not None:
        pupil.save(folder)
        file = Path(folder) / "predictor.json"
        state = json.loads(file.read_text(encoding="utf-8")) | {"taught_by": sorted(set(lessons["model"]))}
        file.write_text(json.dumps(state, ensure_ascii=False, indent=1), encoding="utf-8")
    return pupil


def taught_by(folder: str | Path) -> list[str]:
    """Models whose rollouts taught the predictor that is saved in a folder; none if that was not recorded."""
    return json.loads((Path(folder) / "predictor.json").read_text(encoding="utf-8")).get("taught_by", [])


@dataclass(frozen=True)
class Imported:
    """An imported profile, its file, its questions with length, verdict and forecasts, and the choices made."""

    profile: Profile
    file: Path
    pool: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        profile, pool = self.profile, self.pool
        tiers = pool.groupby("tier", sort=False).agg(
            questions=("length", "size"),
            length=("length", "mean"),
            solved=("correct", "mean"),
            forecast=("threshold", "mean"),
        )
        ranks = pool[["threshold", "length"]].corr("spearman").iloc[0, 1]
        rows = [
            f"profile {profile.name!r}: {profile.model}, {len(pool)} questions, at most {profile.cap} tokens",
            tiers.loc[list(profile.tiers)].round(2).to_string(index_names=False),
            f"streams of N = {profile.stream_size} queries, {profile.stream_seeds} draws of each",
            f"forecasts: {profile.predictor.label}; rank correlation with the length {ranks:.2f}",
            *self.notes,
        ]
        return "\n".join(rows)


def import_rollouts(
    rollouts: pd.DataFrame,
    artifacts: str | Path,
    *,
    training: pd.DataFrame | None = None,
    tiers: Mapping[str, str] | None = None,
    stream_size: int | None = None,
    parameters: int | None = None,
    folds: int = 5,
    hold_out: float = 0.0,
) -> Imported:
    """Make the profile ``imported`` of rollouts of one model, in place of an earlier one.

    Parameters
    ----------
    rollouts : DataFrame
        Of :func:`clear_lib.rollouts.logs.complete`. The first sample of each question is evaluated; if any question has
        several, all are kept as ``sampled`` rollouts.
    artifacts : path
        Folder of all profiles' artifacts.
    training : DataFrame, optional
        Rollouts that the predictor is fitted to, less those of evaluated questions. By default it is cross-fitted.
    tiers : mapping, optional
        Tiers of question sets, see :func:`clear_lib.study.recordings.tiers.tiers_of`.
    stream_size : int, optional
        Queries of a stream; by default as many as the questions allow, and at most the default profile's.
    parameters : int, optional
        Weights of the model; by default read from its name (7B).
    folds : int
        Of the cross-fit.
    hold_out : float
        Share of the questions to set aside as training rollouts instead.

    Raises
    ------
    ValueError
        If several models wrote the rollouts, or there are too few questions for a stream or a predictor.

    Warns
    -----
    AnotherModel
        If another model wrote the training rollouts.
    """
    models = sorted(set(rollouts["model"]))
    if len(models) > 1:
        raise ValueError(f"these rollouts are of several models; import one of them at a time: {', '.join(models)}")
    split, notes = _split(rollouts, training, hold_out)
    if parameters is None:
        named = parameters_of(models[0])
        parameters = named or PARAMETERS
        notes.append(
            f"{parameters:,} weights ({'by the name' if named else 'a guess'}): turns costs of forecasts into tokens"
        )
    folder = clear_folder(Path(artifacts) / NAME)
    forecaster, forecasts = _forecasts(split, parameters, folds, folder)
    split.evaluation["tier"], rule = tiers_of(split.evaluation, forecasts["threshold"], tiers)
    notes.append(f"tiers: {rule}")
    fields = _fields(split.evaluation, forecaster, stream_size) | {"model_parameters": parameters}
    kinds = {"evaluation": split.evaluation}
    if len(split.samples) > len(split.evaluation):
        same = split.evaluation.set_index("text")[["question_id", "dataset", "tier"]]
        kinds["sampled"] = split.samples.drop(columns=list(same)).join(same, on="text")
    if split.training is not None:
        learned, _ = tiers_of(split.training, cross_fitted(split.training, forecaster, parameters, folds)["threshold"])
        tier = [nearest_tier(each, fields["tiers"]) for each in learned]
        kinds["predictor"] = split.training.assign(tier=tier, split="predictor")
    file, profile = write_profile(fields, kinds, forecasts, Path(artifacts))
    pool = split.evaluation.assign(correct=split.evaluation["verdict"].eq("correct"))
    return Imported(profile, file, pool.merge(forecasts, on="question_id"), tuple(notes))


class _Split(NamedTuple):
    """Rollouts with the question's ``text`` without case and spacing; ``evaluation`` has the first of each text."""

    evaluation: pd.DataFrame
    samples: pd.DataFrame
    training: pd.DataFrame | None


def _split(rollouts: pd.DataFrame, training: pd.DataFrame | None, hold_out: float) -> tuple[_Split, list[str]]:
    """Evaluation and training rollouts, which share no question, and notes on what was left out."""
    rollouts, notes = _with_text(rollouts), []
    again = rollouts.duplicated(["text", "sample"])
    if again.any():
        notes.append(f"{int(again.sum())} rollouts dropped: the same question and sample in an earlier file")
        rollouts = rollouts[~again]
    if hold_out:
        if training is not None or not 0 < hold_out < 1:
            raise ValueError(f"hold_out must be between 0 and 1 and without other training rollouts, got {hold_out}")
        texts = rollouts["text"].unique()
        out = rollouts["text"].isin(np.random.default_rng(0).permutation(texts)[: round(hold_out * len(texts))])
        training, rollouts = rollouts[out], rollouts[~out]
    evaluation = rollouts.drop_duplicates("text").reset_index(drop=True)
    if training is not None:
        training = _with_text(training)
        shared = training["text"].isin(set(evaluation["text"]))
        training = training[~shared].drop_duplicates("text").reset_index(drop=True)
        notes.append(f"the predictor learned from {len(training)} rollouts of {_models(training)}")
        if shared.any():
            notes.append(f"{int(shared.sum())} more are of questions that are evaluated, and were left out")
    return _Split(evaluation, rollouts, training), notes


def _with_text(rollouts: pd.DataFrame) -> pd.DataFrame:
    return rollouts.assign(text=rollouts["question"].str.casefold().str.split().str.join(" "))


def _models(rollouts: pd.DataFrame) -> str:
    return ", ".join(sorted(set(rollouts["model"])))


def _forecasts(split: _Split, parameters: int, folds: int, folder: Path) -> tuple[Forecaster, pd.DataFrame]:
    """Forecasts of the evaluation questions, cross-fitted or by a predictor that is saved, and their description."""
    forecaster = Forecaster("ridge", f"ridge regression, cross-fitted in {folds} parts", TIERS, "all", {})
    if split.training is None:
        return forecaster, cross_fitted(split.evaluation, forecaster, parameters, folds)
    label = f"ridge regression, trained on {_models(split.training)}"
    if warn_of_another_model(split.training["model"], split.evaluation["model"]):
        label += " (ANOTHER MODEL)"
    forecaster, home = replace(forecaster, label=label), folder / "predictor" / forecaster.kind
    return forecaster, forecasts_by(split.training, split.evaluation, forecaster, parameters, home)


def forecasts_by(
    training: pd.DataFrame, questions: pd.DataFrame, forecaster: Forecaster, parameters: int, folder: Path | None = None
) -> pd.DataFrame:
    """Forecasts (:func:`clear_lib.predictor.forecast_table`) by a calibrated predictor and a teacher, both fitted here.

    The teacher is the same regression, fitted to all training rollouts; the predictor keeps some for its calibration.
    """
    teacher = predictor.build(forecaster).fit(list(training["question"]), training["length"].to_numpy())
    return predictor.forecast_table(teach(training, forecaster, folder), teacher, questions, parameters)


def cross_fitted(
    rollouts: pd.DataFrame, forecaster: Forecaster, parameters: int, folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Forecasts of every question, in their order, by a fit to the questions of the other folds."""
    if not 2 <= folds <= len(rollouts):
        raise ValueError(f"{len(rollouts)} questions cannot be split into {folds} folds")
    fold = np.random.default_rng(seed).permutation(len(rollouts)) % folds
    parts = [
        forecasts_by(rollouts[fold != part], rollouts[fold == part], forecaster, parameters) for part in range(folds)
    ]
    return pd.concat(parts).set_index("question_id").loc[rollouts["question_id"]].reset_index()


def _fields(evaluation: pd.DataFrame, forecaster: Forecaster, stream_size: int | None) -> dict[str, Any]:
    """Fields of the profile: the default profile's, but for what the rollouts decide."""
    base, sizes = profiles.load("tiny"), sizes_of(evaluation)
    shares, forecaster = shares_among(base.stream_shares, list(sizes)), replace(forecaster, tiers=list(sizes))
    teacher = "stand-in teacher, and no instruction: its caps cut free solutions. Forecasts: "
    return asdict(base) | {
        "name": NAME,
        "model": evaluation["model"].iloc[0],
        "revision": "unknown",
        "engine": "none",
        "prompts": {"free": "{question}"},
        "rungs": {"free": 1.0},
        "cap": int(evaluation["cap"].max()),
        "tiers": list(sizes),
        "pool_per_tier": sizes,
        "predictor_per_tier": sizes,
        "sampled_per_tier": 0,
        "stream_size": _stream_size(shares, sizes, stream_size, base.stream_size),
        "stream_shares": shares,
        "predictor": asdict(forecaster),
        "teacher": asdict(replace(forecaster, label=teacher + forecaster.label)),
    }


def _stream_size(
    shares: Mapping[str, Sequence[float]], sizes: Mapping[str, int], wanted: int | None, usual: int
) -> int:
    """The number of queries that is wanted, or the largest that the questions allow and is usual."""
    if wanted is None:
        if (largest := largest_stream(shares, sizes, usual)) < LEAST:
            raise ValueError(
                f"too few questions for a stream of {LEAST} queries: {sizes}; name tiers that hold more, or give a "
                f"stream size"
            )
        return largest
    if wanted < 1:
        raise ValueError(f"a stream has at least 1 query, got {wanted}")
    if wanted > (most := largest_stream(shares, sizes, wanted, part=1.0)):
        raise ValueError(f"a stream of {wanted} queries needs more questions than there are; at most {most}")
    return wanted


def parameters_of(model: str) -> int | None:
    """Weights of a model whose name says it (7B)."""
    size = re.search(r"(\d+(?:\.\d+)?)b\b", model.lower())
    return round(float(size[1]) * 1e9) if size else None
