r"""Extraction and grading on completions as models really write them."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import parse, verify

from clear_lib.rollouts import grading
from clear_lib.rollouts.algebra import MAX_MEMORY
from clear_lib.rollouts.grading import Grader, extract_answer, gold_answer
from clear_lib.rollouts.spelling import MAX_CHARACTERS

ROOT = Path(__file__).resolve().parents[2]


def grade(golds, answers, timeout=5.0, workers=None):
    with Grader(timeout, workers) as grader:
        return grader.grade(golds, answers)


@pytest.fixture(scope="module")
def grader():
    with Grader(timeout=60, workers=1) as grader:
        yield grader


@pytest.fixture(scope="module")
def algebra():
    with Grader(timeout=60, workers=1, shortcut=False) as grader:
        yield grader


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        pytest.param("Normal. 3+4=7. 7*2=14. \\boxed{14}", "14", id="plain"),
        pytest.param("The answer is 14.", None, id="no box"),
        pytest.param("", None, id="nothing"),
        pytest.param("Put the answer in \\boxed, please: 14", None, id="a box without braces"),
        pytest.param("so $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}", id="nested braces"),
        pytest.param(
            "\\boxed{\\sqrt{\\frac{a^{2}}{b_{1}}}}", "\\sqrt{\\frac{a^{2}}{b_{1}}}", id="deeply nested braces"
        ),
        pytest.param("First \\boxed{1}. No: \\boxed{2}, check.", "2", id="two boxes"),
        pytest.param("so $\\boxed{1}$, $\\boxed{-2}$", "1, -2", id="an answer in two boxes"),
        pytest.param("\\(\\boxed{1}\\) or \\(\\boxed{2}\\), and \\boxed{3}.", "1, 2, 3", id="an answer in three boxes"),
        pytest.param("\\boxed{4} \\text{ and } \\boxed{4}", "4", id="one answer in two boxes"),
        pytest.param("\\boxed{x = 1} and $y = \\boxed{2}$", "2", id="two boxes with something between"),
        pytest.param("\\boxed{1}\n\n\\boxed{2}", "2", id="two boxes with nothing between"),
        pytest.param("\\boxed{1} or \\boxed{2", "1", id="a second box is truncated"),
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
    ],
)
def test_the_last_complete_box_is_the_answer(completion, answer):
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
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
        # numbers in powers of ten, and small ones
        ("4.5e33", "4.5 \\times 10^{33}", "correct"),
        ("4.5e33", "45 \\cdot 10^{32}", "correct"),
        ("4.5e33", "4.6e33", "wrong"),
        ("3.3e-10", "2.26e-10", "wrong"),
        ("1e-5", "\\frac{1}{100000}", "correct"),
        ("\\frac{1}{2^{98}}", "2^{-98}", "correct"),
        ("\\frac{1}{2^{98}}", "\\frac{2}{2^{98}}", "wrong"),
        ("1e-5", "0", "wrong"),
        ("12.5", "12.5000001", "correct"),
        ("306956.63", "306956.64", "wrong"),
        ("-1./3", "-\\frac13", "correct"),
        ("\\frac{1}{29,\\!322,\\!216}", "\\frac{1}{29322216}", "correct"),
        ("2007 + \\frac\\pi 2", "2007 + \\frac{\\pi}{2}", "correct"),
        ("2007 + \\frac\\pi 2", "1007 + \\frac{\\pi}{2}", "wrong"),
        # a letter at the end of a gold answer is a variable; after a number that is the answer, a unit
        ("a + b + c", "c + b + a", "correct"),
        ("\\sin^2 t", "1-\\cos^2 t", "correct"),
        ("\\frac{1}{m} t", "\\frac{t}{m}", "correct"),
        ("\\frac{1}{m} t", "\\frac{1}{m}", "wrong"),
        ("12", "12 cm", "correct"),
        ("12\\text{ m}/\\text{s}", "12", "correct"),
        # names
        ("E_{1},E_{2}", "E_2, E_1", "correct"),
        ("\\frac{1}{3} E_{1}+\\frac{2}{3} E_{2}", "\\frac{E_1+2E_2}{3}", "correct"),
        ("\\frac{1}{3} E_{1}+\\frac{2}{3} E_{2}", "\\frac{2}{3}", "wrong"),
        ("\\gamma^{2}-1", "(\\gamma-1)(\\gamma+1)", "correct"),
        ("m_{\\max }=n^{2}-n-1", "n^2-n-1", "correct"),
        ("L_{\\odot} / 2", "\\frac{L_{\\odot}}{2}", "correct"),
        ("m \\frac{d v}{d t}+b v=f", "f-b v = m\\frac{dv}{dt}", "correct"),
        ("m \\frac{d v}{d t}+b v=f", "b v=f", "wrong"),
        # bases
        ("52_8", "52", "correct"),
        ("52_8", "52_{9}", "wrong"),
        # signs of a formula, and what has its conditions in words
        ("$69$,$84$", "84, 69", "correct"),
        ("$f(x)=ax$, where $a$ is any number with $a^2=1$", "a^2=1", "unknown"),
        pytest.param("05:00", "5:00", "unknown", id="a time of day"),
        # several numbers, spelled as models do
        ("2.5", "2 1/2", "correct"),
        ("-2.5", "-2 1/2", "correct"),
        ("0.5", "½", "correct"),
        ("1.5", "1½", "correct"),
        ("1234", "1 234", "correct"),
        ("1234567", "1\\,234\\,567", "correct"),
        ("11,\\! 111,\\! 111,\\! 100", "11111111100", "correct"),
        ("-2", "negative 2", "correct"),
        ("12", "12^{\\mathrm{th}}", "correct"),
        ("2000", "2 thousand", "correct"),
        ("2000000", "\\$2\\text{ million}", "correct"),
        ("6", "6.0%", "correct"),
        ("0.25", "25\\text{ percent}", "correct"),
        ("0.25", "0.25\\%", "correct"),
        ("25\\%", "0.25\\%", "wrong"),
        ("60", "60°", "correct"),
        ("25", "25^\\circ C", "correct"),
        ("6\\sqrt{5}", "6√5", "correct"),
        ("\\sqrt{59}", "√(59)", "correct"),
        ("12\\sqrt{13}", "12√13", "correct"),
        ("12\\sqrt{13}", "12\\sqrt13", "correct"),
        ("1.85\\", "1.85", "correct"),
        ("9\\pi", "9π", "correct"),
        ("x^2", "x²", "correct"),
        ("-12x-3", "−12x−3", "correct"),
        ("(-\\infty,3)", "(−∞, 3)", "correct"),
        ("\\emptyset", "\\varnothing", "correct"),
        ("\\frac{1}{3}", "0.\\overline{3}", "correct"),
        ("0.1\\overline{6}", "\\frac16", "correct"),
        ("0.\\overline{3}", "0.3", "wrong"),
        ("\\frac{\\sqrt{3}}{3}", "\\tan 30^\\circ", "correct"),
        ("\\frac{\\sqrt{3}}{3}", "\\tan(60^\\circ)", "wrong"),
        ("\\ln 2", "\\log 2", "correct"),
        ("\\ln 2", "\\log_{10} 2", "wrong"),
        ("6", "\\text{  $n$ = 6}.", "correct"),
        ("\\text{June 20}", "June 20", "correct"),
        ("\\frac{2}{3}", "\\frac{2}{3} \\approx 0.667", "correct"),
        ("0.667", "\\frac{2}{3} \\approx 0.667", "correct"),
        # choices
        ("(B)", "(B) Circle", "correct"),
        ("\\text{(B)}", "\\text{(B) }5", "correct"),
        ("(B)", "(C) Circle", "wrong"),
        ("(B)", "(B) or (C)", "wrong"),
        # units in words, and what only looks like one
        ("12", "12 dollars", "correct"),
        ("144", "144 km/h", "correct"),
        ("144", "144\\text{ km/h}", "correct"),
        ("6", "6 meters²", "correct"),
        ("12 dollars", "12", "correct"),
        ("2\\sqrt{5}", "2√5t", "wrong"),
        ("6xyz", "6 xyz", "correct"),
        ("6xyz", "6", "wrong"),
        ("5 cm", "5 m", "wrong"),
        ("5\\text{ cm}", "5\\text{ m}", "wrong"),
        ("5\\text{ cm}", "5 cm", "correct"),
        ("3", "3\\text{ times}", "correct"),
        ("3", "3\\text{ pairs}", "correct"),
        ("3", "3\\text{ more than Ann}", "correct"),
        ("2", "2 hours 30 minutes", "wrong"),
        ("2", "2\\text{ hundredths}", "wrong"),
        # complex numbers
        ("-2+2 \\sqrt{3} i", "-2 + 2i \\sqrt{3}", "correct"),
        ("-2+2 \\sqrt{3} i", "-2 - 2i \\sqrt{3}", "wrong"),
        ("\\frac{e^{2 i t}}{(2+2 i)}", "\\frac{e^{2it}}{2+2i}", "correct"),
        ("\\sqrt{-1}", "i", "correct"),
        ("-i", "\\frac{1}{i}", "correct"),
        # sets and conditions
        ("(-\\infty,3]", "x \\le 3", "correct"),
        ("(-\\infty,3]", "x < 3", "wrong"),
        ("(3,\\infty)", "x > 3", "correct"),
        ("(-\\infty,-5)", "k < -5", "correct"),
        ("[1,2]", "1 \\le x \\le 2", "correct"),
        ("(0,1)", "0<x<1", "correct"),
        ("(0,1)", "0<x<2", "wrong"),
        ("A \\cup B", "A \\cup B", "correct"),
        pytest.param("A \\cup B", "B \\cup A", "unknown", id="sets without members"),
        ("1 \\pm \\sqrt{19}", "1 - \\sqrt{19}, 1 + \\sqrt{19}", "correct"),
        ("(1,2)", "x=1,y=2", "correct"),
        ("(1,2)", "1,2", "wrong"),
        ("(1,2,3)", "1,2,3", "wrong"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{bmatrix} 1 \\\\ 2 \\end{bmatrix}", "correct"),
        # of an equation every number must be right
        ("\\frac{3}{8}", "3/8 = 0.375", "correct"),
        ("2", "x=1+1=2", "correct"),
        ("7", "a+b+c=7", "correct"),
        ("2", "7=2", "wrong"),
        ("2", "x=7=2", "wrong"),
        # large, and still compared
        ("2^{2010}", "4^{1005}", "correct"),
        ("2022!", "2022 \\cdot 2021!", "correct"),
        ("\\binom{2n}{n}", "\\frac{(2n)!}{(n!)^2}", "correct"),
    ],
)
def test_answers_are_compared_as_mathematics(grader, gold, answer, verdict):
    assert grader.grade([gold], [answer]) == [verdict]


@pytest.mark.parametrize(
    "answer",
    [
        "\\neq 2",
        "> 2",
        "\\geq 2",
        "\\leq 2",
        "x \\ge 2",
        "7 \\\\ 2",
        "7=2",
        "7 \\to 2",
        "x \\to 2",
        "2_5",
        "\\sim 2",
        "\\pm 2",
        "2\\text{ thousand}",
        "2 million",
        "2\\text{ or none}",
        "2 or none",
        "2\\text{ or more}",
        "2\\text{, 3}",
        "2 or 3",
        "2\\text{ (maybe 3)}",
        "2\\text{ if }x>0",
        "\\text{not }2",
        "\\text{at least }2",
        "2\\text{ at most}",
        "2 apples or 3",
        "2+",
        "2?",
        "2<3",
    ],
)
def test_a_hedged_answer_is_wrong(grader, answer):
    assert grader.grade(["2"], [answer]) == ["wrong"]


@pytest.mark.parametrize("text", ["12", "1,000", "\\frac12", "\\text{even}", "E_{1},E_{2}", "(0, 1]", "x=3", "25\\%"])
def test_the_algebra_alone_knows_an_answer_again(algebra, text):
    assert algebra.grade([text, text], [text, "77"]) == ["correct", "wrong"]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("So it is \\boxed{\\frac12}.", "\\frac12"),
        ("it is $\\boxed 9$.", "9"),
        ("2+2=<<2+2=4>>4\n#### 4", "4"),
        ("x #### 1,000 ", "1,000"),
        ("12", "12"),
        ("either $\\boxed{1}$ or $\\boxed{3}$.", "1, 3"),
        ("", ""),
    ],
)
def test_the_answer_of_a_solution_is_found(gold, answer):
    assert gold_answer(gold) == answer


def test_a_restated_sum_is_not_an_answer():
    """Given the whole completion, math-verify would find the sum of the question, which is the gold answer."""
    completion = "The question asks for $3+4$"
    assert verify(parse("$7$"), parse(completion))
    assert grade(["7"], [extract_answer(completion)]) == ["wrong"]


def test_a_timeout_is_unknown_and_the_rest_goes_on():
    slow = "\\sin(" * 14 + "x" + ")" * 14
    assert grade(
        [f"{slow}+x", "\\frac12", "3", "\\frac14"], [f"x+2{slow}", "0.5", "4", "0.3"], timeout=4, workers=1
    ) == ["unknown", "correct", "wrong", "wrong"]


@pytest.mark.skipif(sys.platform != "linux", reason="stops another process")
def test_time_in_which_the_process_does_not_run_does_not_count():
    with Grader(timeout=0.5, workers=1) as grader, ThreadPoolExecutor(1) as aside:
        grader.grade(["\\frac{1}{2}"], ["0.5"])
        pid = grader._idle[0].pid
        os.kill(pid, signal.SIGSTOP)
        verdict = aside.submit(grader.grade, ["\\frac{1}{3}"], ["\\frac{2}{6}"])
        time.sleep(1.5)
        os.kill(pid, signal.SIGCONT)
        assert verdict.result() == ["correct"] and grader._idle[0].pid == pid


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9}}}",
        "((9!)!)!",
        "10^{999999999}",
        "1e999999999",
        "2^{10^9}-2^{10^9}+2",
        "\\prod_{i=1}^{10^9} i",
        "\\binom{10^9}{5}",
        "10^{-10^9}",
        "\\sum_{k=1}^{4999} \\sin(k^2)",
        "\\int_0^1 x^{x^x} dx",
        "(x+1)^{4999}",
        "((x+1)^{50})^{50}",
        "(a+b+c+d)^{40}",
        "(1+\\sqrt{2})^{4999}",
        "(" * 40 + "2" + ")" * 40,
    ],
)
def test_what_is_too_much_to_compute_is_known_before_the_clock(answer):
    """The process still runs: the answer was refused, not stopped by the clock. So any machine gives the same verdict."""
    with Grader(timeout=60, workers=1) as grader:
        grader.grade(["\\frac12"], ["0.5"])
        process = grader._idle[0]
        assert grader.grade(["2", "\\frac13"], [answer, "\\frac26"]) == ["unknown", "correct"]
        assert grader._idle[0] is process


def test_equal_pairs_are_judged_once_and_whole_numbers_at_once(grader, monkeypatch):
    asked, compare = [], Grader._compare
    monkeypatch.setattr(Grader, "_compare", lambda grader, pair: asked.append(pair) or compare(grader, pair))
    for _ in range(2):
        assert set(grader.grade(["\\frac{1}{7}"] * 5_000, ["\\frac{2}{14}"] * 5_000)) == {"correct"}
    assert grader.grade(["12"] * 5_000, [str(number) for number in range(5_000)]).count("correct") == 1
    assert asked == [("\\frac{1}{7}", "\\frac{2}{14}")]


def test_a_killed_process_is_replaced(grader):
    assert grader.grade(["\\frac{1}{11}"], ["\\frac{2}{22}"]) == ["correct"]
    killed = grader._idle[0]
    killed.kill()
    killed.wait()
    assert grader.grade(["\\frac{1}{12}"], ["\\frac{2}{24}"]) == ["unknown"]
    assert grader.grade(["\\frac{1}{13}"], ["\\frac{2}{26}"]) == ["correct"]


def test_a_process_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(grading.sys, "executable", "true")
    with pytest.raises(RuntimeError, match="the grading process did not start; is math-verify installed"):
        grade(["\\frac12"], ["0.5"])


def test_several_processes_keep_the_order():
    golds = [f"\\frac{{{number}}}{{7}}" for number in range(1, 31)]
    answers = [f"\\frac{{{2 * number}}}{{14}}" if number % 2 else "1.01" for number in range(1, 31)]
    assert grade(golds, answers, timeout=60, workers=3) == ["correct", "wrong"] * 15


def test_no_answers_need_no_process():
    grader = Grader()
    assert grader.grade([], []) == [] and grader.grade(["4"], [None]) == ["wrong"]
    assert not any(grader._idle)


def test_it_works_from_a_script_without_a_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from clear_lib.rollouts.grading import Grader\n"
        "with Grader(timeout=60) as grader:\n    print(grader.grade(['\\\\frac12'], ['0.5']))\n"
    )
    run = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "['correct']"


# ---- hostile completions --------------------------------------------------------------------------------------

HOSTILE = [
    "9^{9^{9^9}}",
    "((9!)!)!",
    "2^{2^{2^{2^{2^{2}}}}}",
    "10^{999999999}",
    "1e999999999",
    "1e-999999999",
    "9**9**9**9",
    "\\prod_{i=1}^{10^9} i",
    "\\binom{10^9}{5\\cdot10^8}",
    "(x+1)^{10^6}",
    "\\int_0^1 x^{x^{x^x}} dx",
    "{" * 400 + "}" * 400,
    "(" * 400 + "1" + ")" * 400,
    "\\frac{" * 130 + "1" + "}{2}" * 130,
    "1" * MAX_CHARACTERS,
    "9" * 900 + "!",
    "a\0b",
    "\0",
    "\ud800",
    "\u202e12\u202c",
    "\u2066\u2067",
    "1\n3\r\n4",
    "\\",
    "{}",
    "$$",
    "^_^",
    "\\input{/etc/passwd}",
    "%s%n",
]


def test_hostile_answers_are_never_right_and_the_rest_goes_on():
    with Grader(timeout=1, workers=2) as grader:
        assert set(grader.grade(["12"] * len(HOSTILE), HOSTILE)) == {"wrong", "unknown"}
        grader.timeout = 60
        assert grader.grade(["\\frac{1}{2}"], ["0.5"]) == ["correct"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the bound of another process")
def test_a_process_that_judges_has_its_memory_bounded():
    import resource

    with Grader(timeout=60, workers=1) as grader:
        grader.grade(["\\frac{1}{2}"], ["0.5"])
        (process,) = grader._idle
        assert resource.prlimit(process.pid, resource.RLIMIT_AS) == (MAX_MEMORY, MAX_MEMORY)


def test_an_answer_too_long_to_be_one_is_not_compared():
    grader = Grader()
    long = "1+" * MAX_CHARACTERS + "1"
    assert grader.grade(["3", long], [long, long]) == ["unknown", "correct"]
    assert not any(grader._idle)


@pytest.mark.parametrize(
    "call",
    [
        "__import__('os').system('touch {path}')",
        "\\text{{__import__('os').system('touch {path}')}}",
        "open('{path}','w')",
        "\\operatorname{{open}}('{path}', 'w')",
        "\\write18{{touch {path}}}",
        "exec(\"open('{path}','w')\")",
    ],
)
def test_nothing_that_a_model_writes_is_evaluated(tmp_path, call):
    path = tmp_path / "touched"
    call = call.format(path=path)
    answer = extract_answer(f"\\boxed{{{call}}}")
    assert answer == call and grade(["2", call], [answer, answer + "+0"], timeout=60, workers=1)[0] != "correct"
    assert not path.exists()


MEGABYTE = 1_000_000
PARTS = [
    "\\boxed{",
    "\\boxed",
    "\\boxed {",
    "{",
    "}",
    "\\{",
    "\\}",
    "\\\\",
    "\\",
    "$",
    "1",
    "\n",
    "\0",
    "\u202e",
    "\ud800",
]


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("{" * 3 * MEGABYTE, None),
        ("\\boxed{" + "{" * MEGABYTE, None),
        ("\\boxed{" * 100_000, None),
        ("\\" * MEGABYTE, None),
        ("\\boxed{" * 100_000 + "1" + "}" * 100_000, "1"),
        ("}" * MEGABYTE + "\\boxed{2}", "2"),
        ("\\boxed{1}{" * 100_000, "1"),
        ("\\boxed{1}, " * 100_000, "1"),
        ("\\boxed{1}" + " " * MEGABYTE + ",\\boxed{2}", "2"),
        (("\\boxed" + " " * 100) * 10_000, None),
        ("{" * MEGABYTE + "\\boxed{3" + "}" * MEGABYTE, "3"),
    ],
)
def test_megabytes_of_braces_are_read_once(completion, answer):
    assert extract_answer(completion) == answer


@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join))
def test_what_is_extracted_is_a_box_of_the_text(text):
    answer = extract_answer(text)
    if answer is None:
        return
    assert all(part in text and extract_answer(part) is None for part in answer.split(", "))
    for more in ("{", "}", "\\boxed", "\\boxed{"):  # an unfinished box takes nothing away
        assert extract_answer(f"{text} {more}") is not None


@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join))
def test_a_box_at_the_end_is_found_after_anything(text):
    assert extract_answer(f"{text} \\boxed{{12}}") == "12"


@settings(max_examples=25)
@given(
    st.lists(st.one_of(st.text(max_size=30), st.text("0123456789^_{}()+-*/\\!.,=<>|&%$ efx", max_size=30)), max_size=4)
)
def test_any_answers_get_verdicts(grader, answers):
    timeout, grader.timeout = grader.timeout, 2
    verdicts = grader.grade(["\\sqrt{2}+12"] * len(answers), answers)
    grader.timeout = timeout
    assert set(verdicts) <= {"wrong", "unknown"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["1", "2"], ["1"]), "2 gold answers and 1 answers"),
        ((["1", " "], ["1", "2"]), "position 1: the gold answer must be text, got ' '"),
        (([None], ["1"]), "position 0: the gold answer must be text, got None"),
        ((["1"], ["1"], 0), "timeout must be above 0"),
        ((["1"], ["1"], float("inf")), "timeout must be above 0 seconds and at most a million, got inf"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        grade(*arguments)
