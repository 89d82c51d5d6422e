"""Nothing that was paid for is lost: part files, runs that break off and go on, requests that fail."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clear_lib import Budgeter, Forecasts
from clear_lib.engines import Completion, Engine, ModelError

ROOT = Path(__file__).resolve().parents[1]
N, BUDGET, CAP = 24, 700, 90
QUESTIONS = [f"question {number}" for number in range(N)]
POLICIES = [("clear", "caps"), ("predictor", "refunds"), ("clear-sequential", "refunds")]


def forecaster(factor=1.0):
    class Known:
        def predict(self, texts):
            lengths = factor * np.random.default_rng(1).integers(10, 80, len(texts))
            return Forecasts(lengths, np.full(len(texts), 0.5), np.full(len(texts), 0.8))

    return Known()


class Slow(Engine):
    """Counts up from the tokens begun to the length of the question; ``bill`` is called for every completion."""

    name, version, model, context = "slow", "1", "counter", 1000

    def __init__(self, bill=lambda prompt, tokens: None, seconds=0.0, faults=None):
        self.bill, self.seconds, self.faults = bill, seconds, faults or {}

    def _encode(self, prompts, begun):
        return [
            [int(prompt.split()[1]), *tokens]
            for prompt, tokens in zip(prompts, begun or [()] * len(prompts), strict=True)
        ]

    def _complete(self, requests, temperature):
        for request in sorted(requests, key=lambda request: request.prompt[0] * 7 % 5):
            time.sleep(self.seconds)
            number, done = request.prompt[0], len(request.prompt) - 1
            length = 5 + 13 * number % 70
            fault = self.faults.get(number)
            if isinstance(fault, BaseException):
                raise fault
            tokens = tuple(range(done + 1, min(length, done + request.cap) + 1))
            self.bill(number, tokens)
            text = "".join(f" {token}" for token in tokens)
            if isinstance(fault, str):
                yield request.position, Completion(text, None, "failed", len(tokens), fault)
            elif isinstance(fault, int):
                yield request.position, Completion(text, None, "failed", request.cap + fault, "does not keep caps")
            else:
                yield request.position, Completion(text, tokens, "stop" if done + len(tokens) == length else "length")


def wrapper(policy="clear", accounting="caps", engine=None, **more):
    return Budgeter(engine or Slow(), forecaster(), policy, accounting=accounting, cap=CAP, **more)


def rows(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


CHILD = """
import pathlib, sys
sys.path[:0] = [{root!r}, {tests!r}]
from test_resume import BUDGET, QUESTIONS, Slow, wrapper
policy, accounting, folder = sys.argv[1:]
bill = open(pathlib.Path(folder, "bill"), "ab", buffering=0)
def charge(number, tokens):
    bill.write(f"{{number}} {{len(tokens)}}\\n".encode())
    print("charged", flush=True)
wrapper(policy, accounting, Slow(charge, 0.004)).run(QUESTIONS, BUDGET, out=pathlib.Path(folder, "out.jsonl"), resume=True)
"""


def run_and_kill(folder, policy, accounting, moments):
    """Answer the batch in processes that are killed so many charges after they began; how many there were.

    The part of a charge is waited for as a part of the engine's pause: before, while or after its answer is written.
    """
    program = CHILD.format(root=str(ROOT), tests=str(ROOT / "tests"))
    for kill in range(1000):
        command = [sys.executable, "-c", program, policy, accounting, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            if kill < len(moments):
                part, charges = np.modf(moments[kill])
                for _ in range(int(charges)):
                    child.stdout.readline()
                time.sleep(0.004 * part)
                child.kill()
            child.stdout.read()
        part = folder / "out.jsonl.part"
        (folder / f"seen-{kill:04}").write_bytes(part.read_bytes() if part.exists() else b"")
        if (folder / "out.jsonl").exists() and not part.exists():  # with both, it was killed between the two
            return kill
        assert child.returncode == -signal.SIGKILL, "it ended without its answers"


@pytest.mark.slow
@pytest.mark.parametrize("policy, accounting", POLICIES)
def test_killed_at_twenty_random_moments_it_loses_and_doubles_nothing(tmp_path, policy, accounting):
    undisturbed = []
    wrapper(policy, accounting, Slow(lambda *charge: undisturbed.append(charge))).run(QUESTIONS, BUDGET)
    moments = np.random.default_rng(len(policy)).uniform(0, len(undisturbed) / 4, 20)
    whole = wrapper(policy, accounting).run(QUESTIONS, BUDGET, out=tmp_path / "whole.jsonl")
    assert run_and_kill(tmp_path, policy, accounting, moments) >= 4 and sorted(tmp_path.glob("*part")) == []
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert whole.used.sum() <= BUDGET

    kept, charged = [], Counter(tuple(map(int, line.split())) for line in (tmp_path / "bill").read_text().splitlines())
    for seen in sorted(tmp_path.glob("seen-*"))[:-1]:
        lines = seen.read_bytes().split(b"\n")[1:-1]
        assert lines[: len(kept)] == kept, "an answer that had been kept is gone"
        kept = lines
    pieces = [json.loads(line) for line in kept]
    assert len({(piece["round"], piece["query"]) for piece in pieces}) == len(pieces) > 0
    # The engine was charged for what was kept, and again only for what was cut off in the middle: one a kill at most.
    assert 0 <= charged.total() - len(undisturbed) <= 20


@pytest.mark.parametrize("policy, accounting", POLICIES)
def test_the_part_file_has_every_answer_as_it_comes_and_goes_at_the_end(tmp_path, policy, accounting):
    out, part, seen = tmp_path / "a.jsonl", tmp_path / "a.jsonl.part", []
    engine = Slow(lambda *charge: seen.append(len(rows(part)) - 1))
    answers = wrapper(policy, accounting, engine).run(QUESTIONS, BUDGET, out=out)
    assert seen == list(range(len(seen))) and [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert [row["n_tokens"] or 0 for row in rows(out)] == answers.used.tolist()
    assert [row["question"] for row in rows(out)] == QUESTIONS


def broken_off(tmp_path, **more):
    """A run that the engine ends after some answers; the target's path."""
    with pytest.raises(ModelError, match="the server is gone; [0-9]+ answers are kept in .*out.jsonl.part: go on with"):
        wrapper(engine=Slow(faults={12: ModelError("the server is gone")}), **more).run(
            QUESTIONS, BUDGET, out=tmp_path / "out.jsonl"
        )
    return tmp_path / "out.jsonl"


def test_it_goes_on_within_the_same_budget_and_asks_only_for_the_rest(tmp_path):
    out, asked = broken_off(tmp_path), []
    kept = [row["query"] for row in rows(f"{out}.part")[1:]]
    answers = wrapper(engine=Slow(lambda number, _: asked.append(number))).run(QUESTIONS, BUDGET, out=out, resume=True)
    assert kept and not set(kept) & set(asked) and answers.granted.sum() <= BUDGET
    assert list(answers) == list(wrapper().run(QUESTIONS, BUDGET))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(policy="clear-exact"), "another policy: 'clear' there, 'clear-exact' now"),
        (dict(epsilon=9), "another settings: "),
        (dict(budget=BUDGET + 1), "another budget: 700 there, 701 now"),
        (dict(cap=CAP - 1), "another cap: 90 there, 89 now"),
        (dict(model="other"), "another model: 'counter' there, 'other' now"),
        (dict(template="<{question}>"), "another template"),
        (dict(questions=QUESTIONS[::-1]), "another questions; it cannot go on"),
        (dict(forecaster=forecaster(1.1)), "other forecasts .threshold.; it cannot go on"),
        (dict(resume=False), "holds [0-9]+ answers of a run that broke off: go on with them .--resume, in Python"),
    ],
)
def test_a_part_file_of_another_run_is_refused_and_kept(tmp_path, change, message):
    out = broken_off(tmp_path)
    before = Path(f"{out}.part").read_bytes()
    run = {
        name: change.pop(name, default)
        for name, default in dict(questions=QUESTIONS, budget=BUDGET, resume=True).items()
    }
    given = dict(forecaster=forecaster(), policy="clear", accounting="caps", cap=CAP) | change
    asked = []
    with pytest.raises(ValueError, match=message):
        Budgeter(Slow(lambda *charge: asked.append(charge)), **given).run(
            run["questions"], run["budget"], out=out, resume=run["resume"]
        )
    assert not asked and Path(f"{out}.part").read_bytes() == before and not out.exists()


def test_a_torn_last_line_is_left_out_and_any_other_damage_is_named(tmp_path):
    out = broken_off(tmp_path)
    part = Path(f"{out}.part")
    lines = part.read_bytes().split(b"\n")
    part.write_bytes(b"\n".join(lines[:2]) + b"\n" + lines[2][:9] + b"\n" + lines[3] + b"\n")
    with pytest.raises(ValueError, match="out.jsonl.part, line 3: damaged"):
        wrapper().run(QUESTIONS, BUDGET, out=out, resume=True)
    part.write_bytes(b"\n".join([*lines[:3], lines[2], b""]))
    with pytest.raises(ValueError, match="out.jsonl.part, line 4: damaged"):
        wrapper().run(QUESTIONS, BUDGET, out=out, resume=True)
    part.write_bytes(b"\n".join(lines[:4])[:-9])
    assert list(wrapper().run(QUESTIONS, BUDGET, out=out, resume=True)) == list(wrapper().run(QUESTIONS, BUDGET))


def test_two_runs_do_not_write_into_one_part_file(tmp_path):
    def second(*charge):
        with pytest.raises(ValueError, match="in use: another run writes into it"):
            wrapper().run(QUESTIONS, BUDGET, out=tmp_path / "out.jsonl", resume=True)

    wrapper(engine=Slow(second)).run(QUESTIONS, BUDGET, out=tmp_path / "out.jsonl")


def test_what_is_whole_is_not_answered_again_and_a_wrong_folder_costs_nothing(tmp_path):
    wrapper().run(QUESTIONS, BUDGET, out=tmp_path / "out.jsonl", resume=True)  # nothing to go on with: it begins
    engine = Slow(lambda *charge: pytest.fail("charged"))
    with pytest.raises(ValueError, match="out.jsonl is there and whole"):
        wrapper(engine=engine).run(QUESTIONS, BUDGET, out=tmp_path / "out.jsonl", resume=True)
    with pytest.raises(ValueError, match="nowhere/out.jsonl.part: No such file or directory"):
        wrapper(engine=engine).run(QUESTIONS, BUDGET, out=tmp_path / "nowhere" / "out.jsonl")


def test_a_run_without_an_answer_leaves_nothing_behind(tmp_path):
    engine = Slow(faults=dict.fromkeys(range(N), ModelError("no")))
    with pytest.raises(ModelError, match="^no$"):
        wrapper(engine=engine).run(QUESTIONS, BUDGET, out=tmp_path / "out.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("policy, accounting", POLICIES)
def test_a_refused_request_ends_alone_and_stays_ended(tmp_path, policy, accounting, caplog):
    faults = {number: f"no {number}" for number in (4, 5)}
    out = tmp_path / "out.jsonl"
    answers = wrapper(policy, accounting, Slow(faults=faults)).run(QUESTIONS, BUDGET, out=out)
    failed = [number for number, answer in enumerate(answers) if answer.finish_reason == "failed"]
    assert failed == [4, 5] and [answers[number].reason for number in failed] == ["no 4", "no 5"]
    assert {answer.finish_reason for answer in answers} >= {"stop", "failed"} and "2 failed" in str(answers)
    assert answers.used.sum() <= BUDGET and "question 4 failed: no 4" in caplog.text
    assert [row["finish_reason"] for row in rows(out)][4:6] == ["failed", "failed"]
    assert [row["completion"] for row in rows(out)][4] == answers[4].text != ""  # paid for, so it is kept


def test_an_engine_that_breaks_a_cap_ends_the_batch_and_what_it_charged_counts(tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(
        ModelError, match="does not keep caps; 1 answers are kept|does not keep caps; .* answers are kept"
    ):
        wrapper("predictor", "refunds", Slow(faults={0: 33})).run(QUESTIONS, BUDGET, out=out)
    answers = wrapper("predictor", "refunds").run(QUESTIONS, BUDGET, out=out, resume=True)
    assert answers[0].finish_reason == "failed" and answers[0].used == answers[0].granted > 33
    assert answers.used.sum() <= BUDGET


def test_an_engine_that_cannot_pause_is_refused_before_the_first_token():
    engine = Slow()
    engine.pauses = False
    for policy in ("clear", "clear-sequential"):
        with pytest.raises(ValueError, match="this engine cannot: a server can if it returns token ids"):
            wrapper(policy, "refunds", engine)
    assert wrapper("clear", "caps", engine).run(QUESTIONS, BUDGET).rounds == 1


def test_an_empty_batch_answers_empty(tmp_path):
    answers = wrapper(engine=Slow(lambda *charge: pytest.fail("charged"))).run([], 5, out=tmp_path / "out.jsonl")
    assert len(answers) == 0 and "0 queries, a budget of 5" in str(answers) and answers.used.sum() == 0
    assert (tmp_path / "out.jsonl").read_text() == ""
    with pytest.raises(ValueError, match="budget must be"):
        wrapper().run([], -1)


def test_it_can_be_awaited_and_cancelled(tmp_path):
    async def both():
        one, two = wrapper(), wrapper("clear-sequential", "refunds")
        return await asyncio.gather(one.arun(QUESTIONS, BUDGET), two.arun(QUESTIONS, BUDGET))

    assert [list(answers) for answers in asyncio.run(both())] == [
        list(wrapper(policy, accounting).run(QUESTIONS, BUDGET)) for policy, accounting in POLICIES[::2]
    ]

    async def cancelled():
        task = asyncio.create_task(wrapper(engine=Slow(seconds=0.02)).arun(QUESTIONS, BUDGET, out=tmp_path / "o"))
        await asyncio.sleep(0.15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    kept = len(rows(tmp_path / "o.part")) - 1
    assert 0 < kept < N
    answers = wrapper().run(QUESTIONS, BUDGET, out=tmp_path / "o", resume=True)
    assert list(answers) == list(wrapper().run(QUESTIONS, BUDGET))


def test_answers_are_json_lines_that_a_terminal_does_not_obey(tmp_path):
    answers = wrapper().run(QUESTIONS, BUDGET)
    hostile = answers[0]._replace(text="\x1b[2J \x9b2J \x7f é \ud800")
    answers = type(answers)((hostile, *answers[1:]), *(getattr(answers, name) for name in list(vars(answers))[1:]))
    answers.to_jsonl(tmp_path / "out.jsonl", [{"id": number} for number in range(N)])
    data = (tmp_path / "out.jsonl").read_bytes()
    assert not {0x1B, 0x7F} & set(data) and b"\xc2\x9b" not in data and "é".encode() in data
    assert rows(tmp_path / "out.jsonl")[0]["completion"] == hostile.text
    assert [row["id"] for row in rows(tmp_path / "out.jsonl")] == list(range(N))


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_says_so_in_a_line(tmp_path):
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps({"question": f"Ann has {n} eggs. How many?"}) + "\n" for n in range(900)))
    command = [sys.executable, "-m", "clear_lib", "run", str(questions), "--policy", "uniform", "--model", "embedded"]
    command += ["--budget", "180000", "--cap", "200", "--out", "out.jsonl", "--engine-option", "batch_size=8"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # who runs in the background ignores it
    )
    part = tmp_path / "out.jsonl.part"
    while running.poll() is None and (not part.exists() or part.read_bytes().count(b"\n") < 3):
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[1]
    kept = part.read_bytes().count(b"\n") - 1
    assert running.returncode == 130 and "Traceback" not in said and not (tmp_path / "out.jsonl").exists()
    last = said.strip().splitlines()[-1]
    assert last == f"stopped; {kept} answers are kept in out.jsonl.part: go on with --resume, in Python resume=True"
    done = subprocess.run([*command, "--resume"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and len(rows(tmp_path / "out.jsonl")) == 900 and not part.exists(), done.stderr
