"""The wheel without extras: NumPy and SciPy, and a budget can be divided; what needs more says which extra."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow

#: Without the path by which the tests find the library: it must come from the wheel.
BARE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a fresh environment that has the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves files beside what it builds
    shutil.copytree(ROOT / "clear_lib", source / "clear_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, source], check=True, env=BARE)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    constraints = ["-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, "--python", python, "install", *constraints, wheel], check=True, env=BARE)
    return python


def run(python, folder, *arguments, given=None):
    return subprocess.run([python, *arguments], cwd=folder, input=given, capture_output=True, text=True, env=BARE)


def test_it_brings_numpy_and_scipy_only(python, tmp_path):
    listed = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    assert run(python, tmp_path, "-c", listed).stdout.split() == ["clear-lib", "numpy", "scipy"]


def test_the_readmes_first_example_runs(python, tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[1]
    done = run(python, tmp_path, "-c", code + "\nprint(allocation.tokens.sum())")
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) <= 800


def test_policies_solver_and_serving_run(python, tmp_path):
    code = (
        "import numpy as np, clear_lib as c; from clear_lib.serving import ReplayStepper, serve\n"
        "from clear_lib.allocation.utility import Surge\n"
        "known = c.Forecasts([90, 140, 400], spread=[0.3] * 3, solvable=[0.9] * 3, estimate=[90, 140, 400])\n"
        "problem = c.Problem(known, 500, truth=c.Truth([80, 150, 390], [True] * 3))\n"
        "for name, policy in c.POLICIES.items():\n"
        "    kind = {'cap': 'caps', 'sequential': 'refunds'}[policy.kind]\n"
        "    served = serve(problem, ReplayStepper([80, 150, 390]), name, accounting=kind)\n"
        "    assert served.used.sum() <= 500, name\n"
        "print(c.solve(np.array([90.0, 140.0]), 300, Surge(1.0, 0.01)).gap)"
    )
    done = run(python, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


def test_the_command_allocates(python, tmp_path):
    lines = '{"threshold": 90}\n{"threshold": 900}\n'
    done = run(python, tmp_path, "-m", "clear_lib", "allocate", "--budget", "400", given=lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"tokens"') == 2 and "abandonment line" in done.stdout


@pytest.mark.parametrize(
    "code, extra",
    [
        ("from clear_lib import engines; engines.start('transformers', 'a/b')", "engines"),
        ("from clear_lib import engines; engines.start('openai', 'a/b', base_url='http://x')", "openai"),
        ("from clear_lib import predictor; predictor.build('ridge')", "predictor"),
        ("from clear_lib.rollouts import logs", "rollouts"),
        ("from clear_lib import study", "study"),
    ],
)
def test_what_needs_more_names_the_extra(python, tmp_path, code, extra):
    done = run(python, tmp_path, "-c", code)
    assert done.returncode != 0 and f"pip install 'clear-lib[{extra}]'" in done.stderr, done.stderr
