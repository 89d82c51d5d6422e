"""The runs of a recording: when, on which machine, and how many tokens each kept."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import which
from time import monotonic
from typing import Any

from clear_lib.study.recordings import recording
from clear_lib.study.setup.profiles import Profile


@contextmanager
def logged(profile: Profile, artifacts: str | Path, kinds: Collection[str]) -> Iterator[None]:
    """Log a recording of some kinds in ``runs.jsonl`` if it kept any tokens, however it ends."""
    began, start, before = datetime.now(UTC), monotonic(), _tokens(profile, artifacts, kinds)
    try:
        yield
    finally:
        if tokens := _tokens(profile, artifacts, kinds) - before:
            run = {"began": began.isoformat(timespec="seconds"), "seconds": round(monotonic() - start)}
            with _log(profile, artifacts).open("a", encoding="utf-8") as file:
                file.write(json.dumps(run | {"tokens": tokens, "machine": machine()}) + "\n")


def read_log(profile: Profile, artifacts: str | Path) -> list[dict[str, Any]]:
    """The logged runs of a profile."""
    log = _log(profile, artifacts)
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []


def _log(profile: Profile, artifacts: str | Path) -> Path:
    return profile.artifacts(artifacts) / "runs.jsonl"


def _tokens(profile: Profile, artifacts: str | Path, kinds: Collection[str]) -> int:
    stores = (recording.store(profile, kind, artifacts) for kind in kinds)
    return sum(int(store.read(["length"])["length"].sum()) for store in stores)


def machine() -> dict[str, Any]:
    """System, processor, cores and, if there are any, the GPUs."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    about = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", about.read_text() if about.is_file() else "", re.MULTILINE)
    processor = named[1].strip() if named else platform.processor() or "unknown"
    found = {"system": f"{platform.system()} {platform.machine()}", "processor": processor, "cores": cores}
    if gpus := output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"):
        found["gpus"] = gpus.splitlines()
    return found


def output_of(*command: str) -> str:
    """What a program prints; empty if it is not installed or fails."""
    if which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
