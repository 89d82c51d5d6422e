"""What the README and the prose pages tell a reader to type works."""

import re
from pathlib import Path

import pytest

import clear_lib
from clear_lib import engines
from clear_lib.reasoner import PROMPT, tasks

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "book/run_it_yourself.md"]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_five_lines_run(page):
    code, names = blocks(page, "python")[0], {}
    exec(code, names)
    allocation = names["allocation"]
    assert isinstance(allocation, clear_lib.Allocation)
    assert 0 < allocation.tokens.sum() <= 800
    assert not allocation.active.all(), "the example should show an abandoned query"


def test_the_wrapper_of_the_readme_runs(taught, tmp_path, monkeypatch, capsys):
    (tmp_path / "forecaster").symlink_to(taught)
    monkeypatch.chdir(tmp_path)
    _, code = blocks("README.md", "python")
    prompts = [PROMPT.format(question=question) for question in tasks.questions("evaluation", "easy", 6).question]
    names = {"engine": engines.start("transformers", "embedded"), "prompts": prompts}
    exec(code.replace("128_000", "100"), names)
    assert len(names["answers"]) == 6 and 0 < names["answers"].granted.sum() <= 100
    assert "6 queries, a budget of 100 completion tokens" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_are_targets_of_the_makefile(page):
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(re.findall(r"`[^`]+`", (ROOT / page).read_text()))))
    assert {"book"} <= named <= targets


def test_the_readme_names_the_policies_of_the_paper():
    named = re.search(r"`policy` is one of the paper's seven: (.*?)\.\n", (ROOT / "README.md").read_text())[1]
    assert re.findall(r"`([\w-]+)`", named) == [
        name for name in clear_lib.allocation.policies.OF_THE_PAPER if name != "oracle-paper"
    ]


def linked(page):
    """The files that a page of the book links to; chapters are made from the notebooks of the same names."""
    links = re.findall(r"\]\((?!https:)([^)#]+)", (ROOT / "book" / page).read_text())
    return {ROOT / (link.replace("chapters", "notebooks") if "chapters/" in link else f"book/{link}") for link in links}


def test_every_figure_and_table_of_the_paper_has_one_row():
    rows = re.findall(
        r"^\| ((?:Figure|Table) \d+) \|", (ROOT / "book/figures_and_tables.md").read_text(), flags=re.MULTILINE
    )
    assert rows == [f"Figure {n}" for n in range(1, 12)] + [f"Table {n}" for n in range(1, 8)]


@pytest.mark.parametrize("page", ["figures_and_tables.md", "related_work.md", "errata.md"])
def test_links_lead_to_pages_and_chapters(page):
    assert linked(page) and [str(path) for path in linked(page) if not path.is_file()] == []


def test_every_work_cited_is_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{([^,]+),", (ROOT / "book/references.bib").read_text(), flags=re.MULTILINE))
    pages = "".join(path.read_text() for folder in ("book", "notebooks") for path in (ROOT / folder).glob("*.[mi]*"))
    cited = {key.strip() for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", pages) for key in keys.split(",")}
    assert cited and cited <= known
