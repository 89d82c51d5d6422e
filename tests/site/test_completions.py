"""A completion is data: whatever a model wrote, or a log says it wrote, a page shows it as text."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from bs4 import BeautifulSoup

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert(1)</script><img src=x onerror=q>"  # short: pandas cuts cells at 50 characters

SHOWN = {
    "print": "print(text)",
    "value": "text",
    "frame": "pd.DataFrame({'completion': [text], text: [1.5]}, index=[text])",
    "captioned": "tables.captioned(pd.DataFrame({'completion': [text], text: [1.5]}, index=[text]), text).format(precision=1)",
    "answers": "answers",
    "answers as a table": "answers.to_frame()",
    "reason": "print(answers[0])",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of the book's own settings that shows a hostile completion in every way."""
    book = tmp_path_factory.mktemp("book")
    cells = [nbformat.v4.new_markdown_cell("# What it wrote")]
    cells.append(
        nbformat.v4.new_code_cell(
            "import pandas as pd\nfrom myst_nb import glue\nfrom clear_lib.study.pages import tables\n"
            "from clear_lib.budgeter import Answer, Answers\n"
            f"text = {HOSTILE!r}\n"
            "answers = Answers((Answer(text, text, 'abandoned', 0, 0, text),), 'clear', 'caps', 5, 0.1, 1, 'embedded')\n"
            "glue('said', text, display=False)",
            metadata={"tags": ["remove-cell"]},
        )
    )
    for name, code in SHOWN.items():
        cells += [nbformat.v4.new_markdown_cell(f"## {name}"), nbformat.v4.new_code_cell(code)]
    cells.append(nbformat.v4.new_markdown_cell("## glued\n\nIt said {glue:text}`said`."))
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    nbformat.write(notebook, book / "source.ipynb")
    papermill.execute_notebook(
        book / "source.ipynb", book / "page.ipynb", kernel_name="python3", cwd=ROOT, progress_bar=False
    )
    for name in ("_config.yml", "book/references.bib", "book/_css", "book/_vendor"):
        target = book / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    (book / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    built = subprocess.run(
        [sys.executable, "-m", "jupyter", "book", "build", ".", "--quiet"], cwd=book, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return BeautifulSoup((book / "_build" / "html" / "page.html").read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("way", [*SHOWN, "glued"])
def test_it_comes_out_as_text(page, way):
    section = page.find(id=way.replace(" ", "-"))
    for source in section.select(".cell_input"):
        source.decompose()
    assert "<script>alert(1)" in section.get_text().replace("\n", "") and "onerror=q" in section.get_text()
    assert [tag for tag in section.find_all(True) if tag.name in ("script", "img") or "onerror" in tag.attrs] == []


def test_nothing_of_it_is_anywhere_in_the_page(page):
    assert [script for script in page.find_all("script") if "alert(1)" in script.get_text()] == []
    assert [tag for tag in page.find_all(True) if "onerror" in tag.attrs] == []
