"""What the commands read and write: JSON lines, settings, and logs of rollouts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.policies import Policy
from clear_lib.jsonlines import check_whole, json_lines

if TYPE_CHECKING:
    import pandas as pd

#: Fields of a line that say what its question costs.
FORECASTS = ("threshold", "spread", "solvable", "estimate")

#: One JSON object of the input, after the number of its line.
Line = tuple[int, dict[str, Any]]


def read_lines(source: str) -> list[Line]:
    """JSON lines of a file, or of the standard input (``-``); ``ValueError`` names the first line that is none."""
    name = "standard input" if source == "-" else source
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror}") from None
    lines = list(json_lines(data.split(b"\n")))
    for number, found in lines:
        if isinstance(found, ValueError):
            raise ValueError(f"{name}, line {number}: {found}")
    return lines


def column(lines: Sequence[Line], name: str, high: float | None = None) -> list[float] | None:
    """The numbers of a field, or None if no line has it; ``ValueError`` names a line where it is missing or wrong."""
    if not any(name in line for _, line in lines):
        return None
    for number, line in lines:
        value = line.get(name)
        if type(value) not in (int, float) or not 0 <= value <= (high or 1e300):
            what = "missing, and other lines have it" if name not in line else f"{json.dumps(value):.60}"
            least = f"a number from 0 to {high:g}" if high else "a number of at least 0"
            raise ValueError(f"line {number}: {name!r} must be {least}, and is {what}")
    return [float(line[name]) for _, line in lines]


def questions_of(lines: Sequence[Line]) -> list[str]:
    """The questions; ``ValueError`` names a line without one."""
    for number, line in lines:
        if not isinstance(line.get("question"), str) or not line["question"].strip():
            raise ValueError(f"line {number}: 'question' must be a text, and is {json.dumps(line.get('question')):.60}")
        check_whole(line["question"], f"line {number}: 'question'")
    return [line["question"] for _, line in lines]


def forecasts_of(lines: Sequence[Line], policy: Policy) -> Forecasts:
    """What the lines say that their questions cost; ``ValueError`` if they do not, and the policy needs it."""
    threshold = column(lines, "threshold")
    if threshold is None and set(policy.needs) - {"estimate"}:
        raise ValueError(
            f"policy {policy.name!r} needs to know what the questions cost: give the lines a 'threshold', or name the "
            f"folder of a --forecaster"
        )
    return Forecasts(
        threshold or [0.0] * len(lines),
        spread=column(lines, "spread"),
        solvable=column(lines, "solvable", 1.0),
        estimate=column(lines, "estimate"),
    )


def settings_of(pairs: Sequence[str]) -> dict[str, Any]:
    """``name=value`` arguments with values as JSON has them (numbers, true, null), and as text otherwise."""
    settings: dict[str, Any] = split_pairs(pairs)
    for name, text in settings.items():
        with suppress(ValueError):
            settings[name] = json.loads(text)
    return settings


def split_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """``name=value`` arguments as a mapping; ``ValueError`` names one that is none."""
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"{pair!r} must be name=value")
    return dict(pair.split("=", 1) for pair in pairs)


def read_rollouts(
    paths: Sequence[str], model: str | None, arguments: argparse.Namespace
) -> tuple[pd.DataFrame, list[str]]:
    """Rollouts of logs, by the options of :func:`rollout_options`, and a report on each file, which is printed."""
    import pandas as pd

    from clear_lib.rollouts import logs

    tables, reports = [], []
    for path in _files(paths):
        columns = split_pairs(arguments.columns)
        table, report = logs.read(path, arguments.layout, columns, arguments.filter, arguments.malformed)
        tables.append(logs.complete(table, report, model=model, tokenizer=arguments.tokenizer, cap=arguments.cap))
        reports.append(str(report))
        print(report, flush=True)
    return pd.concat(tables, ignore_index=True), reports


def _files(paths: Sequence[str]) -> list[Path]:
    """Files as they are, and of a folder the logs in it: samples of a harness, details, or all JSON lines."""
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        kinds = [sorted(path.rglob(pattern)) for pattern in ("samples_*.jsonl", "details_*.parquet", "*.jsonl")]
        if not any(kinds):
            raise ValueError(f"{path}: no .jsonl file and no details_*.parquet in this folder")
        files += next(filter(None, kinds))
    return files
