"""Numbers in a chapter's prose come from its run."""

from __future__ import annotations

from typing import Any


def say(**values: Any) -> None:
    """Name values for the prose: after ``say(mean_gain=3.2)`` a chapter may write ``{glue:text}`mean-gain```."""
    try:
        from myst_nb import glue
    except ImportError:  # a notebook on its own: no page reads them
        return

    for name, value in values.items():
        glue(name.replace("_", "-"), value, display=False)
