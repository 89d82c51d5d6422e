"""The rollouts that a profile asks for, and their recording, which goes on where it was stopped."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from time import monotonic

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from clear_lib import engines, reasoner
from clear_lib.reasoner import tasks
from clear_lib.rollouts.grading import Grader, extract_answer
from clear_lib.rollouts.store import KEY, RolloutStore, check_writable
from clear_lib.study.setup import benchmarks, models
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.questions import assert_disjoint, validate

#: Kinds of rollouts: what is recorded, and why.
KINDS = {
    "evaluation": "one greedy rollout of every evaluation question: the pool of the streams",
    "rungs": "the same on every rung of the ladder of soft instructions: for TALE-EP",
    "sampled": "several samples of some evaluation questions: for the three phases",
    "predictor": "one greedy rollout of every predictor question: what predictors are trained on",
    "easy": "one greedy rollout of GSM8K's test questions: the Easy tier of Table 6, which is not evaluated on",
}

#: Most rollouts of a shard, and most seconds that a finished rollout waits to be written.
SHARD, SECONDS = 512, 120.0

# Every kind of rollouts asks for the same sets: they are read once. Nobody changes these tables.
_public_sets = cache(benchmarks.study)


def kinds_of(profile: Profile) -> list[str]:
    """The kinds of rollouts that a profile asks for."""
    optional = {"rungs": profile.rungs, "sampled": profile.sampled, "easy": profile.easy}
    return [kind for kind in KINDS if optional.get(kind, True)]


def questions_of(profile: Profile, split: str) -> pd.DataFrame:
    """The questions of a split (evaluation, predictor or easy), tier by tier; a part of a tier is a random draw."""
    sizes = {"evaluation": profile.pool_per_tier, "predictor": profile.predictor_per_tier, "easy": profile.easy}
    if split not in sizes:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(sizes)}")
    if profile.questions == "generated":
        return validate(pd.concat([tasks.questions(split, tier, n) for tier, n in sizes[split].items()]))
    questions, drawn = _public_questions(profile, split), []
    for tier, n in sizes[split].items():
        rows = np.flatnonzero(questions["tier"] == tier)
        if n > rows.size:
            raise ValueError(
                f"profile {profile.name!r} asks for {n} {tier} {split} questions; the sets have {rows.size}"
            )
        drawn.append(np.sort(np.random.default_rng(profile.seed).permutation(rows)[:n]))
    return questions.iloc[np.concatenate(drawn)].reset_index(drop=True)


def _public_questions(profile: Profile, split: str) -> pd.DataFrame:
    """All questions of a split of the public sets; those of the easy tier are the test part of GSM8K."""
    folder = questions_folder(profile)
    if split == "easy":
        return benchmarks.load("GSM8K", "test", folder).assign(split=split)
    questions = _public_sets(profile.questions, folder)[split]
    if split == "predictor" or "easy" not in profile.pool_per_tier:
        return questions
    if profile.questions == "paper":
        raise ValueError(
            f"profile {profile.name!r} evaluates an easy tier, GSM8K's test part; under questions: paper that is what "
            f"the predictor learns from. Take questions: clean"
        )
    return pd.concat([_public_questions(profile, "easy").assign(split=split), questions], ignore_index=True)


def questions_folder(profile: Profile) -> str | None:
    """Folder of the public question sets: the profile's, or ``$CLEAR_BENCHMARKS``; None is the hub."""
    return profile.questions_folder or os.environ.get("CLEAR_BENCHMARKS")


def requests(profile: Profile, kind: str) -> pd.DataFrame:
    """The rollouts of a kind that a profile asks for, before they are generated: their columns up to ``cap``."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of rollouts {kind!r}; known: {', '.join(KINDS)}")
    questions = questions_of(profile, kind if kind in ("predictor", "easy") else "evaluation")
    if kind == "sampled":
        questions = _to_sample(questions, profile)
    if profile.questions != "generated":
        questions = in_random_order(questions, profile.seed)
    rungs = ladder(profile) if kind == "rungs" else {"free": profile.cap}
    samples = range(profile.samples) if kind == "sampled" else [0]
    caps = pd.DataFrame({"rung": list(rungs), "cap": list(rungs.values())})
    table = questions.merge(caps, "cross").merge(pd.DataFrame({"sample": samples}), "cross")
    table = table.assign(
        prompt=list(map(profile.prompt, table["question"], table["rung"])),
        seed=profile.seed + (np.arange(len(table)) if kind == "sampled" else 0),
        temperature=profile.temperature if kind == "sampled" else 0.0,
        model=profile.model,
        revision=revision(profile),
        dtype=profile.dtype,
    )
    return table.sort_values("sample", kind="stable", ignore_index=True)  # who stops early has some of all questions


def _to_sample(questions: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The evaluation questions that are sampled."""
    if isinstance(profile.sampled, int):
        return questions.groupby("tier", sort=False).head(profile.sampled)
    named = {each for ids in profile.sampled.values() for each in ids}
    if missing := named - set(questions["question_id"]):
        raise ValueError(f"profile {profile.name!r} samples {min(missing)!r}, which is no evaluation question")
    return questions[questions["question_id"].isin(named)]


def ladder(profile: Profile) -> dict[str, int]:
    """The prompts of the kind ``rungs`` and their caps: who may write more tokens is told the next rung."""
    rungs = list(profile.rungs)
    following = [int(profile.rungs[rung]) if profile.rung_unit == "tokens" else profile.cap for rung in rungs[1:]]
    return dict(zip(rungs, [*following, profile.cap], strict=True))


def in_random_order(questions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Questions in a random order, stratified: every beginning has the data sets in their proportions.

    So a recording that was stopped early is a stratified random sample of the whole.
    """
    key = pd.Series(np.random.default_rng(seed).random(len(questions)), index=questions.index)
    size = questions.groupby("dataset")["dataset"].transform("size")
    return questions.iloc[np.argsort((key.groupby(questions["dataset"]).rank() - 0.5 + key) / size, kind="stable")]


def revision(profile: Profile) -> str:
    """Version of the weights: the hash of the embedded checkpoint, or the profile's revision of its model."""
    if profile.model != reasoner.NAME:
        return profile.revision
    return sha256((reasoner.CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()[:12]


def store(profile: Profile, kind: str, artifacts: str | Path) -> RolloutStore:
    """Where the rollouts of a kind are kept."""
    return RolloutStore(profile.artifacts(artifacts) / "rollouts" / kind)


def not_in(store: RolloutStore, rows: pd.DataFrame) -> pd.DataFrame:
    """The rollouts that a store does not hold."""
    recorded = store.keys()
    return rows[[key not in recorded for key in rows[list(KEY)].itertuples(index=False, name=None)]]


def record(
    profile: Profile,
    kinds: str | Sequence[tuple[str, float]],
    artifacts: str | Path,
    engine: Callable[[], engines.Engine] | None = None,
    *,
    requests: Callable[[Profile, str], pd.DataFrame] = requests,
    finish: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> int:
    """Generate and grade the rollouts that are missing, and return how many; they are written every two minutes.

    ``kinds`` is one kind, or several in the order of recording, each with the share of its random order that is wanted.
    All are one queue, so no kind waits for the last long completion of another. ``engine`` starts the engine, if
    anything is missing; by default the profile's own. ``requests`` says what a kind asks for, and ``finish`` adds answer
    and verdict to completed rows; by default those of questions of mathematics.
    """
    tables, stores = [], {}
    for kind, share in [(kinds, 1.0)] if isinstance(kinds, str) else kinds:
        wanted, stores[kind] = requests(profile, kind).assign(kind=kind), store(profile, kind, artifacts)
        tables.append(not_in(stores[kind], wanted.head(round(share * len(wanted)))))
    missing = pd.concat(tables, ignore_index=True).drop_duplicates(["kind", *KEY], ignore_index=True)
    if missing.empty:
        return 0
    if "predictor" in set(missing["kind"]) and profile.questions != "paper":  # the paper's own sets do overlap
        assert_disjoint(predictor=questions_of(profile, "predictor"), evaluation=questions_of(profile, "evaluation"))
    with _locked(profile.artifacts(artifacts) / "rollouts"), Grader() as grader:
        started, finish = engine() if engine else models.start(profile), finish or partial(graded, grader=grader)
        for completed in _completed(started, missing, profile.name):
            rows = finish(completed).assign(engine=started.name, engine_version=started.version)
            for kind, part in rows.groupby("kind"):
                stores[kind].append(part.drop(columns="kind"))
    return len(missing)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder of rollouts, if it can be written: two recorders in one would record everything twice."""
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "recording.lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"another process is recording into {folder}; wait for it, or stop it") from None


def _completed(engine: engines.Engine, requests: pd.DataFrame, progress: str) -> Iterator[pd.DataFrame]:
    """Requests with their completions as these come, greedy ones first, in parts of :data:`SHARD` or :data:`SECONDS`.

    What came before an error, or an interrupt, is yielded before it.
    """
    for temperature, queue in requests.groupby("temperature"):
        asked = list(queue["prompt"]), list(queue["cap"]), float(temperature)
        came, since = {}, monotonic()
        try:
            seeds = list(queue["seed"]) if temperature > 0 else None
            for position, completion in engine.stream(*asked, seeds, progress=progress):
                came[position] = completion
                if len(came) == SHARD or monotonic() - since > SECONDS:
                    full, came = came, {}
                    yield with_completions(queue.iloc[list(full)], full.values())
                    since = monotonic()
        finally:
            if came:
                yield with_completions(queue.iloc[list(came)], came.values())


def with_completions(requests: pd.DataFrame, completions: Collection[engines.Completion]) -> pd.DataFrame:
    """Requests with what an engine wrote, not graded yet."""
    return requests.assign(
        length=[each.length for each in completions],
        finish_reason=[each.finish_reason for each in completions],
        completion=[each.text for each in completions],
    )


def graded(rows: pd.DataFrame, grader: Grader) -> pd.DataFrame:
    """Rollouts with the answers in their completions, and the grader's verdicts on these."""
    answers = list(map(extract_answer, rows["completion"]))
    verdicts = grader.grade(list(rows["gold"]), answers)
    return rows.assign(answer=pd.Series(answers, index=rows.index, dtype="string"), verdict=verdicts)


def load(profile: Profile, kind: str, artifacts: str | Path) -> pd.DataFrame:
    """The recorded rollouts of a profile, in the order of :func:`requests`; ``ValueError`` if some are missing.

    A profile without an engine has what was imported, simulated or shipped.
    """
    found = store(profile, kind, artifacts).read()
    if profile.engine != "none":
        wanted = requests(profile, kind)[list(KEY)]
        found = wanted.merge(found, on=list(KEY), validate="one_to_one")
        if missing := len(wanted) - len(found):
            raise ValueError(
                f"{missing} of {len(wanted)} {kind} rollouts of profile {profile.name!r} are not recorded; run "
                f"`make rollouts PROFILE={profile.name}`"
            )
    elif found.empty:
        raise ValueError(
            f"profile {profile.name!r} has no {kind} rollouts; import them with `python -m clear_lib.study import`"
        )
    return found
