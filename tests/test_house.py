"""The house: a core and a study with a wall between them, imports that point down, and rooms of a readable size."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Rooms of the two wings, top to bottom. A module imports from its own room and from lower lines of its wing; only
#: the study imports from the other wing.
CORE = [
    ["__main__"],
    ["cli"],
    ["budgeter"],
    ["answers"],
    ["serving"],
    ["engines"],
    ["predictor"],
    ["rollouts"],
    ["hub", "jsonlines", "reasoner", "allocation"],
]
STUDY = [
    ["__main__"],
    ["cli"],
    ["pages", "exercises"],
    ["evidence"],
    ["experiments"],
    ["code"],
    ["recordings"],
    ["setup"],
]
HEIGHT = {name: -line for line, names in enumerate(CORE) for name in names} | {
    f"study.{name}": -line for line, names in enumerate(STUDY) for name in names
}

#: Packages that only what needs them loads, and all that ``import clear_lib`` may load.
HEAVY = {"torch", "transformers", "datasets", "vllm", "ray", "math_verify", "sklearn", "safetensors", "tokenizers"}
LIGHT = {"numpy", "scipy", "clear_lib"}

LONGEST_MODULE, LONGEST_BODY = 400, 40

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "clear_lib").rglob("*.py"))
}


def imports(module, *, everywhere):
    """Absolute names that a module imports, at its top level or everywhere in it (type checking aside)."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    nodes, names = list(ast.parse(path.read_text()).body), set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join(parent + ([node.module] if node.module else []))
            names |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))
    return names


def room(module):
    """The room of a module, with its wing if that is the study: ``study.pages``."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[:1] == ["study"] else 1])


FURNISHED = [module for module in MODULES if room(module) not in ("", "study")]


def test_every_module_is_in_a_room():
    assert {room(module) for module in FURNISHED} == set(HEIGHT)


@pytest.mark.parametrize("module", FURNISHED)
def test_imports_point_down_and_none_go_through_the_wall(module):
    ours = {name for name in imports(module, everywhere=True) if name.split(".")[0] == "clear_lib"}
    others = {name for name in ours if room(name) not in ("", "study", room(module))}
    in_study = room(module).startswith("study.")
    if not in_study:
        assert not {name for name in ours if room(name).startswith("study")}, "the core imports the study"
    upward = {
        name
        for name in others
        if room(name).startswith("study.") == in_study and HEIGHT[room(name)] >= HEIGHT[room(module)]
    }
    assert not upward, f"{module} imports {sorted(upward)}, which stand on its own line or above it"


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_are_short(module):
    text = MODULES[module].read_text()
    assert text.count("\n") <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and "parser" not in node.name:
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = node.end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= LONGEST_BODY, f"{node.name} has {lines} lines"


def heavy_at_once(module):
    return {name.split(".")[0] for name in imports(module, everywhere=False)} & HEAVY


def test_only_inner_modules_load_heavy_packages_at_once():
    """A module that is all about torch may import it at its top, if it is inside a package that does not."""
    outer = [m for m in MODULES if m.count(".") < 2 or MODULES[m].name == "__init__.py"]
    assert {m: heavy_at_once(m) for m in outer if heavy_at_once(m)} == {}


def loaded(code, *arguments):
    """Packages that a fresh interpreter has loaded after some code."""
    code += "; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", "import sys; " + code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["clear_lib", "clear_lib.allocation.policies", "clear_lib.serving.batch"])
def test_dividing_a_budget_loads_numpy_and_scipy_only(module):
    bare = loaded("import numpy, scipy.special, scipy.optimize")
    added = loaded(f"import {module}") - bare - sys.stdlib_module_names
    assert added <= LIGHT, added - LIGHT


def test_modules_load_without_the_heavy_packages():
    light = [m for m in MODULES if not heavy_at_once(m) and not m.endswith("__main__")]
    code = "import importlib; [importlib.import_module(name) for name in sys.argv[1].split()]"
    assert not loaded(code, " ".join(light)) & HEAVY
