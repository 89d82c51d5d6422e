"""A budget in dollars: completion tokens that prices, which the user gives, leave room for."""

import argparse
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from clear_lib.cli.files import Line

#: Prices are for so many tokens.
MILLION = 1_000_000


def amount(text: str) -> Decimal:
    """A number of dollars that is not negative, for the parser."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of dollars")
    return value


def budget_of(
    arguments: argparse.Namespace, lines: Sequence[Line], count: Callable[[str], int] | None = None
) -> tuple[int, str]:
    """``--budget``, or the tokens that ``--dollars`` buy once all prompts are paid; and in words what they cost.

    A prompt has the ``prompt_tokens`` of its line, or ``count(question)``; ``ValueError`` names a line with neither.
    """
    dollars, out, into = arguments.dollars, arguments.price_out, arguments.price_in
    if dollars is None:
        if out is not None or into is not None:
            raise ValueError("--price-out and --price-in go with --dollars")
        return arguments.budget, ""
    if not out:
        raise ValueError("--dollars needs --price-out, the dollars for a million completion tokens")
    prompts = sum(_prompt_tokens(number, line, count) for number, line in lines) if into else 0
    paid = (into or 0) * prompts
    if paid > dollars * MILLION:
        raise ValueError(f"the prompts alone, {prompts:,} tokens, cost ${paid / MILLION:f} of ${dollars}")
    tokens = int((dollars * MILLION - paid) // out)
    of_prompts = f" and {prompts:,} of prompts" if into else " (prompts have no price)"
    return tokens, f"{tokens:,} completion tokens{of_prompts} cost at most ${(paid + tokens * out) / MILLION:f}"


def _prompt_tokens(number: int, line: dict[str, Any], count: Callable[[str], int] | None) -> int:
    tokens = line.get("prompt_tokens")
    if tokens is None and count is not None:
        return count(line["question"])
    if type(tokens) is not int or tokens < 0:
        what = "missing" if tokens is None else f"{tokens!r:.60}"
        raise ValueError(
            f"line {number}: with --price-in, 'prompt_tokens' must be the number of tokens of its prompt, and is {what}"
        )
    return tokens
