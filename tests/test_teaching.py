"""Slides, the handout and the page for lecturers: made of what the chapters show."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from clear_lib.study.pages import teaching

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "book" / "teach").glob("*.md"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_slides_name_figures_and_numbers_that_chapters_have(source):
    texts = {path.stem[:2]: path.read_text() for path in (ROOT / "notebooks").glob("*.ipynb")}
    named = re.findall(r'"name": "([\w-]+)"', "".join(texts.values()))
    slides = source.read_text()
    assert [name for name in teaching.FIGURE.findall(slides) if name not in named] == []
    numbers = re.findall(r"\{glue:text\}`(\d\d)/([\w-]+)", slides)
    assert [f"{n}/{name}" for n, name in numbers if f"glue:text}}`{name}" not in texts.get(n, "")] == []


@pytest.fixture
def project(tmp_path):
    """A project with one chapter that has run, and slides of it."""
    image = {"data": {"image/svg+xml": "<svg/>"}, "metadata": {}}
    said = {"data": {"application/papermill.record/text/plain": "0.25"}}
    said["metadata"] = {"scrapbook": {"name": "share", "mime_prefix": "application/papermill.record/"}}
    cell = nbformat.v4.new_code_cell(
        "draw()",
        metadata={"mystnb": {"figure": {"name": "curve", "caption": "A curve."}, "image": {"alt": 'It "falls".'}}},
        outputs=[nbformat.v4.new_output("display_data", **each) for each in (image, said)],
    )
    (tmp_path / "book" / "teach").mkdir(parents=True)
    (tmp_path / "_config.yml").write_text("title: A book\n")
    template = (ROOT / "book" / "teach" / "template.html").read_text()
    (tmp_path / "book" / "teach" / "template.html").write_text(template)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "01_one.ipynb")
    (tmp_path / "01_one.json").write_text(json.dumps({"seconds": 150}))
    return tmp_path


def written(project, text):
    (project / "book" / "teach" / "talk.md").write_text(text)
    teaching.write_slides(project, [project / "01_one.ipynb"], project / "pages")
    return (project / "pages" / "talk.html").read_text()


def test_slides_have_the_figures_the_numbers_and_the_notes(project):
    talk = "# Talk\n\nNote:\nWelcome.\n\n---\n\n## Two\n\n$x < y$ in {glue:text}`01/share:.0%`\n\n![](curve)\n"
    page = written(project, talk)
    first, second = re.findall(r"<section>(.*?)</section>", page, flags=re.DOTALL)
    assert '<aside class="note"><p>Welcome.</p>' in first and "<title>Talk</title>" in page
    assert "\\(x &lt; y\\)</span> in 25%" in second and "PHN2Zy8+" in second and 'alt="It &quot;falls&quot;."' in second
    assert re.findall(r"(?:src|href)=\"(?!data:|\.\./mathjax/)", page) == [], "slides need no other file"


def test_a_figure_that_no_chapter_has_is_named(project):
    with pytest.raises(ValueError, match="talk.md shows figures that no chapter has: missing"):
        written(project, "# Talk\n\n![](missing)\n")


def test_the_table_of_times_says_how_long_each_chapter_ran(project):
    teaching.write_times([project / "01_one.ipynb"], project / "times.md")
    assert "| [](chapters/01_one.ipynb) | 2 min |" in (project / "times.md").read_text()
