"""The exercises: each has a solution that passes its own check, and a wrong answer gets a hint."""

import ast
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from clear_lib.study import exercises
from clear_lib.study.exercises import check, hidden, names, sealed

CHAPTERS = {
    path.stem[:2]: nbformat.read(path, as_version=4)
    for path in sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
}
#: Chapters with exercises.
TAUGHT = {number: chapter for number, chapter in CHAPTERS.items() if "{exercise}" in nbformat.writes(chapter)}


def labels(chapter, directive):
    """The exercises that a directive of the chapter is about, with the cell's text, in order."""
    texts = [cell.source for cell in chapter.cells if cell.cell_type == "markdown"]
    wanted = r":label: ([\w-]+)" if directive == "exercise" else r":::\{solution(?:-start)?\} ([\w-]+)"
    opened = [text for text in texts if re.match(r":::\{" + directive + r"(-start)?\}", text)]
    return {re.search(wanted, text)[1]: text for text in opened}


def solutions(chapter):
    """The code of the solutions, parsed, cell by cell."""
    solved = [cell for cell in chapter.cells if "solution" in cell.metadata.get("tags", [])]
    return [ast.parse(cell.source) for cell in solved if cell.cell_type == "code"]


def checks(chapter):
    """``assert check(name, answer)`` of the solutions: the names, and the answers as syntax."""
    found = {}
    for tree in solutions(chapter):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check":
                found[node.args[0].value] = node.args[1]
    return found


ALL = {name: text for chapter in TAUGHT.values() for name, text in labels(chapter, "exercise").items()}
ASKED = {name for name, text in ALL.items() if f'check("{name}"' in text}


@pytest.mark.parametrize("number", [n for n in CHAPTERS if n < "21"])
def test_a_chapter_has_two_to_four_exercises_and_one_asks_for_code(number):
    asked = labels(CHAPTERS[number], "exercise")
    assert 2 <= len(asked) <= 4
    assert set(asked) & set(hidden.JUDGES)


@pytest.mark.parametrize("number", TAUGHT)
def test_every_exercise_has_its_folded_solution(number):
    solved = labels(TAUGHT[number], "solution")
    assert list(solved) == list(labels(TAUGHT[number], "exercise"))
    assert all(":class: dropdown" in text for text in solved.values())


@pytest.mark.parametrize("number", TAUGHT)
def test_every_answer_that_can_be_checked_is_asserted_by_its_solution(number):
    """The build executes the solutions, so that it stops where one has rotted."""
    asserted = {
        node.args[0].value
        for tree in solutions(TAUGHT[number])
        for line in ast.walk(tree)
        if isinstance(line, ast.Assert)
        for node in ast.walk(line.test)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check"
    }
    assert asserted == set(labels(TAUGHT[number], "exercise")) & ASKED


def test_names_are_given_once_and_every_entry_is_asked_for():
    assert len(ALL) == sum(len(labels(chapter, "exercise")) for chapter in TAUGHT.values())
    assert set(names()) == ASKED
    unsealed = {name for name, entry in exercises._answers().items() if "seals" not in entry}
    assert unsealed == set(hidden.JUDGES)


@pytest.mark.parametrize("number", TAUGHT)
def test_functions_of_the_solutions_pass(number, capsys):
    """Without the chapter: only its imports and the functions of its solutions."""
    chapter, here = TAUGHT[number], {}
    code = [ast.parse(cell.source) for cell in chapter.cells if cell.cell_type == "code"]
    parts = [node for tree in code for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    parts += [node for tree in solutions(chapter) for node in tree.body if isinstance(node, ast.FunctionDef)]
    exec(compile(ast.Module(parts, []), number, "exec"), here)
    answers = {name: answer for name, answer in checks(chapter).items() if name in hidden.JUDGES}
    assert answers
    for name, answer in answers.items():
        if isinstance(answer, ast.Name) and callable(here.get(answer.id)):
            assert check(name, here[answer.id]), capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("number", ["01", "03", "19"])
def test_solutions_pass_where_their_chapter_ends(number, monkeypatch):
    """All code of a chapter that reads no recordings, as a reader runs it."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    here = {"display": print}
    for cell in CHAPTERS[number].cells:
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", []):
            exec(compile(cell.source, cell.id, "exec"), here)


# ---- check ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [405, 405.4, "404.7", np.float32(405)])
def test_a_right_answer_may_be_rounded(answer, capsys):
    assert check("line-of-c", answer)
    assert capsys.readouterr().out == "Right.\n"


@pytest.mark.parametrize("answer", [406, 403.9, float("nan"), np.inf, [405, 405]])
def test_a_near_miss_gets_the_hint(answer, capsys):
    assert not check("line-of-c", answer)
    assert capsys.readouterr().out.startswith("Not yet. At a given price")


def test_a_known_mistake_gets_a_hint_of_its_own(capsys):
    assert not check("line-of-c", 600)
    assert "C's threshold as it is" in capsys.readouterr().out


def test_words_may_be_in_any_case_and_order(capsys):
    assert check("first-to-leave", " Tent.")
    assert check("twice-the-thresholds", ["Heuristic", "predictor", "UNIFORM"])
    assert not check("twice-the-thresholds", ["uniform"])
    assert "proportions" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "answer"), [("line-of-c", "all"), ("line-of-c", None), ("line-of-c", abs)])
def test_an_answer_of_another_kind_is_told_so(name, answer, capsys):
    assert not check(name, answer)
    assert "This exercise asks for a" in capsys.readouterr().out


def test_a_function_is_told_on_what_it_fails(capsys):
    assert not check("auction-admits", lambda taus, budget: taus < budget)
    assert re.search(r"\d of 6 hidden cases come out right. Given \[.*Sort the thresholds", capsys.readouterr().out)


def test_a_function_that_raises_is_told_the_error(capsys):
    assert not check("auction-admits", lambda taus, budget: 1 / 0)
    assert "ends in ZeroDivisionError: division by zero" in capsys.readouterr().out
    assert not check("auction-admits", [True, False])
    assert "asks for a function" in capsys.readouterr().out


def test_a_function_cannot_spoil_the_cases_by_changing_its_arguments():
    def sorted_in_place(taus, budget):
        taus.sort()
        return np.cumsum(taus) <= budget

    assert not check("auction-admits", sorted_in_place)


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(ValueError, match="no exercise is called 'line-of-d'; there is: line-of-c"):
        check("line-of-d", 405)
    with pytest.raises(ValueError, match="auction-admits, .*two-ways"):
        check("zzz", 1)


def test_every_exercise_refuses_nonsense_and_has_a_hint():
    for name in names():
        assert not check(name, -1e9)
        assert len(exercises._answers()[name]["hint"]) > 20, name


def test_answers_are_sealed():
    assert sealed("a", 7.0, 1)["seals"] != sealed("b", 7.0, 1)["seals"], "the same number has another seal elsewhere"
    for name, entry in exercises._answers().items():
        for seal in [*entry.get("seals", []), *entry.get("mistakes", {})]:
            assert re.fullmatch("[0-9a-f]{16}", seal), name
