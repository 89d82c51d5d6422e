"""The command line, ``python -m clear_lib``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache

from clear_lib import engines, profiles, recording


def record(arguments: argparse.Namespace) -> None:
    """Record what a profile asks for, kind by kind."""
    profile = profiles.load(arguments.profile)
    engine = cache(lambda: engines.start(profile))  # one for all kinds, and none if all is there
    for number, (kind, purpose) in enumerate(recording.KINDS.items(), 1):
        wanted = len(recording.requests(profile, kind))
        print(f"[{number}/{len(recording.KINDS)}] {kind}: {wanted} rollouts; {purpose}", flush=True)
        made = recording.record(profile, kind, arguments.artifacts, engine)
        print(f"      {made} recorded now, {wanted - made} were there", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 1 with a message if its input was wrong."""
    parser = argparse.ArgumentParser(prog="python -m clear_lib", description="Token budgets for batches of LLM queries.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("record", help="record the rollouts of a profile; goes on where it was stopped")
    command.add_argument("--profile", default="tiny", help="name of a profile (default: tiny)")
    command.add_argument("--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)")
    command.set_defaults(run=record)
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
