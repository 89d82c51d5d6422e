"""Rollouts of your own as a profile: the study without a model at hand.

What :mod:`clear_lib.rollouts.logs` read becomes a profile ``imported`` with everything that the chapters ask for: tiers,
streams of a size that the questions allow, and forecasts of every question by a predictor that has not seen it.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from clear_lib import predictor
from clear_lib.predictor.doubting import Doubting
from clear_lib.rollouts.store import SCHEMA
from clear_lib.study.recordings import recording
from clear_lib.study.setup import profiles, streams
from clear_lib.study.setup.profiles import Forecaster, Profile

#: Name of the profile that an import makes.
NAME = "imported"

#: A stream takes at most this part of a tier, so that its draws differ (as in the default profile).
PART = 0.6

#: Queries of the smallest stream that is worth drawing.
LEAST = 8

#: Tier of a known question set, as Table 6 has it, by a part of its name; the first that fits.
TIER_OF_SET = {
    "gsm8k": "easy",
    "minerva": "very hard",
    "math": "moderate",
    "olympiad": "hard",
    "amc": "hard",
    "aime": "very hard",
}

#: Tier of a level of the MATH data.
TIER_OF_LEVEL = {"1": "easy", "2": "easy", "3": "moderate", "4": "hard", "5": "very hard"}

#: Weights of a model whose name does not tell. They only turn the cost of a forecast into tokens.
PARAMETERS = 1_000_000_000

ANOTHER_MODEL = (
    "THE PREDICTOR WAS TRAINED ON ANOTHER MODEL'S ROLLOUTS: it learned from {taught} and forecasts {used}. Models "
    "differ in how long they think and in what they can solve; expect its thresholds to be off in level, and in rank."
)


class AnotherModel(UserWarning):
    """A predictor forecasts one model and was trained on another."""


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes
    ----------
    profile : Profile
    file : Path
        The profile's own file; ``profiles.load(file)`` reads it.
    pool : DataFrame
        A row a question: ``tier``, ``length``, ``correct`` and the forecasts.
    notes : tuple of str
        Choices that were made.
    """

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
        ranks = pool[["threshold", "length"]].rank().corr().iloc[0, 1]
        rows = [
            f"profile {profile.name!r}: {profile.model}, {len(pool)} questions, at most {profile.cap} tokens",
            tiers.loc[list(profile.tiers)].round(2).to_string(index_names=False),
            f"streams of N = {profile.stream_size} queries, {profile.stream_seeds} draws of each",
            f"forecasts: {profile.predictor.label}; rank correlation with the length {ranks:.2f}",
            *self.notes,
        ]
        return "\n".join(rows)


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


def forecasts_by(
    lessons: pd.DataFrame,
    questions: pd.DataFrame,
    forecaster: Forecaster,
    model_parameters: int,
    folder: str | Path | None = None,
) -> pd.DataFrame:
    """Forecasts of questions by a predictor with doubts, and a teacher for TALE-EP, fitted to other rollouts.

    Parameters
    ----------
    lessons : DataFrame
        Rollouts: ``question, length, verdict, model``.
    questions : DataFrame
        ``question_id, question``.
    forecaster : Forecaster
        What is fitted. The teacher is the same regression, fitted to all lessons; the predictor keeps some of them
        to measure its doubts.
    model_parameters : int
        See :func:`clear_lib.predictor.forecast_table`.
    folder : path, optional
        Where to leave the predictor, see :func:`teach`.

    Returns
    -------
    DataFrame
        Of :func:`clear_lib.predictor.forecast_table`.
    """
    teacher = predictor.build(forecaster).fit(list(lessons["question"]), lessons["length"].to_numpy())
    return predictor.forecast_table(teach(lessons, forecaster, folder), teacher, questions, model_parameters)


def cross_fitted(
    rollouts: pd.DataFrame, forecaster: Forecaster, model_parameters: int, folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Forecasts of every question by a fit to the others.

    Parameters
    ----------
    rollouts : DataFrame
        One rollout a question: ``question_id, question, length, verdict``.
    forecaster, model_parameters
        See :func:`forecasts_by`.
    folds : int
        Parts of the questions; each is forecast by a fit to the rest.
    seed : int
        Of the parts.

    Returns
    -------
    DataFrame
        Of :func:`clear_lib.predictor.forecast_table`, in the order of the rollouts.

    Raises
    ------
    ValueError
        If there are fewer questions than folds, or so few correct ones that doubts cannot be measured.
    """
    if not 2 <= folds <= len(rollouts):
        raise ValueError(f"{len(rollouts)} questions cannot be split into {folds} folds")
    fold = np.random.default_rng(seed).permutation(len(rollouts)) % folds
    parts = [
        forecasts_by(rollouts[fold != part], rollouts[fold == part], forecaster, model_parameters)
        for part in range(folds)
    ]
    return pd.concat(parts).set_index("question_id").loc[rollouts["question_id"]].reset_index()


def tiers_of(
    rollouts: pd.DataFrame, threshold: Sequence[float], named: Mapping[str, str] | None = None
) -> tuple[pd.Series, str]:
    """The tier of each question, and the rule that gave it: the first that gives at least two tiers.

    Parameters
    ----------
    rollouts : DataFrame
        ``tier`` (or ``""``), ``dataset``, ``level`` (or None).
    threshold : array of shape (n,)
        Forecast lengths, tokens: where nothing else tells questions apart, their quarters are the tiers. Nothing that
        was observed of a question itself goes into its forecast.
    named : mapping, optional
        Tiers of question sets, by name; goes before everything else.

    Raises
    ------
    ValueError
        If a set is given a tier that does not exist, or some sets are given a tier and others are not.
    """
    sets = rollouts["dataset"]
    if named:
        for name, tier in named.items():
            if tier not in streams.TIERS:
                raise ValueError(f"unknown tier {tier!r} of {name!r}; known: {', '.join(streams.TIERS)}")
        if missing := sorted(set(sets) - set(named)):
            raise ValueError(f"no tier is given for: {', '.join(missing)}")
    known = {
        name: next((tier for part, tier in TIER_OF_SET.items() if part in name.lower()), None) for name in set(sets)
    }
    levels = rollouts["level"].map(lambda level: TIER_OF_LEVEL.get(re.sub(r"\D", "", str(level))))
    quarters = np.minimum(pd.Series(threshold).rank(method="first", pct=True).to_numpy() * 4, 3.999).astype(int)
    rules = {
        "as given": sets.map(dict(named)) if named else sets.map({}),
        "as recorded": rollouts["tier"].where(rollouts["tier"].isin(streams.TIERS)),
        "by question set (Table 6)": sets.map(known),
        "by level": levels,
        "quarters of the forecast length": pd.Series(
            [streams.TIERS[quarter] for quarter in quarters], index=sets.index
        ),
    }
    for rule, tiers in rules.items():
        if tiers.notna().all() and (tiers.nunique() > 1 or named):
            break
    return tiers.astype(str), rule


def shares_of(shares: Mapping[str, Sequence[float]], tiers: Sequence[str]) -> dict[str, list[float]]:
    """Tier shares of the streams when some tiers are empty: their share goes to the nearest tier, the easier of two."""
    moved = {}
    for stream, given in shares.items():
        moved[stream] = [0.0] * len(streams.TIERS)
        for tier, share in zip(streams.TIERS, given, strict=True):
            moved[stream][streams.TIERS.index(nearest(tier, tiers))] += share
    return moved


def nearest(tier: str, tiers: Sequence[str]) -> str:
    """The tier among ``tiers`` that is nearest in difficulty, the easier of two."""
    present = [name for name in streams.TIERS if name in tiers]
    return min(present, key=lambda name: abs(streams.TIERS.index(name) - streams.TIERS.index(tier)))


def largest_stream(
    shares: Mapping[str, Sequence[float]], pool: Mapping[str, int], most: int, part: float = PART
) -> int:
    """Queries of the largest stream for which no mixture takes more than a part of a tier, at most ``most``.

    Parameters
    ----------
    shares : mapping
        Tier shares of each stream.
    pool : mapping
        Questions of each tier.
    most : int
    part : float
        Of each tier's questions.
    """
    there = np.floor(part * np.array([pool.get(tier, 0) for tier in streams.TIERS]))
    fits = (
        n for n in range(most, 0, -1) if all((streams.tier_counts(each, n) <= there).all() for each in shares.values())
    )
    return next(fits, 0)


def weights_of(model: str) -> int | None:
    """Weights of a model whose name tells (7B)."""
    size = re.search(r"(\d+(?:\.\d+)?)b\b", model.lower())
    return round(float(size[1]) * 1e9) if size else None


def adopt(
    rollouts: pd.DataFrame,
    artifacts: str | Path,
    *,
    lessons: pd.DataFrame | None = None,
    tiers: Mapping[str, str] | None = None,
    stream_size: int | None = None,
    parameters: int | None = None,
    folds: int = 5,
    hold_out: float = 0.0,
) -> Imported:
    """Make the profile ``imported`` of rollouts, in place of an earlier one.

    Parameters
    ----------
    rollouts : DataFrame
        Of :func:`clear_lib.rollouts.logs.complete`. The first sample of each question is its solution; where there are more,
        all of them are the ``sampled`` rollouts.
    artifacts : path
        Folder of all profiles' artifacts.
    lessons : DataFrame, optional
        Rollouts for the predictor to learn from. Without them it is cross-fitted (:func:`cross_fitted`). Questions that
        are evaluated are left out of them.
    tiers : mapping, optional
        Tiers of question sets, see :func:`tiers_of`.
    stream_size : int, optional
        Queries of a stream; by default :func:`largest_stream`, at most the default profile's.
    parameters : int, optional
        Weights of the model; by default read from its name (7B).
    folds : int
        Of the cross-fit.
    hold_out : float
        Share of the questions to set aside as lessons instead. They are not evaluated then.

    Returns
    -------
    Imported

    Raises
    ------
    ValueError
        If several models wrote the rollouts, if there are too few questions for a stream or a predictor.

    Warns
    -----
    AnotherModel
        If another model wrote the lessons.
    """
    plain = rollouts["question"].str.casefold().str.split().str.join(" ")
    again = pd.DataFrame({"question": plain, "sample": rollouts["sample"]}).duplicated()
    rollouts, plain, notes = rollouts[~again], plain[~again], []
    if again.any():
        notes.append(f"{int(again.sum())} rollouts dropped: the same question and sample in an earlier file")
    if hold_out:
        if lessons is not None or not 0 < hold_out < 1:
            raise ValueError(f"hold_out must be between 0 and 1 and without other lessons, got {hold_out}")
        aside = np.random.default_rng(0).permutation(plain.unique())[: round(hold_out * plain.nunique())]
        out = plain.isin(aside)
        lessons, rollouts, plain = rollouts[out & ~plain.duplicated()], rollouts[~out], plain[~out]
    firsts = ~plain.duplicated()
    evaluation, base = rollouts[firsts].reset_index(drop=True), profiles.load("tiny")
    models = sorted(set(rollouts["model"]))
    if len(models) > 1:
        raise ValueError(f"these rollouts are of several models; import one of them at a time: {', '.join(models)}")
    if parameters is None:
        named = weights_of(models[0])
        parameters = named or PARAMETERS
        notes.append(
            f"{parameters:,} weights ({'by the name' if named else 'a guess'}): turns costs of forecasts into tokens"
        )

    folder = clear_out(Path(artifacts) / NAME)
    forecaster = Forecaster("ridge", f"ridge regression, cross-fitted in {folds} parts", streams.TIERS, "all", {})
    if lessons is None:
        forecasts = cross_fitted(evaluation, forecaster, parameters, folds)
    else:
        taught = lessons["question"].str.casefold().str.split().str.join(" ")
        shared = taught.isin(set(plain))
        lessons = lessons[~shared & ~taught.duplicated()].reset_index(drop=True)
        notes.append(
            f"the predictor learned from {len(lessons)} rollouts of {', '.join(sorted(set(lessons['model'])))}"
        )
        if shared.any():
            notes.append(f"{int(shared.sum())} more are of questions that are evaluated, and were left out")
        label = f"ridge regression, trained on {', '.join(sorted(set(lessons['model'])))}"
        if warn_of_another_model(lessons["model"], models):
            label += " (ANOTHER MODEL)"
        forecaster = replace(forecaster, label=label)
        forecasts = forecasts_by(lessons, evaluation, forecaster, parameters, folder / "predictor" / forecaster.kind)

    evaluation["tier"], rule = tiers_of(evaluation, forecasts["threshold"], tiers)
    notes.append(f"tiers: {rule}")
    present = [tier for tier in streams.TIERS if (evaluation["tier"] == tier).any()]
    sizes = {tier: int((evaluation["tier"] == tier).sum()) for tier in present}
    shares = shares_of(base.stream_shares, present)
    largest = largest_stream(shares, sizes, base.stream_size)
    if stream_size is None and largest < LEAST:
        raise ValueError(
            f"too few questions for a stream of {LEAST} queries: {sizes}; name tiers that hold more, or give a "
            f"stream size"
        )
    if stream_size is not None and not 1 <= stream_size <= (
        most := largest_stream(shares, sizes, stream_size + 1, 1.0)
    ):
        raise ValueError(f"a stream of {stream_size} queries needs more questions than there are; at most {most}")

    settings = asdict(base) | {
        "name": NAME,
        "model": models[0],
        "revision": "unknown",
        "model_parameters": parameters,
        "engine": "none",
        "prompts": {"free": "{question}"},
        "rungs": {"free": 1.0},
        "cap": int(evaluation["cap"].max()),
        "tiers": present,
        "pool_per_tier": sizes,
        "predictor_per_tier": sizes,
        "sampled_per_tier": 0,
        "stream_size": stream_size or largest,
        "stream_shares": shares,
        "predictor": asdict(replace(forecaster, tiers=present)),
        "teacher": asdict(
            replace(
                forecaster,
                tiers=present,
                label="stand-in teacher, and no instruction: its "
                f"caps cut free solutions. Forecasts: {forecaster.label}",
            )
        ),
    }
    kinds = {"evaluation": evaluation}
    if not firsts.all():
        same = evaluation.set_index(plain[firsts].to_numpy())[["question_id", "dataset", "tier"]]
        kinds["sampled"] = rollouts.assign(**{name: plain.map(same[name]) for name in same})
    if lessons is not None:
        learned, _ = tiers_of(lessons, cross_fitted(lessons, forecaster, parameters, folds)["threshold"])
        kinds["predictor"] = lessons.assign(tier=[nearest(tier, present) for tier in learned], split="predictor")
    file, profile = leave(settings, kinds, forecasts, Path(artifacts))
    pool = evaluation.assign(correct=evaluation["verdict"].eq("correct")).merge(forecasts, on="question_id")
    return Imported(profile, file, pool, tuple(notes))


def clear_out(folder: Path) -> Path:
    """The folder of a made profile, without what an earlier one left in it."""
    for made in ("rollouts", "predictor", "results"):
        shutil.rmtree(folder / made, ignore_errors=True)
    return folder


def leave(
    settings: Mapping[str, Any], kinds: Mapping[str, pd.DataFrame], forecasts: pd.DataFrame, artifacts: Path
) -> tuple[Path, Profile]:
    """Leave a made profile (its fields), its rollouts by kind and its forecasts where the chapters look for them."""
    file = artifacts / settings["name"] / "profile.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True), encoding="utf-8")
    profile = profiles.load(file)
    for kind, rows in kinds.items():
        recording.store(profile, kind, artifacts).append(rows[SCHEMA.names])
    path = predictor.forecast_file(profile, artifacts)
    path.parent.mkdir(parents=True, exist_ok=True)
    forecasts.to_parquet(path)
    return file, profile


def _plain(value: Any) -> Any:
    """Tuples as lists, as YAML has them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
