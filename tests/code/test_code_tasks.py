"""Programming tasks: read in every layout, counted, and solved by their own published solutions."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clear_lib.study.code import inside, sandbox, tasks

FOLDER = os.environ.get("CLEAR_BENCHMARKS")
needs_folder = pytest.mark.skipif(
    not FOLDER or not list(Path(FOLDER).glob("mbppplus*.jsonl")), reason="CLEAR_BENCHMARKS has no MBPP+"
)


def unsolved(name, step):
    """Tasks of a set, every so many, that their published solution does not solve in the sandbox."""
    chosen = tasks.load(name, FOLDER)[::step]
    programs = [f"{task.prompt}\n{task.solution}" for task in chosen]
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(sandbox.run_tests, programs, map(tasks.job, chosen)))
    return {
        task.task_id: each.reason for task, each in zip(chosen, verdicts, strict=True) if not min(each.passed.values())
    }


def test_some_published_solutions_of_humaneval_solve_their_tasks():
    assert unsolved("HumanEval", 8) == {}


@needs_folder
def test_some_published_solutions_of_mbpp_solve_their_tasks():
    assert unsolved("MBPP+", 40) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["HumanEval", pytest.param("MBPP+", marks=needs_folder)])
def test_all_published_solutions_solve_their_tasks(name):
    assert unsolved(name, 1) == {}


def test_a_prompt_alone_solves_nothing():
    task = tasks.load("HumanEval")[0]
    assert sandbox.run_tests(task.prompt, tasks.job(task)).passed == {"base": False}


def test_humaneval_has_164_tasks():
    found = tasks.load("HumanEval")
    assert len(found) == 164 and found[0].task_id == "HumanEval/0" and found[0].entry_point == "has_close_elements"
    assert all(task.parts.keys() == {"base"} for task in tasks.with_plus())


@needs_folder
def test_mbpp_plus_names_its_functions_and_has_both_tests():
    found = tasks.load("MBPP+", FOLDER)
    assert len(found) == 399 and all(re.search(rf"\nassert .*\b{task.entry_point} ?\(", task.prompt) for task in found)
    assert sum("plus" not in task.parts for task in found) == len(tasks.TOO_LARGE)
    first = next(task for task in found if task.task_id == "Mbpp/2")
    assert inside.decode(first.base[0]) == [(3, 4, 5, 6), (5, 7, 4, 10)]


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


def evalplus(number, **more):
    row = {"task_id": f"HumanEval/{number}", "prompt": "def f(x):\n", "entry_point": "f", "atol": 0.5}
    tests = {"canonical_solution": "    return x\n", "base_input": [[1]], "plus_input": [[2.25]]}
    return row | tests | more


def test_the_tests_of_humaneval_plus_are_added_to_humaneval(tmp_path):
    write(tmp_path / "HumanEvalPlus-v0.1.9.jsonl", [evalplus(n) for n in range(164)])
    found = tasks.with_plus(tmp_path)
    assert found[3].plus == [{"list": [2.25]}] and found[3].tolerance == 0.5 and "check" in found[3].base


def test_the_layout_of_the_hub_is_read_and_its_tests_run(tmp_path):
    row = {
        "prompt": "Write a function to double.",
        "code": "def help(x): return x\ndef twice(x): return 2 * help(x)",
        "test_imports": ["import math"],
        "test_list": ["assert math.isclose(twice(2), 4)"],
        "test": "for x, y in zip([1, 2], [2, 4]):\n    assert twice(x) == y",
    }
    write(tmp_path / "mbppplus.jsonl", [row | {"task_id": n} for n in range(378)])
    task = tasks.load("MBPP+", tmp_path)[7]
    assert (task.task_id, task.entry_point) == ("Mbpp/7", "twice") and "isclose(twice(2), 4)" in task.prompt
    for code, passed in (("def twice(x): return x + x", True), ("def twice(x): return x + 2", False)):
        assert sandbox.run_tests(code, tasks.job(task)).passed == {"base": True, "plus": passed}


def test_bigcodebench_is_counted_and_not_run(tmp_path):
    row = {"complete_prompt": "def task_func():\n", "entry_point": "task_func", "canonical_solution": "", "test": "x"}
    write(tmp_path / "bigcodebench-v0.1.4.jsonl", [row | {"task_id": f"BigCodeBench/{n}"} for n in range(1140)])
    found = tasks.load("BigCodeBench", tmp_path)
    with pytest.raises(ValueError, match="BigCodeBench/0: .* so they are not run"):
        tasks.job(found[0])


def test_revisions_are_commits():
    assert all(re.fullmatch("[0-9a-f]{40}", known.revision) for known in tasks.SETS.values())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([evalplus(n) for n in range(163)], "expected 164 tasks, found 163 in .*humanevalplus.jsonl"),
        ([evalplus(n // 2) for n in range(164)], "a task stands twice"),
        ([{"task_id": "x"}], "'x' is not in a known layout"),
    ],
)
def test_another_set_is_named(tmp_path, rows, message):
    write(tmp_path / "humanevalplus.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        tasks.load("HumanEval+", tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="MBPP[+]: not in .*; looked for mbppplus….jsonl"):
        tasks.load("MBPP+", tmp_path)
    with pytest.raises(ValueError, match="unknown set of tasks 'APPS'; known: HumanEval, "):
        tasks.load("APPS")
