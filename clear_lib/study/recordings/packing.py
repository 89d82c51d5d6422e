"""Shipped recordings: from what was recorded here to ``recordings/``, and back to rollouts and to a profile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from clear_lib.rollouts.grading import Grader
from clear_lib.rollouts.shipped import FOLDER, SHIPPED, SHORT_KEY, STANDS_FOR, digest, kinds, manifest, questions, read
from clear_lib.rollouts.store import KEY, SCHEMA, RolloutStore
from clear_lib.study.recordings import recording, runs
from clear_lib.study.recordings.tiers import LEAST, largest_stream, sizes_of
from clear_lib.study.setup import benchmarks, profiles
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.questions import same_text

#: A stream takes at most this part of a tier: Mostly-Hard takes 300 of the 332 very hard questions, as in the paper.
PART = 0.91


class Recorded(NamedTuple):
    """How many rollouts of a kind are recorded without a gap (``there``), of how many ``wanted``."""

    there: int
    wanted: int


def pack(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> dict[str, Recorded]:
    """Ship what is recorded of a profile, graded anew; returns how much of each kind there is.

    Needs the texts of the questions, see :func:`clear_lib.study.recordings.recording.questions_of`.
    """
    (folder / profile.name).mkdir(parents=True, exist_ok=True)
    tables, counts = {}, {}
    for kind in recording.kinds_of(profile):
        recorded = recording.store(profile, kind, artifacts).read()
        if recorded.empty:
            continue
        wanted = recording.requests(profile, kind)[list(KEY)]
        rows = _in_order(recorded, wanted, f"{kind} rollouts in {artifacts}", profile)
        with Grader() as grader:
            tables[kind] = recording.graded(rows, grader)
        counts[kind] = Recorded(len(up_to_first_gap(tables[kind])), len(wanted))
    listed, files = manifest(folder), {}
    for kind, rows in tables.items():
        table = pa.Table.from_pandas(rows[list(SHIPPED)], preserve_index=False)
        files[f"{profile.name}/{kind}.parquet"] = write(folder / profile.name / f"{kind}.parquet", table)
    ids = {each for rows in tables.values() for each in rows["question_id"]}
    files["questions.parquet"] = write(folder / "questions.parquet", _question_table(ids, profile, folder))
    others = {name: sha for name, sha in listed["files"].items() if not name.startswith(f"{profile.name}/")}
    about = listed["profiles"].get(profile.name, {})
    logged = about.get("runs", [])
    about |= {
        "runs": [*logged, *(run for run in runs.read_log(profile, artifacts) if run not in logged)],
        "model": profile.model,
        "revision": profile.revision,
        "weights": profile.weights,
        "dtype": profile.dtype,
        "kinds": {kind: count._asdict() for kind, count in counts.items()},
    }
    profiles = listed["profiles"] | {profile.name: about}
    write_manifest({"files": dict(sorted((others | files).items())), "profiles": profiles}, folder)
    return counts


def _in_order(rows: pd.DataFrame, wanted: pd.DataFrame, what: str, profile: Profile) -> pd.DataFrame:
    """Rollouts with their ``place`` among those that are wanted, and sorted by it."""
    rows = rows.merge(wanted.assign(place=np.arange(len(wanted))), on=list(KEY), how="left", validate="one_to_one")
    if strange := int(rows["place"].isna().sum()):
        raise ValueError(f"{strange} {what} are not of profile {profile.name!r} as it is now")
    return rows.astype({"place": np.int64}).sort_values("place", ignore_index=True)


def up_to_first_gap(rows: pd.DataFrame) -> pd.DataFrame:
    """The rollouts at the places 0, 1, … up to the first that is missing, of rollouts sorted by place."""
    return rows[rows["place"].to_numpy() == np.arange(len(rows))]


def _question_table(ids: set[str], profile: Profile, folder: Path) -> pa.Table:
    """The questions that are shipped already and those with these ``question_id``, with their embeddings."""
    tables = [questions(folder)] if "questions.parquet" in manifest(folder)["files"] else []
    if new := ids - {each for table in tables for each in table["question_id"]}:
        sets = [(name, part) for name, known in benchmarks.SETS.items() for part in known.rows]
        read = [benchmarks.load(name, part, recording.questions_folder(profile)) for name, part in sets]
        table = pd.concat([each.assign(row=np.arange(len(each))) for each in read], ignore_index=True)
        tables.append(embedded(table[table["question_id"].isin(new)].rename(columns={"split": "part"})))
    return in_arrow(pd.concat(tables, ignore_index=True).sort_values(["dataset", "part", "row"], ignore_index=True))


def embedded(questions: pd.DataFrame) -> pd.DataFrame:
    """Questions (``question_id, dataset, part, row, question``) with hash and embedding in place of their texts."""
    from clear_lib.predictor.sentence import Sentence

    vectors, tokens = Sentence().encode(list(questions["question"]))
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in same_text(questions["question"])]
    return questions[["question_id", "dataset", "part", "row"]].assign(
        sha256=hashes, tokens=tokens, embedding=list(vectors.astype(np.float16))
    )


def in_arrow(whole: pd.DataFrame) -> pa.Table:
    """Embedded questions as they are shipped."""
    flat = pa.array(np.concatenate(list(whole["embedding"])).astype(np.float16), pa.float16())
    vectors = pa.FixedSizeListArray.from_arrays(flat, len(flat) // len(whole))
    table = pa.Table.from_pandas(whole.drop(columns="embedding"), preserve_index=False)
    return table.append_column("embedding", vectors)


def write(path: Path, table: pa.Table) -> str:
    """Write a table and return the SHA-256 of its file."""
    pq.write_table(table, path, compression="zstd", compression_level=19)
    return digest(path)


def write_manifest(listed: Mapping[str, Any], folder: Path) -> None:
    """Replace the manifest of a folder of shipped recordings."""
    path = folder / "manifest.json"
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def read_shipped(profile: Profile, kind: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The shipped rollouts of a kind, all of them by the profile's model."""
    return read(profile.name, kind, folder, model=profile.model, revision=profile.revision, dtype=profile.dtype)


def restore(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> int:
    """Add the shipped rollouts to those recorded here, with the questions' texts; returns how many were added."""
    added = 0
    for kind in kinds(profile.name, folder):
        store = recording.store(profile, kind, artifacts)
        recorded = store.keys()
        texts = recording.requests(profile, kind)[[*KEY, "question", "gold"]]
        rows = read_shipped(profile, kind, folder).merge(texts, on=list(SHORT_KEY))
        rows = rows[[key not in recorded for key in rows[list(KEY)].itertuples(index=False, name=None)]]
        if len(rows):
            store.append(rows[SCHEMA.names])
        added += len(rows)
    return added


def unpack(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> Path:
    """Make a profile of the shipped recordings, and return its file.

    Of each kind it has the rollouts up to the first gap: a random sample of the questions, stratified by data set.
    Hashes stand in for the texts, so no question set is needed.
    """
    tables, counts = {}, {}
    for kind in kinds(profile.name, folder):
        tables[kind] = _without_texts(up_to_first_gap(read_shipped(profile, kind, folder)), folder)
        wanted = manifest(folder)["profiles"][profile.name]["kinds"][kind]["wanted"]
        counts[kind] = [len(tables[kind]), wanted]
    for kind in ("evaluation", "predictor"):
        if kind not in tables or tables[kind].empty:
            raise ValueError(
                f"{folder / profile.name} has no {kind} rollouts; record some: make record PROFILE={profile.name}"
            )
    fields = _fields(profile, tables) | {"recorded": counts}
    if fields["stream_size"] < LEAST:
        raise ValueError(
            f"{folder / profile.name} has too few evaluation rollouts for a stream of {LEAST} queries: "
            f"{fields['pool_per_tier']}; record more: make record PROFILE={profile.name}"
        )
    for kind, rows in tables.items():
        _replace(recording.store(profile, kind, artifacts), rows[SCHEMA.names])
    file = profile.artifacts(artifacts) / "profile.yaml"
    file.write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def read_unpacked(profile: Profile, kinds: Iterable[str], folder: Path = FOLDER) -> tuple[Profile, list[pd.DataFrame]]:
    """The profile that :func:`unpack` makes, and its rollouts of some kinds; no file stays."""
    with TemporaryDirectory() as home:
        made = profiles.load(unpack(profile, home, folder))
        return made, [recording.load(made, kind, home) for kind in kinds]


def _without_texts(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Rollouts with stand-ins for question, gold answer and prompt."""
    hashes = rows["question_id"].map(questions(folder).set_index("question_id")["sha256"])
    if hashes.isna().any():
        raise ValueError(
            f"{folder / 'questions.parquet'} has no question {rows['question_id'][hashes.isna()].iloc[0]!r}"
        )
    return rows.assign(question=STANDS_FOR + hashes, gold=STANDS_FOR, prompt=STANDS_FOR + hashes)


def _fields(profile: Profile, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Fields of the profile that has these rollouts only."""
    sizes = {kind: sizes_of(rows) for kind, rows in tables.items()}
    fields = {
        "base": profile.name,
        "engine": "none",
        "recorded": {},
        "pool_per_tier": sizes["evaluation"],
        "predictor_per_tier": sizes["predictor"],
        "easy": sizes.get("easy", {}),
        "stream_size": largest_stream(profile.stream_shares, sizes["evaluation"], profile.stream_size, PART),
    }
    if "rungs" not in tables:
        fields |= {"prompts": {"free": profile.prompts["free"]}, "rungs": {}}
    return fields if "sampled" in tables else fields | {"sampled": 0}


def _replace(store: RolloutStore, rows: pd.DataFrame) -> None:
    """Replace what a store holds, unless it holds the same rows."""
    shards = store.shards()
    if len(shards) == 1 and store.read().equals(rows.reset_index(drop=True)):
        return
    for path in shards:
        path.unlink()
    store.append(rows)
