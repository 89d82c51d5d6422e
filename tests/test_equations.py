"""Every numbered equation of the paper is displayed in the book once, with its number and its label."""

import re
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = range(1, 28)
LABEL = re.compile(r"\*(stated|derived|inferred|open)\*")


def passages():
    """Markdown cells of the notebooks and sections of the pages, with the name of the file."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield path.stem, cell.source
    for path in sorted((ROOT / "book").glob("*.md")):
        for section in re.split(r"^(?=#+ )", path.read_text(), flags=re.MULTILINE):
            yield path.stem, section


@pytest.fixture(scope="module")
def displayed():
    """Number of an equation to the passages that display it."""
    found = defaultdict(list)
    for name, text in passages():
        for tag in re.findall(r"\\tag\{([^}]*)\}", text):
            for number in re.findall(r"\d+", tag):
                found[int(number)].append((name, text))
    return found


def test_every_equation_of_the_paper_is_displayed_once(displayed):
    where = {number: [name for name, _ in displayed[number]] for number in NUMBERS}
    assert {number: names for number, names in where.items() if len(names) != 1} == {}


def test_no_number_is_given_that_the_paper_does_not_have(displayed):
    assert set(displayed) <= set(NUMBERS)


def test_every_equation_says_how_sure_we_are_of_it(displayed):
    assert {number for number in NUMBERS if any(not LABEL.search(text) for _, text in displayed[number])} == set()
