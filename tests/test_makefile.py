"""The Makefile makes what is out of date, all of it, and nothing else.

It is driven here with a stand-in for Python that writes down what it was asked to do and makes the files that
the real one would make.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

STAND_IN = """#!/bin/sh
case "$1 $2 $3" in
  "book/run.py "*)         echo "$2" >> log; grep -q broken "$2" && exit 1
                           mkdir -p "$(dirname "$3")" && { cat "$2"; echo "$5"; } > "$3" ;;
  "-m clear_lib.study record"*)  echo "record $5" >> log; mkdir -p "artifacts/$5/rollouts" ;;
  "-m clear_lib.study unpack"*)  echo "unpack $5" >> log
                           mkdir -p "artifacts/$5/rollouts" && echo made > "artifacts/$5/profile.yaml" ;;
  "-m clear_lib.study import"*)  echo "import $4 $5 $6" >> log
                           mkdir -p artifacts/imported/rollouts && echo made > artifacts/imported/profile.yaml ;;
  "-m clear_lib.study replicate"*) echo "replicate $4" >> log; mkdir -p "artifacts/$4/rollouts" && echo made > "artifacts/$4/profile.yaml" ;;
  "-m jupyter book"*)      echo pages >> log; mkdir -p _build/new/_build/html
                           cat book/chapters/* > _build/new/_build/html/index.html ;;
  *)                       echo "unexpected: $*" >&2; exit 1 ;;
esac
"""
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
def project(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    add(
        tmp_path,
        *CHAPTERS,
        "clear_lib/market.py",
        "clear_lib/study/setup/profiles/tiny.yaml",
        "clear_lib/study/setup/profiles/smoke.yaml",
        "book/run.py",
        "book/intro.md",
        "_config.yml",
        "_toc.yml",
    )
    (tmp_path / "python").write_text(STAND_IN)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(project, *arguments, status=0):
    """What `make` asked Python to do."""
    (project / "log").write_text("")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment["PROFILE"] = "tiny"  # an argument goes before it
    done = subprocess.run(
        ["make", "PY=./python", *arguments], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return (project / "log").read_text().splitlines()


def add(project, *names):
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(f"{name}\n")


def edit(path, text=None):
    """Change a file so that make sees it: newer than anything made before."""
    time.sleep(0.02)
    path.write_text(text or path.read_text() + "edited\n")


def test_a_first_run_makes_everything_in_order_and_a_second_nothing(project):
    asked = make(project, "book")
    assert sorted(asked) == sorted([*CHAPTERS, "record tiny", "pages"])
    assert asked[-1] == "pages"
    assert asked.index("record tiny") < asked.index(CHAPTERS[1]) and asked.index("record tiny") < asked.index(
        CHAPTERS[6]
    )
    assert (
        asked.index("record tiny") < asked.index(CHAPTERS[3]) < min(asked.index(CHAPTERS[4]), asked.index(CHAPTERS[5]))
    )
    assert (project / "_build/html/index.html").read_text().count("tiny") == len(CHAPTERS)
    assert make(project, "book") == []


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
    make(project, "book")
    edit(project / edited)
    assert sorted(make(project, "book")) == sorted(asked)
    assert make(project, "book") == []


def test_a_new_chapter_is_picked_up(project):
    make(project, "book")
    edit(project / "notebooks" / "04_four.ipynb", "four\n")
    assert make(project, "book") == ["notebooks/04_four.ipynb", "pages"]


def test_another_profile_never_shows_stale_chapters(project):
    make(project, "book")
    assert "record smoke" in make(project, "book", "PROFILE=smoke")
    assert "tiny" not in (project / "_build/html/index.html").read_text()
    assert make(project, "book") == ["pages"], "the chapters of tiny are still there, only the pages are not"
    assert "smoke" not in (project / "_build/html/index.html").read_text()
    assert make(project, "book") == []


def test_an_import_is_made_when_the_logs_or_the_question_change(project):
    (project / "logs").mkdir()
    edit(project / "logs" / "a.jsonl", "{}\n")
    asked = make(project, "book", "PROFILE=imported", "ROLLOUTS=logs", "IMPORT=--model x")
    assert asked[0] == "import logs --model x" and sorted(asked[1:]) == sorted([*CHAPTERS, "record tiny", "pages"])
    assert make(project, "book", "PROFILE=imported", "ROLLOUTS=logs", "IMPORT=--model x") == []
    assert make(project, "book", "PROFILE=imported") == []
    assert make(project, "book", "PROFILE=imported", "ROLLOUTS=logs", "IMPORT=--model y")[0] == "import logs --model y"
    edit(project / "logs" / "a.jsonl")
    assert make(project, "book", "PROFILE=imported", "ROLLOUTS=logs", "IMPORT=--model y")[0] == "import logs --model y"


def test_a_replica_is_made_anew_when_the_library_changes(project):
    asked = make(project, "book", "PROFILE=replica-7b")
    assert asked[0] == "replicate replica-7b" and sorted(asked[1:]) == sorted([*CHAPTERS, "record tiny", "pages"])
    assert make(project, "book", "PROFILE=replica-7b") == []
    edit(project / "clear_lib" / "market.py")
    assert make(project, "book", "PROFILE=replica-7b")[0] == "replicate replica-7b"
    make(project, "clean")
    assert make(project, "book", "PROFILE=replica-7b")[0] == "replicate replica-7b"


def test_nothing_imported_is_named(project):
    done = subprocess.run(
        ["make", "PY=./python", "book", "PROFILE=imported"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 2 and "nothing is imported yet: make book PROFILE=imported ROLLOUTS=" in done.stderr


def test_a_failing_chapter_stops_the_build_and_leaves_the_earlier_results(project):
    make(project, "book")
    page, chapter = project / "_build/html/index.html", project / "artifacts/tiny/chapters/06_six.ipynb"
    before = page.read_text(), chapter.read_text()
    edit(project / "notebooks/06_six.ipynb", "broken\n")
    assert make(project, "book", status=2) == [CHAPTERS[3]]
    assert (page.read_text(), chapter.read_text()) == before
    edit(project / "notebooks/06_six.ipynb", "mended\n")
    assert sorted(make(project, "book")) == sorted([*CHAPTERS[3:6], "pages"])


def test_clean_keeps_the_recorded_rollouts(project):
    make(project, "book")
    make(project, "clean")
    assert not (project / "_build").exists()
    assert sorted(make(project, "book")) == sorted([*CHAPTERS, "pages"])


def test_an_unknown_profile_is_named(project):
    done = subprocess.run(["make", "PY=./python", "book", "PROFILE=huge"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no profile `huge`; clear_lib/study/setup/profiles/ has: smoke tiny" in done.stderr


def test_help_is_the_default_and_names_every_target():
    done = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True)
    for target in ("book", "test", "lab", "reasoner", "clean", "help"):
        assert f"make {target} " in done.stdout


def test_the_book_is_of_a_recorded_profile_unless_another_is_named(project):
    add(project, *RECORDED)
    environment = {name: value for name, value in os.environ.items() if name != "PROFILE"}
    said = subprocess.run(
        ["make", "--dry-run", "PY=./python", "book"], cwd=project, env=environment, capture_output=True, text=True
    )
    assert "unpack --profile qwen-1.5b" in said.stdout and "--profile tiny\n" not in said.stdout.replace(
        "record --profile tiny\n", ""
    )


def test_a_recorded_profile_is_unpacked_not_recorded_and_the_laboratory_is(project):
    add(project, *RECORDED)
    asked = make(project, "book", "PROFILE=qwen-1.5b")
    assert sorted(asked) == sorted([*CHAPTERS, "unpack qwen-1.5b", "record tiny", "pages"])
    assert asked[0] == "unpack qwen-1.5b" and asked.index("record tiny") < asked.index(CHAPTERS[4])
    assert make(project, "book", "PROFILE=qwen-1.5b") == []
    edit(project / RECORDED[1])
    assert make(project, "book", "PROFILE=qwen-1.5b") == ["unpack qwen-1.5b", *CHAPTERS, "pages"]
