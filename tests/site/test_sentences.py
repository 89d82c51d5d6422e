"""Sentences whose numbers come from the run: none says the same pair of values twice, none miscounts its table."""

import ast
import re

import nbformat
import pytest
from bs4 import BeautifulSoup

from clear_lib.study.pages.student import glued

pytestmark = pytest.mark.slow

GLUE = re.compile(r"\{glue:text\}`([\w-]+)(?::([^`]*))?`")
END = re.compile(r"(?<=[.!?:;])\s+|\n\n")
COUNTS = dict(zip("two three four five six seven eight nine ten eleven twelve".split(), range(2, 13), strict=True))
COUNTED = re.compile(
    rf"\b({'|'.join(COUNTS)}) (opponents|rivals|policies|streams|forms|choices|rows|columns)\b", re.IGNORECASE
)


def said_twice(cells):
    """Sentences in which two values or more are each said twice, under two names.

    Of one draw there is no interval: a value and its ends are one name.
    """
    values, found = glued(cells), []
    for cell in cells:
        for sentence in END.split(cell.source) if cell.cell_type == "markdown" else []:
            names = {}
            for name, form in GLUE.findall(sentence):
                value = ast.literal_eval(values[name])
                names.setdefault(format(value, form) if form else str(value), set()).add(
                    re.sub("-(mean|low|high)$", "", name)
                )
            if sum(len(same) > 1 for said, same in names.items() if re.search("[1-9]", said)) > 1:
                found.append(sentence)
    return found


def tables(cell):
    """Rows of each table that a cell shows, the heads among them."""
    shown = (output.get("data", {}).get("text/html", "") for output in cell.get("outputs", []))
    for table in (table for html in shown for table in BeautifulSoup(html, "html.parser").find_all("table")):
        if rows := table.find_all("tr"):
            yield [[each.get_text(strip=True) for each in row.find_all(["th", "td"])] for row in rows]


def sizes(rows):
    """Numbers that a sentence before a table may mean: of rows, of columns, of different entries in a column."""
    width = max(map(len, rows))
    columns = [{row[k] for row in rows if len(row) > k} for k in range(width)]
    heads = sum(1 for row in rows if not any(re.search(r"\d", each) for each in row[1:]))
    return {len(rows) - heads, len(rows), width, width - 1, *(len(column - {""}) for column in columns)}


def miscounted(cells):
    """Counts in words, in the paragraph that introduces a table, that the table does not bear out."""
    for cell, following in zip(cells, cells[1:], strict=False):
        shown = [sizes(rows) for rows in tables(following)]
        if cell.cell_type == "markdown" and shown and cell.source.rstrip().endswith(":"):
            for count, what in COUNTED.findall(cell.source.rstrip().split("\n\n")[-1]):
                if COUNTS[count.lower()] not in set.union(*shown):
                    yield f"{count} {what}: {cell.source[-200:]}"


def table(rows):
    """A code cell that shows a table."""
    html = "".join("<tr>" + "".join(f"<td>{each}</td>" for each in row) + "</tr>" for row in rows)
    shown = nbformat.v4.new_output("display_data", {"text/html": f"<table>{html}</table>"})
    return nbformat.v4.new_code_cell(outputs=[shown])


def named(**values):
    """A code cell that names values for the prose."""
    form = "application/papermill.record/"
    return nbformat.v4.new_code_cell(
        outputs=[
            nbformat.v4.new_output(
                "display_data",
                {f"{form}text/plain": repr(value)},
                metadata={"scrapbook": {"name": name, "mime_prefix": form}},
            )
            for name, value in values.items()
        ]
    )


def test_the_checks_find_what_they_look_for():
    twice = "at {glue:text}`at-best:.1f` times {glue:text}`best:+.0f`, and at {glue:text}`at-end:.1f` {glue:text}`end:+.0f`."
    cells = [named(**{"at-best": 2.4, "best": 18.0, "at-end": 2.4, "end": 18.0}), nbformat.v4.new_markdown_cell(twice)]
    assert said_twice(cells) == [twice]
    assert said_twice([named(**{"at-best": 2.4, "best": 18.0, "at-end": 2.4, "end": 3.0}), cells[1]]) == []
    four = table([["", "gain"], *([name, 1] for name in "abcd")])
    said = [nbformat.v4.new_markdown_cell(f"Against {count} opponents:") for count in ("four", "three")]
    assert [len(list(miscounted([each, four]))) for each in said] == [0, 1]


def test_no_sentence_says_the_same_twice_or_miscounts_its_table(project):
    for path in sorted((project / "artifacts" / "smoke" / "chapters").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        assert said_twice(cells) == [], path.name
        assert list(miscounted(cells)) == [], path.name
