"""The questions of a profile and the recording of its rollouts.

Four kinds of rollouts make a study. All are recorded by :func:`record`, which goes on where it was stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from time import monotonic

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from clear_lib import engines
from clear_lib.reasoner import CHECKPOINT, tasks
from clear_lib.rollouts.grading import Grader, extract_answer
from clear_lib.rollouts.store import KEY, RolloutStore
from clear_lib.study.setup import benchmarks
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.questions import assert_disjoint, validate

#: What is recorded, and why.
KINDS = {
    "evaluation": "one greedy rollout of every evaluation question: the pool of the streams",
    "rungs": "the same on every rung of the ladder of soft instructions: for TALE-EP",
    "sampled": "several samples of some evaluation questions: for the three phases",
    "predictor": "one greedy rollout of every predictor question: what predictors are trained on",
    "easy": "one greedy rollout of GSM8K's test questions: the Easy tier of Table 6, which is not evaluated on",
}
SHARD, SECONDS = 512, 120.0  # rollouts that are kept at a time, and how long finished ones wait for others at most


def kinds_of(profile: Profile) -> list[str]:
    """The kinds of rollouts that a profile asks for."""
    return [kind for kind in KINDS if kind != "easy" or profile.easy]


def questions_of(profile: Profile, split: str) -> pd.DataFrame:
    """The questions of a profile, tier by tier.

    Of the public sets, a tier with fewer questions than there are is drawn by the profile's seed. Their evaluation sets
    have no easy tier (Table 6); a profile that asks for one gets GSM8K's test part.

    Parameters
    ----------
    profile : Profile
    split : {"evaluation", "predictor"}

    Returns
    -------
    pandas.DataFrame
        The columns of :data:`clear_lib.study.setup.questions.COLUMNS`.

    Raises
    ------
    ValueError
        If the split is unknown, a set cannot be loaded, or a tier has fewer questions than the profile asks for.
    """
    sizes = {"evaluation": profile.pool_per_tier, "predictor": profile.predictor_per_tier, "easy": profile.easy}
    if split not in sizes:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(sizes)}")
    if profile.questions == "generated":
        return validate(pd.concat([tasks.questions(split, tier, n) for tier, n in sizes[split].items()]))
    folder = questions_folder(profile)
    if split == "easy":
        questions = benchmarks.load("GSM8K", "test", folder).assign(split=split)
    else:
        questions = _study(profile.questions, folder)[split]
    if split == "evaluation" and "easy" in profile.pool_per_tier:
        if profile.questions == "paper":
            raise ValueError(
                f"profile {profile.name!r} evaluates an easy tier, GSM8K's test part; under questions: paper "
                f"that is what the predictor learns from. Take questions: clean"
            )
        easy = benchmarks.load("GSM8K", "test", folder).assign(split=split)
        questions = pd.concat([easy, questions], ignore_index=True)
    drawn = []
    for tier, n in sizes[split].items():
        there = np.flatnonzero(questions["tier"] == tier)
        if n > there.size:
            raise ValueError(
                f"profile {profile.name!r} asks for {n} {tier} {split} questions; the sets have {there.size}"
            )
        drawn.append(np.sort(np.random.default_rng(profile.seed).permutation(there)[:n]))
    return questions.iloc[np.concatenate(drawn)].reset_index(drop=True)


def questions_folder(profile: Profile) -> str | None:
    """Folder of the public question sets: the profile's, or ``$CLEAR_BENCHMARKS``; None is the hub."""
    return profile.questions_folder or os.environ.get("CLEAR_BENCHMARKS")


#: Every kind of rollouts asks for the same sets: they are read once. Nobody changes these tables.
_study = cache(benchmarks.study)


def requests(profile: Profile, kind: str) -> pd.DataFrame:
    """Every rollout of a kind that a profile asks for, still to be answered: the rollout's columns up to ``cap``.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of rollouts {kind!r}; known: {', '.join(KINDS)}")
    questions = questions_of(profile, kind if kind in ("predictor", "easy") else "evaluation")
    if kind == "sampled":
        questions = questions.groupby("tier", sort=False).head(profile.sampled_per_tier)
    if profile.questions != "generated":
        questions = in_random_order(questions, profile.seed)
    rungs = list(profile.rungs) if kind == "rungs" else ["free"]
    samples = profile.samples if kind == "sampled" else 1
    table = questions.merge(pd.DataFrame({"rung": rungs}), "cross").merge(
        pd.DataFrame({"sample": range(samples)}), "cross"
    )
    table["prompt"] = list(map(profile.prompt, table["question"], table["rung"]))
    table["seed"] = profile.seed + np.arange(len(table)) if kind == "sampled" else profile.seed
    table["temperature"] = profile.temperature if kind == "sampled" else 0.0
    table["cap"] = profile.cap
    return table.assign(model=profile.model, revision=revision(profile), dtype=profile.dtype)


def in_random_order(questions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Questions in a random order of which every beginning has the data sets in their proportions.

    So a recording that was stopped early is a stratified random sample of the whole.
    """
    place = pd.Series(np.random.default_rng(seed).random(len(questions)), index=questions.index)
    size = questions.groupby("dataset")["dataset"].transform("size")
    return questions.iloc[np.argsort((place.groupby(questions["dataset"]).rank() - 0.5 + place) / size, kind="stable")]


def revision(profile: Profile) -> str:
    """What names the weights: the hash of the shipped checkpoint, or the profile's revision of its model."""
    if profile.model != "embedded":
        return profile.revision
    from hashlib import sha256

    return sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()[:12]


def store(profile: Profile, kind: str, artifacts: str | Path) -> RolloutStore:
    """Where the rollouts of a kind are kept."""
    return RolloutStore(profile.artifacts(artifacts) / "rollouts" / kind)


def record(
    profile: Profile,
    kinds: str | Sequence[str | tuple[str, float]],
    artifacts: str | Path,
    engine: Callable[[], engines.Engine] | None = None,
) -> int:
    """Record rollouts that are not there yet, and grade them; what has come is kept every two minutes at least.

    All are one queue, so that no kind waits for the last long completion of another.

    Parameters
    ----------
    profile : Profile
    kinds : str or sequence
        One of :data:`KINDS`, or some in the order in which they are recorded; or pairs of a kind and the share of its questions
        that is wanted, from the beginning of their random order.
    artifacts : path
        Folder of all profiles' artifacts.
    engine : callable, optional
        Starts the engine, if something is missing; by default the profile's own.

    Returns
    -------
    int
        Rollouts that were recorded now.
    """
    kinds = [kinds] if isinstance(kinds, str) else kinds
    missing = _missing(profile, [(each, 1.0) if isinstance(each, str) else each for each in kinds], artifacts)
    if missing.empty:
        return 0
    if "predictor" in set(missing["kind"]) and profile.questions != "paper":  # there it is the point that they are not
        assert_disjoint(predictor=questions_of(profile, "predictor"), evaluation=questions_of(profile, "evaluation"))
    with _alone(profile.artifacts(artifacts) / "rollouts"):
        return _record(profile, missing, artifacts, engine() if engine else engines.start(profile))


def _record(profile: Profile, missing: pd.DataFrame, artifacts: str | Path, writer: engines.Engine) -> int:
    """Record what is missing."""
    stores = {kind: store(profile, kind, artifacts) for kind in missing["kind"].unique()}
    with Grader() as grader:
        # One temperature at a time: samples come last.
        for temperature, queue in missing.groupby("temperature"):
            stream = writer.stream(
                list(queue["prompt"]),
                list(queue["cap"]),
                float(temperature),
                list(queue["seed"]) if temperature > 0 else None,
                progress=profile.name,
            )
            for batch in _shards(stream):
                rows = _rows(queue.iloc[[position for position, _ in batch]], [each for _, each in batch], grader)
                rows = rows.assign(engine=writer.name, engine_version=writer.version)
                for kind, part in rows.groupby("kind"):
                    stores[kind].append(part.drop(columns="kind"))
    return len(missing)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder of rollouts: two recorders in one would record everything twice."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "recording.lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout:
        raise ValueError(f"another process is recording into {folder}; wait for it, or stop it") from None


def _missing(profile: Profile, kinds: Sequence[tuple[str, float]], artifacts: str | Path) -> pd.DataFrame:
    """What is wanted and not recorded yet, in order, with its ``kind``."""
    tables = []
    for kind, share in kinds:
        wanted = requests(profile, kind).assign(kind=kind)
        wanted = wanted.head(round(share * len(wanted)))
        recorded = store(profile, kind, artifacts).keys()
        tables.append(wanted[[key not in recorded for key in wanted[list(KEY)].itertuples(index=False, name=None)]])
    return pd.concat(tables, ignore_index=True).drop_duplicates(["kind", *KEY], ignore_index=True)


def _rows(wanted: pd.DataFrame, completions: Sequence[engines.Completion], grader: Grader) -> pd.DataFrame:
    """Rollouts of completions, graded."""
    rows = wanted.copy()
    rows["length"] = [completion.length for completion in completions]
    rows["finish_reason"] = [completion.finish_reason for completion in completions]
    rows["completion"] = [completion.text for completion in completions]
    answers = [extract_answer(completion.text) for completion in completions]
    rows["answer"] = pd.Series(answers, index=rows.index, dtype="string")
    rows["verdict"] = grader.grade(list(rows["gold"]), answers)
    return rows


def _shards(stream: Iterator[tuple[int, engines.Completion]]) -> Iterator[list[tuple[int, engines.Completion]]]:
    """A stream in parts of :data:`SHARD`, or of what came within :data:`SECONDS`.

    If it breaks off, what had come is the last part, before the error.
    """
    failure = None
    while failure is None:
        batch, since = [], monotonic()
        try:
            for each in islice(stream, SHARD):
                batch.append(each)
                if monotonic() - since > SECONDS:
                    break
        except (Exception, KeyboardInterrupt) as error:
            failure = error
        if not batch:
            break
        yield batch
    if failure is not None:
        raise failure


def load(profile: Profile, kind: str, artifacts: str | Path) -> pd.DataFrame:
    """The recorded rollouts that a profile asks for, in the order in which it does.

    A profile without an engine asks for what was imported. Its one rung is the free prompt.

    Raises
    ------
    ValueError
        If some are missing; says how many, and the command that records them.
    """
    if profile.engine == "none":
        found = store(profile, kind, artifacts).read()
        if found.empty and kind == "rungs":
            found = store(profile, "evaluation", artifacts).read()
        if found.empty:
            raise ValueError(
                f"profile {profile.name!r} has no {kind} rollouts; import them with `python -m clear_lib import`"
            )
        return found
    wanted = requests(profile, kind)[list(KEY)]
    found = wanted.merge(store(profile, kind, artifacts).read(), on=list(KEY), how="left", validate="one_to_one")
    missing = int(found["length"].isna().sum())
    if missing:
        raise ValueError(
            f"{missing} of {len(wanted)} {kind} rollouts of profile {profile.name!r} are not recorded; run "
            f"`make rollouts PROFILE={profile.name}`"
        )
    return found.astype({"length": np.int64})
