"""The command line, ``python -m clear_lib``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from clear_lib import engines, importing, logs, profiles, recording, replica


def record(arguments: argparse.Namespace) -> None:
    """Record what a profile asks for, kind by kind."""
    profile = profiles.load(arguments.profile)
    engine = cache(lambda: engines.start(profile))  # one for all kinds, and none if all is there
    for number, (kind, purpose) in enumerate(recording.KINDS.items(), 1):
        wanted = len(recording.requests(profile, kind))
        print(f"[{number}/{len(recording.KINDS)}] {kind}: {wanted} rollouts; {purpose}", flush=True)
        made = recording.record(profile, kind, arguments.artifacts, engine)
        print(f"      {made} recorded now, {wanted - made} were there", flush=True)


def import_(arguments: argparse.Namespace) -> None:
    """Read rollouts of other programs, say what was read and what was not, and make the profile of them."""
    given = {"columns": _pairs(arguments.columns), "keep_filter": arguments.filter, "malformed": arguments.malformed}
    completed = {"tokenizer": arguments.tokenizer, "cap": arguments.cap}
    said: list[str] = []

    def read(paths: Sequence[str], model: str | None) -> pd.DataFrame:
        tables = []
        for path in _files(paths):
            table, report = logs.read(path, arguments.layout, **given)
            tables.append(logs.complete(table, report, model=model, **completed))
            said.append(str(report))
            print(report, flush=True)
        return pd.concat(tables, ignore_index=True)

    rollouts = read(arguments.files, arguments.model)
    lessons = read(arguments.predictor, arguments.predictor_model or arguments.model) if arguments.predictor else None
    settings = {name: getattr(arguments, name) for name in ("stream_size", "parameters", "folds", "hold_out")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", importing.AnotherModel)
        made = importing.adopt(rollouts, arguments.artifacts, lessons=lessons, tiers=_pairs(arguments.tier), **settings)
    loud = [str(each.message) for each in caught if issubclass(each.category, importing.AnotherModel)]
    print(f"\n{made}\n{made.file} is ready: make book PROFILE={importing.NAME}")
    for message in loud:
        print(f"\nWARNING: {message}", file=sys.stderr)
    made.file.with_name("import.txt").write_text("\n".join([*said, "", str(made), *loud]) + "\n", encoding="utf-8")


def replicate(arguments: argparse.Namespace) -> None:
    """Simulate a study of the paper from its tables, as a profile of its own."""
    file = replica.adopt(arguments.name, arguments.artifacts)
    print(f"{profiles.load(file).model}: {file} is ready: make book PROFILE={arguments.name}")


def _pairs(given: Sequence[str]) -> Mapping[str, str]:
    """``name=value`` arguments as a mapping; ``ValueError`` names one that is none."""
    for pair in given:
        if "=" not in pair:
            raise ValueError(f"{pair!r} must be name=value")
    return dict(pair.split("=", 1) for pair in given)


def _files(paths: Sequence[str]) -> list[Path]:
    """Files as they are, and of a folder the logs in it: samples of a harness, details, or all JSON lines."""
    files: list[Path] = []
    for path in map(Path, paths):
        patterns = ("samples_*.jsonl", "details_*.parquet", "*.jsonl") if path.is_dir() else ()
        found = [path] if not path.is_dir() else next(filter(None, (sorted(path.rglob(one)) for one in patterns)), [])
        if not found:
            raise ValueError(f"{path}: no .jsonl file and no details_*.parquet in this folder")
        files += found
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 1 with a message if its input was wrong."""
    parser = argparse.ArgumentParser(prog="python -m clear_lib", description="Token budgets for batches of LLM queries.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("record", help="record the rollouts of a profile; goes on where it was stopped")
    command.add_argument("--profile", default="tiny", help="name of a profile (default: tiny)")
    command.add_argument("--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)")
    command.set_defaults(run=record)
    command = commands.add_parser("replicate", help="make a profile that simulates a study of the paper from its tables")
    command.add_argument("name", choices=replica.SOURCES)
    command.add_argument("--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)")
    command.set_defaults(run=replicate)
    command = commands.add_parser("import", help="make a profile of rollouts that other programs recorded")
    command.add_argument("files", nargs="+", metavar="FILE", help=".jsonl, LightEval's .parquet, or a folder of them")
    command.add_argument("--layout", choices=logs.LAYOUTS, help="how they are written (default: by their first line)")
    command.add_argument("--columns", nargs="+", default=[], metavar="NAME=PLACE",
                         help=f"where things stand, such as gold=doc.answer; names: {', '.join(logs.COLUMNS)}")  # fmt: skip
    command.add_argument("--filter", help="of lm-evaluation-harness: whose verdicts to take (default: the first)")
    command.add_argument("--model", help="who wrote them, where the files do not say")
    command.add_argument("--tokenizer", help="counts tokens where none are recorded: a model, a folder, or `embedded`")
    command.add_argument("--cap", type=int, help="most new tokens that the model was allowed, where the files do not say")
    command.add_argument("--malformed", type=float, default=logs.MALFORMED, metavar="SHARE",
                         help="of the lines that may be unreadable (default: %(default)s)")  # fmt: skip
    command.add_argument("--tier", nargs="+", default=[], metavar="SET=TIER", help="tiers of the question sets")
    command.add_argument("--predictor", nargs="+", metavar="FILE",
                         help="rollouts that the predictor learns from (default: cross-fitted)")  # fmt: skip
    command.add_argument("--predictor-model", metavar="MODEL", help="who wrote those (default: --model)")
    command.add_argument("--folds", type=int, default=5, help="parts of the cross-fit (default: %(default)s)")
    command.add_argument("--hold-out", type=float, default=0.0, metavar="SHARE",
                         help="of the questions to set aside for the predictor (default: none, it is cross-fitted)")  # fmt: skip
    command.add_argument("--stream-size", type=int, metavar="N", help="queries of a stream (default: what they allow)")
    command.add_argument("--parameters", type=int, help="weights of the model (default: by its name)")
    command.add_argument("--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)")
    command.set_defaults(run=import_)
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
