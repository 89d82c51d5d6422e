"""Was the answer right? The final boxed answer is extracted, and that alone is compared with the gold answer.

A whole completion would verify as right when it only restates the question, so it is never graded. An answer is
untrusted input, and some make a computer algebra system run forever or take all memory. So answers are compared in
processes with bounds on time and memory; where a bound is hit the verdict is ``"unknown"``, not ``"wrong"``.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

from clear_lib.rollouts.spelling import MAX_CHARACTERS, normalize_pair, same_number

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
    ``1, 2``. Takes time linear in the length of the text.
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
    """The answer in a gold text that may be a whole solution: its last box, or what follows ``####`` (GSM8K)."""
    if (boxed := extract_answer(gold)) is not None:
        return boxed
    bare = re.search(r"\\boxed\s+(\w+)", gold)  # a few solutions have no braces
    return bare[1] if bare else gold.rpartition("####")[2].strip()


class Grader:
    """Grades answers in processes that live as long as it does; use it in a ``with`` statement.

    An answer that takes longer than ``timeout`` seconds of processor time (on Windows: of time) is ``"unknown"``.
    ``workers`` are processes, by default one per core and at most 8; they start with the first answer that needs one.
    Without ``shortcut`` equal texts and plain numbers are compared by algebra, too.
    """

    def __init__(self, timeout: float = 5.0, workers: int | None = None, shortcut: bool = True):
        if not 0 < timeout <= 1e6:
            raise ValueError(f"timeout must be above 0 seconds and at most a million, got {timeout}")
        self.timeout, self.shortcut = timeout, shortcut
        # Processes that wait for an answer; None is one that is still to be started.
        self._idle: list[subprocess.Popen[str] | None] = [None] * (workers or min(os.cpu_count() or 1, 8))
        self._verdicts: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._idle = [_stop(process) for process in self._idle]

    def grade(self, golds: Sequence[str], answers: Sequence[str | None]) -> list[str]:
        """``"correct"``, ``"wrong"``, or ``"unknown"`` (too slow, or failed) for answers, each against its gold answer.

        Gold answers are texts as they would stand in a box, answers what :func:`extract_answer` found; None is wrong.
        ``ValueError`` for sequences of unequal length or an empty gold answer, ``RuntimeError`` if no process starts.
        """
        if len(golds) != len(answers):
            raise ValueError(f"{len(golds)} gold answers and {len(answers)} answers; there must be as many")
        for position, gold in enumerate(golds):
            if not isinstance(gold, str) or not gold.strip():
                raise ValueError(f"position {position}: the gold answer must be text, got {gold!r}")
        pairs = [normalize_pair(gold, answer or "") for gold, answer in zip(golds, answers, strict=True)]
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._verdicts]
        self._verdicts |= {pair: verdict for pair in new if (verdict := _at_once(*pair, self.shortcut))}
        if new := [pair for pair in new if pair not in self._verdicts]:
            with ThreadPoolExecutor(len(self._idle)) as waiting:  # one thread waits for each process
                self._verdicts |= zip(new, waiting.map(self._compare, new), strict=True)
        return [self._verdicts[pair] for pair in pairs]

    def _compare(self, pair: tuple[str, str]) -> str:
        """The verdict of a process, ``"unknown"`` if it did not survive the pair."""
        process, verdict = self._idle.pop(), ""
        try:
            process = process or _start()
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps([*pair, self.timeout]) + "\n")
                process.stdin.flush()
                verdict = process.stdout.readline().strip()
        finally:
            self._idle.append(process if verdict else _stop(process))
        return verdict or "unknown"


def _at_once(gold: str, answer: str, shortcut: bool) -> str | None:
    """The verdict where it takes no algebra: no answer, one too long to be one, the same text, two numbers."""
    if not answer:
        return "wrong"
    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return "correct" if gold == answer else "unknown"
    same = (gold == answer or same_number(gold, answer)) if shortcut else None
    return None if same is None else "correct" if same else "wrong"


def _start() -> subprocess.Popen[str]:
    """A process that runs :mod:`clear_lib.rollouts.algebra` and is ready: its imports are no time of an answer.

    Process pools of libraries were considered: loky has no time limit for a task, and the workers of pebble and
    multiprocessing run the caller's script again, exchange pickles and have no fixed hash seed.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", Path(__file__).with_name("algebra.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONHASHSEED": "0"},  # the same order of terms each time
    )
    if process.stdout.readline().strip() != "ready":
        process.communicate()
        raise RuntimeError("the grading process did not start; is math-verify installed?")
    return process


def _stop(process: subprocess.Popen[str] | None) -> None:
    """End a process, if there is one; what it returns takes its place."""
    if process is not None:
        process.kill()
        process.communicate()
