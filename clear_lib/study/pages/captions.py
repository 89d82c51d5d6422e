"""What captions and sentences of the book say of a profile: its model, its questions and its streams."""

from collections.abc import Iterable, Mapping

from clear_lib import reasoner
from clear_lib.study.setup import paper
from clear_lib.study.setup.profiles import Profile


def model_name(profile: Profile) -> str:
    """The model as the subject of a sentence."""
    return f"the {profile.label}" if profile.model == reasoner.NAME else profile.label


def _counted(profile: Profile, kind: str, per_tier: Mapping[str, int]) -> str:
    """Number of questions of a kind and, if not all are recorded yet, of how many."""
    there = sum(per_tier.values())
    wanted = profile.recorded.get(kind, (there, there))[1]
    return f"{there:,}" if wanted == there else f"{there:,} of the {wanted:,}"


def evaluation_questions(profile: Profile) -> str:
    """Number of evaluation questions, with the noun."""
    return f"{_counted(profile, 'evaluation', profile.pool_per_tier)} evaluation questions"


def training_questions(profile: Profile) -> str:
    """Number of questions that predictors are trained on, without a noun."""
    return _counted(profile, "predictor", profile.predictor_per_tier)


def data(profile: Profile, streams: bool = True) -> str:
    """Model, questions and streams, for the caption of a figure."""
    drawn = f"; {profile.stream_seeds} streams of N = {profile.stream_size}" if streams else ""
    return f"{profile.label}, {evaluation_questions(profile)}{drawn}"


def provenance(profile: Profile, policies: Iterable[str] = (), *, intervals: bool = True) -> str:
    """Model, data and intervals of a table, which its caption folds; TALE-EP's teacher, if it is among its policies."""
    recorded = "recorded greedy" if profile.recorded else "greedy"
    if profile.engine == "none" and not profile.recorded:
        recorded = "simulated" if profile.revision == "simulated" else "imported"
    questions = evaluation_questions(profile)
    said = f"\nModel: {profile.label}, {recorded} rollouts, at most {profile.cap:,} tokens; {questions}."
    if "tale-ep" in set(policies):
        said += f" TALE-EP has a {profile.teacher.label}."
    if intervals:
        said += f" {profile.stream_seeds} streams of N = {profile.stream_size}, each from resampled questions;"
        said += " intervals are 95% and cover questions and streams, not the training."
    return said


def stream_size(profile: Profile) -> str:
    """A sentence on the size of a stream beside the paper's, and its reason."""
    n, theirs = profile.stream_size, paper.STREAM_SIZE
    if n == theirs:
        return f"A stream has {n} queries, as in the paper."
    why = "is all that is recorded so far" if profile.recorded else "is all that the pool has"
    said = f"A stream has {n} queries where the paper's has {theirs}: it is drawn from {evaluation_questions(profile)},"
    return f"{said} which {why}.{' Accuracies vary more for that, and so do gains.' if n < theirs / 2 else ''}"
