"""The rollout table: nothing lost, nothing doubled, nothing foreign."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clear_lib.rollouts.store import KEY, SCHEMA, RolloutStore, check_writable

ROOT = Path(__file__).resolve().parents[2]


def rows(first, n, **changes):
    """``n`` rollouts of the questions ``first``, ``first + 1``, …"""
    texts = {name: "x" for name in SCHEMA.names if SCHEMA.field(name).type == pa.string()}
    texts |= {"finish_reason": "stop", "verdict": "wrong"}
    ids = [f"q{number}" for number in range(first, first + n)]
    table = pd.DataFrame(
        {**texts, "question_id": ids, "sample": 0, "seed": 0, "temperature": 0.0, "cap": 9, "length": 3}
    )
    return table.assign(**changes)


@pytest.fixture
def store(tmp_path):
    store = RolloutStore(tmp_path / "rollouts")
    store.append(rows(0, 3))
    store.append(rows(3, 2, answer=None, completion=None))
    return store


def test_rollouts_come_back_as_they_went_in(store):
    found, expected = store.read(), rows(0, 5)
    assert found.answer.isna().tolist() == found.completion.isna().tolist() == [False, False, False, True, True]
    filled = found.fillna({"answer": "x", "completion": "x"})[list(expected)]
    pd.testing.assert_frame_equal(filled, expected, check_dtype=False)
    assert list(found) == SCHEMA.names
    assert store.read(["length"]).length.tolist() == [3] * 5
    assert store.keys() == {tuple(row) for row in expected[list(KEY)].to_numpy()}


def test_a_new_store_on_the_folder_goes_on(store):
    RolloutStore(store.folder).append(rows(5, 1))
    assert [path.name for path in store.shards()] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert store.read().question_id.tolist() == [f"q{number}" for number in range(6)]


def test_an_empty_store_is_an_empty_table(tmp_path):
    store = RolloutStore(tmp_path / "none")
    assert (
        store.read().empty
        and list(store.read()) == SCHEMA.names
        and store.keys() == set()
        and not store.folder.exists()
    )


def test_a_writer_killed_at_any_moment_loses_and_doubles_nothing(tmp_path):
    """Kill -9 a process that appends one shard after another; every appended shard is whole, and it can go on."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_store import rows; from clear_lib.rollouts.store import *\n"
        "store = RolloutStore(sys.argv[1]); done = {key[0] for key in store.keys()}\n"
        "for first in range(0, 100_000, 50):\n"
        "    if f'q{first}' not in done: store.append(rows(first, 50)); print(first, flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    store, told = RolloutStore(tmp_path), []
    for pause in (0.0, 0.02, 0.15):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        told.append(int(process.stdout.readline()))
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
        found = store.read()
        assert not found.duplicated(list(KEY)).any() and len(found) == len(store.keys())
        ids = found.question_id.str[1:].astype(int).tolist()
        assert ids == list(range(len(ids))) and set(told) <= set(ids)
    store.append(rows(100_000, 1))
    assert not list(tmp_path.glob("*.writing"))


def test_a_half_written_shard_is_not_read_and_is_cleared_away(store):
    (store.folder / "part-00002.123.writing").write_bytes(b"PAR1 half of a shard")
    assert len(store.read()) == 5
    store.append(rows(5, 1))
    assert len(store.read()) == 6 and not list(store.folder.glob("*.writing"))


def test_a_truncated_shard_is_named(store):
    shard = store.shards()[1]
    shard.write_bytes(shard.read_bytes()[:-7])
    for use in (store.read, store.keys):
        with pytest.raises(ValueError, match=r"part-00001\.parquet: truncated or damaged"):
            use()


def test_an_empty_file_is_named(store):
    store.shards()[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"part-00000\.parquet: truncated or damaged"):
        store.read()


def test_a_flipped_byte_is_noticed(tmp_path):
    store = RolloutStore(tmp_path)
    noise = np.random.default_rng(0)
    shard = store.append(rows(0, 500).assign(completion=[noise.bytes(100).hex() for _ in range(500)]))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"part-00000\.parquet: truncated or damaged"):
        store.read()


@pytest.mark.parametrize("name", ["notes.txt", "part-1.parquet", "rollouts.parquet"])
def test_a_foreign_file_is_named(store, name):
    (store.folder / name).write_text("hello")
    for use in (store.read, store.keys, lambda: RolloutStore(store.folder).append(rows(9, 1))):
        with pytest.raises(ValueError, match=f"{name}: not a shard"):
            use()


def test_a_table_of_other_columns_is_named(store):
    pq.write_table(pa.table({"length": [1]}), store.folder / "part-00002.parquet")
    with pytest.raises(ValueError, match=r"part-00002\.parquet: not a shard of rollouts.*question_id"):
        store.read()


def test_a_whole_shard_with_values_that_no_rollout_has_is_named(store):
    table = pq.read_table(store.shards()[0])
    changed = table.set_column(table.schema.get_field_index("length"), SCHEMA.field("length"), [[-5] * len(table)])
    pq.write_table(changed, store.folder / "part-00002.parquet")
    with pytest.raises(ValueError, match=r"part-00002\.parquet: row 0: length is -5"):
        store.read()


def test_a_rollout_in_two_shards_is_named(store):
    store.append(rows(1, 1))
    with pytest.raises(ValueError, match=r"part-00002\.parquet.*'q1'.*already recorded"):
        store.keys()


def failing(code):
    """A function of the system that fails."""

    def fails(*arguments):
        raise OSError(code, os.strerror(code))

    return fails


@pytest.mark.parametrize("code", [None, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_two_writers_do_not_mix_with_hard_links_or_without(store, monkeypatch, code):
    if code is not None:
        monkeypatch.setattr(os, "link", failing(code))
    other = RolloutStore(store.folder)
    other.append(rows(5, 1))
    with pytest.raises(ValueError, match="another process is recording"):
        store.append(rows(5, 1))
    assert len(store.read()) == 6 and not list(store.folder.glob("*.writing"))


def test_a_full_disk_is_a_sentence_and_the_shard_can_be_written_later(store, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(errno.ENOSPC))
        with pytest.raises(ValueError, match="rollouts: No space left on device; this shard is not written"):
            store.append(rows(5, 1))
    assert len(store.read()) == 5 and not list(store.folder.glob("*.writing"))
    store.append(rows(5, 1))
    assert len(store.read()) == 6


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file/below: Not a directory"):
        RolloutStore(tmp_path / "file" / "below").append(rows(0, 1))
    with pytest.raises(ValueError, match="file/a/b cannot be written: Not a directory"):
        check_writable(tmp_path / "file" / "a" / "b")
    check_writable(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (rows(0, 2).drop(columns="seed"), "missing or unknown: seed"),
        (rows(0, 2).assign(colour="red"), "missing or unknown: colour"),
        (rows(0, 2).assign(length="long"), "length"),
        (rows(0, 2).assign(length=2.5), "length"),
        (rows(0, 2).assign(length=[5, -5]), "row 1: length is -5"),
        (rows(0, 2).assign(verdict="banana"), "row 0: verdict is 'banana'"),
        (rows(0, 2).assign(finish_reason="tired"), "row 0: finish_reason is 'tired'"),
        (rows(0, 2).assign(gold=["1", None]), "row 1: gold is missing"),
        (pd.concat([rows(0, 2), rows(1, 1)]), "row 2: question 'q1' is there twice"),
    ],
)
def test_rows_that_do_not_fit_are_named_and_not_written(store, bad, message):
    with pytest.raises(ValueError, match=message):
        store.append(bad)
    assert len(store.read()) == 5
