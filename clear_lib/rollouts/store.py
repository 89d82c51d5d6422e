"""The table of rollouts: what a model wrote, under which conditions, and whether it was right.

Rollouts are expensive: they are recorded once, in shards that appear whole or not at all.
"""

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: Columns of the table. ``length`` counts tokens, the end token included; ``finish_reason`` is ``"stop"``, or
#: ``"length"`` for a rollout that its cap cut off: its own length is unknown, and at least ``cap``.
SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=name in ("completion", "answer"))
        for kind, names in (
            (pa.string(), "question_id dataset tier split question gold prompt rung"),
            (pa.int64(), "sample seed"),
            (pa.float64(), "temperature"),
            (pa.int64(), "cap length"),
            (pa.string(), "finish_reason completion answer verdict model revision dtype engine engine_version"),
        )
        for name in names.split()
    ]
)

#: Columns that identify a rollout: it is recorded once, never again.
KEY = ("question_id", "prompt", "model", "revision", "dtype", "rung", "sample", "seed", "temperature", "cap")

#: What these columns may say.
VALUES = {"finish_reason": ("stop", "length"), "verdict": ("correct", "wrong", "unknown")}

_SHARD = re.compile(r"part-(\d{5,})\.parquet")
_WRITING = re.compile(r"part-(\d{5,})\.\d+\.writing")


class RolloutStore:
    """Rollouts in a folder of Parquet shards, safe against being killed at any moment.

    A shard is written to a file ending in ``.writing``, flushed to disk and then linked to its final name, or renamed
    where there are no links. What a killed writer left behind is never read. The first rows make the folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._next: int | None = None  # number of the next shard, once this store has appended

    def shards(self) -> list[Path]:
        """The shards in the order of writing; ``ValueError`` names a file in the folder that is none."""
        found = {}
        for path in self.folder.iterdir() if self.folder.exists() else ():
            if match := _SHARD.fullmatch(path.name):
                found[int(match[1])] = path
            elif not _WRITING.fullmatch(path.name):
                raise ValueError(f"{path}: not a shard of rollouts (part-00000.parquet, …); move it elsewhere")
        return [found[number] for number in sorted(found)]

    def read(self, columns: Iterable[str] | None = None) -> pd.DataFrame:
        """All rollouts, or some of their columns, in the order in which they were appended.

        ``ValueError`` names a shard that is truncated, damaged or has other columns.
        """
        columns = SCHEMA.names if columns is None else list(columns)
        tables = [_read_shard(path).select(columns) for path in self.shards()]
        empty = pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
        return pa.concat_tables([empty, *tables]).to_pandas()

    def keys(self) -> set[tuple]:
        """Keys (:data:`KEY`) of the recorded rollouts; ``ValueError`` also if two shards hold the same rollout."""
        keys: set[tuple] = set()
        for path in self.shards():
            for key in _read_shard(path).select(KEY).to_pandas().itertuples(index=False, name=None):
                if key in keys:
                    raise ValueError(
                        f"{path}: holds a rollout of question {key[0]!r} that is already recorded; "
                        f"remove this shard, its rollouts will be recorded again"
                    )
                keys.add(key)
        return keys

    def append(self, rows: pd.DataFrame) -> Path:
        """Write rows, with the columns of :data:`SCHEMA` in any order, as a new shard and return its path.

        ``ValueError``, and nothing is written, if a column is missing, unknown, of another type or null where it must
        not be, if rows are there twice, if another process has appended meanwhile, or if there is no room.
        """
        table = _table(rows)
        try:
            return self._append(table)
        except OSError as error:
            raise ValueError(f"{self.folder}: {error.strerror or error}; this shard is not written") from None

    def _append(self, table: pa.Table) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._next is None:
            known = self.shards()
            self._next = int(_SHARD.fullmatch(known[-1].name)[1]) + 1 if known else 0
        path = self.folder / f"part-{self._next:05d}.parquet"
        aside = self.folder / f"part-{self._next:05d}.{os.getpid()}.writing"
        try:
            with aside.open("wb") as file:
                pq.write_table(table, file, compression="zstd", write_page_checksum=True)
                file.flush()
                os.fsync(file.fileno())
            _name(aside, path)
        except FileExistsError:
            raise ValueError(
                f"{path}: appeared meanwhile; another process is recording into this folder, wait for it or stop it"
            ) from None
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(self.folder)
        for leftover in self.folder.glob("*.writing"):
            if (match := _WRITING.fullmatch(leftover.name)) and int(match[1]) <= self._next:
                leftover.unlink(missing_ok=True)
        self._next += 1
        return path


def check_writable(folder: str | Path) -> None:
    """``ValueError`` if nothing could be written into a folder, which need not be there yet; leaves nothing behind."""
    folder = Path(folder)
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error.strerror or error}") from None


def _name(aside: Path, path: Path) -> None:
    """Give a finished file its name; ``FileExistsError`` if that is taken."""
    try:
        os.link(aside, path)
    except OSError:  # taken, or no links here: then only the lock of a recording keeps two writers apart
        if path.exists():
            raise FileExistsError from None
        aside.rename(path)


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(descriptor)
        os.close(descriptor)


def _read_shard(path: Path) -> pa.Table:
    """A whole shard, its checksums and columns verified."""
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: truncated or damaged ({error}); remove it and record again") from None
    if table.schema.remove_metadata() != SCHEMA:
        raise ValueError(
            f"{path}: not a shard of rollouts, or from another version; its columns are "
            f"{', '.join(table.schema.names)}; expected {', '.join(SCHEMA.names)} in their types"
        )
    if wrong := _wrong_value(table):
        raise ValueError(f"{path}: {wrong}; remove it and record again")
    return table


def _wrong_value(table: pa.Table) -> str | None:
    """The first value that no rollout has, in words."""
    wrong = {name: pc.invert(pc.is_in(table[name], pa.array(values))) for name, values in VALUES.items()}
    for name, found in (wrong | {"length": pc.less(table["length"], 0)}).items():
        if (row := pc.index(found, True).as_py()) >= 0:
            return f"row {row}: {name} is {table[name][row].as_py()!r:.60}"
    return None


def _table(rows: pd.DataFrame) -> pa.Table:
    """Rows as a table of :data:`SCHEMA`, checked."""
    if wrong := set(SCHEMA.names) ^ set(rows.columns):
        raise ValueError(f"columns missing or unknown: {', '.join(sorted(wrong))}; expected {', '.join(SCHEMA.names)}")
    required = rows[[field.name for field in SCHEMA if not field.nullable]]
    for row, column in np.argwhere(required.isna()):
        raise ValueError(f"row {row}: {required.columns[column]} is missing")
    try:
        table = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False, safe=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise ValueError(f"rollouts do not fit their columns: {error}") from None
    for row in np.flatnonzero(rows.duplicated(list(KEY))):
        question = rows["question_id"].iloc[row]
        raise ValueError(f"row {row}: question {question!r} is there twice with the same {', '.join(KEY[1:])}")
    if wrong := _wrong_value(table):
        raise ValueError(wrong)
    return table.replace_schema_metadata(None)
