"""Recordings that are shipped: without the questions, checked byte by byte, and a profile that chapters run on."""

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from clear_lib.engines import Completion
from clear_lib.predictor import Calibrated
from clear_lib.predictor.sentence import Sentence, SentenceLogistic
from clear_lib.rollouts import shipped as recordings
from clear_lib.rollouts.grading import Grader
from clear_lib.study import experiments
from clear_lib.study.recordings import packing, recording, runs, verifying
from clear_lib.study.recordings.forecasts import forecast_file
from clear_lib.study.recordings.packing import read_shipped
from clear_lib.study.setup import benchmarks, paper, profiles
from clear_lib.study.setup.questions import same_text

public = pytest.mark.skipif(
    "CLEAR_BENCHMARKS" not in os.environ, reason="CLEAR_BENCHMARKS names no folder of the public question sets"
)
SHIPPED = list(recordings.manifest()["profiles"])


def shipped_profile(name="qwen-1.5b", **overrides):
    return profiles.load(name, **overrides)


class Writer:
    """An engine that answers every question in its own number of tokens, rightly if that is even."""

    name, version = "writer", "1"

    def stream(self, prompts, max_tokens, temperature=0.0, seeds=None, progress=None, begun=None):
        for position, prompt in enumerate(prompts):
            length = 20 + sum(map(ord, prompt)) % 400
            text = f"\\boxed{{{1 + length % 2}}}"
            yield position, Completion(text, None, "stop", length)

    def generate(self, prompts, max_tokens, **named):
        found = dict(self.stream(prompts, max_tokens, **named))
        return [found[position] for position in range(len(prompts))]


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The recorded profile on question sets of the true sizes, made up."""
    folder = tmp_path_factory.mktemp("sets")
    for name, known in benchmarks.SETS.items():
        for part, rows in known.rows.items():
            asked = [f"{name} {part}: what is the {n}th number, if it is {n % 7}?" for n in range(rows)]
            repeated = known.repeated.get(part, 0)
            asked[rows - repeated :] = asked[:repeated]
            lines = (json.dumps({"question": each, "answer": "1"}) for each in asked)
            (folder / f"{known.stems[0]}_{part}.jsonl").write_text("\n".join(lines))
    # Three questions of OlympiadBench stand in MATH train, as in the published sets.
    files = [
        folder / f"{benchmarks.SETS[name].stems[0]}_{part}.jsonl"
        for name, part in (("MATH", "train"), ("OlympiadBench", "test"))
    ]
    taken = files[0].read_text().splitlines()[10:13]
    files[1].write_text("\n".join(taken + files[1].read_text().splitlines()[3:]))
    return shipped_profile(questions_folder=str(folder))


@pytest.fixture(scope="module")
def recorded(profile, tmp_path_factory):
    """Artifacts with a tenth of the rollouts, and one of the evaluation's that came before those ahead of it."""
    artifacts = tmp_path_factory.mktemp("recorded")
    with runs.logged(profile, artifacts, ["evaluation", "predictor"]):
        recording.record(profile, [("evaluation", 0.1), ("predictor", 0.04)], artifacts, Writer)
    late = recording.requests(profile, "evaluation").iloc[[200]]
    rows = recording.with_completions(late, [Completion("\\boxed{1}", None, "stop", 30)])
    rows = recording.graded(rows, SimpleNamespace(grade=lambda *_: ["correct"]))
    recording.store(profile, "evaluation", artifacts).append(rows.assign(engine="writer", engine_version="1"))
    return artifacts


@pytest.fixture(scope="module")
def packed(profile, recorded, tmp_path_factory):
    made = tmp_path_factory.mktemp("packed") / "recordings"
    there = {"evaluation": {"there": 155, "wanted": 1547}, "predictor": {"there": 100, "wanted": 2500}}
    assert packing.pack(profile, recorded, made) == there
    return made


@pytest.fixture
def folder(packed, tmp_path, monkeypatch):
    """A folder of recordings in place of the project's own."""
    made = Path(shutil.copytree(packed, tmp_path / "recordings"))
    monkeypatch.setattr(recordings, "FOLDER", made)
    recordings._embeddings.cache_clear()
    yield made
    recordings._embeddings.cache_clear()


def test_the_questions_that_are_sampled_are_those_on_which_the_two_models_differ():
    """As the profile says: the first 24 of the first 155."""
    one, other = (read_shipped(shipped_profile(name), "evaluation") for name in ("qwen-1.5b", "qwen-0.5b"))
    right = other.set_index("question_id")["verdict"].eq("correct").reindex(one["question_id"]).to_numpy()
    differ = one[(one["place"] < 155).to_numpy() & (one["verdict"].eq("correct").to_numpy() != right)]
    sampled = shipped_profile().sampled
    assert {each for ids in sampled.values() for each in ids} == set(differ["question_id"].head(24))
    assert all(set(differ.set_index("question_id")["tier"][list(ids)]) == {tier} for tier, ids in sampled.items())


def test_a_ladder_that_is_recorded_in_part_gives_a_pool_of_its_own(profile, recorded, folder, tmp_path):
    """12 rollouts are two questions with their five rungs, and two rungs of a third, which are not used."""
    more = Path(shutil.copytree(recorded, tmp_path / "more"))
    recording.record(profile, [("rungs", 12 / (5 * 1547))], more, Writer)
    assert packing.pack(profile, more, folder)["rungs"] == {"there": 12, "wanted": 5 * 1547}
    made = profiles.load(packing.unpack(shipped_profile(), tmp_path, folder))
    asked = recording.load(made, "evaluation", tmp_path)
    path = forecast_file(made, tmp_path)
    path.parent.mkdir()
    asked[["question_id"]].assign(threshold=100.0, estimate=90.0).to_parquet(path)
    pool, ladder = (experiments.read_pool(made, tmp_path, told=told) for told in (False, True))
    assert len(pool) == 155 and not experiments.has_rungs(pool)
    assert ladder["question_id"].tolist() == asked["question_id"].tolist()[:2] and made.rungs == profile.rungs
    assert (ladder["length@within-64"] > 0).all()


def test_no_question_and_no_gold_answer_is_shipped(profile, folder):
    for path in folder.rglob("*.parquet"):
        table = pq.read_table(path)
        assert not {"question", "gold", "prompt"} & set(table.column_names)
        for name in table.column_names:
            if str(table[name].type) in ("string", "large_string"):
                assert not any("what is the" in value for value in table[name].to_pylist())


def test_the_manifest_says_when_and_where_it_was_recorded(recorded, profile, folder):
    (run,) = recordings.manifest(folder)["profiles"]["qwen-1.5b"]["runs"]
    lengths = pd.concat(
        [recording.store(profile, kind, recorded).read().length for kind in ("evaluation", "predictor")]
    )
    assert (
        run["tokens"] == lengths.sum() - 30 and run["machine"]["cores"] and run["began"] > "2026"
    )  # less the late one
    packing.pack(profile, recorded, folder)
    assert len(recordings.manifest(folder)["profiles"]["qwen-1.5b"]["runs"]) == 1


def test_a_profile_is_made_of_what_is_there_up_to_the_first_gap(profile, folder, tmp_path):
    made = profiles.load(packing.unpack(shipped_profile(), tmp_path, folder))
    assert made.name == "qwen-1.5b" and made.engine == "none" and made.rungs == {}
    assert dict(made.recorded) == {"evaluation": (155, 1547), "predictor": (100, 2500)}
    assert sum(made.pool_per_tier.values()) == 155 and sum(made.predictor_per_tier.values()) == 100
    counts = [max(shares) * made.stream_size for shares in zip(*made.stream_shares.values(), strict=True)]
    assert made.stream_size >= 20 and counts[3] <= 0.91 * made.pool_per_tier["very hard"] + 1
    rows = recording.load(made, "evaluation", tmp_path)
    wanted = recording.requests(profile, "evaluation").head(155)
    assert rows.question_id.tolist() == wanted.question_id.tolist()
    assert rows.question.str.fullmatch("sha256:[0-9a-f]{64}").all()
    before = packing.unpack(shipped_profile(), tmp_path, folder).stat().st_mtime_ns
    assert recording.load(made, "evaluation", tmp_path).equals(rows) and before


def test_a_predictor_learns_from_embeddings_what_it_would_from_the_text(profile, folder, tmp_path):
    made = profiles.load(packing.unpack(shipped_profile(), tmp_path, folder))
    rows = recording.load(made, "predictor", tmp_path)
    texts = recording.requests(profile, "predictor").set_index("question_id").question.loc[rows.question_id]
    correct = rows.verdict.eq("correct")
    forms = list(rows.question), list(texts)
    thresholds = [Sentence().fit(asked, rows.length).predict(asked).threshold for asked in forms]
    assert np.allclose(*thresholds, rtol=0.01) and np.std(thresholds[0]) > 1
    odds = [SentenceLogistic().fit(asked, correct).logit(asked) for asked in forms]
    assert np.allclose(*odds, atol=0.01) and np.std(odds[0]) > 0.1
    calibrated = Calibrated(Sentence()).fit(forms[0], rows.length, correct)
    assert ((calibrated.predict(forms[0]).solvable > 0) & (calibrated.predict(forms[0]).spread > 0)).all()
    assert (Sentence().cost(list(rows.question)) == Sentence().cost(list(texts))).all()
    with pytest.raises(ValueError, match="no embedding is shipped of the question 'sha256:0'"):
        recordings.embeddings(["sha256:0"])


def test_another_machine_goes_on_where_the_recording_stopped(profile, folder, tmp_path):
    assert packing.restore(profile, tmp_path, folder) == 256
    assert packing.restore(profile, tmp_path, folder) == 0
    assert (
        recording.record(profile, [("evaluation", 0.1), ("predictor", 0.04)], tmp_path, lambda: pytest.fail("started"))
        == 0
    )
    assert recording.record(profile, [("evaluation", 0.12)], tmp_path, Writer) == 186 - 155
    assert packing.pack(profile, tmp_path, folder)["evaluation"] == {"there": 186, "wanted": 1547}
    assert len(recordings.questions(folder)) == 186 + 1 + 100


def test_what_is_decoded_again_is_compared(profile, folder):
    same = verifying.verify(profile, Writer(), 40, seed=1, folder=folder)
    assert (same.questions, same.equal, same.lengths, same.verdicts, same.apart, same.replayed) == (
        40,
        40,
        40,
        0,
        0.0,
        0.0,
    )

    class Other(Writer):
        def stream(self, *given, **named):
            for position, each in super().stream(*given, **named):
                yield (
                    position,
                    Completion(
                        each.text if position else "\\boxed{7}", None, "stop", each.length + 10 * (position < 20)
                    ),
                )

    other = verifying.verify(profile, Other(), 40, seed=1, folder=folder)
    assert other.equal == other.lengths == 20 and other.apart == other.shift == 5.0 and other.verdicts <= 1
    verifying.write_verified(profile, same, folder)
    verifying.write_verified(profile, other, folder)
    assert recordings.manifest(folder)["profiles"]["qwen-1.5b"]["verified"] == [other._asdict()]


def break_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewritten(change):
    """Rewrite a file of rollouts, and its hash in the manifest: what only a look inside can find."""

    def rewrite(path):
        rows = change(pq.read_table(path).to_pandas())
        rows.to_parquet(path, index=False)
        listed = json.loads((path.parents[1] / "manifest.json").read_text())
        listed["files"][f"{path.parent.name}/{path.name}"] = recordings.digest(path)
        (path.parents[1] / "manifest.json").write_text(json.dumps(listed))

    return rewrite


@pytest.mark.parametrize(
    "harm, reason",
    [
        (break_byte, "evaluation.parquet is not the file that was shipped: its SHA-256 is"),
        (lambda path: path.unlink(), "evaluation.parquet is missing"),
        (
            rewritten(lambda rows: rows.assign(model="another/model")),
            "evaluation.parquet: rollouts of model 'another/model'",
        ),
        (
            rewritten(lambda rows: pd.concat([rows, rows.iloc[[3]]])),
            "evaluation.parquet: row 156 records question '.*' a second time",
        ),
        (rewritten(lambda rows: rows.drop(columns="verdict")), "evaluation.parquet: its columns are"),
    ],
)
def test_damaged_recordings_are_named_and_nothing_is_used(folder, tmp_path, harm, reason):
    harm(folder / "qwen-1.5b/evaluation.parquet")
    with pytest.raises(ValueError, match=reason):
        packing.unpack(shipped_profile(), tmp_path / "artifacts", folder)
    assert not (tmp_path / "artifacts").exists()


def test_what_is_not_shipped_is_named(folder, tmp_path):
    with pytest.raises(
        ValueError, match="qwen-0.5b has no evaluation rollouts; record some: make record PROFILE=qwen-0.5b"
    ):
        packing.unpack(shipped_profile("qwen-0.5b"), tmp_path, folder)


# ---- the recordings of this project -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_the_projects_recordings_make_a_profile(name, tmp_path):
    made = profiles.load(packing.unpack(shipped_profile(name), tmp_path))
    for kind, (there, wanted) in made.recorded.items():
        rows = recording.load(made, kind, tmp_path)
        assert len(rows) == there <= wanted and rows.length.between(1, rows.cap).all()
        assert ((rows.finish_reason == "stop") | (rows.length == rows.cap)).all()
        assert rows.verdict.isin(["correct", "wrong", "unknown"]).all()
    lessons = set(recording.load(made, "predictor", tmp_path).question)
    assert lessons.isdisjoint(recording.load(made, "evaluation", tmp_path).question)


@pytest.mark.parametrize("name", SHIPPED)
def test_counts_are_those_of_tables_6_and_7(name):
    kinds = recordings.manifest()["profiles"][name]["kinds"]
    for table in (paper.TABLE_6, paper.TABLE_7):
        assert kinds["evaluation"]["wanted"] == table.query("use == 'evaluation'")["total"].sum()
    rows = read_shipped(shipped_profile(name), "evaluation")
    most = paper.TABLE_6.query("use == 'evaluation'").set_index("name")["total"]
    assert all(count <= most[dataset] for dataset, count in rows.dataset.value_counts().items())


def test_files_are_small_enough_for_the_repository():
    sizes = [path.stat().st_size for path in recordings.FOLDER.rglob("*") if path.is_file()]
    assert max(sizes) < 10e6 and sum(sizes) < 40e6
    on_disk = {str(path.relative_to(recordings.FOLDER)) for path in recordings.FOLDER.rglob("*.parquet")}
    assert on_disk == set(recordings.manifest()["files"])


@public
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_verdicts_and_questions_are_those_of_the_published_sets(name):
    profile = shipped_profile(name)
    known = recordings.questions().set_index("question_id")
    for kind in recordings.kinds(name):
        rows = packing.with_texts(profile, kind)
        assert len(rows) == len(read_shipped(profile, kind))
        assert known.sha256.loc[rows.question_id].tolist() == [
            sha256(text.encode()).hexdigest() for text in same_text(rows.question)
        ]
        with Grader() as grader:
            again = grader.grade(list(rows.gold), [None if pd.isna(each) else each for each in rows.answer])
        assert list(again) == rows.verdict.tolist()
        # A model may repeat a short question; no long one is shipped whole in what it wrote.
        plain = same_text(rows.question), same_text(rows.completion)
        repeated = [text for text, said in zip(*plain, strict=True) if len(text) > 300 and text in said]
        assert not repeated
