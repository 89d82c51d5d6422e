"""Shipped recordings: from what was recorded here to ``recordings/``, and back to rollouts and to a profile."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clear_lib.rollouts.grading import Grader
from clear_lib.rollouts.shipped import FOLDER, SHIPPED, SHORT_KEY, STANDS_FOR, digest, kinds, manifest, questions, read
from clear_lib.rollouts.store import KEY, SCHEMA
from clear_lib.study.recordings import recording, runs
from clear_lib.study.recordings.new_profile import write_file
from clear_lib.study.recordings.tiers import LEAST, largest_stream, sizes_of
from clear_lib.study.setup import benchmarks, profiles
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.questions import same_text

#: A stream takes at most this part of a tier: Mostly-Hard takes 300 of the 332 very hard questions, as in the paper.
PART = 0.91


def pack(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> dict[str, dict[str, int]]:
    """Ship what is recorded of a profile, graded anew; of each kind, how many rollouts are ``there`` of those ``wanted``.

    Those beyond a gap do not count. Needs the texts of the questions, see :func:`.recording.questions_of`.
    """
    tables, counts = {}, {}
    for kind in recording.kinds_of(profile):
        recorded = recording.store(profile, kind, artifacts).read()
        if recorded.empty:
            continue
        wanted = recording.requests(profile, kind)[list(KEY)]
        rows = _in_order(recorded, wanted, f"{kind} rollouts in {artifacts}", profile)
        with Grader() as grader:
            rows = recording.graded(rows, grader)
        counts[kind] = {"there": len(up_to_first_gap(rows)), "wanted": len(wanted)}
        tables[f"{profile.name}/{kind}.parquet"] = pa.Table.from_pandas(rows[list(SHIPPED)], preserve_index=False)
    ids = {each for table in tables.values() for each in table["question_id"].to_pylist()}
    tables["questions.parquet"] = _question_table(ids, profile, folder)
    listed = manifest(folder)
    listed["files"] = {name: sha for name, sha in listed["files"].items() if not name.startswith(f"{profile.name}/")}
    about = listed["profiles"].setdefault(profile.name, {})
    logged = about.get("runs", [])
    about["runs"] = [*logged, *(run for run in runs.read_log(profile, artifacts) if run not in logged)]
    about |= {name: getattr(profile, name) for name in ("model", "revision", "weights", "dtype")} | {"kinds": counts}
    write(tables, listed, folder)
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


def write(tables: Mapping[str, pa.Table], listed: dict[str, Any], folder: Path) -> None:
    """Write tables by their names in a folder of shipped recordings, and its manifest with their SHA-256."""
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / name, compression="zstd", compression_level=19)
        listed["files"][name] = digest(folder / name)
    listed["files"] = dict(sorted(listed["files"].items()))
    path = folder / "manifest.json"
    aside = path.with_suffix(".writing")
    aside.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def read_shipped(profile: Profile, kind: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The shipped rollouts of a kind, all of them by the profile's model."""
    return read(profile.name, kind, folder, model=profile.model, revision=profile.revision, dtype=profile.dtype)


def with_texts(profile: Profile, kind: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The shipped rollouts of a kind with the texts of their questions, which need the question sets."""
    texts = recording.requests(profile, kind)[[*KEY, "question", "gold"]]
    return read_shipped(profile, kind, folder).merge(texts, on=list(SHORT_KEY))


def restore(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> int:
    """Add the shipped rollouts to those recorded here, with the questions' texts; returns how many were added."""
    added = 0
    for kind in kinds(profile.name, folder):
        store = recording.store(profile, kind, artifacts)
        rows = recording.not_in(store, with_texts(profile, kind, folder))
        if len(rows):
            store.append(rows[SCHEMA.names])
        added += len(rows)
    return added


def read_unpacked(profile: Profile, folder: Path = FOLDER) -> tuple[Profile, dict[str, pd.DataFrame]]:
    """The profile of what is shipped, and its rollouts by kind: a random sample, stratified by data set.

    Of each kind they are the rollouts up to the first gap. Hashes stand in for the texts, so no question set is needed.
    """
    place, record = folder / profile.name, f"make record PROFILE={profile.name}"
    tables = {}
    for kind in kinds(profile.name, folder):
        tables[kind] = _without_texts(up_to_first_gap(read_shipped(profile, kind, folder)), folder)
    for kind in ("evaluation", "predictor"):
        if kind not in tables or tables[kind].empty:
            raise ValueError(f"{place} has no {kind} rollouts; record some: {record}")
    sizes = {kind: sizes_of(rows) for kind, rows in tables.items()}
    shipped = manifest(folder)["profiles"][profile.name]["kinds"]
    fields = {
        "engine": "none",
        "recorded": {kind: (len(rows), shipped[kind]["wanted"]) for kind, rows in tables.items()},
        "pool_per_tier": sizes["evaluation"],
        "predictor_per_tier": sizes["predictor"],
        "easy": sizes.get("easy", {}),
        "stream_size": largest_stream(profile.stream_shares, sizes["evaluation"], profile.stream_size, PART),
    }
    if "rungs" not in tables:
        fields |= {"prompts": {"free": profile.prompts["free"]}, "rungs": {}}
    if "sampled" not in tables:
        fields |= {"sampled": 0}
    if fields["stream_size"] < LEAST:
        raise ValueError(
            f"{place} has too few evaluation rollouts for a stream of {LEAST} queries: {sizes['evaluation']}; "
            f"record more: {record}"
        )
    return profiles.load(profile.name, **fields), tables


def _without_texts(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Rollouts with stand-ins for question, gold answer and prompt."""
    hashes = rows["question_id"].map(questions(folder).set_index("question_id")["sha256"])
    if hashes.isna().any():
        missing = rows["question_id"][hashes.isna()].iloc[0]
        raise ValueError(f"{folder / 'questions.parquet'} has no question {missing!r}")
    return rows.assign(question=STANDS_FOR + hashes, gold=STANDS_FOR, prompt=STANDS_FOR + hashes)[SCHEMA.names]


def unpack(profile: Profile, artifacts: str | Path, folder: Path = FOLDER) -> Path:
    """Write the profile of what is shipped and its rollouts, in place of others of the same kinds; the profile's file."""
    made, tables = read_unpacked(profile, folder)
    for kind, rows in tables.items():
        store = recording.store(made, kind, artifacts)
        shutil.rmtree(store.folder, ignore_errors=True)
        store.append(rows)
    return write_file(made, artifacts)
