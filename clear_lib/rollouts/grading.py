"""Was the answer right? The final boxed answer is extracted, and that alone goes to math-verify.

A whole completion would verify as right when it only restates the question, so it is never graded. An answer is
data from a stranger. It is compared in a process of its own with bounds on time and memory, because some make a
computer algebra system run forever; the verdict on those is ``"unknown"``, not ``"wrong"``.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import re
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from decimal import Decimal, localcontext
from itertools import accumulate
from types import TracebackType
from typing import Any

#: Every verdict that there is.
VERDICTS = ("correct", "wrong", "unknown")

#: Characters of the longest answer that is compared. The longest gold answer of the usual sets has 210.
LONGEST = 1000
#: Largest exponent and argument of a factorial in an answer that is compared: above the years that
#: competitions like to take.
LARGEST = 5000
#: Most terms that an answer may have when its powers are multiplied out and its sums written out.
TERMS = 200
#: Most brackets in brackets. The usual gold answers have at most 6.
DEEPEST = 15
#: Bytes of address space that a process may take to compare a pair (where the system has such a bound).
MEMORY = 1 << 30

# A box opens, or a brace opens or closes. A backslash takes the next character with it, unless a box begins there.
_BRACE = re.compile(r"\\boxed\s*\{|\\(?!\\?boxed\s*\{).|[{}]", re.DOTALL)
# What stands between two boxes of one answer: a comma, "and", "or", with formula signs around it.
_BETWEEN = re.compile(
    r"(?:[\s$]|\\[)\]]){0,9}(?:[,;]|,?\s?(?:\\text\s?\{\s?)?(?:and|or)(?:\s?\})?)(?:[\s$]|\\[(\[]){0,9}"
)


def extract_answer(completion: str) -> str | None:
    r"""Content of the last complete ``\boxed{…}``; None if there is none.

    Braces may nest, and ``\{`` is no brace. A box that was cut off does not count; of a box in a box the inner
    one does. Boxes with only a comma, "and" or "or" between them are one answer, ``\boxed{1}$ or $\boxed{2}`` is
    ``1, 2``. Takes time in proportion to the text, whatever it says.
    """
    answers: list[str] = []
    end = 0  # of the last box
    # Of each open box: its start, the start of its content, braces outside, boxes complete before.
    boxes: list[tuple[int, int, int, int]] = []
    depth = complete = 0
    first = completion.find(r"\boxed")
    for brace in _BRACE.finditer(completion, first) if first >= 0 else ():
        if brace[0] == "}":
            depth = max(depth - 1, 0)
            if boxes and depth == boxes[-1][2]:
                box, start, _, before = boxes.pop()
                if complete == before:  # no box inside
                    if not _BETWEEN.fullmatch(completion, end, box):
                        answers = []
                    answers.append(completion[start : brace.start()].strip())
                    end = brace.end()
                complete += 1
        elif brace[0] == "{" or brace[0].startswith(r"\boxed"):
            if brace[0] != "{":
                boxes.append((brace.start(), brace.end(), depth, complete))
            depth += 1
    return ", ".join(dict.fromkeys(answers)) if answers else None


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for judge in self._judges:
            judge.stop()

    def grade(self, golds: Sequence[str], answers: Sequence[str | None]) -> list[str]:
        """Verdicts ``"correct"``, ``"wrong"`` or ``"unknown"``, in order; see :func:`grade`."""
        if len(golds) != len(answers):
            raise ValueError(f"{len(golds)} gold answers and {len(answers)} answers; there must be as many")
        for position, gold in enumerate(golds):
            if not isinstance(gold, str) or not gold.strip():
                raise ValueError(f"position {position}: the gold answer must be text, got {gold!r}")
        pairs = [_pair(_plain(gold), _plain(answer or "")) for gold, answer in zip(golds, answers, strict=True)]
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


def grade(
    golds: Sequence[str], answers: Sequence[str | None], timeout: float = 5.0, workers: int | None = None
) -> list[str]:
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


def _recurring(decimal: re.Match[str]) -> str:
    r"""A fraction for a decimal such as ``0.1\overline{6}``."""
    whole, once, again = decimal[1] or "0", decimal[2], decimal[3]
    return f"\\frac{{{int(whole + once + again) - int(whole + once)}}}{{{'9' * len(again)}{'0' * len(once)}}}"


_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_DEGREES = r"\s*(?:\^\s*\{?\s*\\circ\s*\}?)"
# Signs that models write in place of commands. Of the many others, math-verify knows the usual ones.
_SIGNS = str.maketrans(
    {
        **{
            sign: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", sign).split("⁄"))
            for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
        },
        "°": r"^\circ ",
        "²": "^2",
        "³": "^3",
        "·": r"\cdot ",
        "∞": r"\infty ",
        "≈": r"\approx ",
        "−": "-",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)
# Spellings that mean the same and that math-verify does not read, or reads as something else.
_SPELLINGS = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\\!\s*|(?<!\\)\$|^\\quad|^\\approx", ""),  # thin spaces, formula signs
        (r"√\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?:√|\\sqrt)\s*(\d+|(?<=√)[a-z])", r"\\sqrt{\1}"),  # √13, \sqrt13
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"^(?:negative|minus)\s+(?=[\d\\.])", "-"),
        (
            r"(?<![\d.,])(\d{1,3})((?:(?:\s|\\[,;: ]|~)\d{3})+)(?![\d,])",  # 1 234
            lambda found: found[1] + re.sub(r"\D", "", found[2]),
        ),
        (r"\\[,;:]\s*", " "),
        (r"^(-?\d+)\s+(\d+)\s*/\s*(\d+)$", r"\1\\frac{\2}{\3}"),  # 2 1/2
        (r"(\d*)\.(\d*)\\(?:overline|bar)\s*\{?(\d+)\}?", _recurring),
        (r"(?<=\d)\^?\s*\{?(?:\\[a-z]+\s*\{\s*)?(?:st|nd|rd|th)\s*\}{0,2}$", ""),  # 12^{\text{th}}
        (
            r"(?<=\d)\s*(\\text\s*\{)?\s*\b(hundred|thousand|million|billion|trillion)(?![a-zA-Z])",
            lambda found: rf" \times 10^{{{_POWERS[found[2]]}}}{found[1] or ''}",
        ),
        (rf"({_DEGREES})\s*[CF]$", r"\1"),
        (r"(?:\\text\s*\{\s*)?(?<![a-zA-Z])percent\b(?:\s*\})?", r"\\%"),
        (rf"(\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\\left)?[({{]?\s*)(\d+(?:\.\d+)?){_DEGREES}", r"\1\\frac{\2\\pi}{180}"),
        (r"^\\(?:text|textbf|mathrm|mathbf)\s*\{(?![^{}]*[a-zA-Z]{3})([^{}]*\d[^{}]*)\}$", r"\1"),  # \text{n = 6}
        (r"(?<=\d)(?:,|\{,\})(?=\d{3}(?:,\d{3})*\})", ""),  # \frac{1}{20,000}
        (r"(?<![\w\\.])(\d+\.?\d*|\.\d+)[eE]([+-]?\d+)(?![\w.])", r"\1 \\times 10^{\2}"),  # 4.5e33 is no product with e
        (r"(?<=\d)\.(?=\s*/)", ""),  # 1./3
        (r"\\[dtc]?frac\s*(\\[a-zA-Z]+)\s*([0-9a-zA-Z])", r"\\frac{\1}{\2}"),  # \frac\pi 2
        (r"_\{\\([a-zA-Z]+)\s*\}", r"_{\1}"),  # L_{\odot}: a name in a name
        (r"(?<![\\a-zA-Z])E(?=_)", r"\\text{E}"),  # E_1 is no power of e
        (r"\\gamma(?![a-zA-Z])", r"\\text{gamma}"),  # nor is every gamma Euler's function
    )
]
# A unit is text after the answer, or words after a number. What takes something back is no unit: "2 or none".
_TEXT = r"\\(?:text|textnormal|textrm|textit|textbf|mbox|mathrm|mathbf)\s*"
_POWER = r"(?:\^\s*\{?-?\d\}?)?"
_SYMBOLS = "(?:mm|cm|dm|km|in|ft|yd|mi|mg|kg|lb|oz|ms|min|hr|mL|ml|Hz|Pa|[mgshLNJWVAK])"
_UNIT = re.compile(rf"(?:(?:[\s/~]|\\cdot|\\[,;: ])*{_TEXT}\{{(?:[^{{}}\d]|(?<=[a-z^])\d)*\}}{_POWER})+$")
_WORDS = re.compile(
    rf"(?<=[\d}})])(?:\s|\\ |~)+(?:{_SYMBOLS}{_POWER}\s*/\s*{_SYMBOLS}"  # m/s, or words of more than one letter
    rf"|(?:[a-zA-Z]{{3,}}|{_SYMBOLS}(?<=[a-zA-Z]{{2}}))(?:[\s/]+[a-zA-Z]+)*){_POWER}$"
)
_SYMBOL = re.compile(rf"(?<=[\d}})])(?:\s|\\ |~)*(?:{_TEXT}\{{\s*)?({_SYMBOLS})\s*\}}?{_POWER}$")
_HEDGE = re.compile(
    r"\b(?:or|and|if|not?|none|nor|but|maybe|perhaps|possibly|probably|least|most|except|unless|when|where|plus|minus"
    r"|halves|thirds|tenths|hundredths|factorial)\b|\?",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]")
_NUMBER = re.compile(
    r"(?P<digits>[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?)(?:\s*\\(?:times|cdot)\s*10\^\{?(?P<power>[+-]?\d{1,4})\}?)?"
    r"(?P<percent>\s*\\?%)?"
)
_MARGIN = 5e-7  # of numbers that count as equal: half a sixth decimal
_BASE = re.compile(r"-?[\d.]+_\{?(\d+)\}?")
_CHOOSE = re.compile(r"\\[dt]?binom.*(?:\d{5}|\^)|(?:\d{5}|\^).*\\choose")  # is computed as soon as it is read
_CHOICE = re.compile(rf"(?:{_TEXT}\{{)?\s*\(?([A-J])\)?\s*\}}?")
_SAID = re.compile(rf"{_TEXT}\{{([^{{}}]*)\}}")
_CHOSEN = re.compile(rf"(?:{_TEXT}\{{)?\s*\(([A-J])\)")  # (B) Circle
_PROSE = re.compile(r"(?<![\\{a-zA-Z])[a-zA-Z]{2,}\s+[a-zA-Z]{2,}")
_FORMULA = re.compile(r"[=^_\\]")


def _plain(text: str) -> str:
    """An answer without the space around it and the full stop of its sentence, spelled plainly."""
    text = text.strip()
    if len(text) > LONGEST:
        return text
    text = text.translate(_SIGNS)
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text.strip().rstrip(".,;\\ "))
    return text.strip()


def _bare(text: str, *units: re.Pattern[str]) -> str:
    """An answer without its unit. One in plain words is a unit only after a number, not after a variable."""
    for unit in units:
        found = unit.search(text)
        if found and found.start() and not _HEDGE.search(found[0]):
            bare = text[: found.start()].rstrip()
            if unit is _UNIT or not _LETTER.search(bare):
                return bare
    return text


def _pair(gold: str, answer: str) -> tuple[str, str]:
    """The two texts to compare: without their units, unless these differ, and with the letter of a choice alone."""
    if max(len(gold), len(answer)) > LONGEST:
        return gold, answer
    symbols = _SYMBOL.search(gold), _SYMBOL.search(answer)
    if None in symbols or symbols[0][1] == symbols[1][1]:  # not 5 m and 5 cm
        gold = _bare(gold, _UNIT, _WORDS)
        answer = _bare(answer, _UNIT) if _LETTER.search(gold) else _bare(answer, _UNIT, _WORDS, _SYMBOL)
    choice, chosen = _CHOICE.fullmatch(gold), _CHOSEN.match(answer)
    if choice and chosen and len(re.findall(r"\([A-J]\)", answer)) == 1:
        gold, answer = choice[1], chosen[1]
    said = _SAID.fullmatch(gold)
    if said and said[1].strip().casefold() == re.sub(rf"^{_TEXT}\{{|\}}$", "", answer).strip().casefold():
        answer = gold
    if "." in gold and _number(gold):  # of 2/3 \approx 0.667 the decimal
        answer = answer.rpartition(r"\approx")[2].strip()
    if r"\ln" in gold:  # and who writes log for it means the same
        answer = re.sub(r"\\log(?![_a-zA-Z])", r"\\ln", answer)
    return gold, answer


def _number(text: str) -> tuple[Decimal, bool] | None:
    r"""The number that a text writes in digits, such as ``1,250.5`` or ``3 \times 10^{8}``, and whether in percent."""
    found = _NUMBER.fullmatch(text)
    if not found or not any(map(str.isdigit, found["digits"])):
        return None
    return Decimal(f"{found['digits'].replace(',', '')}e{found['power'] or 0}"), bool(found["percent"])


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
    if None in numbers:
        return None
    (right, percent), (found, also) = numbers
    same = (
        _equal(right, found)
        or percent != also
        and _equal(right / (100 if percent else 1), found / (100 if also else 1))
    )
    return "correct" if same else "wrong"


class _Judge:
    """One process that runs this file and answers a line of JSON with a verdict."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, pair: tuple[str, str], timeout: float) -> str:
        """The verdict on a pair, ``"unknown"`` after ``timeout`` seconds."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )  # the same order of terms each time
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


def _parsed(text: str) -> Any:
    """What math-verify reads, None if nothing.

    A letter at the end is a variable; units are gone already. The text must be mathematics as a whole. math-verify's
    search for a number in any text would find a 2 in "> 2".
    """
    from dataclasses import replace

    from math_verify import LatexExtractionConfig, parse
    from sympy import Derivative, I, Symbol

    deepest = max(accumulate((char in "({[") - (char in ")}]") for char in text), default=0)
    if deepest > DEEPEST or _CHOOSE.search(text):
        raise ValueError(f"too much to compute: {text}")
    latex = LatexExtractionConfig()
    latex = replace(latex, normalization_config=replace(latex.normalization_config, units=False))
    found = parse(f"\\boxed{{{text}}}", [latex], "no_fallback", parsing_timeout=None, raise_on_error=True)
    if not found:
        return None
    _check_size(found[0])
    # dv/dt is an unknown of a differential equation; sympy would say that it is 0, for v names no function of t.
    names = {rate: Symbol(str(rate)) for rate in found[0].atoms(Derivative) if rate.expr.is_Symbol}
    # The letters of "2 i t" are complex to math-verify, and those of "2it" real: other letters.
    names |= {
        letter: I if letter.name == "i" else Symbol(letter.name, real=True)
        for letter in found[0].free_symbols
        if letter.name == "i" or not letter.is_real
    }
    return found[0].xreplace(names) if names else found[0]


def _check_size(expression: Any) -> tuple[float, int]:
    """About the size of a number that is not computed yet, and its terms when its powers are multiplied out.

    ``ValueError`` where computing them would take too long. So the text decides whether an answer with an absurd
    number is compared, and not the speed of the machine.
    """
    from sympy import Add, Integral, MatrixBase, Mul, Number, Pow, Product, Sum, factorial

    parts = expression.flat() if isinstance(expression, MatrixBase) else expression.args
    sizes, terms = zip(*map(_check_size, parts), strict=True) if parts else ((), ())
    counts = (
        sizes[1:] if isinstance(expression, (Pow, Sum, Product)) else sizes if isinstance(expression, factorial) else ()
    )
    if max(counts, default=0) > LARGEST or isinstance(expression, Integral):
        raise ValueError(f"too much to compute: {type(expression).__name__}")
    size, number = max(sizes, default=1.0), max(terms, default=1)
    try:
        if isinstance(expression, Pow):
            number = math.comb(int(sizes[1]) + terms[0] - 1, terms[0] - 1)
            size = max(sizes[0], 1) ** sizes[1]
        elif isinstance(expression, (Sum, Product)):
            number *= int(max(counts))
        elif isinstance(expression, Number):
            size = float(abs(expression)) if expression.is_finite else 0.0
        elif isinstance(expression, factorial):
            size = math.gamma(size + 1)
        elif isinstance(expression, Add):
            size, number = sum(sizes), sum(terms)
        elif isinstance(expression, Mul):
            size, number = math.prod(max(each, 1) for each in sizes), math.prod(terms)
    except OverflowError:
        size = math.inf
    if number > TERMS:
        raise ValueError(f"too much to compute: {number} terms")
    return size, number


def _verdict(gold: str, answer: str) -> str:
    """The algebra's verdict on one pair, without math-verify's own timeouts, which would count as wrong."""
    from math_verify import verify
    from math_verify.grader import is_equation
    from sympy import Eq, Expr, FiniteSet, Interval, Tuple

    def equal(found: Any) -> bool:
        if found is None:
            return False
        if isinstance(right, (Interval, Tuple)) and isinstance(found, FiniteSet) and not found.atoms(Eq):
            return False  # 1,2 is not (1,2)
        if is_equation(found) and not is_equation(right):  # of 3+4=7 each number must be right; 7=2 is not 2
            sides = [side for part in found.atoms(Eq) for side in part.args]
            if not all(equal(side) for side in sides if isinstance(side, Expr) and not side.free_symbols):
                return False
        if isinstance(right, Expr) and isinstance(found, Expr) and not right.free_symbols:
            size = abs(right.doit().evalf())
            change = ((found - right) / right).doit().evalf() if size.is_Float and 0 < size < 0.01 else None
            if (
                change is not None and change.is_comparable
            ):  # six decimals, as math-verify has it, are few of this number
                return bool(abs(change) < _MARGIN)
        return verify(right, found, timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True)

    try:
        if _PROSE.search(gold) and _FORMULA.search(gold):  # a formula with conditions: read as one of its parts
            return "unknown"
        right = _parsed(gold)
        if right is None:
            return "unknown"
        bases = _BASE.fullmatch(gold), _BASE.fullmatch(answer)
        if bases[1] and (not bases[0] or bases[0][1] != bases[1][1]):
            return "wrong"
        return "correct" if equal(_parsed(answer)) else "wrong"
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
