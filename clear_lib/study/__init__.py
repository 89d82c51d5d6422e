"""What the book is made of. Chapters take its modules from here: ``from clear_lib.study import figures, tables``."""

from importlib import import_module
from typing import Any

from clear_lib.hub import require

require("study", "pandas", "pyarrow", "yaml", "pydantic", "matplotlib", "filelock")

_ROOMS = {
    "pages": ("captions", "figures", "provenance", "tables"),
    "evidence": ("audit", "claims", "comparison", "replica", "rules", "scaling", "simulation", "verdicts"),
    "experiments": ("every_tier", "forecasting", "phases", "replay", "sensitivity", "solvers", "speed"),
    "recordings": ("importing", "packing", "plan", "recording", "verifying"),
    "setup": ("benchmarks", "models", "paper", "profiles", "questions", "streams"),
}


def __getattr__(name: str) -> Any:
    """A module of the study by its name alone, loaded when it is asked for."""
    if name == "say":
        return import_module("clear_lib.study.pages.prose").say
    for room, names in _ROOMS.items():
        if name in names:
            return import_module(f"{__name__}.{room}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
