"""The homework grades itself: the solution gets all points and an empty sheet none, by the lecturer's own commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

HOMEWORK = Path(__file__).resolve().parents[1] / "homework"
NOTEBOOK = "shadow_price/shadow_price.ipynb"
POINTS = 12
#: nbgrader calls another program of its environment by name.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def nbgrader(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": PATH, "PYTHONPATH": str(HOMEWORK.parent)},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def cells(notebook, **wanted):
    graders = [(cell, cell.metadata.get("nbgrader", {})) for cell in notebook.cells]
    return [cell for cell, grader in graders if all(grader.get(key) == value for key, value in wanted.items())]


def test_the_source_is_clean_and_has_the_points_that_it_promises():
    source = nbformat.read(HOMEWORK / "source" / NOTEBOOK, as_version=4)
    nbformat.validate(source)
    assert all(not cell.outputs and cell.execution_count is None for cell in source.cells if cell.cell_type == "code")
    assert sum(cell.metadata.nbgrader.points for cell in cells(source, grade=True)) == POINTS
    assert source.cells[0].source.splitlines()[2].startswith("Twelve points.")


def test_every_task_has_a_solution_an_open_and_a_hidden_test():
    source = nbformat.read(HOMEWORK / "source" / NOTEBOOK, as_version=4)
    tasks, tests = cells(source, solution=True), cells(source, grade=True)
    hidden = [cell for cell in tests if "### BEGIN HIDDEN TESTS" in cell.source]
    assert len(tasks) == len(hidden) == len(tests) - len(hidden) == 4
    assert all("### BEGIN SOLUTION" in cell.source for cell in tasks)


@pytest.mark.slow
def test_the_solution_gets_all_points_and_an_empty_sheet_none(tmp_path, monkeypatch):
    shutil.copytree(HOMEWORK / "source", tmp_path / "source")
    shutil.copy(HOMEWORK / "nbgrader_config.py", tmp_path)
    nbgrader(tmp_path, "generate_assignment", "shadow_price")

    released = tmp_path / "release" / NOTEBOOK
    text = released.read_text()
    assert "write it" in text and not re.search("SOLUTION|HIDDEN|lambertw\\(np.e|import allocate", text)
    student = nbformat.read(released, as_version=4)
    solved = {cell.id: cell for cell in cells(nbformat.read(tmp_path / "source" / NOTEBOOK, 4), solution=True)}
    for name in ("empty", "solution"):
        handed_in = tmp_path / "submitted" / name / NOTEBOOK
        handed_in.parent.mkdir(parents=True)
        nbformat.write(student, handed_in)
        for cell in cells(student, solution=True):
            cell.source = solved[cell.id].source
    nbgrader(tmp_path, "autograde", "shadow_price")

    from nbgrader.api import Gradebook

    monkeypatch.setenv("PATH", PATH)
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as gradebook:
        graded = {name: gradebook.find_submission("shadow_price", name) for name in ("empty", "solution")}
        assert {name: (each.score, each.max_score) for name, each in graded.items()} == {
            "empty": (0, POINTS),
            "solution": (POINTS, POINTS),
        }
