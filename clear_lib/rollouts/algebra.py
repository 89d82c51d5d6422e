"""Compare answers as mathematics: the program that each worker process of :mod:`clear_lib.rollouts.grading` runs.

It reads a line of JSON, ``[gold, answer, seconds]``, and prints a line with the verdict; it dies when it has computed
for so long. Most that would take too long is refused before it is computed, so that the verdict depends on the text and
not on the speed of the machine.
"""

import faulthandler
import json
import logging
import math
import os
import re
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from typing import Any

import sympy as sp
from math_verify import LatexExtractionConfig, parse, verify
from math_verify.grader import is_equation

#: Bytes of address space that the process may take, where the system has such a bound.
MAX_MEMORY = 1 << 30
#: How often the seconds of processor time may pass on the clock, on a busy machine.
MAX_WAIT = 20
#: Largest exponent, number of summands and argument of a factorial: above the years that competitions like to take.
MAX_COUNT = 5000
#: Most terms of an answer when its powers are expanded and its sums written out.
MAX_TERMS = 200
#: Most brackets in brackets. The usual gold answers have at most 6.
MAX_NESTING = 15

_BASE = re.compile(r"-?[\d.]+_\{?(\d+)\}?")
_CHOOSE = re.compile(r"\\[dt]?binom.*(?:\d{5}|\^)|(?:\d{5}|\^).*\\choose")  # computed as soon as it is parsed
_PROSE = re.compile(r"(?<![\\{a-zA-Z])[a-zA-Z]{2,}\s+[a-zA-Z]{2,}")
_FORMULA = re.compile(r"[=^_\\]")
_LATEX = LatexExtractionConfig()
# Units are gone already, so a letter at the end is a variable.
_LATEX = replace(_LATEX, normalization_config=replace(_LATEX.normalization_config, units=False))


def compare(gold: str, answer: str) -> str:
    """``"correct"``, ``"wrong"``, or ``"unknown"`` where the gold answer cannot be read or the comparison fails."""
    try:
        if _PROSE.search(gold) and _FORMULA.search(gold):  # a formula with conditions: read as one of its parts
            return "unknown"
        right = _parse(gold)
        if right is None:
            return "unknown"
        bases = _BASE.fullmatch(gold), _BASE.fullmatch(answer)
        if bases[1] and (not bases[0] or bases[0][1] != bases[1][1]):
            return "wrong"
        return "correct" if _equal(right, _parse(answer)) else "wrong"
    except Exception:  # of any kind: the comparison failed, and that is the verdict
        return "unknown"


def _parse(text: str) -> Any:
    """The SymPy expression of a text, None if it is not mathematics as a whole (no search for the 2 in "> 2")."""
    nesting = max(accumulate((char in "({[") - (char in ")}]") for char in text), default=0)
    if nesting > MAX_NESTING or _CHOOSE.search(text):
        raise ValueError(f"too much to compute: {text}")
    # math-verify's own timeout would count as a wrong answer.
    found = parse(f"\\boxed{{{text}}}", [_LATEX], "no_fallback", parsing_timeout=None, raise_on_error=True)
    if not found:
        return None
    _check_cost(found[0])
    # dv/dt is an unknown of a differential equation; SymPy would make it 0, because v is no function of t.
    names = {rate: sp.Symbol(str(rate)) for rate in found[0].atoms(sp.Derivative) if rate.expr.is_Symbol}
    # math-verify makes the letters of "2 i t" complex and those of "2it" real, which are different symbols.
    names |= {
        letter: sp.I if letter.name == "i" else sp.Symbol(letter.name, real=True)
        for letter in found[0].free_symbols
        if letter.name == "i" or not letter.is_real
    }
    return found[0].xreplace(names) if names else found[0]


def _check_cost(expression: Any) -> tuple[float, int]:
    """The size of a number before it is evaluated, and its terms when expanded; ``ValueError`` if that is too much."""
    parts = expression.flat() if isinstance(expression, sp.MatrixBase) else expression.args
    sizes, terms = zip(*map(_check_cost, parts), strict=True) if parts else ((), ())
    counts = sizes if isinstance(expression, sp.factorial) else ()
    if isinstance(expression, (sp.Pow, sp.Sum, sp.Product)):
        counts = sizes[1:]
    if max(counts, default=0) > MAX_COUNT or isinstance(expression, sp.Integral):
        raise ValueError(f"too much to compute: {type(expression).__name__}")
    size, number = max(sizes, default=1.0), max(terms, default=1)
    try:
        if isinstance(expression, sp.Pow):
            number = math.comb(int(sizes[1]) + terms[0] - 1, terms[0] - 1)
            size = max(sizes[0], 1) ** sizes[1]
        elif isinstance(expression, (sp.Sum, sp.Product)):
            number *= int(max(counts))
        elif isinstance(expression, sp.Number):
            size = float(abs(expression)) if expression.is_finite else 0.0
        elif isinstance(expression, sp.factorial):
            size = math.gamma(size + 1)
        elif isinstance(expression, sp.Add):
            size, number = sum(sizes), sum(terms)
        elif isinstance(expression, sp.Mul):
            size, number = math.prod(max(each, 1) for each in sizes), math.prod(terms)
    except OverflowError:
        size = math.inf
    if number > MAX_TERMS:
        raise ValueError(f"too much to compute: {number} terms")
    return size, number


def _equal(gold: Any, answer: Any) -> bool:
    """Whether two expressions are equal; the cases in which math-verify is too lenient or too coarse come first."""
    if answer is None:
        return False
    if isinstance(gold, (sp.Interval, sp.Tuple)) and isinstance(answer, sp.FiniteSet) and not answer.atoms(sp.Eq):
        return False  # 1,2 is not (1,2)
    if is_equation(answer) and not is_equation(gold):  # of 3+4=7 each number must be right; 7=2 is not 2
        sides = [side for part in answer.atoms(sp.Eq) for side in part.args]
        if not all(_equal(gold, side) for side in sides if isinstance(side, sp.Expr) and not side.free_symbols):
            return False
    if isinstance(gold, sp.Expr) and isinstance(answer, sp.Expr) and not gold.free_symbols:
        size = abs(gold.doit().evalf())
        if size.is_Float and 0 < size < 0.01:  # math-verify's six decimals are few digits of a small number
            change = ((answer - gold) / gold).doit().evalf()
            if change.is_comparable:
                return bool(abs(change) < 5e-7)
    return verify(gold, answer, timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True)


def main() -> None:
    """Compare pairs until the standard input ends."""
    logging.disable()
    compare("1", "1")  # load everything before the clock starts
    with suppress(ImportError, ValueError, OSError):  # not every system has this bound, and some have a lower one
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    print("ready", flush=True)
    counted = hasattr(signal, "setitimer")  # whether the system counts the processor time of a process
    with open(os.devnull, "w") as nowhere:
        for line in sys.stdin:
            gold, answer, seconds = json.loads(line)
            if counted:
                signal.setitimer(signal.ITIMER_PROF, seconds)  # no handler: the signal ends compiled code, too
            faulthandler.dump_traceback_later(seconds * MAX_WAIT if counted else seconds, exit=True, file=nowhere)
            verdict = compare(gold, answer)
            faulthandler.cancel_dump_traceback_later()
            if counted:
                signal.setitimer(signal.ITIMER_PROF, 0)
            print(verdict, flush=True)


if __name__ == "__main__":
    main()
