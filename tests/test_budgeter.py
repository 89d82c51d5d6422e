"""The wrapper, with the real embedded model: what it promises of budgets, texts, prompts and reasons."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clear_lib import Budgeter, Forecasts, allocate, predictor
from clear_lib.allocation import policies
from clear_lib.engines.transformers import TransformersEngine
from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

WORKING = [name for name, policy in policies.POLICIES.items() if not set(policy.needs) & {"lengths", "correct"}]
N, CAP = 12, 150


class ByTheLetter:
    """A forecaster that anyone could write: so many tokens a character, with doubts."""

    def __init__(self, doubts=True):
        self.doubts, self.seen = doubts, []

    def predict(self, texts):
        self.seen += texts
        doubts = {"spread": np.full(len(texts), 0.5), "solvable": np.full(len(texts), 0.8)} if self.doubts else {}
        return Forecasts([float(len(text)) for text in texts], **doubts)


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(str(CHECKPOINT))


@pytest.fixture(scope="module")
def questions():
    return list(pd.concat([tasks.questions("evaluation", tier, N // 4) for tier in tasks.TIERS]).question)


@pytest.fixture(scope="module")
def whole(engine, questions):
    """What the model writes if nothing stops it."""
    prompts = [PROMPT.replace("{question}", question) for question in questions]
    return engine.generate(prompts, [CAP] * len(prompts))


@pytest.mark.parametrize("policy", WORKING)
def test_every_policy_answers_within_the_budget(engine, questions, whole, policy):
    budget = sum(completion.length for completion in whole) // 2
    estimates = {"estimates": np.full(N, 50.0)} if policy == "tale-ep" else {}
    forecaster = None if policy in ("uniform", "tale-ep") else ByTheLetter()
    answers = Budgeter(engine, forecaster, policy, template=PROMPT, cap=CAP).run(questions, budget, **estimates)
    billed = answers.used if policies.POLICIES[policy].kind == "sequential" else answers.granted
    assert billed.sum() <= budget == answers.budget and (answers.used <= answers.granted).all()
    for question, answer, completion in zip(questions, answers, whole, strict=True):
        assert answer.question == question and answer.used <= CAP
        assert completion.text.startswith(answer.text) and answer.used == min(answer.granted, completion.length)
        ended = completion.finish_reason == "stop" and answer.used == completion.length
        assert (answer.finish_reason == "stop") == ended == (answer.reason is None)
        assert (answer.finish_reason == "abandoned") == (answer.used == 0) == (answer.text == "")
        if answer.finish_reason == "stop":
            assert answer.text == completion.text


@pytest.mark.parametrize("policy", ["clear", "clear-sequential"])
def test_paused_and_continued_is_the_same_text(engine, questions, whole, policy):
    budget = int(0.7 * sum(completion.length for completion in whole))
    answers = Budgeter(engine, ByTheLetter(), policy, accounting="refunds", template=PROMPT, cap=CAP).run(
        questions, budget
    )
    assert answers.rounds > 1 and 0.8 * budget < answers.used.sum() <= budget
    assert all(completion.text.startswith(answer.text) for answer, completion in zip(answers, whole, strict=True))
    assert {answer.reason for answer in answers if answer.finish_reason == "stop"} == {None}


def test_it_is_allocate_and_the_engine_and_nothing_else(engine, questions, whole):
    answers = Budgeter(engine, ByTheLetter(), "clear", template=PROMPT, epsilon=64).run(questions, 600)
    room = engine.context - max(len(engine.tokenizer(PROMPT.replace("{question}", q)).input_ids) for q in questions)
    allocation = allocate([len(question) for question in questions], 600, "clear", cap=room, epsilon=64)
    assert answers.granted.tolist() == allocation.tokens.tolist() and answers.price == allocation.price
    again = engine.generate([PROMPT.replace("{question}", question) for question in questions], list(allocation.tokens))
    assert [answer.text for answer in answers] == [completion.text for completion in again]


def test_the_forecaster_sees_questions_and_the_engine_prompts(engine):
    seen, forecaster = [], ByTheLetter()

    class Watched(type(engine)):
        def __init__(self):
            self.__dict__.update(engine.__dict__)

        def stream(self, prompts, *rest, **more):
            seen.extend(prompts)
            return super().stream(prompts, *rest, **more)

    hostile = ["{0.__class__} {question} %s 2+2?", "{", "\\boxed{} {tokens}"]
    Budgeter(Watched(), forecaster, "uniform", template="<{question}|{x}>", cap=20).run(hostile, 60)
    assert forecaster.seen == hostile and seen == [f"<{text}|{{x}}>" for text in hostile]


def test_the_result_is_a_sequence_a_table_and_a_summary(engine, questions):
    answers = Budgeter(engine, ByTheLetter(), template=PROMPT).run(questions, 350)
    assert len(answers) == N and answers[0] is list(answers)[0] and answers[-2:] == answers[N - 2 :]
    table = answers.to_frame()
    assert list(table) == ["question", "text", "finish_reason", "granted", "used", "reason"]
    assert (table.granted == answers.granted).all() and table.reason.notna().sum() > 0
    said = str(answers)
    counts = table.finish_reason.value_counts()
    assert f"{counts.stop} finished" in said and f"{counts.abandoned} abandoned" in said
    assert "a budget of 350 completion tokens" in said and f"price {answers.price:.3g}" in said
    assert "is above the abandonment line" in said and f"{answers.used.sum()} used" in said


@pytest.mark.parametrize("policy, needs", [("oracle", "lengths and correct"), ("oracle-paper", "lengths")])
def test_hindsight_is_refused(engine, policy, needs):
    with pytest.raises(
        ValueError, match=f"nobody knows the {needs} of queries.*'{policy}'; these work: {', '.join(WORKING)}$"
    ):
        Budgeter(engine, ByTheLetter(), policy)


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(policy="cleer"), "unknown policy 'cleer'; these work: uniform, "),
        (dict(forecaster=None), "policy 'clear' needs a forecaster"),
        (dict(template="Q: {q}"), r"must contain \{question\}, got 'Q: \{q\}'"),
        (dict(forecaster="nowhere"), "nowhere holds no predictor"),
        (dict(epsilon=-1), "epsilon must be a number above 0"),
        (dict(slack=3), "unknown setting 'slack' for policy 'clear'; known: velocity"),
        (dict(policy="clear-sequential", accounting="caps"), "needs accounting='refunds'"),
        (dict(accounting="overbooked"), "needs a ReplayStepper"),
        (dict(policy="clear-lognormal", forecaster=ByTheLetter(False)), "needs the spread.*clear_lib fit"),
        (dict(policy="tale-ep"), "needs estimates="),
        (dict(cap=0), "cap must be a whole number of at least 1, got 0"),
        (dict(resume=True), "give out=, the file that was being written"),
        (dict(questions="1+1?"), "must be a list of texts"),
        (dict(questions=["1+1?", 2]), "must be a list of texts"),
        (dict(questions=["1+1?", "7 " * 5000]), "prompt 1 has .* leaves nothing of the context of "),
        (dict(budget=-1), "budget must be a whole number of at least 0"),
    ],
)
def test_mistakes_are_named_before_anything_is_decoded(engine, given, message):
    class Silent:
        name, model, context, tokenizer = engine.name, engine.model, engine.context, engine.tokenizer

        def stream(self, *arguments, **more):
            raise AssertionError("decoded")

    questions, budget = given.pop("questions", ["1+1?"]), given.pop("budget", 100)
    how = {"resume": True} if given.pop("resume", False) else {}
    given = {"forecaster": ByTheLetter(), "policy": "clear"} | given
    with pytest.raises(ValueError, match=message):
        Budgeter(Silent(), **given).run(questions, budget, **how)


def test_an_engine_that_cannot_count_needs_a_cap():
    class Remote:
        name, model, context = "remote", "a-model", 4096

    with pytest.raises(ValueError, match="engine 'remote' cannot count the tokens of a prompt: give cap="):
        Budgeter(Remote(), ByTheLetter()).run(["1+1?"], 100)


@pytest.mark.parametrize("policy", ["clear", "clear-lognormal", "clear-sequential"])
def test_a_saved_forecaster_is_given_as_its_folder(engine, taught, questions, policy):
    with warnings.catch_warnings():
        warnings.simplefilter("error", predictor.OtherModelWarning)
        saved = Budgeter(engine, taught, policy, template=PROMPT).run(questions[:4], 100)
    loaded = Budgeter(engine, predictor.load(taught), policy, template=PROMPT).run(questions[:4], 100)
    assert list(saved) == list(loaded)
    assert {path.suffix for path in taught.rglob("*") if path.is_file()} == {".json"}


def test_a_forecaster_of_another_model_is_loud(engine, taught):
    with pytest.warns(predictor.OtherModelWarning, match="learned from embedded and forecasts Qwen/Qwen2.5-Math-7B"):
        Budgeter(engine, taught, model="Qwen/Qwen2.5-Math-7B")


def test_one_forecaster_serves_its_model_under_any_path(engine, taught, tmp_path):
    shutil.copytree(taught, tmp_path, dirs_exist_ok=True)
    state = (taught / "predictor.json").read_text()
    (tmp_path / "predictor.json").write_text(state.replace('"embedded"', '"Qwen2.5-Math-7B"'))
    with warnings.catch_warnings():
        warnings.simplefilter("error", predictor.OtherModelWarning)
        Budgeter(engine, tmp_path, model="Qwen/Qwen2.5-Math-7B")


def test_importing_the_package_does_not_load_the_wrapper():
    code = "import sys, clear_lib; print([m for m in ('pandas', 'clear_lib.budgeter') if m in sys.modules]); clear_lib.Budgeter"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
    with pytest.raises(ImportError, match="Budgetter"):
        from clear_lib import Budgetter  # noqa: F401
