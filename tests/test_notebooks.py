"""The sources of the chapters, and the runner that executes them."""

import ast
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_shown(cell):
    """Whether a reader sees the cell as a part of the story: the parameters and what only glues numbers aside."""
    return not {"parameters", "remove-cell"} & set(cell.metadata.get("tags", []))


def lines_of_code(cell):
    return [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_there_are_chapters():
    assert SOURCES


def test_is_a_clean_source(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None, f"cell {cell.id} carries results"


def test_cells_have_readable_ids(notebook):
    assert [cell.id for cell in notebook.cells if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", cell.id)] == []


def test_first_code_cell_holds_the_parameters(notebook):
    first, *others = code_cells(notebook)
    assert "parameters" in first.metadata.get("tags", [])
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in others)
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(first.source).body
        if isinstance(node, ast.Assign)
    }
    assert values["profile"] == "tiny"
    if "artifacts" in values:
        assert values["artifacts"] == "../artifacts"


def test_cells_are_short(notebook):
    lengths = [len(lines_of_code(cell)) for cell in code_cells(notebook) if is_shown(cell)]
    assert statistics.median(lengths) < 5
    assert statistics.quantiles(lengths, n=10)[-1] <= 12
    assert max(lengths) <= 20


def test_lines_fit_the_page(notebook):
    shown = [(cell.id, line) for cell in code_cells(notebook) if is_shown(cell) for line in cell.source.splitlines()]
    assert [(cell, line) for cell, line in shown if len(line) > 88] == []


def test_sentences_stand_between_the_cells(notebook):
    """Two cells may follow each other (one computes, one draws), three may not."""
    shown = [cell for cell in notebook.cells if is_shown(cell)]
    runs = zip(shown, shown[1:], shown[2:], strict=False)
    assert [run[2].id for run in runs if all(cell.cell_type == "code" for cell in run)] == []


def test_figures_say_what_they_show(notebook):
    for cell in code_cells(notebook):
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            assert figure["caption"] and figure["name"], cell.id
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 20, f"{cell.id} has no alt text"


def test_no_path_of_one_machine(notebook):
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", nbformat.writes(notebook))


# ---- the runner ---------------------------------------------------------------------------------------------


def write_notebook(path, *sources):
    """A notebook with a parameters cell and one code cell for each of `sources`."""
    cells = [nbformat.v4.new_code_cell('profile = "tiny"', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def run(folder, profile="tiny"):
    """Run notebooks/1_a.ipynb of `folder` into made/1_a.ipynb, as the Makefile does."""
    return subprocess.run(
        [sys.executable, ROOT / "book" / "run.py", "notebooks/1_a.ipynb", "made/1_a.ipynb", "--profile", profile],
        cwd=folder, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip


def texts(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]


def test_runner_executes_where_the_notebook_lives_and_reports(tmp_path):
    write_notebook(tmp_path / "notebooks" / "1_a.ipynb", "import pathlib; print(profile, pathlib.Path.cwd().name)")
    write_notebook(tmp_path / "notebooks" / "2_b.ipynb")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "chapter 1 of 2, 1_a.ipynb (profile tiny)" in done.stdout
    assert re.search(r"1_a.ipynb done in \d+ s", done.stdout)
    assert texts(tmp_path / "made" / "1_a.ipynb") == ["", "tiny notebooks\n"], "the default profile adds no cell"
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "made" / "1_a.ipynb").read_text())["metadata"])


def test_runner_sets_the_profile_and_keeps_the_last_good_result(tmp_path):
    source, made = tmp_path / "notebooks" / "1_a.ipynb", tmp_path / "made" / "1_a.ipynb"
    write_notebook(source, "print(profile)")
    assert run(tmp_path, "smoke").returncode == 0
    good = made.read_text()
    assert texts(made)[-1] == "smoke\n"

    write_notebook(source, "print(profile)", "tokens = -1\nraise ValueError('budget -1 is negative')")
    failed = run(tmp_path, "smoke")
    assert failed.returncode == 1
    assert "1_a.ipynb failed in code cell [4]" in failed.stderr
    assert "    tokens = -1" in failed.stderr
    assert "ValueError: budget -1 is negative" in failed.stderr.splitlines()[-1]
    assert made.read_text() == good
    assert [path.name for path in made.parent.iterdir()] == ["1_a.ipynb"], "nothing unfinished is left behind"


def test_runner_refuses_a_notebook_without_a_profile(tmp_path):
    path = tmp_path / "notebooks" / "1_a.ipynb"
    write_notebook(path)
    path.write_text(path.read_text().replace("profile", "profil"))
    failed = run(tmp_path)
    assert failed.returncode == 1
    assert "notebooks/1_a.ipynb has no cell tagged `parameters` that sets `profile`" in failed.stderr
