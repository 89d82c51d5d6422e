"""What the book is made of. Chapters take its modules from here: ``from clear_lib.study import figures, tables``."""

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from clear_lib.hub import require

require("study", "pandas", "pyarrow", "yaml", "pydantic", "matplotlib", "filelock")

#: Folders whose modules are found by their name alone; `code` has names of `recordings`.
_ROOMS = ("pages", "evidence", "experiments", "recordings", "setup")


def __getattr__(name: str) -> Any:
    """A module of the study by its name alone, loaded when it is asked for."""
    for room in () if name.startswith("_") else _ROOMS:
        if find_spec(f"{__name__}.{room}.{name}"):
            return import_module(f"{__name__}.{room}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def say(**values: Any) -> None:
    """Name values for the prose: after ``say(mean_gain=3.2)`` a chapter may write ``{glue:text}`mean-gain```.

    Each value of a mapping, or of a column of a table, gets a name: ``say(gain={"low": 1.5})`` gives ``gain-low``.
    """
    try:
        from myst_nb import glue
    except ImportError:  # a notebook on its own: no page reads them
        return
    for name, value in values.items():
        if hasattr(value, "items"):
            say(**{f"{name}-{key}": each for key, each in value.items()})
        else:
            plain = value.item() if hasattr(value, "item") else value  # prose formats numbers, not what NumPy prints
            glue(re.sub("[_ ]", "-", name), plain, display=False)
