"""What the README and the prose pages tell a reader to type works."""

import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import papermill
import pytest

import clear_lib
from clear_lib import cli, engines
from clear_lib.reasoner import PROMPT, tasks
from clear_lib.study import cli as study_cli

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
    assert len(names["answers"]) == 6 and 0 < names["answers"].used.sum() <= 100
    assert "6 queries, a budget of 100 completion tokens" in capsys.readouterr().out


# ---- commands -----------------------------------------------------------------------------------------------------

#: Pages whose commands are checked here. Those of use_it.md run in a test of their own; your_rollouts.md names logs.
COMMANDED = [*PAGES, "book/use_it.md", "book/your_rollouts.md", "CONTRIBUTING.md"]

#: First words of commands that are not the project's.
OTHERS = {"git", "cd", "conda", "echo", "head", "py", "tr"}


def commands(page):
    """The commands of a page, a list of words each: lines of shell code, and `make` or `python` in running text."""
    lines = [line for language in ("bash", "powershell") for block in blocks(page, language) for line in joined(block)]
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines += re.findall(r"`((?:make|python) [^`]*[^`.])`", text)
    words = [shlex.split(line, comments=True, posix="\\" not in line) for line in lines if "…" not in line]
    return [each for each in words if each]


def joined(block):
    """The lines of a block of shell code, those that go on (or are in quotes) as one, and pipes as two."""
    block = re.sub(r"\\\n\s*", "", re.sub(r"'[^']*'", lambda quoted: quoted[0].replace("\n", ""), block))
    return [part for line in block.splitlines() for part in re.split(r" (?:\||&&)\s*", line)]


def check_make(words):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, is_variable, _ = word.partition("=")
        known = rf"^{name} *\?=" if is_variable else rf"^{re.escape(name)}:.*## "
        assert re.search(known, makefile, flags=re.MULTILINE), f"the Makefile has no {name}"


def check_python(words):
    module, *arguments = words[words.index("-m") + 1 :] if "-m" in words else words
    if module in ("clear_lib", "clear_lib.study"):
        with contextlib.suppress(SystemExit) if "--help" in arguments else contextlib.nullcontext():
            (cli if module == "clear_lib" else study_cli)._parser().parse_args(arguments)
    elif module == "papermill":
        notebook, parameters = arguments[0], arguments[arguments.index("-p") :]
        declared = papermill.inspect_notebook(ROOT / notebook)
        assert parameters[0::3] == ["-p"] * len(parameters[0::3]) and set(parameters[1::3]) <= set(declared)
    elif module.endswith(".py"):
        assert all((ROOT / name).is_file() for name in [module, arguments[0]])
    else:
        assert module in ("pip", "venv")


@pytest.mark.parametrize("page", COMMANDED)
def test_every_command_has_its_target_and_options(page):
    found = commands(page)
    assert found
    for name, *words in found:
        if name == "make":
            check_make(words)
        elif name == "python":
            check_python(words)
        else:
            assert name in OTHERS or ".venv" in name, f"{page}: {name} {words}"


def test_wrong_commands_are_noticed():
    for check, words in [
        (check_make, ["bok"]),
        (check_make, ["book", "PROFIL=smoke"]),
        (check_python, ["-m", "clear_lib.study", "mine.jsonl"]),
        (check_python, ["-m", "papermill", "notebooks/01_three_queries.ipynb", "a", "-p", "nothing", "1"]),
    ]:
        with pytest.raises((AssertionError, SystemExit)):
            check(words)


def test_the_cheap_commands_run_as_printed():
    cheap = [
        words for page in COMMANDED for words in commands(page) if "--help" in words or words[:2] == ["make", "plan"]
    ]
    cheap += [["make"], ["python", "-m", "clear_lib.study", "--help"]]
    assert ["make", "plan", "PROFILE=paper-7b"] in cheap
    for words in {tuple(each): each for each in cheap}.values():
        words = [sys.executable if word == "python" else word for word in words]
        more = [f"PY={sys.executable}"] if words[0] == "make" else []
        done = subprocess.run([*words, *more], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout, f"{words}: {done.stderr}"


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
