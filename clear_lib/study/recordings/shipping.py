"""Shipping: from what was recorded here to `recordings/`, and from there to a profile that the chapters run on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from clear_lib.engines import Engine
from clear_lib.rollouts.grading import Grader, extract_answer
from clear_lib.rollouts.shipped import FOLDER, SHIPPED, SHORT_KEY, STANDS_FOR, digest, kinds, manifest, questions, read
from clear_lib.rollouts.store import KEY, SCHEMA, RolloutStore
from clear_lib.study.pages.provenance import machine
from clear_lib.study.recordings import recording
from clear_lib.study.recordings.importing import LEAST, largest_stream
from clear_lib.study.setup import benchmarks
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.questions import same_text
from clear_lib.study.setup.streams import TIERS

#: A stream takes at most this part of a tier: Mostly-Hard takes 300 of the 332 very hard questions, as in the paper.
PART = 0.91


class Recorded(NamedTuple):
    """How much of a kind of rollouts is recorded: ``there`` of ``wanted``, the first of them without a gap."""

    there: int
    wanted: int


@contextmanager
def timed(profile: Profile, artifacts: str | Path) -> Iterator[None]:
    """Note in ``runs.jsonl`` when a recording ran, on which machine, and how many tokens it kept, however it ends."""
    began, before = datetime.now(UTC), _tokens(profile, artifacts)
    try:
        yield
    finally:
        run = {
            "began": began.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - began).total_seconds()),
            "tokens": _tokens(profile, artifacts) - before,
            "machine": machine(),
        }
        if run["tokens"]:
            with _runs(profile, artifacts).open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")


def _runs(profile: Profile, artifacts: str | Path) -> Path:
    return profile.artifacts(artifacts) / "runs.jsonl"


def _tokens(profile: Profile, artifacts: str | Path) -> int:
    stores = (recording.store(profile, kind, artifacts) for kind in recording.kinds_of(profile))
    return sum(int(store.read(["length"])["length"].sum()) for store in stores)


def pack(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> dict[str, Recorded]:
    """Ship what is recorded of a profile, graded anew by the grader as it is now.

    Needs the text of the questions, see :func:`clear_lib.study.recordings.recording.questions_of`.

    Parameters
    ----------
    profile : Profile
    artifacts : path
        Where the rollouts were recorded.
    folder : path

    Returns
    -------
    dict
        How much of each kind is recorded.
    """
    (folder / profile.name).mkdir(parents=True, exist_ok=True)
    shipped, found = {}, {}
    for kind in recording.kinds_of(profile):
        rows = recording.store(profile, kind, artifacts).read()
        if rows.empty:
            continue
        wanted = recording.requests(profile, kind)[list(KEY)]
        rows = rows.merge(wanted.assign(place=np.arange(len(wanted))), on=list(KEY), how="left", validate="one_to_one")
        if rows["place"].isna().any():
            raise ValueError(
                f"{int(rows['place'].isna().sum())} {kind} rollouts in {artifacts} are not of profile "
                f"{profile.name!r} as it is now"
            )
        rows = rows.astype({"place": np.int64}).sort_values("place", ignore_index=True)
        rows = _graded(rows)
        found[kind] = Recorded(_first_gap(rows["place"]), len(wanted))
        shipped[f"{profile.name}/{kind}.parquet"] = pa.Table.from_pandas(rows[list(SHIPPED)], preserve_index=False)
    ids = [each for table in shipped.values() for each in table["question_id"].to_pylist()]
    listed = manifest(folder)
    files = {name: _write(folder / name, table) for name, table in shipped.items()}
    files["questions.parquet"] = _write(folder / "questions.parquet", _all_questions(ids, profile, folder))
    kept = {name: sha for name, sha in listed["files"].items() if not name.startswith(f"{profile.name}/")}
    about = listed["profiles"].get(profile.name, {})
    runs = _runs(profile, artifacts)
    here = [json.loads(line) for line in runs.read_text(encoding="utf-8").splitlines()] if runs.is_file() else []
    about |= {
        "runs": [*about.get("runs", []), *(run for run in here if run not in about.get("runs", []))],
        "model": profile.model,
        "revision": profile.revision,
        "weights": profile.weights,
        "dtype": profile.dtype,
        "kinds": {kind: each._asdict() for kind, each in found.items()},
    }
    listed = {"files": dict(sorted((kept | files).items())), "profiles": listed["profiles"] | {profile.name: about}}
    _write_manifest(listed, folder)
    return found


def _graded(rows: pd.DataFrame) -> pd.DataFrame:
    """Rollouts with answers and verdicts anew, from their completions and gold answers."""
    answers = list(map(extract_answer, rows["completion"]))
    with Grader() as grader:
        verdicts = grader.grade(list(rows["gold"]), answers)
    return rows.assign(answer=pd.Series(answers, index=rows.index, dtype="string"), verdict=verdicts)


def _first_gap(places: pd.Series) -> int:
    """How many of the sorted places 0, 1, … are there before the first that is missing."""
    gaps = np.flatnonzero(places.to_numpy() != np.arange(len(places)))
    return int(gaps[0]) if gaps.size else len(places)


def _write(path: Path, table: pa.Table) -> str:
    """Write a table and return the SHA-256 of its file."""
    pq.write_table(table, path, compression="zstd", compression_level=19)
    return digest(path)


def _all_questions(ids: Iterable[str], profile: Profile, folder: Path) -> pa.Table:
    """Those that are shipped already, and the ones with these ``question_id``, with their embeddings."""
    from clear_lib.predictor.sentence import Sentence

    before = questions(folder) if "questions.parquet" in manifest(folder)["files"] else None
    new = set(ids) - set(before["question_id"] if before is not None else ())
    sets = [(name, part) for name, known in benchmarks.SETS.items() for part in known.rows]
    tables = [before] if before is not None else []
    if new:
        read = [benchmarks.load(name, part, recording.questions_folder(profile)) for name, part in sets]
        table = pd.concat([each.assign(row=np.arange(len(each))) for each in read], ignore_index=True)
        table = table[table["question_id"].isin(new)].reset_index(drop=True)
        vectors, tokens = Sentence().encode(list(table["question"]))
        table = table.rename(columns={"split": "part"})[["question_id", "dataset", "part", "row"]].assign(
            sha256=_hashes(table["question"]), tokens=tokens, embedding=list(vectors.astype(np.float16))
        )
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True).sort_values(["dataset", "part", "row"], ignore_index=True)
    flat = pa.array(np.concatenate(list(whole["embedding"])).astype(np.float16), pa.float16())
    vectors = pa.FixedSizeListArray.from_arrays(flat, len(flat) // len(whole))
    return pa.Table.from_pandas(whole.drop(columns="embedding"), preserve_index=False).append_column(
        "embedding", vectors
    )


def _hashes(texts: pd.Series) -> list[str]:
    return [hashlib.sha256(text.encode()).hexdigest() for text in same_text(texts)]


def restore(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> int:
    """Put shipped rollouts back where `record` goes on, with the questions' texts; returns how many were put there."""
    put = 0
    for kind in kinds(profile.name, folder):
        store = recording.store(profile, kind, artifacts)
        recorded = store.keys()
        rows = read(profile, kind, folder).merge(
            recording.requests(profile, kind)[[*KEY, "question", "gold"]], on=list(SHORT_KEY)
        )
        rows = rows[[key not in recorded for key in rows[list(KEY)].itertuples(index=False, name=None)]]
        if len(rows):
            store.append(rows[SCHEMA.names])
        put += len(rows)
    return put


def unpack(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> Path:
    """Make a profile of the shipped recordings, as far as they go, with which the chapters run.

    Of each kind it has the rollouts up to the first gap: a random sample of the questions, stratified by data set.
    Texts are stood for, so no question set is needed.

    Returns
    -------
    path
        The file of the profile.

    Raises
    ------
    ValueError
        As :func:`read`, and if no evaluation or no predictor rollouts are shipped.
    """
    tables, found = {}, {}
    for kind in kinds(profile.name, folder):
        rows, wanted = read(profile, kind, folder), manifest(folder)["profiles"][profile.name]["kinds"][kind]["wanted"]
        tables[kind] = _stood_for(rows.iloc[: _first_gap(rows["place"])], folder)
        found[kind] = [len(tables[kind]), wanted]
    for kind in ("evaluation", "predictor"):
        if kind not in tables or tables[kind].empty:
            raise ValueError(
                f"{folder / profile.name} has no {kind} rollouts; record some: make record PROFILE={profile.name}"
            )
    fields = _as_recorded(profile, tables, found)
    if fields["stream_size"] < LEAST:
        raise ValueError(
            f"{folder / profile.name} has too few evaluation rollouts for a stream of {LEAST} queries: "
            f"{fields['pool_per_tier']}; record more: make record PROFILE={profile.name}"
        )
    home = profile.artifacts(artifacts)
    for kind, rows in tables.items():
        _replace(RolloutStore(home / "rollouts" / kind), rows[SCHEMA.names])
    file = home / "profile.yaml"
    file.write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def _stood_for(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Rollouts with stand-ins for question, gold answer and prompt."""
    shas = questions(folder).set_index("question_id")["sha256"]
    if (missing := rows[~rows["question_id"].isin(shas.index)]).size:
        raise ValueError(f"{folder / 'questions.parquet'} has no question {missing['question_id'].iloc[0]!r}")
    text = STANDS_FOR + rows["question_id"].map(shas)
    return rows.assign(question=text, gold=STANDS_FOR, prompt=text)


def _replace(store: RolloutStore, rows: pd.DataFrame) -> None:
    """Rows in place of what a store holds; nothing is written if they are there already."""
    shards = store.shards()
    if len(shards) == 1 and store.read().equals(rows.reset_index(drop=True)):
        return
    for path in shards:
        path.unlink()
    RolloutStore(store.folder).append(rows)


def _as_recorded(
    profile: Profile, tables: Mapping[str, pd.DataFrame], found: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Fields of a profile as far as it is recorded."""
    sizes = {
        kind: {tier: int((rows["tier"] == tier).sum()) for tier in TIERS if (rows["tier"] == tier).any()}
        for kind, rows in tables.items()
    }
    fields = {
        "base": profile.name,
        "engine": "none",
        "recorded": dict(found),
        "pool_per_tier": sizes["evaluation"],
        "predictor_per_tier": sizes["predictor"],
        "easy": sizes.get("easy", {}),
        "stream_size": largest_stream(profile.stream_shares, sizes["evaluation"], profile.stream_size, PART),
    }
    if "rungs" not in tables:
        fields |= {"prompts": {"free": profile.prompts["free"]}, "rungs": {"free": 1.0}, "rung_unit": "free length"}
    if "sampled" not in tables:
        fields |= {"sampled_per_tier": 0}
    return fields


class Verified(NamedTuple):
    """Recorded questions that were decoded again, beside their recording.

    ``equal`` counts completions that are the same to the last token, ``lengths`` those of the same length;
    ``apart`` is the mean absolute difference of the lengths, tokens, and ``shift`` the mean difference;
    ``verdicts`` counts verdicts that changed, ``gained`` those from wrong to correct less those back; ``replayed`` is
    the share of questions of which "solved within b tokens" changed, over budgets b of the profile's fractions.
    """

    questions: int
    batch_size: int
    seed: int
    equal: int
    lengths: int
    apart: float
    shift: float
    verdicts: int
    gained: int
    replayed: float

    def __str__(self) -> str:
        return (
            f"{self.questions} questions decoded again, {self.batch_size} at a time (seed {self.seed}): "
            f"{self.equal} completions equal to the last token, {self.lengths} of the same length; lengths differ by "
            f"{self.apart:.1f} tokens on average (mean shift {self.shift:+.1f}); {self.verdicts} verdicts changed "
            f"({self.gained:+d} correct); solved within a budget: {self.replayed:.1%} of the cells changed"
        )


def verify(profile: Profile, engine: Engine, n: int = 50, seed: int = 0, folder: Path = FOLDER) -> Verified:
    """Decode shipped evaluation questions again, in batches of other questions than when they were recorded.

    Needs the text of the questions, see :func:`clear_lib.study.recordings.recording.questions_of`.

    Parameters
    ----------
    profile : Profile
    engine : Engine
        With the profile's model.
    n, seed : int
        How many questions, and the seed of their choice and order.
    folder : path

    Raises
    ------
    ValueError
        As :func:`clear_lib.rollouts.shipped.read`.
    """
    rows = read(profile, "evaluation", folder)
    rows = rows.iloc[: _first_gap(rows["place"])].sample(n=min(n, len(rows)), random_state=seed)
    rows = rows.merge(recording.requests(profile, "evaluation")[[*KEY, "question", "gold"]], on=list(SHORT_KEY))
    again = engine.generate(list(rows["prompt"]), list(rows["cap"]), progress="decoding again")
    with Grader() as grader:
        verdicts = np.array(grader.grade(list(rows["gold"]), [extract_answer(each.text) for each in again]))
    lengths, before = np.array([each.length for each in again]), rows["length"].to_numpy()
    right, was_right = verdicts == "correct", rows["verdict"].to_numpy() == "correct"
    same = np.array([each.text == text for each, text in zip(again, rows["completion"], strict=True)])
    budgets = np.array(profile.scarcities)[:, None] * before.mean()
    solved, recorded = right & (lengths <= budgets), was_right & (before <= budgets)
    return Verified(
        len(rows),
        profile.batch_size,
        seed,
        int((same & (lengths == before)).sum()),
        int((lengths == before).sum()),
        float(np.abs(lengths - before).mean()),
        float((lengths - before).mean()),
        int((right != was_right).sum()),
        int(right.sum() - was_right.sum()),
        float((solved != recorded).mean()),
    )


def keep(profile: Profile, verified: Verified, folder: Path = FOLDER) -> None:
    """Write what a verification found into the manifest; the same seed and batches replace what stood there."""
    listed = manifest(folder)
    about = listed["profiles"][profile.name]
    same = [
        each
        for each in about.get("verified", [])
        if (each["seed"], each["batch_size"]) != (verified.seed, verified.batch_size)
    ]
    about["verified"] = [*same, verified._asdict()]
    _write_manifest(listed, folder)


def _write_manifest(listed: Mapping[str, Any], folder: Path) -> None:
    path = folder / "manifest.json"
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)
