"""The command line of the library, ``python -m clear_lib``: allocate, run and fit."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.policies import POLICIES, Policy
from clear_lib.allocation.policies import allocate as allocate_tokens
from clear_lib.allocation.problem import number
from clear_lib.answers import write_lines
from clear_lib.cli import batch
from clear_lib.cli.files import Line, column, forecasts_of, questions_of, read_lines, read_rollouts, settings_of
from clear_lib.cli.money import amount, budget_of


def allocate(arguments: argparse.Namespace) -> None:
    """Split a budget over the questions of a file."""
    from clear_lib.budgeter import decide, usable

    lines, asked = read_lines(arguments.questions), arguments.policy and usable(arguments.policy)
    if asked and asked.kind != "cap":
        raise ValueError(f"policy {asked.name!r} decides as it runs, so it has no caps to write; use `run`")
    requests = arguments.format == "openai-batch"
    if arguments.abandoned and not requests:
        raise ValueError("--abandoned goes with --format openai-batch; other lines say so themselves")
    lines = batch.requests_of(lines) if requests else lines
    budget, cost = budget_of(arguments, lines)
    if not lines:
        write_lines(arguments.out, [])
        return _say("no lines: nothing to allocate")
    forecasts, advice = _forecasts(arguments, lines, asked or POLICIES["clear"])
    policy, settings = decide(arguments.policy, settings_of(arguments.set), forecasts, advice.get("caps"))
    allocation = allocate_tokens(forecasts, budget, policy.name, cap=arguments.cap, **settings)
    if requests:
        rows, left, granted = batch.capped(lines, allocation)
        if arguments.abandoned:
            write_lines(arguments.abandoned, left)
        elif left:
            _say(f"{len(left):,} abandoned requests are written nowhere: name a file with --abandoned")
        if lower := int((granted < allocation.tokens).sum()):
            _say(f"{lower:,} requests keep a limit of their own, which is lower")
    else:
        granted, fates = allocation.tokens, zip(allocation.tokens.tolist(), allocation.reasons(), strict=True)
        ours = [{"tokens": tokens, "active": tokens > 0, "reason": reason} for tokens, reason in fates]
        rows = [line | more for (_, line), more in zip(lines, ours, strict=True)]
    write_lines(arguments.out, rows)
    price = "" if allocation.price is None else f", price {allocation.price:.3g} per token"
    _say(
        f"{policy.label}: {allocation.active.sum():,} of {len(lines):,} questions are granted "
        f"{granted.sum():,} of {allocation.budget:,} tokens{price}{cost and '; ' + cost}"
    )


def _forecasts(arguments: argparse.Namespace, lines: list[Line], policy: Policy) -> tuple[Forecasts, Mapping[str, Any]]:
    """What the questions cost, by a forecaster or by their lines, and what the forecaster's logs advise."""
    if not arguments.forecaster:
        return forecasts_of(lines, policy), {}
    from clear_lib import predictor

    forecaster = predictor.load(arguments.forecaster)
    if arguments.model:
        predictor.warn_of_other_model(forecaster.trained_on, [arguments.model])
    forecasts, estimates = forecaster.predict(questions_of(lines)), column(lines, "estimate")
    return replace(forecasts, estimate=estimates) if estimates else forecasts, getattr(forecaster, "advice", {})


def run(arguments: argparse.Namespace) -> None:
    """Answer the questions of a file within a budget."""
    from clear_lib import engines, reasoner
    from clear_lib.budgeter import Budgeter, usable

    lines, asked = read_lines(arguments.questions), arguments.policy and usable(arguments.policy)
    questions, forecaster = questions_of(lines), arguments.forecaster
    if not forecaster:
        known = forecasts_of(lines, asked or POLICIES["clear"]) if lines else None
        forecaster = SimpleNamespace(predict=lambda texts: known)
    out = None if arguments.out == "-" else arguments.out
    if arguments.resume and out is None:
        raise ValueError("--resume goes on with the part file of --out FILE: name it")
    if arguments.cap is not None:
        number("cap", arguments.cap, low=1, whole=True)  # before the engine is loaded
    template = arguments.template or (reasoner.PROMPT if arguments.model == reasoner.NAME else "{question}")
    if "{question}" not in template and Path(template).is_file():
        template = Path(template).read_text(encoding="utf-8")
    budgeter = Budgeter(
        engines.start(arguments.engine, arguments.model, **settings_of(arguments.engine_option)),
        forecaster,
        arguments.policy,
        accounting=arguments.accounting or ("caps" if arguments.price_in else None),
        template=template,
        cap=arguments.cap,
        model=arguments.model,
        **settings_of(arguments.set),
    )
    if arguments.price_in and budgeter.accounting != "caps":
        raise ValueError("a paused query has its prompt read again, at a price: --price-in needs --accounting caps")
    tokenizer = getattr(budgeter.engine, "tokenizer", None)
    count = lambda question: len(tokenizer(budgeter.template.replace("{question}", question)).input_ids)
    budget, cost = budget_of(arguments, lines, None if tokenizer is None else count)
    estimates = column(lines, "estimate") if arguments.forecaster else None
    given = dict(estimates=estimates, out=out, resume=arguments.resume, fields=[line for _, line in lines])
    try:
        answers = budgeter.run(questions, budget, progress="answers", **given)
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(str(stopped) if out else "without --out FILE nothing is kept") from None
    if out is None:
        answers.to_jsonl("-", given["fields"])
    _say(f"{answers}\n  {cost}" if cost else f"{answers}")


def fit(arguments: argparse.Namespace) -> None:
    """Fit a calibrated forecaster to rollouts and save it."""
    from clear_lib.predictor import fit_to_rollouts, unseen
    from clear_lib.predictor.quality import quality
    from clear_lib.rollouts.store import check_writable
    from clear_lib.serving import tuning

    check_writable(arguments.out)
    rollouts, _ = read_rollouts(arguments.files, arguments.model, arguments)
    fitted = fit_to_rollouts(rollouts, arguments.kind)
    measured, models = quality(fitted, rollouts), ", ".join(sorted(set(rollouts["model"])))
    print(f"{arguments.out}: fitted to {len(rollouts):,} rollouts of {models}; {measured}")
    try:
        correct = (rollouts["verdict"] == "correct").to_numpy()
        forecasts = unseen(rollouts, arguments.kind)
        fitted.advice = tuning.advice(forecasts, rollouts["length"].to_numpy(), correct, int(rollouts["cap"].max()))
        print(f"what wins at {len(tuning.BUDGETS)} budgets on logs it had not seen: {tuning.in_words(fitted.advice)}")
    except ValueError as error:
        _say(f"WARNING: policy and constants are not chosen: {error}")
    fitted.save(arguments.out)
    if measured.doubt:
        _say(f"WARNING: {measured.doubt}")


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
    either = options.add_mutually_exclusive_group(required=True)
    either.add_argument("--budget", type=int, metavar="TOKENS", help="completion tokens for the batch")
    either.add_argument("--dollars", type=amount, help="what completions (and prompts, with --price-in) may cost")
    add("--price-out", type=amount, metavar="DOLLARS", help="for a million completion tokens")
    of_prompts = "for a million prompt tokens, which the line's prompt_tokens or the engine's tokenizer counts"
    add("--price-in", type=amount, metavar="DOLLARS", help=of_prompts)
    policies = (
        f"one of {', '.join(POLICIES)}; the oracles need what only hindsight knows (default: what `fit` found best; "
        "without --forecaster clear-lognormal if the lines have spread and solvable, else clear)"
    )
    add("--policy", help=policies)
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the policy: epsilon=64")
    add("--forecaster", metavar="FOLDER", help="a forecaster that `fit` saved")
    add("--cap", type=int, metavar="TOKENS", help="most tokens of one completion")
    add("--out", default="-", metavar="FILE", help="where to (default: -, the standard output)")
    return options


def _parser() -> argparse.ArgumentParser:
    from clear_lib.engines import ENGINES

    parser, command = parser_of("clear_lib", "Token budgets for batches of LLM queries.")
    budget, rollouts = _budget_options(), rollout_options()

    add = command(allocate, "split a token budget over questions", budget, "allocate.txt")
    add("--model", help="whose completions the budget is for: warns if the forecaster learned from another")
    add("--format", choices=("lines", "openai-batch"), default="lines", help="of input and output (default: lines)")
    add("--abandoned", metavar="FILE", help="where abandoned requests go, with the reason (openai-batch)")

    add = command(run, "answer questions within a token budget", budget, "run.txt")
    add("--model", required=True, help="a model, a folder, or `embedded`, the small one of this project")
    add("--engine", choices=ENGINES, default="transformers", help="what decodes (default: %(default)s)")
    options = "dtype, batch_size, revision, and what the engine knows (clear_lib.engines)"
    add("--engine-option", nargs="+", default=[], metavar="NAME=VALUE", help=options)
    add("--template", metavar="TEXT|FILE", help="the prompt, with {question} in it (default: the question alone)")
    accounting = "are tokens granted or used within the budget? (default: refunds if the engine can pause, else caps)"
    add("--accounting", choices=("caps", "refunds"), help=accounting)
    add("--resume", action="store_true", help="go on with the part file of a run that broke off")

    add = command(fit, "fit a forecaster to rollouts and save it", rollouts, "fit.txt")
    add("--out", required=True, metavar="FOLDER", help="where to save it")
    add("--kind", default="ridge", help="ridge (a regression on words), sentence, encoder or deberta (default: ridge)")
    return parser


def parser_of(module: str, description: str) -> tuple[argparse.ArgumentParser, Callable[..., Callable[..., Any]]]:
    """A parser, and a function that adds a command to it and returns the command's ``add_argument``.

    ``page`` is the file of this package with what the command's help says after its options.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    try:
        version = metadata.version("clear-lib")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    parser.add_argument("--version", action="version", version=f"clear-lib {version}")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(function: Any, summary: str, options: Any = None, page: str | None = None) -> Callable[..., Any]:
        added = commands.add_parser(
            function.__name__.strip("_"),
            help=summary,
            description=f"{summary.capitalize()}.",
            parents=[options] if options else [],
            epilog=page and Path(__file__).with_name(page).read_text(encoding="utf-8"),
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
            warnings.showwarning = lambda message, *place: _say(f"WARNING: {message}")
            parsed.run(parsed)
    except BrokenPipeError:  # who reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:  # of the second kind: a full disk, a folder that is read-only
        where = getattr(error, "filename", None) or ""
        _say(f"error: {where and f'{where}: '}{getattr(error, 'strerror', None) or error}")
        return 1
    except KeyboardInterrupt as stopped:
        _say(f"stopped; {str(stopped) or 'what was finished is kept'}")
        return 130
    return 0


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of the library."""
    return execute(_parser(), arguments)
