r"""Extraction and grading on completions as models really write them."""

import subprocess
import sys
from pathlib import Path

import pytest
from math_verify import parse, verify

from clear_lib.grading import Grader, _Judge, extract_answer, grade

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def grader():
    with Grader(timeout=60, workers=1) as grader:
        yield grader


@pytest.mark.parametrize(("completion", "answer"), [
    pytest.param("Normal. 3+4=7. 7*2=14. \\boxed{14}", "14", id="plain"),
    pytest.param("The answer is 14.", None, id="no box"),
    pytest.param("", None, id="nothing"),
    pytest.param("Put the answer in \\boxed, please: 14", None, id="a box without braces"),
    pytest.param("so $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}", id="nested braces"),
    pytest.param("\\boxed{\\sqrt{\\frac{a^{2}}{b_{1}}}}", "\\sqrt{\\frac{a^{2}}{b_{1}}}", id="deeply nested braces"),
    pytest.param("First \\boxed{1}. No: \\boxed{2}, check.", "2", id="two boxes"),
    pytest.param("It is \\boxed{12} because 12 = \\boxed{3 \\cd", "12", id="a complete and a truncated box"),
    pytest.param("It is \\boxed{\\frac{1}{2", None, id="truncated box"),
    pytest.param("It is \\boxed{1 + \\boxed{2}", "2", id="complete inside a truncated box"),
    pytest.param("\\boxed{\\boxed{3}}", "3", id="a box in a box"),
    pytest.param("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}", id="a set"),
    pytest.param("\\boxed{\\left\\{ x \\right.}", "\\left\\{ x \\right.", id="an escaped brace alone"),
    pytest.param("\\boxed {  5\n}", "5", id="spaces"),
    pytest.param("\\boxed{}", "", id="an empty box"),
    pytest.param("\\boxed{5 \\text{ apples}}", "5 \\text{ apples}", id="units"),
    pytest.param("Is 3+4 equal to 7? The question was: what is 3+4?", None, id="a restated question"),
])
def test_the_last_complete_box_is_the_answer(completion, answer):
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(("gold", "answer", "verdict"), [
    ("12", "12", "correct"),
    ("12", "13", "wrong"),
    ("12", "+12", "correct"),
    ("-2", "2", "wrong"),
    ("5", "05", "correct"),
    ("5", "5.", "correct"),
    ("5", "5.0", "correct"),
    ("1000", "1,000", "correct"),
    ("1000", "1{,}000", "correct"),
    ("2^{10}", "1024", "correct"),
    pytest.param("12", None, "wrong", id="no answer"),
    pytest.param("12", "", "wrong", id="an empty box"),
    # fractions and roots
    ("\\frac{1}{2}", "\\dfrac12", "correct"),
    ("\\frac{3}{4}", "\\frac{6}{8}", "correct"),
    ("\\frac{3}{4}", "3/4", "correct"),
    ("-\\frac{3}{4}", "-0.75", "correct"),
    ("1\\frac{1}{2}", "\\frac{3}{2}", "correct"),
    ("\\frac{1}{3}", "0.3333", "wrong"),
    ("\\frac{\\sqrt{3}}{2}", "\\frac{1}{2}\\sqrt{3}", "correct"),
    ("\\pi", "3.14159", "wrong"),
    # units
    ("12", "12\\text{ cm}^2", "correct"),
    ("12\\text{ cm}", "12", "correct"),
    ("12\\text{ cm}", "13\\text{ cm}", "wrong"),
    ("90^\\circ", "90", "correct"),
    ("18", "\\$18.00", "correct"),
    # intervals, pairs, sets
    ("(-\\infty, 3)", "(-\\infty,3)", "correct"),
    ("[2,5)", "(2,5)", "wrong"),
    ("(3, 4)", "(3,4)", "correct"),
    ("(0,1)", "(1,0)", "wrong"),
    ("\\{1,2,3\\}", "\\{3, 2, 1\\}", "correct"),
    ("\\{1,2,3\\}", "\\{1,2\\}", "wrong"),
    ("1,2,3", "3, 1, 2", "correct"),
    # percentages
    ("25\\%", "25", "correct"),
    ("25\\%", "0.25", "correct"),
    ("25\\%", "26\\%", "wrong"),
    # text
    ("\\text{even}", "\\text{ even }", "correct"),
    ("\\text{even}", "\\text{odd}", "wrong"),
    ("\\text{(B)}", "B", "correct"),
    ("\\text{no solution}", "no solution", "correct"),
    # equations and algebra
    ("3", "x=3", "correct"),
    ("x^2+2x+1", "(x+1)^2", "correct"),
    ("7", "3+4=7", "correct"),
    pytest.param("7", "What is 3+4?", "wrong", id="a restated question"),
    pytest.param("4", "???", "wrong", id="no mathematics"),
    pytest.param("\\frac{1}{0}", "1", "unknown", id="a gold answer that is none"),
])
def test_answers_are_compared_as_mathematics(grader, gold, answer, verdict):
    assert grader.grade([gold], [answer]) == [verdict]


def test_a_restated_sum_is_not_an_answer():
    """Given the whole completion, math-verify would find the sum of the question, which is the gold answer."""
    completion = "The question asks for $3+4$"
    assert verify(parse("$7$"), parse(completion))
    assert grade(["7"], [extract_answer(completion)]) == ["wrong"]


def test_a_timeout_is_unknown_and_the_rest_goes_on():
    tower = "9^{9^{9^{9}}}"
    assert grade(["2", "\\frac12", "3", "\\frac14"], [tower, "0.5", "4", "0.3"], timeout=8, workers=1) == [
        "unknown", "correct", "wrong", "wrong"]


def test_equal_pairs_are_judged_once_and_whole_numbers_at_once(grader, monkeypatch):
    asked, ask = [], _Judge.ask
    monkeypatch.setattr(_Judge, "ask", lambda judge, pair, timeout: asked.append(pair) or ask(judge, pair, timeout))
    for _ in range(2):
        assert set(grader.grade(["\\frac{1}{7}"] * 5_000, ["\\frac{2}{14}"] * 5_000)) == {"correct"}
    assert grader.grade(["12"] * 5_000, [str(number) for number in range(5_000)]).count("correct") == 1
    assert asked == [("\\frac{1}{7}", "\\frac{2}{14}")]


def test_several_processes_keep_the_order():
    golds = [f"\\frac{{{number}}}{{7}}" for number in range(1, 31)]
    answers = [f"\\frac{{{2 * number}}}{{14}}" if number % 2 else "1.01" for number in range(1, 31)]
    assert grade(golds, answers, timeout=60, workers=3) == ["correct", "wrong"] * 15


def test_no_answers_need_no_process():
    grader = Grader()
    assert grader.grade([], []) == [] and grader.grade(["4"], [None]) == ["wrong"]
    assert all(judge._process is None for judge in grader._judges)


def test_it_works_from_a_script_without_a_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from clear_lib.grading import grade\nprint(grade(['\\\\frac12'], ['0.5'], timeout=60))\n")
    run = subprocess.run([sys.executable, script], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['correct']"


@pytest.mark.parametrize(("arguments", "message"), [
    ((["1", "2"], ["1"]), "2 gold answers and 1 answers"),
    ((["1", " "], ["1", "2"]), "position 1: the gold answer must be text, got ' '"),
    (([None], ["1"]), "position 0: the gold answer must be text, got None"),
    ((["1"], ["1"], 0), "timeout must be above 0"),
])
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        grade(*arguments)
