"""What became of a batch: its answers, as a sequence, a table or JSON lines."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.policies import POLICIES

if TYPE_CHECKING:
    import pandas as pd

#: From this share on, what is left of a budget is said with the way to use it.
UNUSED = 0.1

#: Characters that JSON may hold as they are, and that a terminal obeys: DEL and the second set of controls.
CONTROLS = re.compile("[\x7f-\x9f]")


class Answer(NamedTuple):
    """What became of one query.

    Attributes
    ----------
    question, text : str
        ``text`` is the completion: data, as the model wrote it. Empty if the query was abandoned.
    finish_reason : str
        ``"stop"``: ended by itself; ``"length"``: stopped by its cap or the budget; ``"abandoned"``: never begun;
        ``"failed"``: refused by the server, or broken.
    granted, used : int
        Tokens of the completion, the end token included; of a failed one those that the server may charge.
    reason : str or None
        Why it was abandoned or stopped, or failed.
    thoughts : str
        What the server kept apart from the text as reasoning; its tokens are among those used.
    """

    question: str
    text: str
    finish_reason: str
    granted: int
    used: int
    reason: str | None
    thoughts: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Answers(Sequence[Answer]):
    """A batch that was answered: a sequence of :class:`Answer`, in the order of the questions.

    Attributes
    ----------
    answers : tuple of Answer
    policy, accounting : str
    budget : int
        Tokens.
    price : float or None
        See :class:`clear_lib.serving.Outcome`.
    rounds : int
        Steps that it took: 1 unless queries were paused and continued.
    model : str
        Name of the engine's model.
    """

    answers: tuple[Answer, ...]
    policy: str
    accounting: str
    budget: int
    price: float | None
    rounds: int
    model: str

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, position: Any) -> Any:
        return self.answers[position]

    @property
    def granted(self) -> NDArray[np.int64]:
        """Tokens that each query was granted."""
        return np.array([answer.granted for answer in self.answers], dtype=np.int64)

    @property
    def used(self) -> NDArray[np.int64]:
        """Tokens that each query used."""
        return np.array([answer.used for answer in self.answers], dtype=np.int64)

    def to_frame(self) -> pd.DataFrame:
        """A row a query, with the fields of :class:`Answer` as columns."""
        import pandas as pd

        return pd.DataFrame(self.answers, columns=Answer._fields)

    def to_jsonl(self, target: str | Path, fields: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Write a JSON object a query, as ``python -m clear_lib run`` does; ``python -m clear_lib fit`` reads them.

        The ``target`` is a file, which appears whole or not at all, or ``"-"``, the standard output. ``fields`` are
        more fields of each line, before ours.
        """
        pairs = zip(fields or [{}] * len(self), self.answers, strict=True)
        write_lines(target, (self._line(own, answer) for own, answer in pairs))

    def metrics(self) -> str:
        """The batch in numbers, in the text format of Prometheus, for its Pushgateway or a folder of text files."""
        named = {name: getattr(self, name) for name in ("model", "policy", "accounting")}
        shared = ",".join(f"{name}={json.dumps(text, ensure_ascii=False)}" for name, text in named.items())
        kinds = Counter(answer.finish_reason for answer in self.answers)
        tokens = {"budget": self.budget, "granted": self.granted.sum(), "used": self.used.sum()}
        lines = ["# TYPE clear_answers gauge"]
        lines += [f'clear_answers{{{shared},finish_reason="{kind}"}} {number}' for kind, number in kinds.items()]
        lines += ["# TYPE clear_tokens gauge"]
        lines += [f'clear_tokens{{{shared},kind="{kind}"}} {number}' for kind, number in tokens.items()]
        return "\n".join(lines) + "\n"

    def _line(self, own: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        written = bool(answer.text) or answer.finish_reason in ("stop", "length")
        return {
            "question": answer.question,
            **own,
            "tokens": answer.granted,
            "active": answer.finish_reason != "abandoned",
            "reason": answer.reason,
            "completion": answer.text if written else None,
            **({"reasoning": answer.thoughts} if answer.thoughts else {}),
            "n_tokens": answer.used if written or answer.used else None,
            "finished": answer.finish_reason == "stop",
            "finish_reason": answer.finish_reason,
            "model": self.model,
        }

    def _more(self) -> str:
        """How what was left unused could have been used."""
        if all(answer.finish_reason == "stop" for answer in self.answers):
            return ": every question has its answer"
        if self.accounting == "caps":
            way = "--accounting refunds (in Python accounting='refunds')"
            return f": where the engine can pause, {way} gives it to others"
        return ": whoever has not finished has its cap, or failed; a higher --cap (cap=) would let them go on"

    def __repr__(self) -> str:
        kinds = [answer.finish_reason for answer in self.answers]
        used, rounds = f"{self.used.sum():,} used", "" if self.rounds <= 1 else f", in {self.rounds} rounds"
        if self.accounting == "caps":
            used = f"{self.granted.sum():,} granted, {used}"
        failed = f", {kinds.count('failed'):,} failed" if "failed" in kinds else ""
        lines = [
            f"{POLICIES[self.policy].label}, {self.accounting}: {len(self):,} queries, a budget of {self.budget:,} "
            f"completion tokens",
            f"  {kinds.count('stop'):,} finished, {kinds.count('length'):,} stopped, "
            f"{kinds.count('abandoned'):,} abandoned{failed}",
            f"  tokens: {used}{rounds}",
        ]
        if (unused := 1 - int(self.used.sum()) / max(self.budget, 1)) >= UNUSED:
            lines.append(f"  {unused:.0%} of the budget unused{self._more()}")
        if self.price is not None:
            lines.append(f"  price {self.price:.3g} per token")
        for kind in ("failed", "abandoned"):
            some = [answer for answer in self.answers if answer.finish_reason == kind]
            lines += [f"  {kind}: {_short(answer.question)}: {answer.reason}" for answer in some[:3]]
            lines += [f"  … and {len(some) - 3:,} more"] if len(some) > 3 else []
        return "\n".join(lines)


def _short(text: str, most: int = 40) -> str:
    """The beginning of a text, on one line, in characters that are safe to print."""
    return repr(text if len(text) <= most else text[:most] + "…")


def write_lines(target: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines into a file, which appears whole or not at all, or to the standard output (``"-"``).

    Text is written as it is, but what a terminal would obey and what has no UTF-8 (a lone surrogate) stays an escape.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    data = text.encode(errors="backslashreplace")
    if target == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return sys.stdout.buffer.flush()
    aside = Path(f"{target}.{os.getpid()}.writing")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        raise ValueError(f"{target}: {error.strerror}") from None
    finally:
        with suppress(OSError):  # of the same kind, and it would hide the first
            aside.unlink(missing_ok=True)
