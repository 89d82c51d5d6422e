"""The wrapper, with the real embedded model: what it promises of budgets, texts, prompts and reasons."""

import re
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
from clear_lib.answers import Answer, Answers
from clear_lib.engines import Completion
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


@pytest.mark.parametrize("policy", sorted(set(WORKING) - {"tale-ep"}))
@pytest.mark.parametrize("accounting", ["caps", None])
def test_every_policy_answers_within_the_budget(engine, questions, whole, policy, accounting):
    budget = sum(completion.length for completion in whole) // 2
    forecaster = None if policy == "uniform" else ByTheLetter()
    if policies.POLICIES[policy].kind == "sequential":
        accounting = None
    wrapped = Budgeter(engine, forecaster, policy, accounting=accounting, template=PROMPT, cap=CAP)
    answers = wrapped.run(questions, budget)
    assert answers.accounting == (accounting or "refunds")
    billed = answers.granted if accounting == "caps" else answers.used
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


class Echo:
    """An engine that never ends by itself and remembers what it was asked."""

    name, model, context = "echo", "echo", 900

    class tokenizer:
        input_ids = [0] * 9

        def __init__(self, text):
            pass

        decode = staticmethod(lambda tokens, **_: " ".join(map(str, tokens)))

    def __init__(self, pauses=True):
        self.pauses, self.asked = pauses, []

    def stream(self, prompts, caps, begun=None, keep_going=False):
        self.asked += zip(prompts, caps, strict=True)
        for position, cap in enumerate(caps):
            yield position, Completion("text", (1,) * int(cap), "length")


def test_tale_ep_tells_the_model_the_budget_of_its_query():
    shares, estimates = allocate(Forecasts([1, 1], estimate=[10, 30]), 400, "tale-ep").tokens, [10, 30]
    engine, questions = Echo(False), ["one {budget}?", "two?"]
    Budgeter(engine, None, "tale-ep", template="Q: {question} A:").run(questions, 400, estimates=estimates)
    said = [f"\nLet's think step by step and use less than {tokens} tokens. A:" for tokens in shares]
    assert [prompt for prompt, _ in engine.asked] == [f"Q: one {{budget}}?{said[0]}", f"Q: two?{said[1]}"]
    engine = Echo(False)
    Budgeter(engine, None, "tale-ep", template="[{budget}] {question}").run(questions, 400, estimates=estimates)
    assert [prompt for prompt, _ in engine.asked] == [f"[{shares[0]}] one {{budget}}?", f"[{shares[1]}] two?"]


def test_a_prompt_stays_as_it_was_when_its_query_goes_on():
    engine = Echo()
    answers = Budgeter(engine, None, "uniform", template="[{budget}] {question}", cap=50).run(["a", "b"], 60)
    assert {prompt for prompt, _ in engine.asked} == {"[30] a", "[30] b"} and answers.used.sum() == 60


def advised(**of):
    """A forecaster with advice, for one accounting, of a policy and constants."""
    forecaster = ByTheLetter()
    forecaster.advice = {
        name: {"policy": policy, "settings": {"clear": {"epsilon": 99.0}}} for name, policy in of.items()
    }
    return forecaster


@pytest.mark.parametrize(
    "forecaster, pauses, policy, accounting",
    [
        (None, True, "uniform", "refunds"),
        (None, False, "uniform", "caps"),
        (ByTheLetter(), True, "clear-lognormal", "refunds"),
        (ByTheLetter(False), False, "clear", "caps"),
        (advised(caps="predictor", refunds="clear-sequential"), True, "clear-sequential", "refunds"),
        (advised(caps="predictor", refunds="clear-sequential"), False, "predictor", "caps"),
    ],
)
def test_by_default_it_is_what_won_on_the_logs_with_refunds_where_the_engine_can_pause(
    forecaster, pauses, policy, accounting
):
    answers = Budgeter(Echo(pauses), forecaster).run(["one", "two"], 60)
    assert (answers.policy, answers.accounting) == (policy, accounting)


def test_constants_are_those_of_the_logs_unless_they_are_given():
    forecaster, lengths = advised(caps="uniform"), [3.0, 40.0]
    for given, epsilon in [({}, 99), ({"epsilon": 5}, 5)]:
        answers = Budgeter(Echo(False), forecaster, "clear", **given).run(["a" * 3, "b" * 40], 200)
        assert answers.granted.tolist() == allocate(lengths, 200, "clear", epsilon=epsilon, cap=891).tokens.tolist()


def test_what_is_left_unused_is_said_with_the_way_to_use_it(engine):
    said = str(Budgeter(engine, None, accounting="caps", template=PROMPT).run(["1+1?", "2+2?"], 1000))
    assert re.search(
        r"9\d% of the budget unused: (every question has its answer|where the engine can pause, --acc)", said
    )
    assert "unused" not in str(Budgeter(Echo(), None).run(["1+1?", "2+2?"], 60))


def test_it_is_allocate_and_the_engine_and_nothing_else(engine, questions, whole):
    wrapped = Budgeter(engine, ByTheLetter(), "clear", accounting="caps", template=PROMPT, epsilon=64)
    answers = wrapped.run(questions, 600)
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
    answers = Budgeter(engine, ByTheLetter(False), accounting="caps", template=PROMPT).run(questions, 350)
    assert len(answers) == N and answers[0] is list(answers)[0] and answers[-2:] == answers[N - 2 :]
    table = answers.to_frame()
    assert list(table) == ["question", "text", "finish_reason", "granted", "used", "reason", "thoughts"]
    assert (table.granted == answers.granted).all() and table.reason.notna().sum() > 0
    said = str(answers)
    counts = table.finish_reason.value_counts()
    assert f"{counts.stop} finished" in said and f"{counts.abandoned} abandoned" in said
    assert "a budget of 350 completion tokens" in said and f"price {answers.price:.3g}" in said
    assert "is above the abandonment line" in said and f"{answers.used.sum()} used" in said


def test_its_metrics_are_read_by_prometheus():
    parser = pytest.importorskip("prometheus_client.parser")
    rows = tuple(Answer("q", "t", kind, 9, used, None) for kind, used in (("stop", 4), ("length", 9), ("stop", 5)))
    answers = Answers(rows, "clear", "caps", 30, 0.25, 1, 'C:\\new\n"modèle"')
    families = list(parser.text_string_to_metric_families(answers.metrics()))
    found = {(family.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}
    shared = answers.model, "clear", "caps"
    expected = {("clear_tokens", *shared, kind): n for kind, n in (("budget", 30), ("granted", 27), ("used", 18))}
    assert found == expected | {("clear_answers", *shared, "stop"): 2, ("clear_answers", *shared, "length"): 1}
    assert {family.type for family in families} == {"gauge"}


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
        (dict(policy=None, slack=3), "unknown setting 'slack' for policy 'clear-lognormal'; known: use_solvable"),
        (dict(policy="clear-sequential", accounting="caps"), "needs accounting='refunds'"),
        (dict(accounting="overbooked"), "needs a ReplayStepper"),
        (dict(policy="clear-lognormal", forecaster=ByTheLetter(False)), "needs the spread.*clear_lib fit"),
        (dict(policy="tale-ep"), "needs estimates="),
        (dict(cap=0), "cap must be a whole number of at least 1, got 0"),
        (dict(resume=True), "give out=, the file that was being written"),
        (dict(questions="1+1?"), "must be a list of texts"),
        (dict(questions=["1+1?", "a \ud800"]), "question 1 has half of a surrogate pair"),
        (dict(questions=None), "must be a list of texts, got None"),
        (dict(questions={"1+1?": 2}), "must be a list of texts"),
        (dict(template=None), r"must contain \{question\}, got None"),
        (dict(forecaster=5), r"a forecaster has predict\(texts\), or is the folder of one; got 5"),
        (dict(fields=[{}, {}]), "2 fields for 1 questions; there must be as many"),
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
    how = {name: given.pop(name) for name in ("resume", "fields") if name in given}
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
    (tmp_path / "sha256.json").unlink()
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
