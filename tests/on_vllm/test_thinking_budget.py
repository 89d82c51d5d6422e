"""The real `vllm serve` limits thinking as it is told: the laboratory model thinks from its prompt to its box."""

import json
import subprocess
import sys

import pytest
from test_server import Served

from clear_lib.engines.openai import OpenAIEngine
from clear_lib.reasoner import CHECKPOINT

MARKS = {"reasoning_start_str": "Solution:\n", "reasoning_end_str": "\\boxed{"}
ROOM = 60


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("thinking"), "--reasoning-config", json.dumps(MARKS))
    try:
        served.start()
        yield served
    finally:
        served.kill()


def before_the_box(text):
    return text.split("\\boxed{")[0]


def test_a_cap_with_a_reserve_buys_an_answer_and_not_only_thoughts(thinking, prompts, reference):
    some = [i for i, whole in enumerate(reference[:100]) if whole.length > ROOM][:30]
    asked = [prompts[i] for i in some], [40] * len(some)
    plain = OpenAIEngine(str(CHECKPOINT), thinking.url).generate(*asked)
    assert not any("\\boxed{" in completion.text for completion in plain)
    kept = OpenAIEngine(str(CHECKPOINT), thinking.url, thinking="vllm", reserve=15).generate(*asked)
    assert all("\\boxed{" in completion.text and completion.length <= 40 for completion in kept)
    assert all(
        before_the_box(one.text) and one.tokens[:20] == other.tokens[:20]
        for one, other in zip(kept, plain, strict=True)
    )


def test_the_page_can_be_followed_against_it(thinking, tmp_path):
    """The commands of *Answer a batch within a budget* that need a server, from an empty folder."""
    lines = ["Ann has 4 eggs, loses 2. How many eggs does Ann have?", "Ben has 7 pens, finds 5. How many pens has he?"]
    source, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    source.write_text("".join(json.dumps({"question": line, "threshold": 20}) + "\n" for line in lines))
    command = [sys.executable, "-m", "clear_lib", "run", source, "--budget", "120", "--cap", "100", "--out", out]
    command += ["--model", CHECKPOINT, "--engine", "openai", "--template", "Question: {question}\nSolution:\n"]
    command += ["--engine-option", f"base_url={thinking.url}", "concurrency=2"]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert ran.returncode == 0 and "refunds: 2 queries, a budget of 120 completion tokens" in ran.stderr, ran.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert 0 < sum(row["n_tokens"] for row in rows) <= 120 and all(row["completion"] for row in rows)
