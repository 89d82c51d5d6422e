"""Recording a profile: everything it asks for, once, in spite of being killed; and serving against replay."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clear_lib import engines
from clear_lib.rollouts.store import KEY
from clear_lib.study import experiments
from clear_lib.study.cli import main
from clear_lib.study.recordings import recording
from clear_lib.study.setup import benchmarks, models, profiles

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def profile():
    return profiles.load("smoke", pool_per_tier=16, stream_size=8)


@pytest.fixture(scope="module")
def engine(profile):
    return models.start(profile)


@pytest.fixture(scope="module")
def artifacts(profile, engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    for kind in recording.kinds_of(profile):
        assert recording.record(profile, kind, folder, lambda: engine) == len(recording.requests(profile, kind))
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder with all public question sets in their sizes: made up, but for what they are known to share."""
    folder = tmp_path_factory.mktemp("sets")
    asked = {
        (name, part): [f"{name} {part}: what is {n} + 1?" for n in range(rows)]
        for name, known in benchmarks.SETS.items()
        for part, rows in known.rows.items()
    }
    for (name, part), questions in asked.items():
        repeated = benchmarks.SETS[name].repeated.get(part, 0)
        questions[len(questions) - repeated :] = questions[:repeated]
    asked["MATH 500", "test"] = asked["MATH", "test"][1000:1500]
    asked["OlympiadBench", "test"][:3] = asked["MATH", "train"][10:13]
    for (name, part), questions in asked.items():
        lines = (json.dumps({"question": question, "answer": "1"}) for question in questions)
        (folder / f"{benchmarks.SETS[name].stems[0]}_{part}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("name", ["laptop", "paper-7b", "paper-7b-printed"])
def test_questions_of_the_public_sets(sets, name):
    profile = profiles.load(name, questions_folder=str(sets))
    for split, sizes in (("evaluation", profile.pool_per_tier), ("predictor", profile.predictor_per_tier)):
        questions = recording.questions_of(profile, split)
        assert questions.groupby("tier").size().to_dict() == dict(sizes)
        assert questions.equals(recording.questions_of(profile, split)) and questions.question_id.is_unique
    wanted = recording.requests(profile, "evaluation")
    assert wanted.prompt.str.startswith("<|im_start|>system").all() and (wanted.cap == profile.cap).all()
    shared = wanted.question.isin(set(recording.questions_of(profile, "predictor").question))
    assert shared.sum() == (503 if profile.questions == "paper" else 0)  # MATH-500, and three of OlympiadBench


def test_a_tier_that_is_too_small_is_named(sets):
    profile = profiles.load("laptop", questions_folder=str(sets), pool_per_tier={"easy": 2000, "moderate": 1})
    with pytest.raises(ValueError, match="'laptop' asks for 2000 easy evaluation questions; the sets have 1319"):
        recording.questions_of(profile, "evaluation")


def test_an_easy_tier_is_not_evaluated_where_it_teaches(sets):
    profile = profiles.load("laptop", questions="paper", questions_folder=str(sets))
    with pytest.raises(ValueError, match="under questions: paper that is what the predictor learns from"):
        recording.questions_of(profile, "evaluation")


def test_a_second_recording_starts_no_engine_and_adds_nothing(profile, artifacts):
    def never():
        raise AssertionError("an engine was started although nothing is missing")

    assert [recording.record(profile, kind, artifacts, never) for kind in recording.kinds_of(profile)] == [0, 0, 0, 0]


def test_recorded_rollouts_come_back_in_the_order_of_the_questions(profile, artifacts):
    evaluation = recording.load(profile, "evaluation", artifacts)
    assert evaluation.question_id.tolist() == recording.questions_of(profile, "evaluation").question_id.tolist()
    assert evaluation.revision.nunique() == 1 and evaluation.engine_version.str.len().gt(0).all()
    assert evaluation.verdict.isin(["correct", "wrong"]).all() and (evaluation.length <= profile.cap).all()


def test_every_rung_and_every_sample_is_there_once(profile, artifacts):
    rungs = recording.load(profile, "rungs", artifacts)
    assert (rungs.groupby("question_id").rung.agg(list).map(tuple) == tuple(profile.rungs)).all()
    sampled = recording.load(profile, "sampled", artifacts)
    assert (sampled.groupby("question_id").size() == profile.samples).all() and sampled.seed.is_unique
    assert not sampled.duplicated(list(KEY)).any()


def test_questions_to_sample_are_so_many_of_each_tier_or_named_and_taken_in_turns(profile):
    some = recording.questions_of(profile, "evaluation").groupby("tier").head(2)
    named = {tier: tuple(ids) for tier, ids in some.groupby("tier", sort=False)["question_id"]}
    tables = [recording.requests(replace(profile, sampled=given), "sampled") for given in (2, named)]
    assert tables[0].equals(tables[1]) and tables[0]["question_id"].tolist() == [*some["question_id"]] * profile.samples
    with pytest.raises(ValueError, match="samples 'nobody', which is no evaluation question"):
        recording.requests(replace(profile, sampled={"easy": ("nobody",)}), "sampled")


def test_what_is_missing_is_counted_and_the_command_named(profile, tmp_path):
    with pytest.raises(ValueError, match=r"64 of 64 evaluation rollouts.*make rollouts PROFILE=smoke"):
        recording.load(profile, "evaluation", tmp_path)


def test_unknown_kinds_and_splits_are_named(profile):
    with pytest.raises(ValueError, match="'greedy'.*evaluation, rungs, sampled, predictor"):
        recording.requests(profile, "greedy")
    with pytest.raises(ValueError, match="'train'"):
        recording.questions_of(profile, "train")


@pytest.mark.slow
def test_a_recording_killed_at_any_moment_loses_and_doubles_nothing(tmp_path):
    """Kill -9 while shards are being written, twice, then let it finish."""
    script = (
        "import sys; from clear_lib.study.recordings import recording; from clear_lib.study.setup import profiles; "
        "recording.SHARD = 5; "
        "print(recording.record(profiles.load('smoke'), 'evaluation', sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    smoke = profiles.load("smoke")
    shards = recording.store(smoke, "evaluation", tmp_path).shards
    for enough in (1, 4):
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(shards()) < enough and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = len(recording.store(smoke, "evaluation", tmp_path).keys())
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    wanted = recording.requests(smoke, "evaluation")
    assert 0 < before and int(done.stdout) == len(wanted) - before
    assert recording.load(smoke, "evaluation", tmp_path).question_id.tolist() == wanted.question_id.tolist()


def test_an_engine_that_breaks_off_loses_nothing_that_had_come(profile, engine, tmp_path):
    class Unplugged:
        name, version = engine.name, engine.version

        def stream(self, *given, **named):
            yield from itertools.islice(engine.stream(*given, **named), 30)
            raise engines.ModelError("the server is gone")

    with pytest.raises(ValueError, match="the server is gone"):
        recording.record(profile, "evaluation", tmp_path, Unplugged)
    assert len(recording.store(profile, "evaluation", tmp_path).keys()) == 30
    wanted = len(recording.requests(profile, "evaluation"))
    assert recording.record(profile, "evaluation", tmp_path, lambda: engine) == wanted - 30 > 0


def test_an_interrupt_keeps_what_had_come(profile, engine, tmp_path):
    class Interrupted:
        name, version = engine.name, engine.version

        def stream(self, *given, **named):
            yield from itertools.islice(engine.stream(*given, **named), 7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recording.record(profile, "evaluation", tmp_path, Interrupted)
    assert len(recording.store(profile, "evaluation", tmp_path).keys()) == 7


def test_a_file_system_without_hard_links_will_do(profile, engine, artifacts, tmp_path, monkeypatch):
    def refused(*paths):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(recording, "SHARD", 20)
    assert recording.record(profile, "evaluation", tmp_path, lambda: engine) == 64
    assert len(recording.store(profile, "evaluation", tmp_path).shards()) == 4
    assert recording.load(profile, "evaluation", tmp_path).equals(recording.load(profile, "evaluation", artifacts))


def test_a_folder_that_cannot_be_written_is_noticed_before_an_engine_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, "start", lambda *given: pytest.fail("an engine was started"))
    (tmp_path / "file").write_text("")
    for command in (["record", "--profile", "smoke"], ["replicate", "replica-7b"]):
        assert main([*command, "--artifacts", str(tmp_path / "file")]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "Not a directory" in said and said.count("\n") == 1


def test_a_second_recorder_is_refused_before_it_starts_an_engine(profile, engine, tmp_path):
    def second(*given, **named):
        with pytest.raises(ValueError, match="another process is recording into .*rollouts"):
            recording.record(profile, "sampled", tmp_path, lambda: pytest.fail("an engine was started"))
        return engine.stream(*given, **named)

    first = SimpleNamespace(name=engine.name, version=engine.version, stream=second)
    assert recording.record(profile, "evaluation", tmp_path, lambda: first) > 0


def test_several_kinds_are_one_queue_in_the_order_that_is_asked_for(profile, engine, tmp_path):
    steps = [("evaluation", 0.25), ("predictor", 0.5), ("evaluation", 0.5), ("sampled", 1.0)]
    made = recording.record(profile, steps, tmp_path, lambda: engine)
    there = {
        kind: len(recording.store(profile, kind, tmp_path).keys()) for kind in ("evaluation", "predictor", "sampled")
    }
    wanted = {kind: len(recording.requests(profile, kind)) for kind in there}
    assert there == {
        "evaluation": wanted["evaluation"] // 2,
        "predictor": wanted["predictor"] // 2,
        "sampled": wanted["sampled"],
    }
    assert made == sum(there.values())
    first = recording.store(profile, "evaluation", tmp_path).read().question_id
    assert set(first) == set(recording.requests(profile, "evaluation").question_id.head(there["evaluation"]))


def test_every_beginning_of_the_random_order_has_the_sets_in_their_proportions(sets):
    profile = profiles.load("paper-7b", questions_folder=str(sets))
    questions = recording.questions_of(profile, "evaluation")
    order = recording.in_random_order(questions, seed=0)
    assert sorted(order.question_id) == sorted(questions.question_id)
    assert not order.equals(recording.in_random_order(questions, seed=1))
    share = questions.dataset.value_counts(normalize=True)
    for n in (100, 400, 1000):
        counts = order.dataset.head(n).value_counts().reindex(share.index, fill_value=0)
        assert (counts - n * share).abs().max() <= 2


def test_the_command_records_and_says_what_it_found(artifacts, tmp_path, capsys):
    assert main(["record", "--profile", "smoke", "--artifacts", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "evaluation, 100% of 96" in said and "rollouts recorded now" in said
    assert main(["record", "--profile", "smoke", "--artifacts", str(tmp_path)]) == 0
    assert "0 rollouts recorded now" in capsys.readouterr().out
    assert main(["record", "--profile", "large"]) == 1
    assert "tiny" in capsys.readouterr().err


def test_generation_under_caps_is_the_beginning_of_the_recording(profile, engine, artifacts):
    recorded = recording.load(profile, "evaluation", artifacts)
    caps = np.random.default_rng(0).integers(0, recorded.length.max() + 5, len(recorded))
    regenerated = experiments.regenerate(engine, recorded, caps)
    assert regenerated["prefix"].all()
    assert (regenerated.used == np.minimum(recorded.length, caps)).all()


def test_another_recording_is_a_mismatch(profile, engine, artifacts):
    recorded = recording.load(profile, "evaluation", artifacts).head(8)
    changed = recorded.assign(completion="Nothing of the kind.")
    assert experiments.regenerate(engine, changed, np.full(8, 10))["prefix"].sum() == 0


def test_samples_cannot_be_regenerated(profile, engine, artifacts):
    sampled = recording.load(profile, "sampled", artifacts).head(3)
    with pytest.raises(ValueError, match="row 0: sampled at temperature 1"):
        experiments.regenerate(engine, sampled, [5, 5, 5])


def test_the_rung_is_the_longest_that_is_expected_to_fit():
    rungs = {"quick": 0.5, "normal": 1.0, "careful": 2.0}
    assert experiments.choose_rungs([0, 49, 50, 99, 100, 200], [100] * 6, rungs).tolist() == [
        "quick",
        "quick",
        "quick",
        "quick",
        "normal",
        "careful",
    ]


def test_a_rung_is_recorded_to_the_next_since_a_longer_cap_chooses_that():
    rungs = profiles.load("qwen-1.5b").rungs
    ladder = recording.ladder(profiles.load("qwen-1.5b"))
    assert ladder == {"within-64": 128, "within-128": 256, "within-256": 512, "within-512": 1024, "within-1024": 2048}
    caps = range(1, 2049)
    assert all(
        cap <= ladder[rung] for cap, rung in zip(caps, experiments.choose_rungs(caps, [1] * 2048, rungs), strict=True)
    )
    assert set(recording.ladder(profiles.load("tiny")).values()) == {768}
