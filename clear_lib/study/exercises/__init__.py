"""The exercises of the chapters check themselves: ``check("auction", auction)`` says right, or gives a hint.

Numbers and words are compared with seals (salted hashes: no answer is read by chance), functions on hidden cases.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

__all__ = ["check", "names", "sealed"]

#: In front of what is sealed, so that no list of hashes of small numbers opens it.
SALT = "a token for your thoughts"


@cache
def _answers() -> dict[str, dict[str, Any]]:
    return json.loads(files(__name__).joinpath("answers.json").read_text("utf-8"))


def names() -> list[str]:
    """The exercises that can be checked."""
    return sorted(_answers())


def check(name: str, answer: Any) -> bool:
    """Whether an answer (number, words, collection of these, or function) to an exercise is right; prints a hint if not.

    Numbers may be rounded to the unit that the exercise names; words may be in any case, and several in any order.
    """
    if name not in _answers():
        near = difflib.get_close_matches(str(name), names(), n=3) or names()
        raise ValueError(f"no exercise is called {name!r}; there is: {', '.join(near)}")
    entry = _answers()[name]
    found = _opened(name, entry, answer) if "seals" in entry else _tried(name, answer)
    print(f"Right. {entry.get('right', '')}".strip() if found is None else f"Not yet. {found or entry['hint']}")
    return found is None


def sealed(name: str, answer: Any, step: float | None = None) -> dict[str, Any]:
    """The part of an entry of ``answers.json`` that belongs to an answer: for whoever writes an exercise."""
    offset = round(math.remainder(answer, step), 9) if step and np.ndim(answer) == 0 else 0.0
    entry = {"step": step, "offset": offset} if step else {}
    return entry | {"seals": [_seal(name, _plain(answer, step, offset))]}


def _opened(name: str, entry: dict[str, Any], answer: Any) -> str | None:
    """None if a seal fits, otherwise the hint for this very mistake, or none in particular."""
    if callable(answer):
        return "This exercise asks for a result, not for a function: call it first."
    try:
        plain = _plain(answer, entry.get("step"), entry.get("offset", 0.0))
    except (TypeError, ValueError):
        return f"This exercise asks for {'a number' if entry.get('step') else 'words'}, and not for {answer!r}."
    seal = _seal(name, plain)
    return None if seal in entry["seals"] else entry.get("mistakes", {}).get(seal, "")


def _tried(name: str, answer: Any) -> str | None:
    """None if a function does what it should, otherwise what it did not, and the hint."""
    from clear_lib.study.exercises.hidden import JUDGES

    try:
        complaint = JUDGES[name](answer)
    except Exception as error:  # of the reader's code, whatever it is
        complaint = f"Trying it ends in {type(error).__name__}: {error}."
    return complaint and f"{complaint} {_answers()[name]['hint']}"


def _plain(answer: Any, step: float | None, offset: float) -> str:
    """An answer without what does not matter: a number in whole steps, words in lower case and without signs."""
    if isinstance(answer, str) or np.ndim(answer) == 0 and not isinstance(answer, (set, frozenset, dict)):
        if step is None:
            return " ".join(re.sub(r"[^a-z0-9]+", " ", str(answer).casefold()).split())
        number = float(answer)
        return f"{round((number - offset) / step)}" if math.isfinite(number) else str(number)
    parts: Iterable[str] = (_plain(each, step, offset) for each in answer)
    return ",".join(parts if step else sorted(parts))


def _seal(name: str, plain: str) -> str:
    return hashlib.sha256(f"{SALT}|{name}|{plain}".encode()).hexdigest()[:16]
