"""The sources of the chapters, and the runner that executes them."""

import ast
import json
import os
import re
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from clear_lib import study
from clear_lib.study.pages import student
from clear_lib.study.setup import profiles

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
    about_the_laboratory = "laboratory" in first.metadata["tags"]
    assert values["profile"] == ("tiny" if about_the_laboratory else "../artifacts/qwen-1.5b/profile.yaml")
    assert values.get("laboratory", "tiny") == "tiny"
    if "artifacts" in values:
        assert values["artifacts"] == "../artifacts"


def test_cells_are_short(notebook):
    """Those of the story; what is folded does not count."""
    told = [
        cell for cell in code_cells(notebook) if is_shown(cell) and "hide-input" not in cell.metadata.get("tags", [])
    ]
    lengths = [len(lines_of_code(cell)) for cell in told]
    assert statistics.median(lengths) <= 5
    assert len(lengths) == 1 or statistics.quantiles(lengths, n=10)[-1] <= 12
    assert max(lengths) <= 20


def test_lines_fit_the_page(notebook):
    """In the story, in a fold and in a solution: the page cuts what is longer."""
    shown = [cell for cell in code_cells(notebook) if "remove-cell" not in cell.metadata.get("tags", [])]
    assert [(cell.id, line) for cell in shown for line in cell.source.splitlines() if len(line) > 76] == []


def test_sentences_stand_between_the_cells(notebook):
    """Two cells may follow each other (one computes, one draws), three may not."""
    shown = [cell for cell in notebook.cells if is_shown(cell)]
    runs = zip(shown, shown[1:], shown[2:], strict=False)
    assert [run[2].id for run in runs if all(cell.cell_type == "code" for cell in run)] == []


def test_an_imported_name_keeps_its_meaning(notebook):
    nodes = [node for cell in code_cells(notebook) for node in ast.walk(ast.parse(cell.source))]
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {each.asname or each.name for node in imports for each in node.names}
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert sorted(imported & assigned) == []


def test_what_a_reader_sees_runs_without_what_is_hidden(notebook):
    shown = [cell for cell in notebook.cells if "remove-cell" not in cell.metadata.get("tags", [])]
    assert student.unset(shown) <= {"display"}


def test_figures_say_what_they_show(notebook):
    for cell in code_cells(notebook):
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            assert figure["caption"] and figure["name"], cell.id
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 20, f"{cell.id} has no alt text"


def test_what_an_import_may_lack_is_tagged(notebook):
    """Imported rollouts have no model, and perhaps no samples or lessons: such cells, or the whole chapter, say so."""
    first, *_ = code_cells(notebook)
    uses = {
        "models.start(profile)": "model",
        '"sampled"': "samples",
        'profile, "predictor"': "lessons",
        "told=True": "rungs",
    }
    for cell in code_cells(notebook):
        tags = set(cell.metadata.get("tags", [])) | set(first.metadata["tags"])
        for use, need in uses.items():
            assert use not in cell.source or {f"needs-{need}", "needs-model"} & tags, (
                f"{cell.id} needs the tag needs-{need}"
            )


def test_prose_asks_for_numbers_by_the_names_that_they_are_given(notebook):
    """`say(mean_gain=…)` and `say(**{"mean-gain": …})` both give `mean-gain`."""
    source = nbformat.writes(notebook)
    assert re.findall(r"glue:text\}`([\w-]*_[\w-]*)", source) == []


def test_values_of_a_table_are_named_one_by_one(monkeypatch):
    said = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display: said.update({name: value}))
    study.say(mean_gain=np.float64(1.5), noise={"no gap": 1, "half": pd.Series({"low": 2})})
    assert said == {"mean-gain": 1.5, "noise-no-gap": 1, "noise-half-low": 2} and type(said["mean-gain"]) is float


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
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )


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
    assert {path.name for path in made.parent.iterdir()} == {"1_a.ipynb", "1_a.json"}, (
        "nothing unfinished is left behind"
    )


def test_runner_says_how_the_page_was_made(tmp_path):
    made = tmp_path / "made" / "1_a.ipynb"
    results = "import pathlib; p = pathlib.Path('../results'); p.mkdir(); (p / 'a.parquet').touch()"
    write_notebook(tmp_path / "notebooks" / "1_a.ipynb", results)
    assert run(tmp_path, "smoke").returncode == 0
    record, box = json.loads(made.with_suffix(".json").read_text()), nbformat.read(made, as_version=4).cells[-1]
    assert record["command"] == "make book PROFILE=smoke" and record["results"] == ["a.parquet"]
    assert box.cell_type == "markdown" and record["began"] in box.source and "a.parquet" in box.source


def imported(folder, *kinds):
    """An import's profile.yaml and rollouts beside the chapters of `folder`."""
    (folder / "profile.yaml").write_text("base: tiny\nname: imported\nengine: none\nmodel: Small-7B\n")
    for kind in kinds:
        (folder / "rollouts" / kind).mkdir(parents=True)


def test_runner_leaves_out_what_an_import_lacks(tmp_path):
    source, made = tmp_path / "notebooks" / "1_a.ipynb", tmp_path / "made" / "1_a.ipynb"
    glues = "from myst_nb import glue\n# recording.load\nglue('here', 1)"
    write_notebook(source, "print(profile)", glues, "glue('gone', 2)")
    notebook = nbformat.read(source, as_version=4)
    notebook.cells[3].metadata["tags"] = ["needs-model"]
    text = "# Title\n\nFirst.\n\n{glue:text}`here:.0f` and {glue:text}`gone:.0f`"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(text))
    nbformat.write(notebook, source)
    imported(tmp_path)
    assert run(tmp_path, "imported").returncode == 0
    page = nbformat.read(made, as_version=4)
    assert "../profile.yaml" in "".join(texts(made)) and not any("gone" in cell.source for cell in page.cells)
    assert page.cells[0].source.startswith("# Title") and "**Small-7B**" in page.cells[0].source
    assert page.cells[0].source.endswith("{glue:text}`here:.0f` and (not run)")


def test_pages_of_a_replica_say_that_they_are_simulated():
    runner = runpy.run_path(str(ROOT / "book" / "run.py"), run_name="runner")
    title = nbformat.v4.new_markdown_cell("# Title\n\nFirst.")
    notebook = nbformat.v4.new_notebook(cells=[title, nbformat.v4.new_code_cell("pool = experiments.read_pool()")])
    simulated = profiles.load("tiny", engine="none", model="replica of Big-7B (simulated)", revision="simulated")
    page = runner["told"](notebook, simulated).cells[0].source
    assert page.startswith("# Title") and "Simulated rollouts" in page and "15_replica.ipynb" in page


def tagged(source, tag, *cells):
    """A notebook whose parameters have a tag."""
    write_notebook(source, *cells)
    notebook = nbformat.read(source, as_version=4)
    notebook.cells[0].metadata["tags"].append(tag)
    nbformat.write(notebook, source)


@pytest.mark.parametrize(("profile", "laboratory"), [("paper-7b", "tiny"), ("tiny", "tiny"), ("smoke", "smoke")])
def test_what_is_decoded_live_runs_on_the_laboratory_model(tmp_path, profile, laboratory):
    source, made = tmp_path / "notebooks" / "1_a.ipynb", tmp_path / "made" / "1_a.ipynb"
    write_notebook(source, "print(profile, laboratory)")
    source.write_text(
        source.read_text().replace('profile = \\"tiny\\"', 'profile = \\"tiny\\"\\nlaboratory = \\"tiny\\"')
    )
    assert run(tmp_path, profile).returncode == 0
    assert texts(made)[-1] == f"{profile} {laboratory}\n"
    tagged(source, "laboratory", "print(profile)")
    assert run(tmp_path, profile).returncode == 0
    assert texts(made)[-1] == f"{laboratory}\n"


def test_pages_of_shipped_recordings_say_nothing_at_their_head_and_lack_no_model(tmp_path):
    runner = runpy.run_path(str(ROOT / "book" / "run.py"), run_name="runner")
    (tmp_path / "rollouts" / "predictor").mkdir(parents=True)
    recorded = profiles.load("tiny", engine="none", model="Qwen/Small-7B", recorded={"evaluation": [10, 20]})
    assert runner["lacking"](tmp_path, recorded) == {"samples", "rungs"}
    title = nbformat.v4.new_markdown_cell("# Title\n\nFirst.")
    notebook = nbformat.v4.new_notebook(cells=[title, nbformat.v4.new_code_cell("pool = experiments.read_pool()")])
    assert runner["told"](notebook, recorded).cells[0].source == "# Title\n\nFirst."


@pytest.mark.parametrize(
    ("need", "kind"), [("model", None), ("samples", "sampled"), ("lessons", "predictor"), ("rungs", "rungs")]
)
def test_runner_leaves_out_whole_chapters(tmp_path, need, kind):
    runner = runpy.run_path(str(ROOT / "book" / "run.py"), run_name="runner")
    source = tmp_path / "notebooks" / "1_a.ipynb"
    write_notebook(source, "print('run')")

    def adapted():
        notebook = nbformat.read(source, as_version=4)
        notebook.cells[0].metadata["tags"].append(f"needs-{need}")
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell("# Title\n\nFirst."))
        return runner["adapted"](notebook, runner["lacking"](tmp_path, profiles.load("tiny"))).cells

    (page,) = adapted()
    assert page.source.startswith("# Title\n\nThis chapter needs")
    if kind:
        imported(tmp_path, kind)
        assert len(adapted()) == 3


def test_runner_refuses_a_notebook_without_a_profile(tmp_path):
    path = tmp_path / "notebooks" / "1_a.ipynb"
    write_notebook(path)
    path.write_text(path.read_text().replace("profile", "profil"))
    failed = run(tmp_path)
    assert failed.returncode == 1
    assert "notebooks/1_a.ipynb has no cell tagged `parameters` that sets `profile`" in failed.stderr
