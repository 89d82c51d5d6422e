"""The Makefile installs, and hands the book on to Python, which knows what it is made of (`test_building.py`)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUDY = "python -m clear_lib.study"


def make(*arguments, cwd=ROOT, dry=True, **environment):
    """What `make` would run, or what it prints."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PROFILE"))}
    command = ["make", *(["--dry-run", "PY=python"] if dry else []), *arguments]
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [" ".join(line.split()) for line in done.stdout.splitlines() if not line.startswith("make")]


@pytest.mark.parametrize(
    "asked, run",
    [
        (["book"], "book --profile qwen-1.5b"),
        (["book", "PROFILE=smoke"], "book --profile smoke"),
        (["rollouts", "PROFILE=tiny"], "book rollouts --profile tiny"),
        (["artifacts/qwen-1.5b/chapters/08_table_1.ipynb"], "book 08_table_1 --profile qwen-1.5b"),
        (
            ["book", "PROFILE=imported", "ROLLOUTS=a b", "IMPORT=--model x"],
            'book --profile imported --rollouts "$ROLLOUTS" --options="$IMPORT"',
        ),
        (["plan", "PROFILE=paper-7b", "CARD=H100"], 'plan --profile paper-7b --card "H100"'),
        (["lab", "PROFILE=tiny"], "lab --profile tiny"),
    ],
)
def test_a_target_asks_python(asked, run):
    assert make(*asked) == [f"{STUDY} {run}"]


def test_no_shell_reads_the_names_of_logs(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "py").write_text('#!/bin/sh\nprintf "%s;" "$@"\n')
    (tmp_path / "py").chmod(0o755)
    logs, options = "details_a|b|0_10:00 1.parquet 'it is' mine", "--columns question=a|b --model 'my model'"
    said = make("book", "PY=./py", "PROFILE=imported", f"ROLLOUTS={logs}", f"IMPORT={options}", cwd=tmp_path, dry=False)
    assert said == [f"-m;clear_lib.study;book;--profile;imported;--rollouts;{logs};--options={options};"]


def test_the_profile_may_come_from_the_environment():
    assert make("book", PROFILE="tiny") == [f"{STUDY} book --profile tiny"]


def test_the_environment_is_made_first_and_only_when_it_is_out_of_date(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    said = "\n".join(make("book", "PY=.venv/bin/python", cwd=tmp_path))
    assert "-m venv .venv" in said and "-c constraints.txt -e '.[book,test]'" in said
    assert said.index("touch .venv/installed") < said.index("clear_lib.study book")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed").touch()
    assert make("book", "PY=.venv/bin/python", cwd=tmp_path) == [f".venv/bin/{STUDY} book --profile qwen-1.5b"]


def test_clean_keeps_the_recorded_rollouts(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = ["artifacts/tiny/rollouts/a", "artifacts/imported/predictor/a", ".venv/a"]
    gone = ["_build/a", "book/chapters/a", "artifacts/tiny/chapters/a", "artifacts/tiny/results/a"]
    gone += ["artifacts/tiny/predictor/a", "artifacts/replica-7b/rollouts/a"]
    for name in [*kept, *gone]:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    make("clean", cwd=tmp_path, dry=False)
    assert [name for name in [*kept, *gone] if (tmp_path / name).exists()] == kept


def test_help_is_the_default_and_names_every_target():
    said = "\n".join(make(dry=False))
    for target in ("book", "test", "lab", "reasoner", "clean", "help"):
        assert f"make {target} " in said
