"""Carries an allocation out: caps, refunds, and serving step by step, on a recording or on a live engine.

Most of the book replays a recording. Where the engine really runs, :func:`regenerate` sees whether the replay was
right, and :class:`EngineStepper` pauses and continues generations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from clear_lib.allocation.forecasts import Forecasts, vector
from clear_lib.allocation.policies import POLICIES, Allocation, allocate, staged
from clear_lib.allocation.stages import Stages
from clear_lib.engines import Engine

#: What may be at most the budget: the tokens granted; the tokens used, all caps scaled by one factor; the tokens
#: used, by the policy's caps for a larger budget.
ACCOUNTINGS = ("caps", "refunds", "overbooked")

#: Arguments of :func:`serve` with one value per query.
PER_QUERY = ("lengths", "correct", "estimates")


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


@dataclass(frozen=True, eq=False)
class Outcome:
    """A batch that was served.

    Attributes
    ----------
    granted : int64 array of shape (n,)
        Tokens that each query was allowed in the end: its cap.
    used : int64 array of shape (n,)
        Tokens that it used.
    finished : bool array of shape (n,)
        Whether it ended by itself.
    price : float or None
        Of the last tokens that were granted, correct answers per token (``clear-sequential``), or that of the
        policy's market; None where there is none.
    budget : int
        Tokens to give. At least the sum of ``granted`` (caps) or of ``used`` (refunds).
    rounds : int
        Steps that it took: how often a paused batch went on, and the first time.
    policy, accounting : str
    allocation : Allocation or None
        What the policy granted at first; None of a sequential policy.
    """

    granted: NDArray[np.int64]
    used: NDArray[np.int64]
    finished: NDArray[np.bool_]
    price: float | None
    budget: int
    rounds: int
    policy: str
    accounting: str
    allocation: Allocation | None = None


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


def _by_price(ledger: Ledger, stages: Stages) -> float | None:
    """Serve stages in the order of their prices until the budget is used; the price of the last one.

    Everything that the budget could pay for even if no query ended early would be served anyway, so it is served at
    once, in one step; what was not used then pays for more. The outcome is that of serving stage by stage.
    """
    n, k = stages.prices.shape
    costs = np.diff(stages.ends, axis=1, prepend=0).ravel()
    order = np.argsort(-stages.prices.ravel(), kind="stable")
    order = order[costs[order] > 0]
    price = None
    while ledger.left > 0:
        order = order[~ledger.finished[order // k]]
        if not order.size:
            break
        paid = np.cumsum(costs[order[: ledger.left]])  # a stage is a token at least
        count = int(np.searchsorted(paid, ledger.left, side="right"))
        served, order = order[:count], order[count:]
        tokens = np.bincount(served // k, weights=costs[served], minlength=n).astype(np.int64)
        if count == 0:  # the next stage is begun with what is left
            served = order[:1]
            costs[served] -= ledger.left
            tokens[served // k] = ledger.left
        price = float(stages.prices.flat[served[-1]])
        queries = np.flatnonzero(tokens)
        ledger.step(queries, tokens[queries])
    return price


def _by_scale(ledger: Ledger, caps: NDArray[np.int64], limit: float) -> None:
    """Serve caps, and scale them up, all by one factor and up to the limit, until the budget is used.

    As :func:`_by_price`: the factor that the budget could pay for even if no query ended early is served at once.
    """
    while ledger.left > 0:
        alive = np.flatnonzero((caps > 0) & ~ledger.finished & (ledger.used < limit))
        if not alive.size:
            break
        own, used = caps[alive].astype(float), ledger.used[alive]

        def more(scale: float) -> NDArray[np.int64]:
            return np.maximum(np.minimum(np.floor(own * scale), limit) - used, 0).astype(np.int64)

        low, high = 0.0, (ledger.left + used.sum() + 1.0) / own.min()
        while (middle := (low + high) / 2) not in (low, high):
            low, high = (middle, high) if more(middle).sum() <= ledger.left else (low, middle)
        tokens = more(low)
        if not tokens.any():  # fewer tokens are left than queries are next: one each, the first in position
            tokens[np.argsort((used + 1) / own, kind="stable")[: ledger.left]] = 1
        ledger.step(alive[tokens > 0], tokens[tokens > 0])


def serve(
    policy: str,
    forecasts: Forecasts,
    budget: int,
    stepper: Stepper,
    *,
    accounting: str = "caps",
    cap: int | None = None,
    **settings: Any,
) -> Outcome:
    """Serve a batch under a budget.

    With ``accounting="caps"`` the policy's caps are the bill: their sum is at most the budget, and a query that ends
    early returns nothing. With ``"refunds"`` only tokens that are *used* count. A policy of kind ``"cap"`` then starts
    with the same caps, and all of them are scaled up by one factor, as far as the returned tokens reach: the tokens
    used equal the budget at the end. A cap of 0 stays 0 under scaling, and no query runs past ``cap``. So when every
    query with a cap has ended or is at ``cap`` and tokens are left, the policy allocates these anew among those that
    it had granted nothing, and so on. No hindsight is needed: a paused query simply goes on.

    With ``"overbooked"``, too, only tokens that are used count, but the policy decides itself what to do with more:
    it allocates a larger budget than there is, the largest of which no more than the real one will be used
    (:func:`overbook`). That takes hindsight, so it works on a recording only.

    A policy of kind ``"sequential"`` knows only refunds. It serves the stage with the highest price, whichever query
    that belongs to (:mod:`clear_lib.allocation.stages`).

    Parameters
    ----------
    policy : str
        Name in the registry.
    forecasts : Forecasts
    budget : int
        Tokens for the whole batch.
    stepper : Stepper
        Fresh: no query has run.
    accounting : {"caps", "refunds", "overbooked"}
    cap : int, optional
        Most tokens that one query can get (context limit).
    **settings
        Of the policy, and what else :func:`clear_lib.allocation.policies.allocate` takes (``lengths=``, ``correct=``,
        ``estimates=``).

    Returns
    -------
    Outcome

    Raises
    ------
    ValueError
        As :func:`clear_lib.allocation.policies.allocate`; an unknown accounting, or one that does not fit the policy; a stepper
        of another size, or one that lies: it used more than it was granted or less than nothing, finished twice, or
        stopped without finishing. Names the query.
    """
    if accounting not in ACCOUNTINGS:
        raise ValueError(f"unknown accounting {accounting!r}; known: {', '.join(ACCOUNTINGS)}")
    if stepper.n != forecasts.n:
        raise ValueError(f"the stepper has {stepper.n} queries, the forecasts have {forecasts.n}")
    if policy in POLICIES and POLICIES[policy].kind == "sequential":
        if accounting != "refunds":
            raise ValueError(
                f"policy {policy!r} pays for what it uses; it needs accounting='refunds', not {accounting!r}"
            )
        stages = staged(forecasts, budget, policy, cap=cap, **settings)
        ledger, allocation = Ledger(stepper, budget), None
        price = _by_price(ledger, stages)
    else:
        booked = budget
        if accounting == "overbooked":
            booked = overbook(policy, forecasts, budget, stepper, cap=cap, **settings)
        allocation = allocate(forecasts, booked, policy, cap=cap, **settings)
        ledger, price = Ledger(stepper, budget), allocation.price
        if accounting == "refunds":
            _with_refunds(ledger, allocation, forecasts, cap, settings)
        elif allocation.active.any():
            ledger.step(np.flatnonzero(allocation.active), allocation.tokens[allocation.active])
    return Outcome(
        ledger.granted, ledger.used, ledger.finished, price, int(budget), ledger.rounds, policy, accounting, allocation
    )


def overbook(
    policy: str, forecasts: Forecasts, budget: int, stepper: Stepper, *, cap: int | None = None, **settings: Any
) -> int:
    """The budget to tell a policy so that the tokens used are the real one, found by bisection on a recording.

    As an airline sells more seats than it has. Where more budget can mean fewer tokens used, there may be several; one
    is found, and it is affordable.

    Parameters
    ----------
    policy, forecasts, budget, stepper, cap, **settings
        See :func:`serve`.

    Returns
    -------
    int
        Tokens, at least ``budget``, and at most what it takes to let every query run as far as it can.

    Raises
    ------
    ValueError
        If the stepper is not a recording.
    """
    if not isinstance(stepper, ReplayStepper):
        raise ValueError(f"overbooking takes hindsight: it needs a ReplayStepper, not a {type(stepper).__name__}")

    def affordable(booked: int) -> bool:
        tokens = allocate(forecasts, booked, policy, cap=cap, **settings).tokens
        return int(np.minimum(tokens, stepper.lengths).sum()) <= budget

    low, most = int(budget), max(int(budget), stepper.n * int(cap or stepper.lengths.max()))
    high = min(2 * low + 1, most)
    while low < most and affordable(high):
        low, high = high, min(2 * high, most)
    while high - low > max(1, budget // 256):
        middle = (low + high) // 2
        low, high = (middle, high) if affordable(middle) else (low, middle)
    return low


def _with_refunds(
    ledger: Ledger, allocation: Allocation, forecasts: Forecasts, cap: int | None, settings: Mapping[str, Any]
) -> None:
    """Serve an allocation with refunds, and allocate again among the rest when nobody can use them."""
    rest = np.arange(ledger.finished.size)
    caps = allocation.tokens
    while caps.any():
        _by_scale(ledger, caps, math.inf if cap is None else cap)
        rest = rest[caps[rest] == 0]
        if not rest.size or ledger.left == 0:
            break
        own = {name: np.asarray(value)[rest] if name in PER_QUERY else value for name, value in settings.items()}
        again = allocate(forecasts.part(rest), ledger.left, allocation.policy, cap=cap, **own)
        caps = np.zeros_like(caps)
        caps[rest] = again.tokens


def choose_rungs(caps: ArrayLike, estimates: ArrayLike, rungs: Mapping[str, float]) -> NDArray[np.object_]:
    """The soft instruction for each query: the longest rung that is expected to fit its cap (eq. 24).

    The paper asks the model to "keep the entire response within at most b completion tokens". A model that knows
    a ladder of styles instead is asked for the longest style whose expected length, the teacher's estimate times
    the length of the rung, is within ``b``, and for the shortest one where none is.

    Parameters
    ----------
    caps, estimates : array of shape (n,)
        Hard caps ``b_i`` and the teacher's estimates ``r_i`` of the free length, tokens.
    rungs : mapping
        Length of each rung as a multiple of the free one, shortest first.

    Returns
    -------
    object array of shape (n,)
        Names of rungs.
    """
    names, ratios = np.array(list(rungs), dtype=object), np.array(list(rungs.values()), dtype=float)
    fits = np.outer(np.asarray(estimates, float), ratios) <= np.asarray(caps, float)[:, None]
    return names[np.maximum(fits.sum(axis=1) - 1, 0)]


class Regenerated(NamedTuple):
    """Real generation under caps beside its recording, see :func:`regenerate`.

    ``used`` are the tokens generated, ``prefix`` says where the completion is the beginning of the recorded one,
    as replay assumes, and ``mismatches`` counts where it is not.
    """

    used: NDArray[np.int64]
    prefix: NDArray[np.bool_]
    mismatches: int


def regenerate(engine: Engine, recorded: pd.DataFrame, caps: ArrayLike, progress: str | None = None) -> Regenerated:
    """Decode recorded prompts again, greedily and under hard caps, and compare with the recording.

    Parameters
    ----------
    engine : Engine
    recorded : pandas.DataFrame
        Greedy rollouts: ``prompt, completion, length``, shape ``(n, …)``.
    caps : int array of shape (n,)
        Tokens granted to each; a query with none is not decoded.
    progress : str, optional
        Label of a progress line.

    Raises
    ------
    ValueError
        If a rollout was not greedy, since a sample cannot be repeated under a cap.
    """
    if (recorded["temperature"] != 0).any():
        row = int(np.argmax(recorded["temperature"].to_numpy() != 0))
        raise ValueError(
            f"row {row}: sampled at temperature {recorded['temperature'].iloc[row]}; only greedy rollouts "
            f"are beginnings of one another"
        )
    caps = np.asarray(caps, dtype=np.int64)
    completions = engine.generate(list(recorded["prompt"]), list(caps), progress=progress)
    used = np.array([completion.length for completion in completions], dtype=np.int64)
    prefix = np.array(
        [
            whole.startswith(completion.text)
            for whole, completion in zip(recorded["completion"], completions, strict=True)
        ]
    )
    prefix &= used == np.minimum(recorded["length"].to_numpy(), caps)
    return Regenerated(used, prefix, int((~prefix).sum()))
