"""Rollouts of other programs as a profile of the study: with tiers, streams and forecasts, without a model at hand."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from clear_lib.predictor import Calibrated, warn_of_other_model
from clear_lib.study.recordings.forecasts import cross_fitted, fitted_forecasts
from clear_lib.study.recordings.new_profile import write_profile
from clear_lib.study.recordings.tiers import LEAST, largest_stream, nearest_tier, shares_among, sizes_of, tiers_of
from clear_lib.study.setup import profiles
from clear_lib.study.setup.profiles import PredictorSpec, Profile
from clear_lib.study.setup.streams import TIERS

#: Name of the profile that an import makes.
NAME = "imported"

#: Weights of a model whose name does not say it. They only turn the cost of a forecast into tokens.
PARAMETERS = 1_000_000_000


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

    The first sample of each question is evaluated; where there are more, all are kept as ``sampled`` rollouts. The
    predictor is cross-fitted in ``folds``, or fitted to ``training`` rollouts of other questions, or to a share of the
    questions that is set aside (``hold_out``). What is not given follows from the questions and the model's name.
    """
    models = sorted(set(rollouts["model"]))
    if len(models) > 1:
        raise ValueError(f"these rollouts are of several models; import one of them at a time: {', '.join(models)}")
    evaluation, samples, lessons, notes = _split(rollouts, training, hold_out)
    if parameters is None:
        named = parameters_of(models[0])
        parameters, source = named or PARAMETERS, "by the name" if named else "a guess"
        notes.append(f"{parameters:,} weights ({source}): turns costs of forecasts into tokens")
    forecaster, model, forecasts = _forecasts(evaluation, lessons, parameters, folds)
    evaluation["tier"], rule = tiers_of(evaluation, forecasts["threshold"], tiers)
    notes.append(f"tiers: {rule}")
    profile = _profile(evaluation, forecaster, parameters, stream_size)
    kinds = {"evaluation": evaluation}
    if len(samples) > len(evaluation):
        same = evaluation.set_index("text")[["question_id", "dataset", "tier"]]
        kinds["sampled"] = samples.drop(columns=list(same)).join(same, on="text")
    if lessons is not None:
        learned, _ = tiers_of(lessons, cross_fitted(lessons, forecaster, parameters, folds)["threshold"])
        tier = [nearest_tier(each, profile.tiers) for each in learned]
        kinds["predictor"] = lessons.assign(tier=tier, split="predictor")
    file = write_profile(profile, kinds, forecasts, Path(artifacts), model)
    pool = evaluation.assign(correct=evaluation["verdict"].eq("correct"))
    return Imported(profile, file, pool.merge(forecasts, on="question_id"), tuple(notes))


def _split(
    rollouts: pd.DataFrame, training: pd.DataFrame | None, hold_out: float
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None, list[str]]:
    """The first rollout of each question, all, the training rollouts, of other questions, and notes on what is left out.

    They have the question's ``text`` without case and spacing.
    """
    rollouts, notes = _with_text(rollouts), []
    again = rollouts.duplicated(["text", "sample"])
    if again.any():
        notes.append(f"{again.sum()} rollouts dropped: the same question and sample in an earlier file")
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
            notes.append(f"{shared.sum()} more are of questions that are evaluated, and were left out")
    return evaluation, rollouts, training, notes


def _with_text(rollouts: pd.DataFrame) -> pd.DataFrame:
    return rollouts.assign(text=rollouts["question"].str.casefold().str.split().str.join(" "))


def _models(rollouts: pd.DataFrame) -> str:
    return ", ".join(sorted(set(rollouts["model"])))


def _forecasts(
    evaluation: pd.DataFrame, lessons: pd.DataFrame | None, parameters: int, folds: int
) -> tuple[PredictorSpec, Calibrated | None, pd.DataFrame]:
    """Forecasts of the evaluation questions, after their maker's description and the maker, if there is one."""
    forecaster = PredictorSpec("ridge", f"ridge regression, cross-fitted in {folds} parts", TIERS, "all", {})
    if lessons is None:
        return forecaster, None, cross_fitted(evaluation, forecaster, parameters, folds)
    other = " (ANOTHER MODEL)" if warn_of_other_model(lessons["model"], evaluation["model"]) else ""
    forecaster = replace(forecaster, label=f"ridge regression, trained on {_models(lessons)}{other}")
    return forecaster, *fitted_forecasts(lessons, evaluation, forecaster, parameters)


def _profile(evaluation: pd.DataFrame, forecaster: PredictorSpec, parameters: int, stream_size: int | None) -> Profile:
    """The default profile, but for what the rollouts decide."""
    sizes, base = sizes_of(evaluation), profiles.load("tiny")
    shares = shares_among(base.stream_shares, list(sizes))
    teacher = "stand-in teacher, and no instruction: its caps cut free solutions. Forecasts: "
    return profiles.load(
        "tiny",
        name=NAME,
        model=evaluation["model"].iloc[0],
        revision="unknown",
        model_parameters=parameters,
        engine="none",
        prompts={"free": "{question}"},
        rungs={},
        cap=int(evaluation["cap"].max()),
        tiers=list(sizes),
        pool_per_tier=sizes,
        predictor_per_tier=sizes,
        sampled=0,
        stream_size=_stream_size(shares, sizes, stream_size, base.stream_size),
        stream_shares=shares,
        predictor=replace(forecaster, tiers=tuple(sizes)),
        teacher=replace(forecaster, tiers=tuple(sizes), label=teacher + forecaster.label),
    )


def _stream_size(
    shares: Mapping[str, Sequence[float]], sizes: Mapping[str, int], wanted: int | None, usual: int
) -> int:
    """The number of queries that is wanted, or the largest that the questions allow and is usual."""
    if wanted is None:
        if (largest := largest_stream(shares, sizes, usual)) < LEAST:
            more = "name tiers that hold more, or give a stream size"
            raise ValueError(f"too few questions for a stream of {LEAST} queries: {sizes}; {more}")
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
