"""Student notebooks: a chapter as a notebook that can be read in Jupyter and runs alone in an empty folder.

Its first code cell fetches :data:`BUNDLE`, the library and the recordings. As an extension of Sphinx the module offers
both in the menu of downloads, and Colab and Binder once the book has a repository.
"""

import builtins
import re
from collections.abc import Iterable
from pathlib import Path
from symtable import symtable
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from clear_lib.study.pages.markdown import Book, Writer, read_book

#: What lies beside the student notebooks: the library as a source distribution, recordings, and what chapters read.
BUNDLE = "clear_lib.zip"

#: The folder that a student notebook makes of it.
FILES = "clear_data"

#: Where the pages of the book keep their notebooks; the menu of downloads leads there.
SOURCES = "_sources/book/chapters"

SET_UP = f"""\
# Set-up: run this cell first. It needs {BUNDLE}, and unpacks it into {FILES}.
import os
from pathlib import Path
from urllib.request import urlretrieve
from zipfile import ZipFile

files, bundle = Path("{FILES}"), Path("{BUNDLE}")
address = "{{address}}"
if not files.is_dir():
    if not bundle.is_file() and not address:
        raise FileNotFoundError("Put {BUNDLE} beside this notebook: it is in the book's "
                                "menu of downloads, like the notebook.")
    if not bundle.is_file():
        urlretrieve(address, bundle)
    ZipFile(bundle).extractall(files)
os.environ["CLEAR_RECORDINGS"] = str(files.resolve() / "recordings")
try:
    import clear_lib.study
except ImportError:  # with the versions that the book was made with
    %pip install -q -c {FILES}/constraints.txt "./{FILES}[study]"
"""

ABOUT = """\
*This is the student notebook of {page}. Run the next cell first. The numbers in the text are those of the \
book's run; they stay as they are when you change a parameter. Solutions are folded.*"""


def student_notebook(chapter: NotebookNode, stem: str, book: Book) -> NotebookNode:
    """The student notebook of a chapter, executed or not."""
    page, writer = f"book/chapters/{stem}", Writer(book, glued(chapter.cells))
    address = f"{book.address}/{SOURCES}/{BUNDLE}" if book.address else ""
    cells, solution = [], []
    for cell in _shown(chapter.cells):
        if solution or "{solution-start}" in cell.source:
            solution.append(cell)
            if "{solution-end}" in cell.source:
                cells.append(new_markdown_cell(_folded(solution, writer), id=solution[0].id))
                solution = []
        elif cell.cell_type == "code":
            cells.append(_code(cell))
            if figure := cell.metadata.get("mystnb", {}).get("figure"):
                caption = f"**Figure.** {writer.write(figure['caption'])}"
                cells.append(new_markdown_cell(caption, id=f"{cell.id}-caption"))
        elif text := writer.write(cell.source):
            cells.append(new_markdown_cell(text, id=cell.id))
            if "{exercise" in cell.source:
                cells.append(new_code_cell("# Your answer\n", id=f"{cell.id}-answer"))
    about = ABOUT.format(page=book.link(book.titles.get(page, stem), page))
    set_up = new_code_cell(SET_UP.format(address=address), id="set-up")
    cells[1:1] = [new_markdown_cell(about, id="about"), set_up]
    kernel = {name: chapter.metadata[name] for name in ("kernelspec", "language_info") if name in chapter.metadata}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def glued(cells: Iterable[NotebookNode]) -> dict[str, str]:
    """The numbers that a chapter has named for its prose, as their outputs hold them."""
    outputs = (output for cell in cells for output in cell.get("outputs", []))
    named = ((output.get("metadata", {}).get("scrapbook"), output) for output in outputs)
    return {about["name"]: output.data[about["mime_prefix"] + "text/plain"] for about, output in named if about}


def _folded(solution: Iterable[NotebookNode], writer: Writer) -> str:
    """A solution as one fold, its code to be read."""
    parts = (
        writer.write(cell.source) if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        for cell in solution
        if "remove-cell" not in cell.metadata.get("tags", [])
    )
    return "\n\n".join(["<details><summary><b>Solution</b></summary>", *filter(None, parts), "</details>"])


def _code(cell: NotebookNode) -> NotebookNode:
    """A code cell that reads what the bundle holds; folded if the page folds it."""
    tags = cell.metadata.get("tags", [])
    source = cell.source.replace('"../artifacts', f'"{FILES}/artifacts')
    metadata = {"tags": [tag for tag in tags if tag == "parameters"]} if "parameters" in tags else {}
    if {"hide-input", "hide-cell", "remove-input", "remove-cell"} & set(tags):
        metadata["jupyter"] = {"source_hidden": True}
    outputs = [output for output in cell.outputs if "scrapbook" not in output.get("metadata", {})]
    return new_code_cell(source, id=cell.id, metadata=metadata, outputs=outputs, execution_count=cell.execution_count)


def _shown(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells that a page shows, the parameters with the values that were given, and hidden cells that others need."""
    injected = "\n".join(cell.source for cell in cells if "injected-parameters" in cell.metadata.get("tags", []))
    cells = [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in cells:
        if "parameters" in cell.metadata.get("tags", []):
            for line in re.findall(r"^\w+ = .*", injected, re.MULTILINE):
                name = line.partition(" ")[0]
                cell.source = re.sub(rf"^{name} = .*", lambda _, line=line: line, cell.source, flags=re.MULTILINE)
    hidden = [cell for cell in cells if "remove-cell" in cell.metadata.get("tags", [])]
    kept, more = [], [cell for cell in cells if cell not in hidden]
    while more:
        kept = [cell for cell in cells if cell in kept or cell in more]
        missing = unset(kept)
        more = [cell for cell in hidden if cell not in kept and missing & _names(cell.source)[1]]
    return kept


def unset(cells: Iterable[NotebookNode]) -> set[str]:
    """Names that code cells read and none of them sets."""
    names = [_names(cell.source) for cell in cells if cell.cell_type == "code"]
    read, made = (set().union(*(each[i] for each in names)) for i in (0, 1))
    return read - made - set(dir(builtins))


def _names(source: str) -> tuple[set[str], set[str]]:
    """Names that a cell reads and those that it sets, without what is local to its functions."""
    source = re.sub(r"^([ \t]*)[%!].*", r"\1pass", source, flags=re.MULTILINE)
    read, made, tables = set(), set(), [symtable(source, "cell", "exec")]
    for table in tables:  # grows on the way
        tables += table.get_children()
        names = [s for s in table.get_symbols() if table is tables[0] or not (s.is_local() or s.is_free())]
        read |= {each.get_name() for each in names if each.is_referenced()}
        made |= {each.get_name() for each in names if each.is_assigned() or each.is_imported()}
    return read, made


def write(project: Path, profile: str, target: Path, *, keep: bool = False) -> list[str]:
    """Write student notebooks and their bundle, but with `keep` none that was edited; names of chapters that have not run."""
    book, unexecuted = read_book(project), []
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(project.glob("notebooks/*.ipynb")):
        executed = project / "artifacts" / profile / "chapters" / source.name
        if not executed.is_file():
            unexecuted.append(source.name)
        chapter, made = executed if executed.is_file() else source, target / source.name
        if not (keep and made.is_file() and made.stat().st_mtime > chapter.stat().st_mtime):
            nbformat.write(student_notebook(nbformat.read(chapter, as_version=4), source.stem, book), made)
    write_bundle(project, profile, target / BUNDLE)
    return unexecuted


def write_bundle(project: Path, profile: str, target: Path) -> None:
    """Write what student notebooks need beside Python: the library, the recordings, and what the chapters read."""
    made = [f"artifacts/{profile}", "artifacts/smoke" if profile == "smoke" else "artifacts/tiny"]
    names = ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "clear_lib", "recordings"]
    names += [f"{folder}/{kind}" for folder in dict.fromkeys(made) for kind in ("rollouts", "predictor", "results")]
    names += [f"artifacts/{profile}/profile.yaml"]
    with ZipFile(target, "w", ZIP_DEFLATED) as bundle:
        for name in names:
            for path in sorted([project / name, *(project / name).rglob("*")]):
                if path.is_file() and path.suffix not in (".pyc", ".lock"):
                    bundle.write(path, path.relative_to(project))


# ---- in the pages -----------------------------------------------------------------------------------------------


def setup(app: Any) -> dict[str, bool]:
    """Make this an extension of Sphinx."""
    app.connect("config-inited", _launch_if_there_is_a_repository)
    app.connect("html-page-context", _offer_bundle, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _launch_if_there_is_a_repository(_: Any, config: Any) -> None:
    """Without an address of the repository there is nothing that Colab or Binder could open."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options.pop("launch_buttons", None)


def _offer_bundle(app: Any, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """A second entry in the menu of downloads of a chapter: what its notebook needs."""
    if page.startswith("book/chapters/"):
        button = {
            "type": "link",
            "url": f"{context['pathto'](SOURCES, 1)}/{BUNDLE}",
            "text": ".zip",
            "icon": "fas fa-box-open",
            "tooltip": "Library and recordings, to lie beside the notebook",
            "label": "download-bundle-button",
        }
        for group in context["header_buttons"]:
            if group.get("label") == "download-buttons":
                group["buttons"].insert(1, button)
