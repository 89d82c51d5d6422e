"""The command line, ``python -m clear_lib``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from clear_lib import predictor, reasoner
from clear_lib.allocation import policies
from clear_lib.allocation.forecasts import Forecasts
from clear_lib.budgeter import Budgeter, usable
from clear_lib.rollouts import logs
from clear_lib.rollouts import shipped as recordings
from clear_lib.serving import reasons
from clear_lib.study.evidence import replica
from clear_lib.study.recordings import importing, packing, plan, recording, runs, verifying
from clear_lib.study.setup import models, profiles, streams

#: One question with its number: of its line in the input, for messages.
Line = tuple[int, dict[str, Any]]

ALLOCATE = """\
Each line of the input is a JSON object with a "question" (then --forecaster says what it will cost), or with what
you know of it: "threshold", and for some policies "spread", "solvable" or "estimate". Each line of the output is the
same object with "tokens", "active", and the "reason" if it is abandoned.

  python -m clear_lib allocate questions.jsonl --budget 128000 --policy clear --out caps.jsonl
  echo '{"question": "1+1?", "threshold": 90}' | python -m clear_lib allocate --budget 400 --set epsilon=64

exit codes: 0 done; 1 wrong input, with a message that names the line; 2 wrong usage"""

RUN = """\
The input is that of `allocate`, with a "question" in each line. Each line of the output is the same object with
"tokens" (granted), "active", "reason", "completion", "n_tokens" (used), "finished" and "model". The budget counts
completion tokens; prompts are not charged.

  python -m clear_lib run questions.jsonl --budget 128000 --model Qwen/Qwen2.5-Math-7B-Instruct \\
      --engine-option dtype=bfloat16 --template prompt.txt --forecaster forecaster --out answers.jsonl

exit codes: 0 done; 1 wrong input, with a message that names the line; 2 wrong usage"""

FIT = """\
The rollouts are what `import` reads: logs of evaluation harnesses, or JSON lines such as `run` writes, with a "gold"
answer or a verdict "correct". The folder holds JSON and safetensors, and says whose rollouts they were.

  python -m clear_lib fit rollouts.jsonl --out forecaster"""


def record(arguments: argparse.Namespace) -> None:
    """Record what a profile asks for; what is shipped of it counts as recorded."""
    profile = profiles.load(arguments.profile)
    if shipped := recordings.kinds(profile.name):
        print(
            f"{packing.restore(profile, arguments.artifacts)} rollouts taken over from {recordings.FOLDER}", flush=True
        )
    kinds = [
        (kind, float(share or 1))
        for kind, _, share in (each.partition(":") for each in arguments.only or recording.kinds_of(profile))
    ]
    for kind, share in kinds:
        print(f"{kind}, {share:.0%} of {len(recording.requests(profile, kind))}: {recording.KINDS[kind]}", flush=True)
    with runs.logged(profile, arguments.artifacts):
        made = recording.record(profile, kinds, arguments.artifacts, lambda: models.start(profile, arguments.weights))
    print(f"{made} rollouts recorded now")
    if shipped or profile.weights:
        print(f"to ship them: python -m clear_lib pack --profile {profile.name} --artifacts {arguments.artifacts}")


def pack(arguments: argparse.Namespace) -> None:
    """Ship what is recorded of a profile, without the questions."""
    profile = profiles.load(arguments.profile)
    for kind, (there, wanted) in packing.pack(profile, arguments.artifacts).items():
        print(f"{recordings.FOLDER / profile.name}: {there} of {wanted} {kind} rollouts")


def unpack(arguments: argparse.Namespace) -> None:
    """Make the profile of what is shipped."""
    print(f"{packing.unpack(profiles.load(arguments.profile), arguments.artifacts)} is ready")


def verify(arguments: argparse.Namespace) -> None:
    """Decode recorded questions again and compare."""
    profile = profiles.load(arguments.profile)
    if arguments.batch:
        profile = replace(profile, batch_size=arguments.batch)
    verified = verifying.verify(profile, models.start(profile, arguments.weights), arguments.n, arguments.seed)
    print(verified)
    if arguments.keep:
        verifying.write_verified(profile, verified)


def plan_(arguments: argparse.Namespace) -> None:
    """Say what a profile will cost."""
    print(plan.plan(profiles.load(arguments.profile), arguments.card, arguments.artifacts))


def import_(arguments: argparse.Namespace) -> None:
    """Read rollouts of other programs, say what was read and what was not, and make the profile of them."""
    rollouts, said = _rollouts(arguments.files, arguments.model, arguments)
    lessons = None
    if arguments.predictor:
        lessons, more = _rollouts(arguments.predictor, arguments.predictor_model or arguments.model, arguments)
        said += more
    settings = {name: getattr(arguments, name) for name in ("stream_size", "parameters", "folds", "hold_out")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", importing.AnotherModel)
        made = importing.import_rollouts(rollouts, arguments.artifacts, training=lessons, tiers=_pairs(arguments.tier), **settings)
    loud = [str(each.message) for each in caught if issubclass(each.category, importing.AnotherModel)]
    print(f"\n{made}\n{made.file} is ready: make book PROFILE={importing.NAME}")
    for message in loud:
        print(f"\nWARNING: {message}", file=sys.stderr)
    made.file.with_name("import.txt").write_text("\n".join([*said, "", str(made), *loud]) + "\n", encoding="utf-8")


def replicate(arguments: argparse.Namespace) -> None:
    """Simulate a study of the paper from its tables, as a profile of its own."""
    file = replica.adopt(arguments.name, arguments.artifacts)
    print(f"{profiles.load(file).model}: {file} is ready: make book PROFILE={arguments.name}")


def fit(arguments: argparse.Namespace) -> None:
    """Fit a forecaster with doubts to rollouts and save it."""
    rollouts, _ = _rollouts(arguments.files, arguments.model, arguments)
    kind = profiles.Forecaster(arguments.kind, arguments.kind, streams.TIERS, "all", {})
    pupil = importing.teach(rollouts, kind, arguments.out)
    texts = list(rollouts["question"])
    unseen = predictor.held_out(texts, pupil.options["held_out"], pupil.options["seed"])
    pairs = pd.DataFrame({"length": rollouts["length"], "said": pupil.predict(texts).threshold})[unseen]
    print(
        f"{arguments.out}: taught by {len(rollouts):,} rollouts of {', '.join(sorted(set(rollouts['model'])))}; on the "
        f"{unseen.sum():,} of them that were held out the rank correlation of forecast and length is "
        f"{pairs.rank().corr().iloc[0, 1]:.2f}"
    )


def allocate(arguments: argparse.Namespace) -> None:
    """Split a budget over the questions of a file."""
    lines = _read(arguments.questions)
    policy = usable(arguments.policy)
    if policy.kind != "cap":
        raise ValueError(f"policy {policy.name!r} decides as it runs, so it has no caps to write; use `run`")
    forecaster = _forecaster(lines, arguments)
    if arguments.forecaster and arguments.model:
        importing.warn_of_another_model(importing.taught_by(arguments.forecaster), [arguments.model])
    forecasts = (
        forecaster.predict(_questions(lines) if arguments.forecaster else [])
        if forecaster
        else Forecasts(np.zeros(len(lines)))
    )
    allocation = policies.allocate(
        forecasts,
        arguments.budget,
        policy.name,
        cap=arguments.cap,
        estimates=_column(lines, "estimate"),
        **_settings(arguments.set),
    )
    why = reasons.abandoned(forecasts, allocation, arguments.cap)
    _write(
        arguments.out,
        (
            line | {"tokens": tokens, "active": tokens > 0, "reason": reason}
            for (_, line), tokens, reason in zip(lines, allocation.tokens.tolist(), why, strict=True)
        ),
    )
    price = "" if allocation.price is None else f", price {allocation.price:.3g} per token"
    print(
        f"{policy.label}: {allocation.active.sum():,} of {len(lines):,} questions are granted "
        f"{allocation.tokens.sum():,} of {allocation.budget:,} tokens{price}",
        file=sys.stderr,
    )


def run(arguments: argparse.Namespace) -> None:
    """Answer the questions of a file within a budget."""
    lines = _read(arguments.questions)
    questions = _questions(lines)
    usable(arguments.policy)
    forecaster = arguments.forecaster or _forecaster(lines, arguments)
    profile = _profile(arguments)
    template = arguments.template or (
        profile.prompt("{question}") if arguments.profile or profile.model == reasoner.NAME else "{question}"
    )
    if "{question}" not in template and Path(template).is_file():
        template = Path(template).read_text(encoding="utf-8")
    budgeter = Budgeter(
        models.start(profile),
        forecaster,
        arguments.policy,
        accounting=arguments.accounting,
        template=template,
        cap=arguments.cap or (profile.cap if arguments.profile else None),
        model=profile.model,
        **_settings(arguments.set),
    )
    answers = budgeter.run(questions, arguments.budget, estimates=_column(lines, "estimate"), progress="answers")
    begun = [answer.finish_reason != "abandoned" for answer in answers]
    _write(
        arguments.out,
        (
            line
            | {
                "tokens": answer.granted,
                "active": served,
                "reason": answer.reason,
                "completion": answer.text if served else None,
                "n_tokens": answer.used if served else None,
                "finished": answer.finish_reason == "stop",
                "model": profile.model,
            }
            for (_, line), answer, served in zip(lines, answers, begun, strict=True)
        ),
    )
    print(answers, file=sys.stderr)


# ---- what the commands read and write ---------------------------------------------------------------------------


def _read(source: str) -> list[Line]:
    """JSON lines of a file, or of the standard input (``-``); ``ValueError`` names the first line that is none."""
    name = "standard input" if source == "-" else source
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror}") from None
    lines = []
    for number, found in logs.json_lines(data.split(b"\n")):
        if isinstance(found, ValueError):
            raise ValueError(f"{name}, line {number}: {found}")
        lines.append((number, found))
    if not lines:
        raise ValueError(f"{name}: empty")
    return lines


def _column(lines: Sequence[Line], name: str, high: float = np.inf) -> list[float] | None:
    """The numbers of a field, or None if no line has it; ``ValueError`` names a line where it is missing or wrong."""
    if not any(name in line for _, line in lines):
        return None
    for number, line in lines:
        value = line.get(name)
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= min(high, 1e300):
            what = "missing, and other lines have it" if name not in line else f"{json.dumps(value):.60}"
            least = "a number of at least 0" if high == np.inf else f"a number from 0 to {high:g}"
            raise ValueError(f"line {number}: {name!r} must be {least}, and is {what}")
    return [float(line[name]) for _, line in lines]


def _questions(lines: Sequence[Line]) -> list[str]:
    """The questions; ``ValueError`` names a line without."""
    for number, line in lines:
        if not isinstance(line.get("question"), str) or not line["question"].strip():
            raise ValueError(f"line {number}: 'question' must be a text, and is {json.dumps(line.get('question')):.60}")
    return [line["question"] for _, line in lines]


def _forecaster(lines: Sequence[Line], arguments: argparse.Namespace) -> Any:
    """The forecaster of a folder, or one that says what the lines say; None if the policy needs none."""
    if arguments.forecaster:
        return predictor.load(arguments.forecaster)
    known = {
        name: _column(lines, name, high)
        for name, high in {"threshold": np.inf, "spread": np.inf, "solvable": 1.0}.items()
    }
    if known["threshold"] is None:
        if set(policies.POLICIES[arguments.policy].needs) - {"estimates"}:
            raise ValueError(
                f"policy {arguments.policy!r} needs to know what the questions cost: give the lines a "
                f"'threshold', or name the folder of a --forecaster"
            )
        return None
    forecasts = Forecasts(**known)
    return SimpleNamespace(predict=lambda texts: forecasts)


def _write(target: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines into a file, which appears whole or not at all, or to the standard output (``-``)."""
    data = b"".join(map(_encoded, rows))
    if target == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    aside = Path(f"{target}.{os.getpid()}.writing")
    try:
        aside.write_bytes(data)
        aside.replace(target)
    except OSError as error:
        raise ValueError(f"{target}: {error.strerror}") from None
    finally:
        aside.unlink(missing_ok=True)


def _encoded(row: Mapping[str, Any]) -> bytes:
    """A line of UTF-8; a lone surrogate, which has no UTF-8, stays the escape that it was."""
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``name=value`` arguments with values as JSON has them (numbers, true, null), and as text otherwise."""
    values = {}
    for name, value in _pairs(pairs).items():
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def _profile(arguments: argparse.Namespace) -> profiles.Profile:
    """The named profile, or one for the named model; with the engine and its options as they were asked for."""
    fields, options = {}, _settings(arguments.engine_option)
    if arguments.engine:
        fields["engine"] = arguments.engine
    if not arguments.profile:
        fields |= {"model": arguments.model, "revision": "main"}
    fields |= {name: options.pop(name) for name in ("revision", "dtype", "batch_size") if name in options}
    profile = profiles.load(arguments.profile or "tiny", **fields)
    return replace(profile, engine_options={**profile.engine_options, **options})


def _rollouts(paths: Sequence[str], model: str | None, arguments: argparse.Namespace) -> tuple[pd.DataFrame, list[str]]:
    """Rollouts of logs, and a report on each, which is printed."""
    given = {"columns": _pairs(arguments.columns), "keep_filter": arguments.filter, "malformed": arguments.malformed}
    tables, said = [], []
    for path in _files(paths):
        table, report = logs.read(path, arguments.layout, **given)
        tables.append(logs.complete(table, report, model=model, tokenizer=arguments.tokenizer, cap=arguments.cap))
        said.append(str(report))
        print(report, flush=True)
    return pd.concat(tables, ignore_index=True), said


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clear_lib", description="Token budgets for batches of LLM queries."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument("files", nargs="+", metavar="FILE", help=".jsonl, LightEval's .parquet, or a folder of them")
    reading.add_argument("--layout", choices=logs.LAYOUTS, help="how they are written (default: by their first line)")
    reading.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="NAME=PLACE",
        help=f"where things stand, such as gold=doc.answer; names: {', '.join(logs.COLUMNS)}",
    )
    reading.add_argument("--filter", help="of lm-evaluation-harness: whose verdicts to take (default: the first)")
    reading.add_argument("--model", help="who wrote them, where the files do not say")
    reading.add_argument("--tokenizer", help="counts tokens where none are recorded: a model, a folder, or `embedded`")
    reading.add_argument(
        "--cap", type=int, help="most new tokens that the model was allowed, where the files do not say"
    )
    reading.add_argument(
        "--malformed",
        type=float,
        default=logs.MALFORMED,
        metavar="SHARE",
        help="of the lines that may be unreadable (default: %(default)s)",
    )

    budgeting = argparse.ArgumentParser(add_help=False)
    budgeting.add_argument(
        "questions", nargs="?", default="-", metavar="FILE", help="JSON lines (default: -, the standard input)"
    )
    budgeting.add_argument(
        "--budget", type=int, required=True, metavar="TOKENS", help="completion tokens for the batch"
    )
    budgeting.add_argument(
        "--policy",
        default="clear",
        help=f"one of {', '.join(policies.POLICIES)} (default: clear); the oracles need what only hindsight knows",
    )
    budgeting.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the policy: epsilon=64"
    )
    budgeting.add_argument("--forecaster", metavar="FOLDER", help="a forecaster that `fit` saved")
    budgeting.add_argument("--cap", type=int, metavar="TOKENS", help="most tokens of one completion")
    budgeting.add_argument("--out", default="-", metavar="FILE", help="where to (default: -, the standard output)")

    def add(name: str, function: Any, summary: str, *parents: argparse.ArgumentParser, epilog: str | None = None):
        command = commands.add_parser(
            name,
            help=summary,
            description=summary.capitalize() + ".",
            parents=parents,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=function)
        return command

    add("allocate", allocate, "split a token budget over questions", budgeting, epilog=ALLOCATE).add_argument(
        "--model", help="whose completions the budget is for: warns if the forecaster learned from another"
    )
    command = add("run", run, "answer questions within a token budget", budgeting, epilog=RUN)
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="a model, a folder, or `embedded`, the small one of this project")
    which.add_argument("--profile", help=f"model, engine, prompt and cap of a profile: {', '.join(profiles.names())}")
    command.add_argument(
        "--engine",
        choices=[name for name in profiles.ENGINES if name != "none"],
        help="what decodes (default: that of the profile, or transformers)",
    )
    command.add_argument(
        "--engine-option",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="dtype, batch_size, revision, and what the engine knows (clear_lib.engines)",
    )
    command.add_argument(
        "--template",
        metavar="TEXT|FILE",
        help="the prompt, with {question} in it (default: the profile's, or the question alone)",
    )
    command.add_argument(
        "--accounting",
        choices=("caps", "refunds"),
        help="whether tokens granted or used are within the budget (default: caps; refunds if the policy "
        "decides as it runs)",
    )
    command = add("fit", fit, "fit a forecaster to rollouts and save it", reading, epilog=FIT)
    command.add_argument("--out", required=True, metavar="FOLDER", help="where to save it")
    command.add_argument(
        "--kind",
        choices=profiles.FORECASTERS,
        default="ridge",
        help="a regression on words, or another of clear_lib.predictor (default: %(default)s)",
    )

    command = add("record", record, "record the rollouts of a profile; goes on where it was stopped")
    command.add_argument("--profile", default="tiny", help="name of a profile (default: tiny)")
    command.add_argument(
        "--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)"
    )
    command.add_argument(
        "--only",
        nargs="+",
        metavar="KIND[:SHARE]",
        help="which rollouts, in this order, and which share of "
        f"them, from the beginning of their random order; kinds: {', '.join(recording.KINDS)}",
    )
    weights = {"metavar": "PATH", "help": "the profile's file of weights, or its folder (default: from the hub)"}
    command.add_argument("--weights", **weights)
    command = add("pack", pack, "ship what is recorded of a profile, without the questions")
    command.add_argument("--profile", required=True, help="name of a profile")
    command.add_argument("--artifacts", required=True, help="folder in which it was recorded")
    command = add("unpack", unpack, "make the profile of shipped recordings that the chapters run on")
    command.add_argument("--profile", required=True, help="name of a profile")
    command.add_argument(
        "--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)"
    )
    command = add("verify", verify, "decode recorded questions again, in other batches, and compare")
    command.add_argument("--profile", required=True, help="name of a profile")
    command.add_argument("--weights", **weights)
    command.add_argument("-n", type=int, default=50, help="questions (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="which questions, and their order (default: %(default)s)")
    command.add_argument("--batch", type=int, help="questions at a time (default: as when they were recorded)")
    command.add_argument("--keep", action="store_true", help="write the result into the manifest of the recordings")
    command = add("plan", plan_, "say what recording a profile will cost, before it runs")
    command.add_argument("--profile", default="tiny", help="name of a profile (default: tiny)")
    command.add_argument("--card", help=f"one of {', '.join(plan.CARDS)} (default: A100 for vLLM, else CPU)")
    command.add_argument(
        "--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)"
    )
    command = add("replicate", replicate, "make a profile that simulates a study of the paper from its tables")
    command.add_argument("name", choices=replica.SOURCES)
    command.add_argument(
        "--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)"
    )

    command = add("import", import_, "make a profile of rollouts that other programs recorded", reading)
    command.add_argument("--tier", nargs="+", default=[], metavar="SET=TIER", help="tiers of the question sets")
    command.add_argument(
        "--predictor", nargs="+", metavar="FILE", help="rollouts that the predictor learns from (default: cross-fitted)"
    )
    command.add_argument("--predictor-model", metavar="MODEL", help="who wrote those (default: --model)")
    command.add_argument("--folds", type=int, default=5, help="parts of the cross-fit (default: %(default)s)")
    command.add_argument(
        "--hold-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the questions to set aside for the predictor (default: none, it is cross-fitted)",
    )
    command.add_argument("--stream-size", type=int, metavar="N", help="queries of a stream (default: what they allow)")
    command.add_argument("--parameters", type=int, help="weights of the model (default: by its name)")
    command.add_argument(
        "--artifacts", default="artifacts", help="folder of recordings and results (default: artifacts)"
    )
    return parser


def _show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """A warning, for people."""
    print(f"WARNING: {message}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 with a message if its input was wrong, or 130 if it was interrupted."""
    parsed = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", importing.AnotherModel)
            warnings.showwarning = _show
            parsed.run(parsed)
    except BrokenPipeError:  # who reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 130
    return 0
