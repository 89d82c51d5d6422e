"""A budget in dollars: completion tokens that prices, which the user gives, leave room for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from clear_lib.cli.files import Line

#: Prices are for so many tokens.
MILLION = 1_000_000


class Budget(NamedTuple):
    """Completion tokens, and in words what they and the prompts may cost at most (empty without prices)."""

    tokens: int
    words: str


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
    arguments: argparse.Namespace, lines: Sequence[Line], count: Callable[[int], int] | None = None
) -> Budget:
    """The budget of a command: ``--budget``, or what ``--dollars`` buy once all prompts are paid.

    A prompt has the ``prompt_tokens`` of its line, or ``count(position)``; ``ValueError`` names a line with neither.
    """
    dollars, out, into = arguments.dollars, arguments.price_out, arguments.price_in
    if dollars is None:
        if out is not None or into is not None:
            raise ValueError("--price-out and --price-in go with --dollars")
        return Budget(arguments.budget, "")
    if not out:
        raise ValueError("--dollars needs --price-out, the dollars for a million completion tokens")
    prompts = sum(_prompt_tokens(lines, position, count) for position in range(len(lines))) if into else 0
    left = dollars * MILLION - (into or 0) * prompts
    if left < 0:
        raise ValueError(f"the prompts alone, {prompts:,} tokens, cost ${(into * prompts) / MILLION:f} of ${dollars}")
    tokens = int(left // out)
    of_prompts = f" and {prompts:,} of prompts" if into else " (prompts have no price)"
    words = f"{tokens:,} completion tokens{of_prompts} cost at most ${(dollars * MILLION - left + tokens * out) / MILLION:f}"
    return Budget(tokens, words)


def _prompt_tokens(lines: Sequence[Line], position: int, count: Callable[[int], int] | None) -> int:
    number, line = lines[position]
    tokens = line.get("prompt_tokens")
    if tokens is None and count is not None:
        return count(position)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        what = "missing" if tokens is None else f"{tokens!r:.60}"
        raise ValueError(
            f"line {number}: with --price-in, 'prompt_tokens' must be the number of tokens of its prompt, and is {what}"
        )
    return tokens
