"""The download button of a chapter gives a notebook that runs alone: in an empty folder, in a fresh environment."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from clear_lib.study.pages import student

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

#: A chapter that needs no recording, one that reads recordings and forecasts, one that decodes with the laboratory model.
ALONE = ["01_three_queries", "08_table_1", "07_streams_and_policies"]

#: Nothing of the project is found by its path.
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "CLEAR_"))}


def downloads(page):
    """Addresses in the menu of downloads, by their labels."""
    return {link.get_text().strip(): link["href"] for link in page.select(".dropdown-download-buttons a[href]")}


def test_the_menu_of_downloads_has_the_student_notebook_and_what_it_needs(project, site, pages):
    chapters = sorted(path.stem for path in (project / "notebooks").glob("*.ipynb"))
    for stem in chapters:
        path = f"book/chapters/{stem}.html"
        links = downloads(pages[path])
        notebook, bundle = ((site / path).parent / links[kind] for kind in (".ipynb", ".zip"))
        assert notebook.name == f"{stem}.ipynb" and bundle.is_file()
        text = notebook.read_text()
        assert "# Set-up: run this cell first" in text and "{glue:text}" not in text and ":::" not in text, stem
    assert ".zip" not in downloads(pages["book/intro.html"])


def test_numbers_in_the_text_are_those_of_the_page(site, pages):
    (cell,) = (
        each
        for each in nbformat.read(site / student.SOURCES / "01_three_queries.ipynb", as_version=4).cells
        if each.id == "curves-seen"
    )
    sentence = cell.source.splitlines()[0]
    assert any(letter.isdigit() for letter in sentence)
    assert sentence in " ".join(pages["book/chapters/01_three_queries.html"].get_text().split())


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A fresh environment. The packages that `pip` would fetch are lent to it; the library is not."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    lent = sysconfig.get_paths()["purelib"]  # only a folder on the path: editable installs in it are not followed
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(lent)
    python = folder / "bin" / "python"
    assert subprocess.run([python, "-c", "import clear_lib"], cwd=folder, env=BARE, capture_output=True).returncode
    return python


@pytest.mark.parametrize("stem", ALONE)
def test_a_student_notebook_runs_alone(site, python, tmp_path, stem):
    for name in (f"{stem}.ipynb", student.BUNDLE):
        shutil.copy(site / student.SOURCES / name, tmp_path)
    command = [python, "-m", "papermill", f"{stem}.ipynb", "run.ipynb", "-k", "python3", "--no-progress-bar"]
    done = subprocess.run(command, cwd=tmp_path, env=BARE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in nbformat.read(tmp_path / "run.ipynb", as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    where = subprocess.run(
        [python, "-c", "import clear_lib; print(clear_lib.__file__)"],
        cwd=tmp_path,
        env=BARE,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(python.parents[1])), "the library was installed from the bundle"


# ---- commands that are documented ---------------------------------------------------------------------------------


def documented(start):
    """A command of the page *Run it yourself*, as words after `python`."""
    page = (ROOT / "book" / "run_it_yourself.md").read_text(encoding="utf-8")
    return shlex.split(re.search(rf"^python ({re.escape(start)}.*)$", page, flags=re.MULTILINE)[1])


def run(project, *words):
    environment = BARE | {"PYTHONPATH": str(project)}
    done = subprocess.run([sys.executable, *words], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_one_chapter_runs_alone_and_with_another_parameter(project):
    run(project, *documented("-m clear_lib.study book 07"), "--profile", "smoke")
    command = documented("-m papermill")
    run(project, *command, "-p", "profile", "smoke", "-p", "laboratory", "smoke")
    cells = nbformat.read(project / command[3], as_version=4).cells
    assert any('stream = "mostly-hard"' in cell.source for cell in cells)
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")


def test_the_lab_opens_student_notebooks(project):
    said = run(project, "-m", "clear_lib.study", "lab", "--profile", "smoke", "--no-open")
    folder = project / "artifacts" / "smoke" / "student"
    assert "artifacts/smoke/student" in said and "have not run" not in said
    made = {path.name for path in folder.glob("*.ipynb")}
    assert made == {path.name for path in (project / "notebooks").glob("*.ipynb")}
    assert (folder / student.BUNDLE).is_file()


# ---- Colab and Binder ---------------------------------------------------------------------------------------------


ADDRESS = "https://github.com/someone/shadow-price"
NOTEBOOK = "_sources/book/chapters/01_a.ipynb"
LAUNCHED = {
    f"https://colab.research.google.com/github/someone/shadow-price/blob/gh-pages/{NOTEBOOK}",
    f"https://mybinder.org/v2/gh/someone/shadow-price/gh-pages?urlpath=lab/tree/{NOTEBOOK}",
}


@pytest.mark.parametrize("address, launched", [("", set()), (ADDRESS, LAUNCHED)])
def test_colab_and_binder_are_offered_once_the_repository_has_an_address(tmp_path, address, launched):
    config = yaml.safe_load((ROOT / "_config.yml").read_text()) | {"bibtex_bibfiles": ["empty.bib"]}
    config["repository"]["url"] = address
    config["sphinx"]["config"] |= {"html_extra_path": [], "html_static_path": [], "html_css_files": []}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "empty.bib").touch()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/intro\nchapters:\n  - file: book/chapters/01_a\n")
    (tmp_path / "book" / "chapters").mkdir(parents=True)
    (tmp_path / "book" / "intro.md").write_text("# Intro\n\nWords.\n")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_markdown_cell("# A chapter"), nbformat.v4.new_code_cell("1 + 1")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "book" / "chapters" / "01_a.ipynb")
    command = [sys.executable, "-m", "jupyter", "book", "build", ".", "--all", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = BeautifulSoup((tmp_path / "_build/html/book/chapters/01_a.html").read_text(), "html.parser")
    assert {".ipynb", ".zip"} <= set(downloads(page))
    assert {link["href"] for link in page.select(".dropdown-launch-buttons a[href]")} == launched
