"""Slides, the handout and the table of times of the page *Teach with it*, from Markdown and the chapters that have run.

In ``book/teach/*.md`` a line ``---`` begins the next slide and a line ``Note:`` what the speaker says. ``![](label)`` is
the figure of that label, and ``{glue:text}`08/name:.1f``` the number that chapter 08 calls ``name``.
"""

import base64
import html
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from string import Template

import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode

from clear_lib.study.pages.markdown import Writer, read_book
from clear_lib.study.pages.student import glued

FIGURE = re.compile(r"!\[\]\(([\w-]+)\)")


def write_times(chapters: Iterable[Path], target: Path) -> None:
    """Write how long each chapter ran, as a table for the page to include."""
    rows = ["| chapter | the notebook runs |", "|---|--:|"]
    for path in chapters:
        seconds = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["seconds"]
        shown = f"{seconds} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        rows.append(f"| [](chapters/{path.name}) | {shown} |")
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")


def write(project: Path, profile: str, pages: Path) -> None:
    """Write slides and handout of a profile beside its pages, each one HTML page without other files but MathJax."""
    chapters = sorted((project / "artifacts" / profile / "chapters").glob("*.ipynb"))
    read = {path.stem[:2]: nbformat.read(path, as_version=4).cells for path in chapters}
    numbers = {f"{number}/{name}": said for number, cells in read.items() for name, said in glued(cells).items()}
    figures = {name: shown for cells in read.values() for name, shown in _figures(cells)}
    writer = Writer(read_book(project), numbers)
    folder, target = project / "book" / "teach", pages / "teach"
    template = Template((folder / "template.html").read_text(encoding="utf-8"))
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(folder.glob("*.md")):
        text = writer.write(source.read_text(encoding="utf-8"))
        missing = {name for name in FIGURE.findall(text) if name not in figures}
        if missing:
            raise ValueError(f"{source} shows figures that no chapter has: {', '.join(sorted(missing))}")
        slides = "\n".join(map(_slide, re.split(r"^---$", text, flags=re.MULTILINE)))
        page = template.substitute(
            kind="sheet" if source.stem == "handout" else "deck",
            title=html.escape(text.partition("\n")[0].strip("# ")),
            slides=FIGURE.sub(lambda match: figures[match[1]], slides),
        )
        (target / f"{source.stem}.html").write_text(page, encoding="utf-8")


def _slide(text: str) -> str:
    said, _, note = text.partition("\nNote:\n")
    aside = f'<aside class="note">{_rendered(note)}</aside>' if note else ""
    return f"<section>{_rendered(said)}{aside}</section>"


def _rendered(text: str) -> str:
    """Markdown as HTML; formulas are left to MathJax, figures to the caller."""
    markdown = MarkdownIt("commonmark").enable("table")
    markdown.use(dollarmath_plugin, renderer=_formula, allow_space=False, double_inline=True)
    kept = FIGURE.sub(r"FIGURE(\1)", text)
    return re.sub(r"(?:<p>)?FIGURE\(([\w-]+)\)(?:</p>)?", r"![](\1)", markdown.render(kept))


def _formula(formula: str, options: dict[str, bool]) -> str:
    left, right = ("\\[", "\\]") if options.get("display_mode") else ("\\(", "\\)")
    return left + html.escape(formula) + right


def _figures(cells: Iterable[NotebookNode]) -> Iterable[tuple[str, str]]:
    """Label and image of every figure of a chapter."""
    for cell in cells:
        about = cell.metadata.get("mystnb", {})
        for output in cell.get("outputs", []) if "figure" in about else []:
            if drawn := output.get("data", {}).get("image/svg+xml"):
                data = base64.b64encode(drawn.encode()).decode()
                alt = html.escape(about.get("image", {}).get("alt", ""), quote=True)
                yield about["figure"]["name"], f'<img src="data:image/svg+xml;base64,{data}" alt="{alt}">'


if __name__ == "__main__":
    write(Path(), sys.argv[1], Path("_build/html"))
