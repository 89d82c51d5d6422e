"""pyproject.toml, constraints.txt and environment.yml speak of the same packages and versions."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
NAMED = "jupyter-book papermill jupyterlab vllm transformers torch datasets scipy seaborn math-verify numpy".split()


def requirements(lines):
    """Name to requirement; every line must name one package."""
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def pin(requirement):
    """The one version that a requirement allows, or None."""
    found = re.fullmatch(r"==([\w.]+)", str(requirement.specifier))
    return found and found[1]


PINNED = requirements(
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
)
IN_CONDA = requirements(line for line in CONDA[-1]["pip"] if not line.startswith("-e"))
EXTRAS = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}


def brought(extra):
    """What an extra installs, other extras of this project that it names included."""
    own = dict(EXTRAS[extra])
    for other in getattr(own.pop(PROJECT["name"], None), "extras", ()):
        own |= brought(other)
    return own


NEEDED = requirements(PROJECT["dependencies"]) | brought("book") | brought("test")


def test_constraints_pin_every_package_exactly_and_none_of_cuda():
    assert [name for name, requirement in PINNED.items() if pin(requirement) is None] == []
    assert [name for name in PINNED if name.startswith(("nvidia", "cuda", "triton"))] == []


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_what_the_project_needs_is_pinned_within_its_bounds(name):
    assert name in PINNED, f"{name} is in pyproject.toml and not in constraints.txt"
    assert NEEDED[name].specifier.contains(pin(PINNED[name])), f"{PINNED[name]} is outside of {NEEDED[name]}"


@pytest.mark.parametrize("name", sorted(IN_CONDA))
def test_conda_has_the_same_pins(name):
    if name == "vllm":
        assert IN_CONDA[name] == EXTRAS["vllm"]["vllm"]
    else:
        assert name in NEEDED, f"{name} is in environment.yml and not in pyproject.toml"
        assert IN_CONDA[name] == PINNED[name]


def test_conda_has_every_package_the_book_is_about():
    assert set(NAMED) <= set(IN_CONDA)
    assert "-e .[book,test]" in CONDA[-1]["pip"]


def test_one_python():
    conda = next(line for line in CONDA if isinstance(line, str) and line.startswith("python="))
    assert PROJECT["requires-python"] == f">={conda.removeprefix('python=')}"


def test_the_lock_has_the_same_pins_and_a_hash_for_each_file():
    """Made anew by the command in its head, after a pin has moved."""
    text = (ROOT / "requirements.lock").read_text()
    entries = dict(
        re.findall(r"^([\w.-]+)(==[^\\]*?(?: ;.*?)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    )
    locked = {canonicalize_name(name): re.match(r"==([\w.+!]+)", entry)[1] for name, entry in entries.items()}
    assert {name: pin(one) for name, one in PINNED.items()}.items() <= locked.items()
    assert len(entries) == len(re.findall(r"^[\w.-]+==", text, re.M)) and "://" not in text


def test_make_book_does_without_vllm():
    assert "vllm" not in NEEDED and "vllm" not in PINNED
