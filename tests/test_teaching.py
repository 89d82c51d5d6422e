"""Slides, the handout and the page for lecturers: made of what the chapters show; and how long a chapter takes."""

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
    chapters = tmp_path / "artifacts" / "tiny" / "chapters"
    chapters.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), chapters / "01_one.ipynb")
    (chapters / "01_one.json").write_text(json.dumps({"seconds": 150}))
    return tmp_path


def written(project, text):
    (project / "book" / "teach" / "talk.md").write_text(text)
    teaching.write(project, "tiny", project / "pages")
    return (project / "pages" / "teach" / "talk.html").read_text()


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
    teaching.write_times([project / "artifacts" / "tiny" / "chapters" / "01_one.ipynb"], project / "times.md")
    assert "| [](chapters/01_one.ipynb) | 2 min |" in (project / "times.md").read_text()


# ---- how long a chapter takes -------------------------------------------------------------------------------------

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST = 45

#: A student's pace, half that of one who only reads: the student of an earlier version of the book took longer still.
WORDS, LINES, EQUATION, SHOWN = 100, 10, 1.0, 0.5


def minutes(path):
    """What a chapter takes a student, by words and visible lines of code, equations, figures and tables; no exercises."""
    taken = 0.0
    for cell in nbformat.read(path, as_version=4).cells:
        tags, source = set(cell.metadata.get("tags", [])), cell.source.strip()
        if cell.id == "exercises":
            break
        if cell.cell_type == "markdown":
            prose, equations = re.subn(r"\$\$.*?\$\$", "", source, flags=re.DOTALL)
            taken += len(re.findall(r"\S*\w\S*", prose)) / WORDS + equations * EQUATION
        elif not {"parameters", "remove-cell"} & tags:
            lines = [line for line in source.splitlines() if re.search(r"\w", line)]
            last = source.splitlines()[-1]
            taken += len(lines) / LINES * ("hide-input" not in tags)
            shown = "mystnb" in cell.metadata or re.search(r"tables\.\w+\(|\.style\b|\.round\(|\.to_frame\(", last)
            taken += SHOWN * bool(shown)
    return taken


def about(number):
    """Minutes as a page says them, in steps of five."""
    return 5 * round(number / 5)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_chapter_takes_a_student_longer_than_a_lesson(path):
    taken = minutes(path)
    print(f"{path.stem}: {taken:.0f} minutes")
    assert taken <= LONGEST
    for said in re.findall(r"\*\*Time:\*\* (\d+) minutes to read", nbformat.read(path, as_version=4).cells[0].source):
        assert int(said) == about(taken)


def test_the_pages_say_how_long_the_book_takes():
    hours = round(sum(map(minutes, NOTEBOOKS)) / 60)
    first = about(minutes(NOTEBOOKS[0]))
    assert f"*{first} minutes; {hours} hours for all.*" in (ROOT / "book/intro.md").read_text()
    assert f"{hours} hours" in (ROOT / "book/teach.md").read_text()


def test_the_weeks_of_the_module_have_time_for_their_chapters():
    page = (ROOT / "book/teach.md").read_text()
    weeks = re.findall(r"^\| \d \| (.*?) \| .*? \| (\d+) \| (\d+) \|$", page, flags=re.MULTILINE)
    for chapters, read, all_in in weeks:
        named = re.findall(r"chapters/([\w]+)\.ipynb", chapters)
        assert int(read) == about(sum(minutes(ROOT / "notebooks" / f"{name}.ipynb") for name in named)), named
        assert int(all_in) > int(read)
    assert len(weeks) == 5
