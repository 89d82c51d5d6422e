"""Steppers serve queries bit by bit: from a recording, or by a live engine that pauses and continues.

A :class:`Ledger` keeps count of what each query was granted and has used, and believes no stepper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clear_lib.allocation.forecasts import vector
from clear_lib.hub import ModelError

if TYPE_CHECKING:
    from clear_lib.engines import Completion, Engine


class Step(NamedTuple):
    """What one step of ``m`` queries brought, shape ``(m,)``."""

    used: NDArray[np.int64]  #: tokens of each, between 0 and what it was granted: all of it if it has not finished
    finished: NDArray[np.bool_]  #: which have ended by themselves


class Piece(NamedTuple):
    """What an engine wrote for one query in one round, and the tokens that it was granted for it."""

    round: int
    query: int
    granted: int
    completion: Completion


class Stepper(Protocol):
    """Serves queries bit by bit: a recording, or a live engine that pauses and continues.

    It may have ``failed``, a bool array of shape ``(n,)``: those that ended without finishing, because their requests
    failed. They may have used less than their grant, or have been charged for more.
    """

    n: int  #: number of queries

    def step(self, queries: NDArray[np.int64], tokens: NDArray[np.int64]) -> Step:
        """Continue ``queries`` (positions, shape ``(m,)``, no two the same) by at most ``tokens`` each."""
        ...


class ReplayStepper:
    """Steps through recorded greedy rollouts: a query finishes at its recorded length.

    ``lengths`` are tokens, whole and at least 1, of shape ``(n,)``. A rollout that its cap cut off finishes there; what
    more tokens would have brought is not in the record.
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

    A pause keeps the tokens, not the engine's cache: going on means reading prompt and tokens again, unless the engine
    caches prefixes.

    Parameters
    ----------
    engine : Engine
        Decodes greedily.
    prompts : sequence of str or callable, length n
        ``prompt(tokens)`` makes the prompt of a query from what it is granted first.
    recorded : mapping of (round, query) to Piece, optional
        What a former run of the same batch has brought: it is taken from there instead of the engine.
    heard : callable, optional
        ``heard(piece)`` is called for every other :class:`Piece` as soon as it is there.
    """

    tokens: list[tuple[int, ...] | None]  #: generated for each query so far; None where the engine does not tell
    texts: list[str]  #: the same as text
    thoughts: list[str]  #: what a server keeps apart as reasoning
    errors: list[str | None]  #: why a query failed
    starts: NDArray[np.int64]  #: how often each was begun or continued: how often its prompt was read
    reread: int  #: generated tokens that were read again

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[str | Callable[[int], str]],
        recorded: Mapping[tuple[int, int], Piece] | None = None,
        heard: Callable[[Piece], None] = lambda piece: None,
    ):
        self.engine, self.prompts, self.n = engine, list(prompts), len(prompts)
        self.recorded, self.heard, self.rounds = recorded or {}, heard, 0
        self.tokens, self.errors = [()] * self.n, [None] * self.n
        self.texts, self.thoughts = [""] * self.n, [""] * self.n
        self.finished, self.failed = np.zeros(self.n, dtype=bool), np.zeros(self.n, dtype=bool)
        self.starts, self.reread = np.zeros(self.n, dtype=np.int64), 0

    def step(self, queries: NDArray[np.int64], tokens: NDArray[np.int64]) -> Step:
        """See :class:`Stepper`; ``ValueError`` if a query has finished before, or the engine did not tell its tokens.

        ``ModelError`` if the engine breaks a cap, and no budget could be kept with it.
        """
        _refuse(self.finished[queries], queries, "has finished before and cannot go on")
        begun = [self.tokens[query] for query in queries]
        untold = "cannot go on after its pause: the engine does not tell which tokens it wrote. Serve it with "
        _refuse(np.array([before is None for before in begun]), queries, untold + "accounting='caps'")
        made = self._made(dict(zip(queries.tolist(), tokens.tolist(), strict=True)))
        for query, before in zip(queries.tolist(), begun, strict=True):
            completion = made[query]
            self.starts[query] += 1
            self.reread += len(before)
            self.tokens[query] = None if completion.tokens is None else (*before, *completion.tokens)
            self.texts[query], self.thoughts[query] = self._text(query, completion.text), completion.thoughts
            self.finished[query] = completion.finish_reason == "stop"
            self.errors[query], self.failed[query] = completion.error, completion.error is not None
        used = np.array([made[query].length for query in queries], dtype=np.int64)
        return Step(used, self.finished[queries])

    def _made(self, grants: dict[int, int]) -> dict[int, Completion]:
        """The completions of a round by query: recorded, or else made now."""
        self.rounds += 1
        for query, granted in grants.items():
            if callable(prompt := self.prompts[query]):
                self.prompts[query] = prompt(granted)
        before = [piece for (number, _), piece in self.recorded.items() if number == self.rounds]
        for piece in before:
            if piece.granted != (granted := grants.get(piece.query, 0)):
                raise ValueError(
                    f"question {piece.query} was granted {piece.granted} tokens in round {piece.round} of the run that "
                    f"broke off, and would be granted {granted} now: this is another plan, and cannot go on there"
                )
        made = {piece.query: piece.completion for piece in before}
        if rest := [query for query in grants if query not in made]:
            prompts, begun, caps = ([part[query] for query in rest] for part in (self.prompts, self.tokens, grants))
            stream = self.engine.stream(prompts, caps, begun=begun if any(begun) else None, keep_going=True)
            for position, completion in stream:
                made[rest[position]] = completion
                self.heard(Piece(self.rounds, rest[position], caps[position], completion))
                if completion.length > caps[position]:
                    raise ModelError(completion.error)
        return made

    def _text(self, query: int, fresh: str) -> str:
        """All text of a query, ``fresh`` at its end. A pause may fall inside a character: then all is decoded anew."""
        if not self.texts[query] or self.tokens[query] is None or not hasattr(self.engine, "tokenizer"):
            return self.texts[query] + fresh
        return self.engine.tokenizer.decode(self.tokens[query], skip_special_tokens=True)


def _refuse(wrong: NDArray[np.bool_], queries: NDArray[np.int64], what: str) -> None:
    """``ValueError`` that names the first query for which ``wrong`` is true."""
    if wrong.any():
        raise ValueError(f"query {queries[int(np.argmax(wrong))]} {what}")


class Ledger:
    """What each query has been granted and has used, and what is left of the budget, in tokens. Believes no stepper."""

    def __init__(self, stepper: Stepper, budget: int):
        self.stepper, self.left, self.rounds = stepper, int(budget), 0
        self.granted, self.used = np.zeros((2, stepper.n), dtype=np.int64)  # from the start
        self.finished, self.ended = np.zeros((2, stepper.n), dtype=bool)  # by themselves; or because they failed

    def step(self, queries: NDArray[np.int64], granted: NDArray[np.int64]) -> None:
        """Grant tokens, above 0, to queries that have not finished, both of shape ``(m,)``.

        ``ValueError`` names the query if the stepper's answer cannot be true.
        """
        # Copies: a stepper may not change what it was granted.
        used, finished = (np.asarray(part) for part in self.stepper.step(queries.copy(), granted.copy()))
        for name, part, kinds, said in (
            ("used", used, "iu", "whole numbers"),
            ("finished", finished, "b", "True or False"),
        ):
            if part.shape != queries.shape or part.dtype.kind not in kinds:
                raise ValueError(
                    f"a step of {queries.size} queries must say {name} as so many {said}, not as "
                    f"{part.dtype} of shape {part.shape}"
                )
        failed = np.asarray(getattr(self.stepper, "failed", np.zeros_like(self.finished)))[queries]
        for wrong, what in (
            (used < 0, "went back: it used {used} tokens"),
            ((used > granted) & ~failed, "used {used} tokens of the {granted} that it was granted"),
            (finished & (used == 0), "finished without using a token: it must have finished before"),
            (finished & failed, "finished and failed"),
            (
                ~(finished | failed) & (used < granted),
                "stopped after {used} of {granted} tokens without having finished",
            ),
        ):
            position = int(np.argmax(wrong))
            _refuse(wrong, queries, what.format(used=used[position], granted=granted[position]))
        self.granted[queries] = self.used[queries] + np.maximum(granted, used)
        self.used[queries] += used
        self.finished[queries] = finished
        self.ended[queries] = finished | failed
        self.left -= int(used.sum())
        self.rounds += 1
