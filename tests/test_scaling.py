"""Recorded models beside each other: the same questions for all, and the signs of the changes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clear_lib.rollouts import shipped as recordings
from clear_lib.rollouts.store import SCHEMA
from clear_lib.study import experiments
from clear_lib.study.evidence import scaling
from clear_lib.study.setup import paper, profiles

PART = {"qwen-0.5b": slice(0, 90), "qwen-1.5b": slice(10, 100)}
KINDS = {"evaluation": ("MATH 500", "OlympiadBench", "Minerva"), "predictor": ("GSM8K", "MATH")}
TIER = {"MATH 500": "moderate", "OlympiadBench": "hard", "Minerva": "very hard", "GSM8K": "easy", "MATH": "moderate"}


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of pretended recordings of two models: a hundred questions of a kind, of which each has ninety."""
    rng, listed, known = np.random.default_rng(0), {"files": {}, "profiles": {}}, []
    monkeypatch.setattr(recordings, "FOLDER", tmp_path)
    recordings._embeddings.cache_clear()
    for kind, sets in KINDS.items():
        names = [sets[i % len(sets)] for i in range(100)]
        ids = [f"{kind}-{i}" for i in range(100)]
        length = np.exp(rng.normal(6, 0.6, 100)).astype(int)
        known.append(pd.DataFrame({"question_id": ids, "sha256": [f"hash of {each}" for each in ids], "tokens": 50}))
        for name, rows in PART.items():
            profile = profiles.load(name)
            large = name == "qwen-1.5b"
            same = {name: getattr(profile, name) for name in ("cap", "model", "revision", "dtype")}
            same |= {"split": kind, "rung": "free", "sample": 0, "seed": 0, "temperature": 0.0, "finish_reason": "stop"}
            same |= {"engine": "vllm", "engine_version": "0", "completion": "", "answer": ""}
            table = pd.DataFrame({"question_id": ids, "dataset": names, "tier": [TIER[each] for each in names]})
            table["length"] = length if large else 2 * length
            table["verdict"] = np.where(np.arange(100) % (2 if large else 4) == 0, "correct", "wrong")
            table = table.assign(**same).iloc[rows]
            table.insert(0, "place", np.arange(len(table)))
            schema = pa.schema([("place", pa.int64()), *(each for each in SCHEMA if each.name not in recordings.TEXTS)])
            made = pa.Table.from_pandas(table[list(recordings.SHIPPED)], schema=schema, preserve_index=False)
            (tmp_path / name).mkdir(exist_ok=True)
            pq.write_table(made, tmp_path / name / f"{kind}.parquet")
            listed["files"][f"{name}/{kind}.parquet"] = recordings.digest(tmp_path / name / f"{kind}.parquet")
            kinds = listed["profiles"].setdefault(name, {"kinds": {}})["kinds"]
            kinds[kind] = {"there": 90, "wanted": 100}
    questions = pd.concat(known, ignore_index=True).assign(dataset="", part="", row=0)
    vectors = pa.array(rng.normal(size=(len(questions), 384)).astype(np.float16).ravel(), pa.float16())
    table = pa.Table.from_pandas(questions, preserve_index=False)
    table = table.append_column("embedding", pa.FixedSizeListArray.from_arrays(vectors, 384))
    pq.write_table(table, tmp_path / "questions.parquet")
    listed["files"]["questions.parquet"] = recordings.digest(tmp_path / "questions.parquet")
    (tmp_path / "manifest.json").write_text(json.dumps(listed))
    yield tmp_path
    recordings._embeddings.cache_clear()


def results_of(models, seeds):
    policies = [*paper.TABLE_4, "oracle-paper"]
    return {
        label: experiments.run(replace(model.profile, stream_seeds=seeds), model.pool, policies=policies)
        for label, model in models.items()
    }


def test_two_shipped_models_are_brought_to_the_same_questions(shipped):
    models = scaling.shipped_models(["qwen-0.5b", "qwen-1.5b", "tiny"], shipped)
    assert list(models) == ["Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct"]
    small, large = models.values()
    assert small.pool["question_id"].tolist() == large.pool["question_id"].tolist() and len(small.pool) == 80
    assert small.trained_on == large.trained_on == 80 and small.profile.reference_length is None
    assert small.profile.stream_size == large.profile.stream_size > 10
    assert (small.pool["length"] == 2 * large.pool["length"]).all()
    # Its own training rollouts: a predictor of the model that writes twice as much forecasts twice as much.
    assert (small.pool["threshold"] / large.pool["threshold"]).median() == pytest.approx(2, rel=0.05)

    results = results_of(models, seeds=3)
    table = scaling.changes(models, results, draws=50).set_index("what")
    assert table.loc["solved (%)", "verdict"] == "rises" and table.loc["mean length (tokens)", "verdict"] == "falls"
    assert table.loc["stopped by the cap (%)", "verdict"] == "no clear change"
    # What calibrates has its share of solved questions, so the two predictors have not quite the same lessons.
    assert table.loc["rank correlation of forecasts", "difference"] == pytest.approx(0, abs=0.05)
    assert table.loc["rank correlation of forecasts", "verdict"] == "no clear change"
    solved = table.loc["solved (%)"]
    assert (
        solved["difference"] == pytest.approx(solved.iloc[1] - solved.iloc[0]) and solved["low"] < solved["difference"]
    )

    by_set = scaling.by_set(models).set_index(["set", "what"])
    assert by_set.loc[("Minerva", "Pass@1 (%)"), "Qwen2.5-Math-7B-Instruct"] == 12.9
    assert by_set.loc[("all", "Pass@1 (%)"), "n"] == 80 and by_set.loc[("AMC-23", "Pass@1 (%)"), "n"] == 0
    gained = scaling.mean_gains(results)
    assert gained.loc[("scarcest", "clear"), "Qwen2.5-Math-7B-Instruct"] == pytest.approx(13.75)
    assert gained.loc[("all", "clear"), "Qwen3-30B-A3B-Instruct"] == pytest.approx(0.975)
    one = experiments.gains(results["Qwen2.5-Coder-1.5B-Instruct"]).query("policy == 'oracle-paper'")["gain"].mean()
    assert gained.loc[("all", "oracle"), "Qwen2.5-Coder-1.5B-Instruct"] == pytest.approx(100 * one)


def test_one_model_or_none_has_no_differences(shipped, tmp_path):
    models = scaling.shipped_models(["tiny", "qwen-1.5b"], shipped)
    assert len(models) == 1 and len(next(iter(models.values())).pool) == 90
    results = results_of(models, seeds=1)
    assert list(scaling.changes(models, results)) == ["what", "Qwen2.5-Coder-1.5B-Instruct", "n"]
    assert scaling.shipped_models(["qwen-0.5b"], tmp_path / "nothing") == {}
    assert list(scaling.by_set({})) == ["set", "what", *scaling.mean_gains({})]
