"""The first pages: the verdicts in short, their pictures, and a first chapter that takes a fourth query."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

from clear_lib import study
from clear_lib.study.evidence.claims import CLAIMS
from clear_lib.study.pages import first_pages

ROOT = Path(__file__).resolve().parents[1]


def test_the_verdicts_of_the_first_page_are_those_of_the_readme():
    readme, short = ((ROOT / name).read_text() for name in ("README.md", "book/verdicts_short.md"))
    assert first_pages.verdicts_in_short(readme) == short, "run `make readme`"


def test_the_first_page_counts_each_word_and_tells_five_claims():
    words = dict.fromkeys([claim.id for claim in CLAIMS], "holds") | {"C5": "does not hold", "C10": "holds in part"}
    readme = "\n".join(f"| {name} | a title |  | not this | {word} |" for name, word in words.items())
    short = first_pages.verdicts_in_short(readme)
    assert f"*holds* {len(CLAIMS) - 2}, *does not hold* 1, *holds in part* 1" in short
    titles = {claim.title: claim.id for claim in CLAIMS}
    assert [titles[title] for title in re.findall(r"^- \[(.*?)\]", short, flags=re.M)] == list(first_pages.HEADLINES)
    assert "**does not hold**" in short and "**holds in part**" in short


def test_a_readme_without_all_claims_is_refused():
    with pytest.raises(ValueError, match="run `make readme`"):
        first_pages.verdicts_in_short("| C1 | a title | holds |")


def test_the_first_page_has_picture_verdicts_and_three_doors():
    page = (ROOT / "book/intro.md").read_text()
    assert {"result.svg", "verdicts_short.md"} <= set(re.findall(r"[\w/]+\.(?:svg|md)", page))
    assert re.findall(r":link: (\S+)", page) == ["chapters/01_three_queries", "teach", "use_it"]


def test_the_pictures_are_written_and_shown(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text())
    first_pages.write(tmp_path / "README.md")
    shown = re.findall(r"```\{figure\} (\S+)", (ROOT / "book/prerequisites.md").read_text())
    assert sorted(shown) == sorted(first_pages.PICTURES)
    for name in shown:
        assert (ROOT / "book" / name).is_file() and "<svg" in (tmp_path / "book" / name).read_text()


def test_the_marked_points_lie_on_the_curve():
    """The picture of the branches marks two points at one level: z·exp(z) there is that level."""
    figure = first_pages.branches()
    marked = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_marker() == "o")
    z, level = (np.asarray(values) for values in marked.get_data())
    assert z * np.exp(z) == pytest.approx(level, abs=1e-4)
    plt.close(figure)


def test_the_budget_of_the_picture_lies_in_a_jump():
    figure = first_pages.jump()
    pieces = [line.get_ydata() for line in figure.axes[0].lines if line.get_color() == "black"]
    (budget,) = {line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "--"}
    assert len(pieces) == 3 and min(pieces[0]) > budget > max(pieces[1])
    plt.close(figure)


@pytest.mark.parametrize("thresholds", [[60.0, 120.0, 600.0], [60.0, 120.0, 90.0, 600.0], [50.0, 80.0]])
def test_the_first_chapter_takes_more_and_fewer_queries(thresholds, monkeypatch):
    said = {}
    monkeypatch.setattr(study, "say", said.update)
    monkeypatch.setattr(plt, "show", lambda: None)
    names = {}
    for cell in nbformat.read(ROOT / "notebooks/01_three_queries.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and "solution" not in cell.metadata.get("tags", []):  # those are of the given three
            exec(re.sub(r"^thresholds = \[.*", f"thresholds = {thresholds}", cell.source, flags=re.M), names)
    plt.close("all")
    assert names["thresholds"].tolist() == thresholds
    assert said["brute"] == pytest.approx(said["hand_total"], abs=0.05), "the hand and all splits agree"
