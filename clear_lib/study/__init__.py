"""What the book is made of. Chapters take its modules from here: ``from clear_lib.study import figures, tables``."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from clear_lib.hub import require

require("study", "pandas", "pyarrow", "yaml", "pydantic", "matplotlib", "filelock")

_ROOMS = ("pages", "evidence", "experiments", "recordings", "setup")


def __getattr__(name: str) -> Any:
    """A module of the study by its name alone, loaded when it is asked for."""
    if name == "say":
        return import_module("clear_lib.study.pages.prose").say
    for room in () if name.startswith("_") else _ROOMS:
        if find_spec(f"{__name__}.{room}.{name}"):
            return import_module(f"{__name__}.{room}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
