"""What Jupyter gets of a page: plain Markdown, numbers in the text, folds, links that work anywhere, and a set-up cell."""

import re
import subprocess
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml

from clear_lib.study import cli
from clear_lib.study.pages import markdown, student

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "https://someone.github.io/book"


@pytest.fixture(scope="module")
def book():
    """The book as it is, without an address."""
    return markdown.read_book(ROOT)


@pytest.fixture
def write():
    """Rewrites a text of a page of a book of two pages."""
    titles = {"book/intro": "Start here", "book/chapters/07_x": "Streams"}
    labels = {"C5": ("book/claims", "C5"), "three": ("book/chapters/01_y", "the figure “Three”")}
    there = markdown.Book(ADDRESS, titles, labels, {"wan": "Wan et al. (2026)"})
    return markdown.Writer(there, {"gain": "3.14159", "who": "'CLEAR'"}).write


@pytest.mark.parametrize(
    "myst, plain",
    [
        ("{glue:text}`gain:.1f` by {glue:text}`who`, {glue:text}`not-run`", "3.1 by CLEAR, …"),
        ("[](07_x.ipynb)", f"[Streams]({ADDRESS}/book/chapters/07_x.html)"),
        ("[first](../intro.md#why)", f"[first]({ADDRESS}/book/intro.html#why)"),
        ("claim {ref}`five <C5>`", f"claim [five]({ADDRESS}/book/claims.html#C5)"),
        ("[C5](#C5)", f"[C5]({ADDRESS}/book/claims.html#C5)"),
        ("({numref}`three`)", f"([the figure “Three”]({ADDRESS}/book/chapters/01_y.html#three))"),
        (
            "{cite:t}`wan` and {cite}`wan`",
            "[{0}]({1}) and ([{0}]({1}))".format("Wan et al. (2026)", f"{ADDRESS}/book/references.html"),
        ),
        ("[web](https://x.org/a.md) ![picture](a.png) `[](07_x.ipynb)`",) * 2,
        ("```python\nx = '{glue:text}`gain`'\n```",) * 2,
        ("$$ a = b \\tag{3} $$ (eq-3)", "$$ a = b \\tag{3} $$"),
        ("(label)=\n\n## Heading", "## Heading"),
        ("it is {term}`this <that>`", "it is this"),
    ],
)
def test_a_text_is_rewritten(write, myst, plain):
    assert write(myst) == plain


def test_boxes_and_folds_become_html_around_markdown(write):
    box = write(":::{admonition} Exercise *1*\n:name: one\nHow much is {glue:text}`gain:.0f`?\n:::\nAfter")
    assert box.startswith('<div class="alert alert-info">\n\n**Exercise *1***\n\nHow much is 3?\n\n</div>')
    assert box.endswith("\nAfter")
    fold = write(":::{admonition} Solution\n:class: dropdown\n\nThree.\n:::")
    assert re.fullmatch(r"<details><summary><b>Solution</b></summary>\n\n+Three\.\n\n</details>", fold)
    assert write("```{solution} one\nThree.\n```").startswith("<details><summary><b>Solution</b></summary>\n\nThree.")
    assert "**Note**" in write(":::{note}\nMind.\n:::") and "**Exercise: Code**" in write(
        ":::{exercise} Code\nDo.\n:::"
    )


def test_boxes_may_stand_in_boxes_and_in_lists(write):
    nested = write("::::{note}\n:::{dropdown} More\nInner\n:::\n::::")
    assert nested.index("<div") < nested.index("<details>") < nested.index("</details>") < nested.index("</div>")
    listed = write("1. Why?\n\n   :::{dropdown} Solution\n   Because.\n   :::\n2. How?")
    assert "\n   <details>" in listed and "\n   Because." in listed and listed.endswith("\n2. How?")


def test_without_an_address_there_are_words_and_no_links(book):
    writer = markdown.Writer(book)
    assert writer.write("[](07_streams_and_policies.ipynb), {ref}`C5 <C5>`") == "Streams and policies, C5"


@pytest.mark.parametrize(
    "config, address",
    [
        ({"repository": {"url": ""}}, ""),
        ({"repository": {"url": "https://github.com/someone/book"}}, ADDRESS),
        ({"repository": {"url": "https://github.com/a/b"}, "html": {"baseurl": "https://x.org/"}}, "https://x.org"),
        ({}, ""),
    ],
)
def test_the_address_is_that_of_the_repository_unless_another_is_given(config, address):
    assert markdown.address_of(config) == address


def cell(source, *tags, **metadata):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags), **metadata})


def converted(*cells, book=None):
    cells = [nbformat.v4.new_markdown_cell("# Title"), *cells]
    return student.student_notebook(nbformat.v4.new_notebook(cells=cells), "01_y", book or markdown.Book()).cells


def test_the_set_up_comes_first_and_parameters_are_those_of_the_run():
    given = 'profile = "../artifacts/qwen-1.5b/profile.yaml"  # read\nbudget = 270'
    run = '# Parameters\nprofile = "../artifacts/imported/profile.yaml"\n'
    _, about, set_up, parameters = converted(cell(given, "parameters"), cell(run, "injected-parameters"))
    assert "Run the next cell first" in about.source and set_up.source.startswith("# Set-up")
    assert parameters.source == 'profile = "clear_data/artifacts/imported/profile.yaml"\nbudget = 270'
    assert parameters.metadata.tags == ["parameters"]
    there = markdown.Book(ADDRESS)
    assert f'address = "{ADDRESS}/_sources/book/chapters/clear_lib.zip"' in converted(book=there)[2].source


def test_hidden_cells_stay_only_if_a_shown_one_needs_them():
    glue = nbformat.v4.new_output(
        "display_data", {"p/text/plain": "2.5"}, metadata={"scrapbook": {"name": "two", "mime_prefix": "p/"}}
    )
    hidden = cell("say(two=2.5)", "remove-cell") | {"outputs": [glue]}
    needed = cell("base = 1\ndef helper(x):\n    return base + x", "remove-cell")
    under = cell("base_of = 2", "remove-cell")
    plot = cell(
        "import os\nhelper(2)", "hide-input", mystnb={"figure": {"caption": "All {glue:text}`two`.", "name": "f"}}
    )
    *_, kept, shown, caption = converted(under, nbformat.from_dict(hidden), needed, plot)
    assert kept.source == needed.source and kept.metadata.jupyter.source_hidden
    assert shown.source == plot.source and shown.metadata == {"jupyter": {"source_hidden": True}}
    assert (
        caption.source == "**Figure.** All 2.5."
        and len(converted(under, nbformat.from_dict(hidden), needed, plot)) == 6
    )


def test_a_solution_with_code_is_one_fold_after_a_cell_for_the_answer():
    texts = [
        ":::{exercise} Add\n:label: add\nHow much is 1 + 1?\n:::",
        ":::{solution-start} add\n:class: dropdown\n:::\n\nCount.",
        "As {glue:text}`two`.\n\n:::{solution-end}\n:::",
    ]
    exercise, start, end = (nbformat.v4.new_markdown_cell(text) for text in texts)
    box, answer, fold, after = converted(exercise, start, cell("1 + 1"), end, cell("2"))[3:]
    assert "**Exercise: Add**" in box.source and answer.source == "# Your answer\n" and after.source == "2"
    assert fold.source == (
        "<details><summary><b>Solution</b></summary>\n\nCount.\n\n```python\n1 + 1\n```\n\nAs ….\n\n</details>"
    )


def test_every_chapter_becomes_plain_markdown(book):
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        made = student.student_notebook(nbformat.read(path, as_version=4), path.stem, book)
        nbformat.validate(made)
        text = "\n".join(each.source for each in made.cells if each.cell_type == "markdown")
        left = re.findall(
            r"\{[\w:-]+\}`[^`]*`|^\s*:::.*|^\s*```\{.*|\]\((?!https?:)[^)]*\.(?:md|ipynb).*|^\([\w-]+\)=", text, re.M
        )
        assert left == [], path.name
        assert text.count("<details>") == text.count("</details>") and text.count("<div") == text.count("</div>")
        code = [each for each in made.cells if each.cell_type == "code"]
        assert student.unset(made.cells) <= {"display"}, (
            f"{path.name}: a cell needs what only a solution or no one sets"
        )
        assert code[0].id == "set-up" and not any("../artifacts" in each.source for each in code), path.name


def test_what_is_written_beside_them_and_what_is_kept(tmp_path):
    for name in ("notebooks", "book", "_config.yml", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "clear_lib").mkdir()
    (tmp_path / "clear_lib" / "__init__.py").touch()
    recorded = tmp_path / "artifacts" / "tiny" / "rollouts" / "a.parquet"
    recorded.parent.mkdir(parents=True)
    recorded.touch()
    target = tmp_path / "out"
    unexecuted = student.write(tmp_path, "tiny", target)
    assert unexecuted == [path.name for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    names = zipfile.ZipFile(target / "clear_lib.zip").namelist()
    assert {"clear_lib/__init__.py", "pyproject.toml", "artifacts/tiny/rollouts/a.parquet"} <= set(names)
    edited = target / unexecuted[0]
    edited.write_text("mine")
    student.write(tmp_path, "tiny", target, keep=True)
    assert edited.read_text() == "mine"
    student.write(tmp_path, "tiny", target)
    assert edited.read_text() != "mine"


@pytest.mark.parametrize("user, options", [(0, ["--allow-root"]), (1000, [])])
def test_the_lab_starts_as_root_and_not(tmp_path, monkeypatch, capsys, user, options):
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(student, "write", lambda project, profile, folder, *, keep: ["01_a.ipynb"])
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr("subprocess.run", lambda command, check: started.append(command))
    assert cli.main(["lab", "--profile", "tiny"]) == 0
    assert [command[1:] for command in started] == [
        ["-m", "jupyter", "lab", f"--notebook-dir={Path('artifacts/tiny/student')}", *options]
    ]
    assert "1 chapters that have not run" in capsys.readouterr().out


# ---- the branch that Colab and Binder open ------------------------------------------------------------------------

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/pages.yml").read_text())


def scripts(job):
    return "\n".join(step.get("run", "") for step in WORKFLOW["jobs"][job]["steps"])


def test_the_workflow_has_pinned_actions_and_few_permissions():
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert WORKFLOW["permissions"] == {}
    writing = {
        name: {what for what, how in job["permissions"].items() if how == "write"}
        for name, job in WORKFLOW["jobs"].items()
    }
    assert writing == {"build": set(), "deploy": {"pages", "id-token"}, "notebooks": {"contents"}}


def test_the_workflow_fills_the_branch_that_the_buttons_open():
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    script = scripts("notebooks")
    assert f"./{student.SOURCES}\n" in script and student.SOURCES.startswith(repository["path_to_book"] + "/")
    assert f'GITHUB_REPOSITORY" {repository["branch"]}\n' in script


@pytest.mark.parametrize("address", ["", "https://github.com/someone/book"])
def test_the_branch_is_filled_once_the_repository_has_an_address(tmp_path, address):
    assert WORKFLOW["jobs"]["notebooks"]["if"] == "needs.build.outputs.address != ''"
    config = re.sub(r'^  url: ".*"', f'  url: "{address}"', (ROOT / "_config.yml").read_text(), flags=re.M)
    (tmp_path / "_config.yml").write_text(config)
    (step,) = (step for step in WORKFLOW["jobs"]["build"]["steps"] if step.get("id") == "config")
    environment = {"GITHUB_OUTPUT": str(tmp_path / "output"), "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", "-c", step["run"]], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "output").read_text() == f"address={address}\n"
