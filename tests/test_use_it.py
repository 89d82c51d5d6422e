"""The page *Use it* runs as it is printed, from top to bottom, with the real embedded model."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from clear_lib import cli
from clear_lib.allocation.policies import POLICIES
from clear_lib.cli.files import settings_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "book" / "use_it.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
LEFT_OUT = [(kind, code) for kind, code in BLOCKS if code.startswith("# needs a ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the page has run: its blocks in order, the Python ones in one process."""
    path = tmp_path_factory.mktemp("page")
    program = ["import subprocess"]
    for kind, code in BLOCKS:
        if (kind, code) not in LEFT_OUT:
            program.append(code if kind == "python" else f"subprocess.run(['bash', '-euc', {code!r}], check=True)")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], cwd=path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    (path / "said").write_text(ran.stdout, encoding="utf-8")
    return path


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_the_page_runs_as_it_is_printed(folder):
    said = (folder / "said").read_text(encoding="utf-8")
    assert re.search(r"^(CLEAR|Uniform).*, refunds: 20 queries, a budget of 500 completion tokens$", said, re.MULTILINE)
    assert "abandoned" in said and '"threshold": 90, "tokens": ' in said
    assert re.search(r"what wins at 12 budgets .*: caps: .*; refunds: ", said)
    assert {path.suffix for path in (folder / "forecaster").rglob("*") if path.is_file()} == {".json"}


@pytest.mark.slow
def test_what_it_writes_is_within_the_budget_and_keeps_the_input(folder):
    questions, caps, answers = (rows(folder / f"{name}.jsonl") for name in ("questions", "caps", "answers"))
    assert 0 < sum(row["tokens"] for row in caps) <= 500 and sum(row["n_tokens"] or 0 for row in answers) <= 500
    for question, cap, answer in zip(questions, caps, answers, strict=True):
        assert question.items() <= cap.items() and question.items() <= answer.items()
        assert cap["active"] == (cap["tokens"] > 0) == (cap["reason"] is None)
        assert (answer["completion"] is None) == (not answer["active"]) and answer["model"] == "embedded"


@pytest.mark.slow
def test_what_is_kept_and_what_is_sent_to_a_service(folder):
    kept, (request,) = rows(folder / "kept.jsonl"), rows(folder / "capped.jsonl")
    assert len(kept) == len(rows(folder / "questions.jsonl")) and not list(folder.glob("*.part"))
    assert 0 < sum(row["n_tokens"] or 0 for row in kept) <= 500 and (folder / "abandoned.jsonl").read_text() == ""
    assert 0 < request["body"]["max_completion_tokens"] * 0.60 + 12 * 0.15 <= 300


@pytest.mark.parametrize("kind, code", LEFT_OUT)
def test_what_cannot_run_here_can_be_read(kind, code):
    if kind == "python":
        ast.parse(code)
        return
    assert subprocess.run(["bash", "-nc", code]).returncode == 0
    for command in re.findall(r"^python -m clear_lib ((?:.*\\\n)*.*)", code, flags=re.MULTILINE):
        asked = cli._parser().parse_args(shlex.split(command.replace("\\\n", " ")))
        assert_the_engine_takes(asked.engine, settings_of(asked.engine_option))


def assert_the_engine_takes(engine, options):
    """The options are arguments of the engine's class, read from its source: it may not be installed."""
    source = ROOT / "clear_lib" / "engines" / f"{engine}.py"
    (start,) = [
        node.args
        for cls in ast.parse(source.read_text()).body
        if isinstance(cls, ast.ClassDef) and cls.name.endswith("Engine")
        for node in cls.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    known = {argument.arg for argument in start.args + start.kwonlyargs}
    assert start.kwarg or set(options) <= known, f"{engine} does not know {set(options) - known}"


def test_every_policy_has_its_row_and_what_it_needs():
    table = dict(re.findall(r"^\| (`[^|]+`) \| ([\w, ]+) \|", PAGE, flags=re.MULTILINE))
    told = {name: needs for names, needs in table.items() for name in re.findall(r"`([\w-]+)`", names)}
    usable = {name: policy for name, policy in POLICIES.items() if not set(policy.needs) & {"lengths", "correct"}}
    assert set(told) == set(usable)
    for name, policy in usable.items():
        needs = set(policy.needs) | ({"solvable"} if "use_solvable" in policy.settings else set())
        assert set(told[name].split(", ")) == (needs or {"nothing"})
