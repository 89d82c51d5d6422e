"""The book is made of what is out of date, all of it, and nothing else.

The real steps run here with a stand-in for Python that writes down what it was asked to do and makes the files that the
real one would make.
"""

import os
import re
import shutil
import time
from pathlib import Path

import nbformat
import pytest

from clear_lib.study.evidence import rules
from clear_lib.study.evidence.rules import RECORDED as RECORDED_MODEL
from clear_lib.study.pages import building

ROOT = Path(__file__).resolve().parents[1]

CHAPTERS = [
    f"notebooks/{name}.ipynb" for name in ("01_one", "02_two", "03_three", "06_six", "07_seven", "08_eight", "90_card")
]

#: What is shipped of a recorded profile.
RECORDED = [
    "recordings/manifest.json",
    "recordings/qwen-1.5b/evaluation.parquet",
    "clear_lib/study/setup/profiles/qwen-1.5b.yaml",
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a few empty files, which is the working directory."""
    add(
        tmp_path,
        "clear_lib/market.py",
        "clear_lib/study/setup/profiles/tiny.yaml",
        "clear_lib/study/setup/profiles/smoke.yaml",
        "book/run.py",
        "book/intro.md",
        "_config.yml",
        "_toc.yml",
    )
    for name in CHAPTERS:
        edit(tmp_path / name, name)
    monkeypatch.chdir(tmp_path)
    for extra in ("student.write", "teaching.write", "teaching.write_times"):  # what is made of the pages and chapters
        monkeypatch.setattr(f"clear_lib.study.pages.{extra}", lambda *arguments: None)
    return tmp_path


def add(project, *names):
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(f"{name}\n")


def edit(path, text=None):
    """Change a file, which makes it newer than anything made before."""
    time.sleep(0.02)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text or path.read_text() + "edited\n")


def stand_in(asked):
    """A Python that notes what it is asked to do in `asked`, and makes the files."""

    def python(*arguments, quiet=False):
        if arguments[0] == "book/run.py":
            _, source, target, _, profile = arguments
            asked.append(source)
            if "broken" in Path(source).read_text():
                raise ValueError("failed")
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).write_text(Path(source).read_text() + profile)
            return
        command, *others = (each for each in arguments[2:] if each != "--force")
        if command == "book":
            asked.append("pages")
            page = Path("_build/new/_build/html/index.html")
            page.parent.mkdir(parents=True)
            page.write_text("".join(path.read_text() for path in sorted(Path("book/chapters").iterdir())))
            return
        profile = {"import": "imported", "replicate": others[0]}.get(command, others[-1])
        asked.append(" ".join([command, *others]).replace("--profile ", ""))
        Path("artifacts", profile, "rollouts").mkdir(parents=True, exist_ok=True)
        if command != "record":
            Path("artifacts", profile, "profile.yaml").write_text("made\n")

    return python


def make(*what, profile="tiny", jobs=1, **given):
    """What making the book asked Python to do."""
    asked = []
    building.book(building.Making(profile, **given), what, jobs, stand_in(asked))
    return asked


def test_a_first_run_makes_everything_in_order_and_a_second_nothing(project):
    asked = make()
    assert sorted(asked) == sorted([*CHAPTERS, "record tiny", "pages"])
    place = {name: asked.index(name) for name in asked}
    assert asked[-1] == "pages"
    assert place["record tiny"] < min(place[CHAPTERS[1]], place[CHAPTERS[3]], place[CHAPTERS[6]])
    assert place[CHAPTERS[3]] < min(place[CHAPTERS[4]], place[CHAPTERS[5]])
    assert (project / building.PAGES).read_text().count("tiny") == len(CHAPTERS)
    assert make() == []


def test_two_at_a_time_make_the_same(project):
    asked = make(jobs=2)
    assert sorted(asked) == sorted([*CHAPTERS, "record tiny", "pages"]) and asked[-1] == "pages"
    assert asked.index(CHAPTERS[3]) < min(asked.index(CHAPTERS[4]), asked.index(CHAPTERS[5]))


def test_a_chapter_that_takes_times_runs_when_nothing_else_does(tmp_path):
    running, beside = [], {}

    def step(name, alone=False):
        def how(python):
            running.append(name)
            time.sleep(0.5)
            beside[name] = {*running}
            running.remove(name)

        return building.Step(tmp_path / name, [], how, alone)

    steps = [step("a"), step("b"), step("timed", True), step("also timed", True), step("c")]
    building.make([each.made for each in steps], steps, None, jobs=3)
    assert beside["timed"] == {"timed"} and beside["also timed"] == {"also timed"}
    assert len(beside["a"]) > 1 and set(beside) == {"a", "b", "c", "timed", "also timed"}


@pytest.mark.parametrize(
    "edited, asked",
    [
        ("notebooks/01_one.ipynb", [CHAPTERS[0], "pages"]),
        ("notebooks/06_six.ipynb", [*CHAPTERS[3:6], "pages"]),
        ("notebooks/08_eight.ipynb", [CHAPTERS[5], "pages"]),
        ("book/intro.md", ["pages"]),
        ("_toc.yml", ["pages"]),
        ("book/run.py", [*CHAPTERS, "pages"]),
        ("clear_lib/market.py", ["record tiny", *CHAPTERS, "pages"]),
        ("clear_lib/study/setup/profiles/tiny.yaml", ["record tiny", *CHAPTERS, "pages"]),
        ("clear_lib/study/setup/profiles/smoke.yaml", []),
    ],
)
def test_an_edit_reruns_what_depends_on_it_and_nothing_else(project, edited, asked):
    make()
    edit(project / edited)
    assert sorted(make()) == sorted(asked)
    assert make() == []


def test_a_new_chapter_is_picked_up(project):
    make()
    edit(project / "notebooks" / "04_four.ipynb", "four\n")
    assert make() == ["notebooks/04_four.ipynb", "pages"]


def test_one_chapter_alone_is_made_with_what_it_reads(project):
    assert make("08") == ["record tiny", CHAPTERS[3], CHAPTERS[5]]
    assert make("01_one", "08") == [CHAPTERS[0]]
    assert make("rollouts") == []
    with pytest.raises(ValueError, match="there is no chapter '99'; notebooks/ has: 01_one, 02_two"):
        make("99")


def test_another_profile_never_shows_stale_chapters(project):
    make()
    assert "record smoke" in make(profile="smoke")
    assert "tiny" not in (project / building.PAGES).read_text()
    assert make() == ["pages"], "the chapters of tiny are still there, only the pages are not"
    assert "smoke" not in (project / building.PAGES).read_text()
    assert make() == []


def test_an_import_is_made_when_the_logs_or_the_question_change(project):
    edit(project / "logs" / "a.jsonl", "{}\n")
    x, y = ({"profile": "imported", "rollouts": ["logs"], "options": f"--model {name}"} for name in "xy")
    asked = make(**x)
    assert asked[0] == "import logs --model x" and sorted(asked[1:]) == sorted([*CHAPTERS, "record tiny", "pages"])
    assert make(**x) == []
    assert make(profile="imported") == []
    assert make(**y)[0] == "import logs --model y"
    edit(project / "logs" / "a.jsonl")
    assert make(**y)[0] == "import logs --model y"


def test_the_names_that_harnesses_give_to_logs_are_paths(project):
    names = ["details_lighteval|gsm8k|0_2025-01-28T10:00:00.000000.parquet", "my logs.jsonl", "a.jsonl"]
    for name in names:
        edit(project / name, "{}\n")
    assert building.paths_of(names) == names
    assert building.paths_of([f"a.jsonl '{names[1]}'"]) == ["a.jsonl", "my logs.jsonl"]
    assert make(profile="imported", rollouts=names)[0] == f"import {' '.join(names)}"
    assert make(profile="imported", rollouts=names) == []


def test_a_replica_is_made_anew_when_the_library_changes(project):
    asked = make(profile="replica-7b")
    assert asked[0] == "replicate replica-7b" and sorted(asked[1:]) == sorted([*CHAPTERS, "record tiny", "pages"])
    assert make(profile="replica-7b") == []
    edit(project / "clear_lib" / "market.py")
    assert "replicate replica-7b" in make(profile="replica-7b")
    shutil.rmtree(project / "artifacts" / "replica-7b")
    assert make(profile="replica-7b")[0] == "replicate replica-7b"


def test_a_recorded_profile_is_unpacked_not_recorded_and_the_laboratory_is(project):
    add(project, *RECORDED)
    asked = make(profile="qwen-1.5b")
    assert sorted(asked) == sorted([*CHAPTERS, "unpack qwen-1.5b", "record tiny", "pages"])
    assert asked[0] == "unpack qwen-1.5b" and asked.index("record tiny") < asked.index(CHAPTERS[4])
    assert make(profile="qwen-1.5b") == []
    edit(project / RECORDED[1])
    assert sorted(make(profile="qwen-1.5b")) == sorted(["unpack qwen-1.5b", *CHAPTERS, "pages"])


def test_the_results_of_other_recorded_models_are_made_before_the_verdicts(project):
    verdict, other = "notebooks/16_verdict.ipynb", "qwen-0.5b"
    add(project, *RECORDED, *(name.replace("qwen-1.5b", other) for name in RECORDED[1:]), verdict)
    asked = make(profile="qwen-1.5b")
    again = [CHAPTERS[1], CHAPTERS[3], CHAPTERS[4], CHAPTERS[5]]  # forecasts, and what is judged
    unpacked = [f"unpack {name}" for name in ("qwen-1.5b", other)]
    assert sorted(asked) == sorted([*CHAPTERS, *again, verdict, *unpacked, "record tiny", "pages"])
    assert asked[-2:] == [verdict, "pages"] and Path("artifacts", other, "chapters", "08_eight.ipynb").is_file()
    assert make(profile="qwen-1.5b") == []
    assert "unpack qwen-1.5b" not in make(), "the laboratory model's book has nobody beside it"


def test_what_cannot_be_made_is_named(project):
    with pytest.raises(ValueError, match="there is no profile `huge`; clear_lib/study/setup/profiles/ has: smoke tiny"):
        make(profile="huge")
    with pytest.raises(ValueError, match="nothing is imported yet: make book PROFILE=imported ROLLOUTS="):
        make(profile="imported")
    os.chdir(project / "book")
    with pytest.raises(ValueError, match="go into the folder of the project"):
        make()


def test_a_failing_chapter_stops_the_build_and_leaves_the_earlier_results(project):
    make()
    page, chapter = project / building.PAGES, project / "artifacts/tiny/chapters/06_six.ipynb"
    before = page.read_text(), chapter.read_text()
    edit(project / "notebooks/06_six.ipynb", "broken\n")
    with pytest.raises(ValueError, match="failed"):
        make()
    assert (page.read_text(), chapter.read_text()) == before
    edit(project / "notebooks/06_six.ipynb", "mended\n")
    assert sorted(make()) == sorted([*CHAPTERS[3:6], "pages"])


def test_a_command_that_fails_says_which(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="this failed, see above: python -c 'exit.3.'"):
        building.python_of(1)("-c", "exit(3)")


@pytest.mark.parametrize(
    "table, calls",
    [
        ("READ_FORECASTS", ["read_pool("]),
        ("READ_RESULTS", ["verdicts.load(", "verdicts.gather("]),
        ("LEAVE_RESULTS", ["verdicts.save("]),
        ("READ_PROGRAMS", ["shipped_pools(", "shipping.graded("]),
    ],
)
def test_the_table_of_chapters_is_what_their_code_does(table, calls):
    found = set()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        if any(call in source for call in calls for source in cells):
            found.add(path.name[:2])
    assert found == set(getattr(building, table))


def test_every_recorded_model_has_the_results_that_are_judged():
    judged = {rule.table for rule in rules.RULES if rule.setting == RECORDED_MODEL and rule.table} - {None}
    found, tables = set(), set()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for call in re.findall(r"verdicts\.save\((.*)\)", cell.source.replace("\n", " ")):
                if saved := judged & set(re.findall(r"(\w+)=", call)):
                    found.add(path.name[:2])
                    tables |= saved
    assert tables == judged and found == set(building.LEAVE_JUDGED)


def test_the_table_of_chapters_names_only_chapters_that_there_are():
    numbers = {path.name[:2] for path in (ROOT / "notebooks").glob("*.ipynb")}
    named = {name: set(getattr(building, name)) for name in vars(building) if name.startswith(("READ_", "LEAVE_"))}
    assert len(named) == 8 and all(chapters <= numbers for chapters in named.values())
