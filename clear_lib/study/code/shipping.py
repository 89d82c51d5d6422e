"""Shipped rollouts of code: lengths and verdicts, hashes and embeddings of the tasks, and no text, which is not ours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clear_lib.rollouts.shipped import FOLDER, STANDS_FOR, digest, manifest, questions
from clear_lib.study.code import recording
from clear_lib.study.recordings import packing
from clear_lib.study.setup.profiles import Profile

QUESTIONS = "code/questions.parquet"

#: Columns that are shipped: ``program`` is a hash of the program and its tests.
COLUMNS = [
    *"question_id dataset sample seed temperature cap length finish_reason".split(),
    *"model revision dtype engine engine_version program base plus".split(),
]


def pack(profile: Profile, kind: str, artifacts: str | Path, folder: Path = FOLDER) -> Path:
    """Ship the graded rollouts of a kind and the embeddings of its tasks, beside what is shipped of it already."""
    rows = recording.load(profile, kind, artifacts)
    shipped = read(profile.name, [kind], folder).drop(columns="question")
    texts = rows.drop_duplicates("question_id")[["question_id", "dataset", "question"]]
    rows = pd.concat([rows[COLUMNS], shipped]).drop_duplicates(["question_id", "sample"])
    wanted = recording.requests(profile, kind)[["question_id", "sample"]]
    rows = rows.merge(wanted.assign(place=np.arange(len(wanted)))).sort_values("place", ignore_index=True)
    rows = packing.up_to_first_gap(rows)  # short ones end first: what is beyond a gap is no random part
    texts = texts[texts["question_id"].isin(rows["question_id"])]
    rows = rows[COLUMNS].sort_values(["question_id", "sample"], ignore_index=True)
    name = f"code/{profile.name}/{kind}.parquet"
    tables = {name: pa.Table.from_pandas(rows, preserve_index=False), QUESTIONS: _questions(texts, folder)}
    packing.write(tables, manifest(folder), folder)
    return folder / name


def unshipped(profile: Profile, kind: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The rollouts of a kind that are not shipped yet, before they are generated: what is left to record anywhere."""
    wanted, shipped = recording.requests(profile, kind), read(profile.name, [kind], folder)
    keys = ["question_id", "sample"]
    return wanted[~pd.MultiIndex.from_frame(wanted[keys]).isin(pd.MultiIndex.from_frame(shipped[keys]))]


def _questions(texts: pd.DataFrame, folder: Path) -> pa.Table:
    """The tasks that are shipped already and new ones, with their embeddings; ``row`` is the number of a task."""
    known = questions(folder, QUESTIONS) if QUESTIONS in manifest(folder)["files"] else None
    tables = [] if known is None else [known]
    new = texts if known is None else texts[~texts["question_id"].isin(known["question_id"])]
    if len(new):
        rows = new["question_id"].str.rpartition("/")[2].astype(np.int64)
        tables.append(packing.embedded(new.assign(part="test", row=rows)))
    return packing.in_arrow(pd.concat(tables).sort_values(["dataset", "row"], ignore_index=True))


def read(profile: str, kinds: Sequence[str], folder: Path = FOLDER) -> pd.DataFrame:
    """The shipped rollouts of some kinds, those that there are, with a stand-in for ``question``."""
    listed, tables = manifest(folder)["files"], []
    for name in (f"code/{profile}/{kind}.parquet" for kind in kinds):
        if name not in listed:
            continue
        if not (folder / name).is_file() or digest(folder / name) != listed[name]:
            raise ValueError(f"{folder / name} is missing, or not the file that was shipped, of SHA-256 {listed[name]}")
        tables.append(pq.read_table(folder / name).to_pandas())
    if not tables:
        return pd.DataFrame(columns=[*COLUMNS, "question"])
    hashes = questions(folder, QUESTIONS).set_index("question_id")["sha256"]
    rows = pd.concat(tables, ignore_index=True)
    return rows.assign(question=STANDS_FOR + rows["question_id"].map(hashes))


def graded(profile: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The shipped samples of tasks that have all of them; ``verdict`` is of the plus tests, or without them of the base."""
    rows = whole(read(profile, [kind for kind, about in recording.KINDS.items() if about.sampled], folder))
    return rows.assign(verdict=rows["plus"].where(rows["plus"] != "none", rows["base"]))


def whole(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples of tasks that have all of them."""
    return samples[samples.groupby("question_id")["sample"].transform("nunique") == recording.SAMPLES]
