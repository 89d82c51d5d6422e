"""Shipped rollouts of code: lengths and verdicts, without the tasks and without the programs, which repeat their text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clear_lib.rollouts.shipped import FOLDER, digest, manifest
from clear_lib.study.code import recording
from clear_lib.study.recordings.packing import write_manifest
from clear_lib.study.setup.profiles import Profile

#: Columns that are shipped: ``program`` is a hash of the program and its tests.
COLUMNS = [
    *"question_id dataset sample seed temperature cap length finish_reason".split(),
    *"model revision dtype engine engine_version program base plus".split(),
]


def pack(profile: Profile, kind: str, artifacts: str | Path, folder: Path = FOLDER) -> Path:
    """Ship the graded rollouts of a kind as ``code/PROFILE/KIND.parquet``, with its hash in the manifest."""
    rows = recording.load(profile, kind, artifacts)[COLUMNS].sort_values(["question_id", "sample"], ignore_index=True)
    name = f"code/{profile.name}/{kind}.parquet"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table, path, compression="zstd", compression_level=19)
    listed = manifest(folder)
    write_manifest(listed | {"files": dict(sorted((listed["files"] | {name: digest(path)}).items()))}, folder)
    return path


def read(profile: str, kind: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The shipped rollouts of a kind; ``ValueError`` if they are missing or not the bytes of the manifest."""
    name = f"code/{profile}/{kind}.parquet"
    known = manifest(folder)["files"].get(name)
    if known is None:
        raise ValueError(f"{folder / name} is not shipped; see `python -m clear_lib.study grade --ship`")
    if not (folder / name).is_file() or digest(folder / name) != known:
        raise ValueError(f"{folder / name} is missing, or not the file that was shipped: expected SHA-256 {known}")
    return pq.read_table(folder / name).to_pandas()
