"""Was the answer right? The final boxed answer is extracted, and that alone goes to math-verify.

A whole completion would verify as right when it only restates the question, so it is never graded. Answers are
compared in processes of their own, because some make a computer algebra system run forever; those are killed
after a timeout, and their verdict is ``"unknown"``, not ``"wrong"``.
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
from types import TracebackType

#: Every verdict that there is.
VERDICTS = ("correct", "wrong", "unknown")

_BOX = re.compile(r"\\boxed\s*\{")
_WHOLE = re.compile(r"[+-]?\d+")


def extract_answer(completion: str) -> str | None:
    r"""Content of the last complete ``\boxed{…}``; None if there is none.

    Braces may nest, and ``\{`` is no brace. A box that was cut off does not count; of a box in a box the inner
    one does.
    """
    answer, start = None, 0
    while box := _BOX.search(completion, start):
        content = _until_closed(completion, box.end())
        if content is None:
            start = box.end()  # never closed: a later box may be, inside it
        else:
            answer, start = content, box.end() + len(content) + 1
    if answer is None:
        return None
    return extract_answer(answer) if _BOX.search(answer) else answer.strip()


def _until_closed(text: str, start: int) -> str | None:
    """Text from ``start`` to the brace that closes the group, None if it stays open."""
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[start:position]
        position += 1
    return None


class Grader:
    """Judges pairs of gold and answer in processes that live as long as it does; use it in a ``with`` statement.

    Parameters
    ----------
    timeout : float
        Seconds for one pair. A pair that takes longer is ``"unknown"``.
    workers : int, optional
        Processes, by default one per core and at most 8. They start with the first pair that needs one.
    """

    def __init__(self, timeout: float = 5.0, workers: int | None = None):
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
        self.timeout = timeout
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
        pairs = [(_plain(gold), None if answer is None else _plain(answer))
                 for gold, answer in zip(golds, answers, strict=True)]
        for pair in pairs:
            if pair not in self._verdicts and (verdict := _at_once(*pair)):
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


def _plain(text: str) -> str:
    """An answer without the space around it and the full stop of its sentence."""
    return text.strip().removesuffix(".").rstrip()


def _at_once(gold: str, answer: str | None) -> str | None:
    """The verdict where it takes no algebra: no answer, the same text, two whole numbers."""
    if not answer:
        return "wrong"
    if gold == answer:
        return "correct"
    if len(gold) < 1000 > len(answer) and _WHOLE.fullmatch(gold) and _WHOLE.fullmatch(answer):
        return "correct" if int(gold) == int(answer) else "wrong"
    return None


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
        process = self._process
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(pair) + "\n")
            process.stdin.flush()
            verdict = process.stdout.readline().strip()
        except BrokenPipeError:
            verdict = ""
        timer.cancel()
        if not verdict:  # killed by the timer, or by the answer itself
            self.stop()
        return verdict or "unknown"

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _verdict(gold: str, answer: str) -> str:
    """What math-verify says about one pair, without its own timeouts, which would count as wrong."""
    from math_verify import parse, verify

    try:
        parsed = [parse(f"\\boxed{{{text}}}", parsing_timeout=None, raise_on_error=True) for text in (gold, answer)]
        if not parsed[0]:
            return "unknown"
        return "correct" if verify(*parsed, timeout_seconds=None, raise_on_error=True) else "wrong"
    except Exception:  # of any kind: the comparison failed, and that is the verdict
        return "unknown"


def _serve() -> None:
    """The loop of a grading process: a line of JSON in, a verdict out."""
    logging.disable()
    _verdict("1", "1")  # load everything before the clock starts
    print("ready", flush=True)
    for line in sys.stdin:
        print(_verdict(*json.loads(line)), flush=True)


if __name__ == "__main__":
    _serve()
