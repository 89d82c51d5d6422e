"""Was the answer right? The final boxed answer is extracted, and that alone goes to math-verify.

A whole completion would verify as right when it only restates the question, so it is never graded. An answer is
data from a stranger. It is compared in a process of its own with bounds on time and memory, because some make a
computer algebra system run forever; the verdict on those is ``"unknown"``, not ``"wrong"``.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from decimal import Decimal, localcontext
from types import TracebackType
from typing import Any

#: Every verdict that there is.
VERDICTS = ("correct", "wrong", "unknown")

#: Characters of the longest answer that is compared. The longest gold answer of the usual sets has 210.
LONGEST = 1000
#: Bytes of address space that a process may take to compare a pair (where the system has such a bound).
MEMORY = 1 << 30

# A box opens, or a brace opens or closes. A backslash takes the next character with it, unless a box begins there.
_BRACE = re.compile(r"\\boxed\s*\{|\\(?!\\?boxed\s*\{).|[{}]", re.DOTALL)


def extract_answer(completion: str) -> str | None:
    r"""Content of the last complete ``\boxed{…}``; None if there is none.

    Braces may nest, and ``\{`` is no brace. A box that was cut off does not count; of a box in a box the inner
    one does. Takes time in proportion to the text, whatever it says.
    """
    answer = None
    boxes: list[tuple[int, int, int]] = []  # of each open box: start of its content, braces outside, complete before
    depth = complete = 0
    first = completion.find(r"\boxed")
    for brace in _BRACE.finditer(completion, first) if first >= 0 else ():
        if brace[0] == "}":
            depth = max(depth - 1, 0)
            if boxes and depth == boxes[-1][1]:
                start, _, before = boxes.pop()
                if complete == before:  # no box inside
                    answer = slice(start, brace.start())
                complete += 1
        elif brace[0] == "{" or brace[0].startswith(r"\boxed"):
            if brace[0] != "{":
                boxes.append((brace.end(), depth, complete))
            depth += 1
    return None if answer is None else completion[answer].strip()


def gold_answer(gold: str) -> str:
    r"""The answer in a gold text that may be a whole solution: its last box, or what follows ``####`` (GSM8K).

    A few solutions have a box without braces, ``\boxed 2``.
    """
    if (boxed := extract_answer(gold)) is not None:
        return boxed
    bare = re.search(r"\\boxed\s+(\w+)", gold)
    return bare[1] if bare else gold.rpartition("####")[2].strip()


class Grader:
    """Judges pairs of gold and answer in processes that live as long as it does; use it in a ``with`` statement.

    Parameters
    ----------
    timeout : float
        Seconds for one pair. A pair that takes longer is ``"unknown"``.
    workers : int, optional
        Processes, by default one per core and at most 8. They start with the first pair that needs one.
    shortcut : bool
        Whether equal texts and plain numbers are compared without algebra. False shows what the algebra says.
    """

    def __init__(self, timeout: float = 5.0, workers: int | None = None, shortcut: bool = True):
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
        self.timeout, self.shortcut = timeout, shortcut
        self._judges = [_Judge() for _ in range(workers or min(os.cpu_count() or 1, 8))]
        self._verdicts: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for judge in self._judges:
            judge.stop()

    def grade(self, golds: Sequence[str], answers: Sequence[str | None]) -> list[str]:
        """Verdicts ``"correct"``, ``"wrong"`` or ``"unknown"``, in order; see :func:`grade`."""
        if len(golds) != len(answers):
            raise ValueError(f"{len(golds)} gold answers and {len(answers)} answers; there must be as many")
        for position, gold in enumerate(golds):
            if not isinstance(gold, str) or not gold.strip():
                raise ValueError(f"position {position}: the gold answer must be text, got {gold!r}")
        pairs = [(_plain(gold), _plain(answer or "")) for gold, answer in zip(golds, answers, strict=True)]
        for pair in pairs:
            if pair not in self._verdicts and (verdict := _at_once(*pair, self.shortcut)):
                self._verdicts[pair] = verdict
        self._judge(dict.fromkeys(pair for pair in pairs if pair not in self._verdicts))
        return [self._verdicts[pair] for pair in pairs]

    def _judge(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Deal the pairs out to the processes, one thread waiting for each."""
        waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        for pair in pairs:
            waiting.put(pair)

        def work(judge: _Judge) -> None:
            while True:
                try:
                    pair = waiting.get_nowait()
                except queue.Empty:
                    return
                self._verdicts[pair] = judge.ask(pair, self.timeout)

        threads = [threading.Thread(target=work, args=(judge,)) for judge in self._judges[: waiting.qsize()]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def grade(golds: Sequence[str], answers: Sequence[str | None], timeout: float = 5.0,
          workers: int | None = None) -> list[str]:
    """Compare answers with the gold ones.

    Parameters
    ----------
    golds : sequence of str, length n
        As they would stand in a box, such as ``"12"`` or ``r"\\frac{1}{2}"``.
    answers : sequence of str or None, length n
        What :func:`extract_answer` found. None, no answer, is wrong.
    timeout, workers
        See :class:`Grader`.

    Returns
    -------
    list of str
        ``"correct"``, ``"wrong"``, or ``"unknown"`` where the comparison took too long or failed.

    Raises
    ------
    ValueError
        For sequences of unequal length, an empty gold answer, a timeout that is not positive.
    """
    with Grader(timeout, workers) as grader:
        return grader.grade(golds, answers)


# Spellings that mean the same and that math-verify does not read, or reads as something else.
_SPELLINGS = [(re.compile(pattern), plain) for pattern, plain in (
    (r"\\!|(?<!\\)\$|^\\quad", ""),  # thin spaces, formula signs
    (r"(?<=\d)(?:,|\{,\})(?=\d{3}(?:,\d{3})*\})", ""),  # \frac{1}{20,000}
    (r"(?<![\w\\.])(\d+\.?\d*|\.\d+)[eE]([+-]?\d+)(?![\w.])", r"\1 \\times 10^{\2}"),  # 4.5e33 is no product with e
    (r"(?<=\d)\.(?=\s*/)", ""),  # 1./3
    (r"\\[dtc]?frac\s*(\\[a-zA-Z]+)\s*([0-9a-zA-Z])", r"\\frac{\1}{\2}"),  # \frac\pi 2
    (r"_\{\\([a-zA-Z]+)\s*\}", r"_{\1}"),  # L_{\odot}: a name in a name
    (r"(?<![\\a-zA-Z])E(?=_)", r"\\text{E}"),  # E_1 is no power of e
    (r"\\gamma(?![a-zA-Z])", r"\\text{gamma}"),  # nor is every gamma Euler's function
)]  # fmt: skip
_UNIT = re.compile(r"(?:(?:[\s/~]|\\cdot|\\[,;: ])*\\(?:text|textnormal|textrm|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?-?\d\}?)?)+$")
_NUMBER = re.compile(
    r"(?P<digits>[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?)(?:\s*\\(?:times|cdot)\s*10\^\{?(?P<power>[+-]?\d{1,4})\}?)?"
)
_MARGIN = 5e-7  # of numbers that count as equal: half a sixth decimal
_BASE = re.compile(r"-?[\d.]+_\{?(\d+)\}?")
_PROSE = re.compile(r"(?<![\\{a-zA-Z])[a-zA-Z]{2,}\s+[a-zA-Z]{2,}")
_FORMULA = re.compile(r"[=^_\\]")


def _plain(text: str) -> str:
    """An answer without the space and the units around it and the full stop of its sentence, spelled plainly."""
    text = text.strip()
    if len(text) > LONGEST:
        return text
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text)
    text = text.strip().rstrip(".,;").rstrip()
    return _UNIT.sub("", text) or text


def _number(text: str) -> Decimal | None:
    r"""The number that a text writes in digits, such as ``1,250.5`` or ``3 \times 10^{8}``."""
    found = _NUMBER.fullmatch(text)
    if not found or not any(map(str.isdigit, found["digits"])):
        return None
    return Decimal(f"{found['digits'].replace(',', '')}e{found['power'] or 0}")


def _equal(gold: Decimal, answer: Decimal) -> bool:
    """Equal to six decimals, as in math-verify; a number below 1 to six digits (many constants are below 1e-6)."""
    with localcontext(prec=2 * LONGEST):
        return abs(gold - answer) <= Decimal(_MARGIN) * min(1, abs(gold))


def _at_once(gold: str, answer: str, shortcut: bool) -> str | None:
    """The verdict where it takes no algebra: no answer, one too long to be one, the same text, two numbers."""
    if not answer:
        return "wrong"
    if max(len(gold), len(answer)) > LONGEST:
        return "correct" if gold == answer else "unknown"
    if not shortcut:
        return None
    if gold == answer:
        return "correct"
    numbers = _number(gold), _number(answer)
    return None if None in numbers else "correct" if _equal(*numbers) else "wrong"


class _Judge:
    """One process that runs this file and answers a line of JSON with a verdict."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, pair: tuple[str, str], timeout: float) -> str:
        """The verdict on a pair, ``"unknown"`` after ``timeout`` seconds."""
        if self._process is None:
            self._process = subprocess.Popen([sys.executable, "-P", __file__], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, text=True, encoding="utf-8")
            if self._process.stdout.readline().strip() != "ready":  # imports are not part of the timeout
                raise RuntimeError("the grading process did not start; is math-verify installed?")
        process, expired = self._process, threading.Event()
        timer = threading.Timer(timeout, lambda: (expired.set(), process.kill()))
        timer.start()
        try:
            process.stdin.write(json.dumps(pair) + "\n")
            process.stdin.flush()
            verdict = process.stdout.readline().strip()
        except BrokenPipeError:
            verdict = ""
        timer.cancel()
        timer.join()
        if expired.is_set() or not verdict:  # killed by the timer, or by the answer itself
            self.stop()
        return verdict or "unknown"

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _parsed(text: str, units: bool) -> Any:
    """What math-verify reads, None if nothing. With ``units`` a letter at the end is one, and not a variable."""
    from dataclasses import replace

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse
    from sympy import Derivative, Symbol

    latex = LatexExtractionConfig()
    latex = replace(latex, normalization_config=replace(latex.normalization_config, units=units))
    found = parse(f"\\boxed{{{text}}}", [latex, ExprExtractionConfig()], "no_fallback", parsing_timeout=None,
                  raise_on_error=True)
    if not found:
        return None
    # dv/dt is an unknown of a differential equation; sympy would say that it is 0, for v names no function of t.
    rates = {rate: Symbol(str(rate)) for rate in found[0].atoms(Derivative) if rate.expr.is_Symbol}
    return found[0].xreplace(rates) if rates else found[0]


def _verdict(gold: str, answer: str) -> str:
    """The algebra's verdict on one pair, without math-verify's own timeouts, which would count as wrong."""
    from math_verify import verify
    from sympy import Expr

    def equal(found: Any) -> bool:
        if found is None:
            return False
        if isinstance(right, Expr) and isinstance(found, Expr) and not right.free_symbols:
            size = abs(right.doit().evalf())
            change = ((found - right) / right).doit().evalf() if size.is_Float and 0 < size < 0.01 else None
            if change is not None and change.is_comparable:  # six decimals, as math-verify has it, are few of this number
                return bool(abs(change) < _MARGIN)
        return verify(right, found, timeout_seconds=None, raise_on_error=True)

    try:
        if _PROSE.search(gold) and _FORMULA.search(gold):  # a formula with conditions: read as one of its parts
            return "unknown"
        right = _parsed(gold, units=False)
        if right is None:
            return "unknown"
        bases = _BASE.fullmatch(gold), _BASE.fullmatch(answer)
        if None not in bases and bases[0][1] != bases[1][1]:
            return "wrong"
        same = equal(_parsed(answer, units=False)) or (not right.free_symbols and equal(_parsed(answer, units=True)))
        return "correct" if same else "wrong"
    except Exception:  # of any kind: the comparison failed, and that is the verdict
        return "unknown"


def _serve() -> None:
    """The loop of a grading process: a line of JSON in, a verdict out."""
    logging.disable()
    _verdict("1", "1")  # load everything before the clock starts
    with suppress(ImportError, ValueError, OSError):  # not every system has this bound, and some have a lower one
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print("ready", flush=True)
    for line in sys.stdin:
        print(_verdict(*json.loads(line)), flush=True)


if __name__ == "__main__":
    _serve()
