"""The command line of the library, ``python -m clear_lib``: allocate, run and fit."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clear_lib.allocation.policies import POLICIES
from clear_lib.allocation.policies import allocate as allocate_tokens
from clear_lib.cli.files import column, forecasts_of, questions_of, read_lines, read_rollouts, settings_of, write_lines

EXIT_CODES = "exit codes: 0 done; 1 wrong input, with a message that names the line; 2 wrong usage"

ALLOCATE = f"""\
Each line of the input is a JSON object with a "question" (then --forecaster says what it will cost), or with what
you know of it: "threshold", and for some policies "spread", "solvable" or "estimate". Each line of the output is the
same object with "tokens", "active", and the "reason" if it is abandoned.

  python -m clear_lib allocate questions.jsonl --budget 128000 --policy clear --out caps.jsonl
  echo '{{"question": "1+1?", "threshold": 90}}' | python -m clear_lib allocate --budget 400 --set epsilon=64

{EXIT_CODES}"""

RUN = f"""\
The input is that of `allocate`, with a "question" in each line. Each line of the output is the same object with
"tokens" (granted), "active", "reason", "completion", "n_tokens" (used), "finished" and "model". The budget counts
completion tokens; prompts are not charged.

  python -m clear_lib run questions.jsonl --budget 128000 --model Qwen/Qwen2.5-Math-7B-Instruct \\
      --engine-option dtype=bfloat16 --template prompt.txt --forecaster forecaster --out answers.jsonl

{EXIT_CODES}"""

FIT = """\
The rollouts are logs of evaluation harnesses, or JSON lines such as `run` writes, with a "gold" answer or a verdict
"correct". The folder holds JSON and safetensors, and says whose rollouts they were.

  python -m clear_lib fit rollouts.jsonl --out forecaster"""


def allocate(arguments: argparse.Namespace) -> None:
    """Split a budget over the questions of a file."""
    from clear_lib.budgeter import usable

    lines, policy = read_lines(arguments.questions), usable(arguments.policy)
    if policy.kind != "cap":
        raise ValueError(f"policy {policy.name!r} decides as it runs, so it has no caps to write; use `run`")
    if arguments.forecaster:
        from clear_lib import predictor

        forecaster = predictor.load(arguments.forecaster)
        if arguments.model:
            predictor.warn_of_other_model(forecaster.trained_on, [arguments.model])
        forecasts = forecaster.predict(questions_of(lines))
        if estimates := column(lines, "estimate"):
            forecasts = replace(forecasts, estimate=estimates)
    else:
        forecasts = forecasts_of(lines, policy)
    settings = settings_of(arguments.set)
    allocation = allocate_tokens(forecasts, arguments.budget, policy.name, cap=arguments.cap, **settings)
    rows = zip(lines, allocation.tokens.tolist(), allocation.reasons(), strict=True)
    write_lines(
        arguments.out,
        (line | {"tokens": tokens, "active": tokens > 0, "reason": reason} for (_, line), tokens, reason in rows),
    )
    price = "" if allocation.price is None else f", price {allocation.price:.3g} per token"
    print(
        f"{policy.label}: {allocation.active.sum():,} of {len(lines):,} questions are granted "
        f"{allocation.tokens.sum():,} of {allocation.budget:,} tokens{price}",
        file=sys.stderr,
    )


def run(arguments: argparse.Namespace) -> None:
    """Answer the questions of a file within a budget."""
    from clear_lib import engines, reasoner
    from clear_lib.budgeter import Budgeter, usable

    lines, policy = read_lines(arguments.questions), usable(arguments.policy)
    questions, forecaster = questions_of(lines), arguments.forecaster
    if not forecaster:
        known = forecasts_of(lines, policy)
        forecaster = SimpleNamespace(predict=lambda texts: known)
    template = arguments.template or (reasoner.PROMPT if arguments.model == reasoner.NAME else "{question}")
    if "{question}" not in template and Path(template).is_file():
        template = Path(template).read_text(encoding="utf-8")
    budgeter = Budgeter(
        engines.start(arguments.engine, arguments.model, **settings_of(arguments.engine_option)),
        forecaster,
        policy.name,
        accounting=arguments.accounting,
        template=template,
        cap=arguments.cap,
        model=arguments.model,
        **settings_of(arguments.set),
    )
    estimates = column(lines, "estimate") if arguments.forecaster else None
    answers = budgeter.run(questions, arguments.budget, estimates=estimates, progress="answers")
    write_lines(
        arguments.out,
        (
            line
            | {
                "tokens": answer.granted,
                "active": (begun := answer.finish_reason != "abandoned"),
                "reason": answer.reason,
                "completion": answer.text if begun else None,
                "n_tokens": answer.used if begun else None,
                "finished": answer.finish_reason == "stop",
                "model": arguments.model,
            }
            for (_, line), answer in zip(lines, answers, strict=True)
        ),
    )
    print(answers, file=sys.stderr)


def fit(arguments: argparse.Namespace) -> None:
    """Fit a calibrated forecaster to rollouts and save it."""
    from clear_lib.predictor import fit_to_rollouts

    rollouts, _ = read_rollouts(arguments.files, arguments.model, arguments)
    fitted, texts = fit_to_rollouts(rollouts, arguments.kind), list(rollouts["question"])
    fitted.save(arguments.out)
    forecasts = rollouts.assign(threshold=fitted.predict(texts).threshold)[fitted.held_out(texts)]
    print(
        f"{arguments.out}: fitted to {len(rollouts):,} rollouts of {', '.join(sorted(set(rollouts['model'])))}; on the "
        f"{len(forecasts):,} of them that were held out the rank correlation of forecast and length is "
        f"{forecasts['threshold'].rank().corr(forecasts['length'].rank()):.2f}"
    )


def rollout_options() -> argparse.ArgumentParser:
    """The options of commands that read rollouts."""
    options = argparse.ArgumentParser(add_help=False)
    add = options.add_argument
    add("files", nargs="+", metavar="FILE", help=".jsonl, LightEval's .parquet, or a folder of them")
    add("--layout", help="lm-eval, lighteval, qwen-math or jsonl (default: by the first line)")
    places = "where things stand, such as gold=doc.answer; an unknown name lists those that are known"
    add("--columns", nargs="+", default=[], metavar="NAME=PLACE", help=places)
    add("--filter", help="of lm-evaluation-harness: whose verdicts to take (default: the first)")
    add("--model", help="who wrote them, where the files do not say")
    add("--tokenizer", help="counts tokens where none are recorded: a model, a folder, or `embedded`")
    add("--cap", type=int, help="most new tokens that the model was allowed, where the files do not say")
    unreadable = "of the lines that may be unreadable (default: %(default)s)"
    add("--malformed", type=float, default=0.01, metavar="SHARE", help=unreadable)
    return options


def _budget_options() -> argparse.ArgumentParser:
    """The options of commands that divide a budget."""
    options = argparse.ArgumentParser(add_help=False)
    add = options.add_argument
    add("questions", nargs="?", default="-", metavar="FILE", help="JSON lines (default: -, the standard input)")
    add("--budget", type=int, required=True, metavar="TOKENS", help="completion tokens for the batch")
    policies = f"one of {', '.join(POLICIES)} (default: clear); the oracles need what only hindsight knows"
    add("--policy", default="clear", help=policies)
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the policy: epsilon=64")
    add("--forecaster", metavar="FOLDER", help="a forecaster that `fit` saved")
    add("--cap", type=int, metavar="TOKENS", help="most tokens of one completion")
    add("--out", default="-", metavar="FILE", help="where to (default: -, the standard output)")
    return options


def _parser() -> argparse.ArgumentParser:
    from clear_lib.engines import ENGINES

    parser, command = parser_of("clear_lib", "Token budgets for batches of LLM queries.")
    budget, rollouts = _budget_options(), rollout_options()

    add = command(allocate, "split a token budget over questions", budget, ALLOCATE)
    add("--model", help="whose completions the budget is for: warns if the forecaster learned from another")

    add = command(run, "answer questions within a token budget", budget, RUN)
    add("--model", required=True, help="a model, a folder, or `embedded`, the small one of this project")
    add("--engine", choices=ENGINES, default="transformers", help="what decodes (default: %(default)s)")
    options = "dtype, batch_size, revision, and what the engine knows (clear_lib.engines)"
    add("--engine-option", nargs="+", default=[], metavar="NAME=VALUE", help=options)
    template = "the prompt, with {question} in it (default: the question alone)"
    add("--template", metavar="TEXT|FILE", help=template)
    accounting = (
        "whether tokens granted or used are within the budget (default: caps; refunds if the policy decides as it runs)"
    )
    add("--accounting", choices=("caps", "refunds"), help=accounting)

    add = command(fit, "fit a forecaster to rollouts and save it", rollouts, FIT)
    add("--out", required=True, metavar="FOLDER", help="where to save it")
    kinds = (
        "a regression on words, or another of clear_lib.predictor: sentence, encoder, deberta (default: %(default)s)"
    )
    add("--kind", default="ridge", help=kinds)
    return parser


def parser_of(module: str, description: str) -> tuple[argparse.ArgumentParser, Callable[..., Callable[..., Any]]]:
    """A parser, and a function that adds a command to it and returns the command's ``add_argument``."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    try:
        version = metadata.version("clear-lib")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    parser.add_argument("--version", action="version", version=f"clear-lib {version}")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(
        function: Callable[[argparse.Namespace], None],
        summary: str,
        options: argparse.ArgumentParser | None = None,
        epilog: str | None = None,
    ) -> Callable[..., Any]:
        added = commands.add_parser(
            function.__name__.strip("_"),
            help=summary,
            description=f"{summary.capitalize()}.",
            parents=[options] if options else [],
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=function)
        return added.add_argument

    return parser, command


def execute(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 with a message if its input was wrong, or 130 if it was interrupted."""
    parsed = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *place: print(f"WARNING: {message}", file=sys.stderr)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of the library."""
    return execute(_parser(), arguments)
