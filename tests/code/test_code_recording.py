"""Recording programs: prompts, the code in an answer, going on where it was stopped, grades, and what is shipped."""

import json
from functools import partial

import numpy as np
import pytest

from clear_lib.engines import Completion
from clear_lib.predictor.sentence import Sentence
from clear_lib.rollouts.shipped import manifest, questions
from clear_lib.study.cli import main
from clear_lib.study.code import protocol, recording, sandbox, shipping, tasks
from clear_lib.study.recordings import packing
from clear_lib.study.recordings import recording as recordings
from clear_lib.study.setup import models, profiles

SHARE = 4 / 164


class Scripted:
    """An engine that writes the published solution in a block, or at every third prompt nothing of use."""

    name, version = "scripted", "1"

    def __init__(self, wrong=3):
        solutions = {task.prompt.strip(): f"{task.prompt}{task.solution}" for task in tasks.load("HumanEval")}
        self.solutions, self.wrong, self.asked = solutions, wrong, 0

    def stream(self, prompts, caps, temperature, seeds, progress=None):
        for position, prompt in enumerate(prompts):
            self.asked += 1
            (code,) = [text for asked, text in self.solutions.items() if f"```python\n{asked}\n```" in prompt]
            text = "I do not know." if position % self.wrong == 0 else f"Here:\n```python\n{code}\n```\nIt is right."
            yield position, Completion(text, tuple(range(50 + position)), "stop")


@pytest.fixture
def profile():
    return profiles.load("qwen-1.5b")


@pytest.fixture
def artifacts(profile, tmp_path):
    assert recording.record(profile, [("humaneval", SHARE)], tmp_path, Scripted) == 4
    return tmp_path


def test_the_prompt_is_the_task_in_the_chat_template_of_the_profile(profile):
    prompt = recording.prompt_of(profile, tasks.load("HumanEval")[0])
    assert prompt.startswith("<|im_start|>system\nYou are Qwen") and prompt.endswith("<|im_start|>assistant\n")
    assert (
        "boxed" not in prompt and "Answer with one Python code block" in prompt and "def has_close_elements(" in prompt
    )
    assert recording.prompt_of(profiles.load("tiny"), tasks.load("HumanEval")[0]).startswith(
        "Write this Python function"
    )


def test_samples_differ_in_their_seeds_only(profile):
    greedy, samples = (recording.requests(profile, kind) for kind in ("humaneval", "humaneval-samples"))
    assert len(greedy) == 164 and len(samples) == 8 * 164 and samples.seed.is_unique
    assert set(greedy.cap) == {1024} and set(greedy.temperature) == {0.0} and set(samples.temperature) == {0.8}
    assert greedy.question_id.tolist() == samples.question_id.drop_duplicates().tolist()
    with pytest.raises(ValueError, match="unknown kind of rollouts 'apps'; known: humaneval, mbpp, "):
        recording.requests(profile, "apps")


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("no code", None),
        ("a\n```python\ndef f(): pass\n```\nb\n```python\nprint(f())\n```", "def f(): pass\n"),
        ("```\nx = 1\n```\n```python\nx = 2\ndef f(): pass\n```", "x = 2\ndef f(): pass\n"),
        ("```bash\npip install x\n```\n```py\nx = 2\n```", "x = 2\n"),
        ("```python\ndef f():\n    return 1", "def f():\n    return 1"),
        ("1. so:\n   ```python\n   x\n   ```", "   x\n"),
        ("```python\ndef f():\n    '''a ``` b'''\n```", "def f():\n    '''a ``` b'''\n"),
    ],
)
def test_the_code_of_a_completion(completion, code):
    assert recording.extract_code(completion) == code


def test_recording_goes_on_where_it_was_stopped(profile, artifacts):
    engine = Scripted()
    assert recording.record(profile, [("humaneval", 2 * SHARE)], artifacts, lambda: engine) == 4 == engine.asked
    assert recording.record(profile, [("humaneval", 2 * SHARE)], artifacts, lambda: 1 / 0) == 0
    rows = recordings.store(profile, "humaneval", artifacts).read()
    assert set(rows.verdict) == {"unknown"} and rows.answer.isna().sum() == 4
    assert recording.recorded(profile, artifacts) == ["humaneval"]


def test_programs_are_graded_once_and_again_if_the_tests_change(profile, artifacts, monkeypatch):
    grades = recording.grade(profile, "humaneval", artifacts)
    assert grades.base.tolist().count("correct") == 2 and set(grades.plus) == {"none"}
    assert grades.reason.ne("").tolist() == grades.base.eq("wrong").tolist()
    ran = []
    real = sandbox.run_tests
    monkeypatch.setattr(sandbox, "run_tests", lambda *a: ran.append(a) or real(*a))
    assert recording.grade(profile, "humaneval", artifacts).equals(grades) and not ran
    job = tasks.job
    monkeypatch.setattr(tasks, "job", lambda task: job(task) | {"tolerance": 1})
    recording.grade(profile, "humaneval", artifacts)
    assert len(ran) == len(recording.load(profile, "humaneval", artifacts)) == 4


def test_equal_programs_for_a_task_are_run_once(profile, tmp_path, monkeypatch):
    recording.record(profile, [("humaneval-samples", SHARE / 2)], tmp_path, Scripted)
    rows, ran = recordings.store(profile, "humaneval-samples", tmp_path).read(), []
    monkeypatch.setattr(sandbox, "run_tests", lambda *a: ran.append(a) or sandbox.Verdict({"base": True}, ""))
    grades = recording.grade(profile, "humaneval-samples", tmp_path)
    distinct = rows.assign(answer=rows["answer"].fillna("")).drop_duplicates(["question_id", "answer"])
    assert len(ran) == len(distinct) < len(rows) == len(grades) and set(grades.base) == {"correct"}


def test_shipped_are_lengths_and_verdicts_and_no_text(profile, artifacts, tmp_path, monkeypatch):
    monkeypatch.setattr(Sentence, "encode", lambda self, texts: (np.zeros((len(texts), 384)), np.ones(len(texts), int)))
    folder = tmp_path / "recordings"
    (folder / "code").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"files": {"a": "b"}, "profiles": {"c": {}}}))
    with pytest.raises(ValueError, match="no graded rollouts of humaneval; record them"):
        shipping.pack(profile, "humaneval", artifacts, folder)
    recording.grade(profile, "humaneval", artifacts)
    path = shipping.pack(profile, "humaneval", artifacts, folder)
    shipped = shipping.read(profile.name, ["humaneval"], folder)
    assert shipped.columns.tolist() == [*shipping.COLUMNS, "question"] and len(shipped) == 4
    assert np.all(shipped.length >= 50) and shipped.question.str.fullmatch("sha256:[0-9a-f]{64}").all()
    assert manifest(folder)["files"].keys() == {"a", "code/qwen-1.5b/humaneval.parquet", "code/questions.parquet"}
    assert manifest(folder)["profiles"] == {"c": {}}
    assert all(len(str(value)) < 80 for value in shipped.to_numpy().flat)
    before = questions(folder, shipping.QUESTIONS)
    recording.record(profile, [("humaneval", 2 * SHARE)], artifacts, Scripted)
    recording.grade(profile, "humaneval", artifacts)
    shipping.pack(profile, "humaneval", artifacts, folder)
    after = questions(folder, shipping.QUESTIONS)
    assert len(before) == 4 and len(after) == 8 and after.row.is_monotonic_increasing
    order, real = recording.requests(profile, "humaneval").question_id, recording.load
    left = shipping.unshipped(profile, "humaneval", folder)
    assert set(left.question_id) == set(order[8:]) and len(left) == len(order) - 8

    # On another machine only the next tasks are recorded; what is shipped stays.
    there = tmp_path / "there"
    recording.record(
        profile, [("humaneval", 0.02)], there, Scripted, requests=partial(shipping.unshipped, folder=folder)
    )
    recording.grade(profile, "humaneval", there)
    shipping.pack(profile, "humaneval", there, folder)
    assert set(shipping.read(profile.name, ["humaneval"], folder).question_id) == set(order[:11])
    assert len(questions(folder, shipping.QUESTIONS)) == 11

    path.unlink()
    packing.write({}, {"files": {}, "profiles": {}}, folder)
    monkeypatch.setattr(recording, "load", lambda *a: real(*a).set_index("question_id").drop(order[3]).reset_index())
    shipping.pack(profile, "humaneval", artifacts, folder)
    kept = shipping.read(profile.name, ["humaneval"], folder).question_id
    assert set(kept) == set(order[:3]), "short ones end first, so what is beyond a gap is no random part"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="not the file that was shipped"):
        shipping.read(profile.name, ["humaneval"], folder)
    assert shipping.read(profile.name, ["mbpp"], folder).empty


@pytest.mark.slow
def test_lengths_are_predicted_from_what_is_shipped(profile, tmp_path, monkeypatch):
    """The texts of the tasks are not needed: their embeddings are shipped."""
    recording.record(profile, [("humaneval", 40 / 164)], tmp_path, Scripted)
    recording.grade(profile, "humaneval", tmp_path)
    folder = tmp_path / "recordings"
    shipping.pack(profile, "humaneval", tmp_path, folder)
    monkeypatch.setattr("clear_lib.rollouts.shipped.FOLDER", folder)
    shipped = shipping.read(profile.name, ["humaneval"], folder)
    table = protocol.cross_forecasts(shipped, profile.predictor, profile.model_parameters)
    assert len(table) == 40 and table.threshold.between(20, 200).all() and table.solvable.between(0, 1).all()


def test_the_commands_record_and_grade(profile, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(models, "start", lambda *a: Scripted())
    monkeypatch.setattr(shipping, "unshipped", recording.requests)
    common = ["--profile", "qwen-1.5b", "--artifacts", str(tmp_path)]
    assert main(["record", *common, "--only", f"humaneval:{SHARE}"]) == 0
    assert main(["grade", *common]) == 0
    said = capsys.readouterr().out
    assert "humaneval, 2% of 164: what is not shipped of one greedy rollout of every task of HumanEval" in said
    assert "4 rollouts recorded now" in said and "humaneval: 4 programs; passed: base 0.500" in said
    assert (tmp_path / "qwen-1.5b" / "runs.jsonl").is_file()
