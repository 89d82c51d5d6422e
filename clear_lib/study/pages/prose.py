"""Numbers in a chapter's prose come from its run."""

from __future__ import annotations

from typing import Any


def say(**values: Any) -> None:
    """Name values for the prose: after ``say(mean_gain=3.2)`` a chapter may write ``{glue:text}`mean-gain```."""
    from myst_nb import glue

    for name, value in values.items():
        glue(name.replace("_", "-"), value, display=False)
