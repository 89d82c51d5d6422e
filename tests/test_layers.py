"""The library is layered: imports only point down, and the heavy packages load only when they are needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Top to bottom. A module may import from lower lines only (and a package from itself).
LAYERS = [
    {"__main__"},
    {"cli"},
    {"budgeter"},
    {"figures", "tables"},
    {"verdicts"},
    {"claims", "audit"},
    {"replica"},
    {"comparison", "sensitivity", "every_tier"},
    {"shipping"},
    {"experiments", "phases", "importing"},
    {"predictor"},
    {"plan", "provenance"},
    {"recording", "logs"},
    {"controller", "reasons"},
    {"serving"},
    {"engines"},
    {"hub"},
    {"reasoner"},
    {"recordings"},
    {"profiles"},
    {"streams"},
    {"benchmarks"},
    {"questions", "grading"},
    {"rollouts"},
    {"policies", "rivals"},
    {"market", "stages"},
    {"utility"},
    {"forecasts"},
    {"paper"},
]
HEIGHT = {name: -line for line, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "transformers", "datasets", "vllm", "ray", "math_verify", "sklearn", "safetensors", "tokenizers"}
PURE = {"numpy", "scipy", "pandas", "pyarrow", "yaml", "clear_lib"}  # what the lower half may import

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "clear_lib").rglob("*.py"))
}


def imports(module, *, everywhere):
    """Absolute names that a module imports, at its top level or everywhere in it (type checking aside)."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    nodes = list(tree.body)
    names = set()
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
    """The line of LAYERS that a module stands on: the first name below `clear_lib`."""
    return module.split(".")[1] if "." in module else "clear_lib"


def heavy_at_once(module):
    return {name.split(".")[0] for name in imports(module, everywhere=False)} & HEAVY


def test_every_module_has_a_layer():
    assert {room(module) for module in MODULES} - {"clear_lib"} <= set(HEIGHT)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "clear_lib"])
def test_imports_point_down(module):
    ours = {name for name in imports(module, everywhere=True) if name.split(".")[0] == "clear_lib"}
    upward = {
        name
        for name in ours
        if room(name) not in ("clear_lib", room(module)) and HEIGHT[room(name)] >= HEIGHT[room(module)]
    }
    assert not upward, f"{module} imports {sorted(upward)}, which stand on its own layer or above it"


def test_the_package_itself_needs_only_the_lower_half():
    ours = {room(name) for name in imports("clear_lib", everywhere=False) if name.startswith("clear_lib.")}
    assert ours and all(HEIGHT[name] <= HEIGHT["streams"] for name in ours)


@pytest.mark.parametrize("module", [m for m in MODULES if HEIGHT.get(room(m), 0) <= HEIGHT["profiles"]])
def test_the_lower_half_is_pure(module):
    outside = {name.split(".")[0] for name in imports(module, everywhere=False)} - sys.stdlib_module_names - {""}
    assert outside <= PURE, f"{module} imports {sorted(outside - PURE)} as it loads"


def test_only_inner_modules_load_heavy_packages_at_once():
    """A module that is all about torch may import it at its top, if it is inside a package that does not."""
    outer = [m for m in MODULES if m.count(".") < 2 or MODULES[m].name == "__init__.py"]
    assert {m: heavy_at_once(m) for m in outer if heavy_at_once(m)} == {}


def test_importing_the_library_is_light():
    code = "import sys; import clear_lib; print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    run = subprocess.run([sys.executable, "-c", code, *HEAVY], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_modules_load_without_the_heavy_packages():
    light = [m for m in MODULES if not heavy_at_once(m) and not m.endswith("__main__")]
    code = (
        "import importlib, sys; heavy, modules = (text.split() for text in sys.argv[1:]); "
        "[importlib.import_module(name) for name in modules]; print(sorted(set(sys.modules) & set(heavy)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, " ".join(HEAVY), " ".join(light)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
