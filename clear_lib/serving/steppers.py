"""Steppers serve queries bit by bit: from a recording, or by a live engine that pauses and continues.

A :class:`Ledger` keeps count of what each query was granted and has used, and believes no stepper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clear_lib.allocation.forecasts import vector

if TYPE_CHECKING:
    from clear_lib.engines import Engine


class Step(NamedTuple):
    """What one step of ``m`` queries brought.

    ``used``, int64 of shape ``(m,)``, are the tokens that each used, between 0 and what it was granted;
    ``finished``, bool, says which have ended by themselves. Who has not ended has used its whole grant.
    """

    used: NDArray[np.int64]
    finished: NDArray[np.bool_]


class Stepper(Protocol):
    """Serves queries bit by bit: a recording, or a live engine that pauses and continues.

    Attributes
    ----------
    n : int
        Number of queries.
    """

    n: int

    def step(self, queries: NDArray[np.int64], tokens: NDArray[np.int64]) -> Step:
        """Continue ``queries`` (positions, shape ``(m,)``, no two the same) by at most ``tokens`` each."""
        ...


class ReplayStepper:
    """Steps through recorded greedy rollouts: a query finishes at its recorded length.

    Parameters
    ----------
    lengths : int array of shape (n,)
        Tokens of the rollouts, at least 1. One that its cap cut off finishes there; what more tokens would have
        brought is not in the record.
    """

    def __init__(self, lengths: ArrayLike):
        self.lengths = vector("lengths", lengths, whole=True).astype(np.int64)
        self.used = np.zeros_like(self.lengths)
        self.n = self.lengths.size

    def step(self, queries: NDArray[np.int64], tokens: NDArray[np.int64]) -> Step:
        """See :class:`Stepper`; ``ValueError`` if a query has finished before."""
        left = self.lengths[queries] - self.used[queries]
        _refuse(left <= 0, queries, "has finished before and cannot go on")
        used = np.minimum(tokens, left)
        self.used[queries] += used
        return Step(used, used == left)


class EngineStepper:
    """Steps through live generations: a query is paused at its grant and continued from its tokens later.

    A pause keeps the tokens, not the engine's cache, so going on means reading prompt and tokens again. An engine
    that caches prefixes saves most of that.

    Parameters
    ----------
    engine : Engine
        Decodes greedily.
    prompts : sequence of str, length n
    progress : str, optional
        Label of the engine's progress line, one a step.

    Attributes
    ----------
    tokens : list of tuple of int, or None
        What has been generated for each query so far; None where the engine does not tell.
    texts : list of str
        The same as text.
    starts : int64 array of shape (n,)
        How often each was begun or continued: how often its prompt was read.
    reread : int
        Generated tokens that were read again.
    """

    def __init__(self, engine: Engine, prompts: list[str], progress: str | None = None):
        self.engine, self.prompts, self.n, self.progress = engine, list(prompts), len(prompts), progress
        self.tokens: list[tuple[int, ...] | None] = [() for _ in prompts]
        self.texts = [""] * self.n
        self.finished = np.zeros(self.n, dtype=bool)
        self.starts = np.zeros(self.n, dtype=np.int64)
        self.reread = 0

    def step(self, queries: NDArray[np.int64], tokens: NDArray[np.int64]) -> Step:
        """See :class:`Stepper`; ``ValueError`` if a query has finished before, or the engine did not tell its tokens."""
        _refuse(self.finished[queries], queries, "has finished before and cannot go on")
        begun = [self.tokens[query] for query in queries]
        _refuse(
            np.array([before is None for before in begun]),
            queries,
            "cannot go on after its pause: the engine does not "
            "tell which tokens it wrote. Serve it with accounting='caps'",
        )
        made = self.engine.generate(
            [self.prompts[query] for query in queries],
            list(tokens),
            progress=self.progress,
            begun=begun if any(begun) else None,
        )
        for query, before, completion in zip(queries, begun, made, strict=True):
            self.starts[query] += 1
            self.reread += len(before)
            self.tokens[query] = None if completion.tokens is None else (*before, *completion.tokens)
            self.texts[query] = self._text(query, completion.text)
            self.finished[query] = completion.finish_reason == "stop"
        return Step(np.array([completion.length for completion in made], dtype=np.int64), self.finished[queries])

    def _text(self, query: int, fresh: str) -> str:
        """All text of a query, ``fresh`` at its end. A pause may fall inside a character: then all is decoded anew."""
        if not self.texts[query] or not hasattr(self.engine, "tokenizer"):
            return self.texts[query] + fresh
        return self.engine.tokenizer.decode(self.tokens[query], skip_special_tokens=True)


def _refuse(wrong: NDArray[np.bool_], queries: NDArray[np.int64], what: str) -> None:
    """``ValueError`` that names the first query for which ``wrong`` is true."""
    if wrong.any():
        raise ValueError(f"query {queries[int(np.argmax(wrong))]} {what}")


class Ledger:
    """What each query has been granted and has used, and what is left of the budget. Believes no stepper.

    Parameters
    ----------
    stepper : Stepper
    budget : int
        Tokens.

    Attributes
    ----------
    granted, used : int64 arrays of shape (n,)
        Tokens from the start.
    finished : bool array of shape (n,)
    left, rounds : int
        Tokens of the budget, and steps so far.
    """

    def __init__(self, stepper: Stepper, budget: int):
        self.stepper, self.left, self.rounds = stepper, int(budget), 0
        self.granted = np.zeros(stepper.n, dtype=np.int64)
        self.used = np.zeros(stepper.n, dtype=np.int64)
        self.finished = np.zeros(stepper.n, dtype=bool)

    def step(self, queries: NDArray[np.int64], granted: NDArray[np.int64]) -> None:
        """Grant tokens, above 0, to queries that have not finished, both of shape ``(m,)``.

        Raises
        ------
        ValueError
            If the stepper's answer cannot be true; names the query.
        """
        used, finished = (np.asarray(part) for part in self.stepper.step(queries, granted))
        for name, part, kind in (("used", used, "whole numbers"), ("finished", finished, "True or False")):
            if part.shape != queries.shape or part.dtype.kind not in ("iu" if name == "used" else "b"):
                raise ValueError(
                    f"a step of {queries.size} queries must say {name} as so many {kind}, not as "
                    f"{part.dtype} of shape {part.shape}"
                )
        for wrong, what in (
            (used < 0, "went back: it used {used} tokens"),
            (used > granted, "used {used} tokens of the {granted} that it was granted"),
            (finished & (used == 0), "finished without using a token: it must have finished before"),
            (~finished & (used < granted), "stopped after {used} of {granted} tokens without having finished"),
        ):
            position = int(np.argmax(wrong))
            _refuse(wrong, queries, what.format(used=used[position], granted=granted[position]))
        self.granted[queries] = self.used[queries] + granted
        self.used[queries] += used
        self.finished[queries] = finished
        self.left -= int(used.sum())
        self.rounds += 1
