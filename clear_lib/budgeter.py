"""CLEAR as a wrapper: an engine, a forecaster and a policy in one object that answers a batch under a budget.

>>> from clear_lib import Budgeter
>>> answers = Budgeter(engine, forecaster).run(prompts, budget=128_000)  # doctest: +SKIP
"""

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.policies import POLICIES, Policy
from clear_lib.allocation.policies.rule import HINDSIGHT
from clear_lib.allocation.problem import Problem, number
from clear_lib.answers import Answer, Answers
from clear_lib.engines import Engine
from clear_lib.jsonlines import check_whole
from clear_lib.predictor import load, warn_of_other_model
from clear_lib.reasoner import name_of
from clear_lib.serving import EngineStepper, Outcome, serve
from clear_lib.serving.journal import Journal
from clear_lib.serving.steppers import Piece

__all__ = ["Answer", "Answers", "Budgeter", "decide", "usable"]

#: What tells a model of its own budget (TALE-EP), after the question.
INSTRUCTION = "\nLet's think step by step and use less than {budget} tokens."

log = logging.getLogger(__name__)


class Budgeter:
    """Answers batches of questions, each batch within a budget of completion tokens.

    Only *completion* tokens count, the end token included. Prompts are not charged, nor reading them again after a
    pause, nor the forecaster.

    Parameters
    ----------
    engine : Engine
        Writes the completions, greedily (:mod:`clear_lib.engines`).
    forecaster : object or path or None
        Anything with ``predict(texts) -> Forecasts``, or a folder in which one was saved. None if the policy needs no
        forecast (``uniform``).
    policy : str, optional
        A name in :data:`clear_lib.allocation.policies.POLICIES`, sequential ones included. The oracles know what a wrapper
        cannot know, and are refused. By default what ``fit`` found best on the forecaster's logs; see :func:`decide`.
    accounting : {"caps", "refunds"}, optional
        Whether the tokens *granted* or those *used* are within the budget, see :func:`clear_lib.serving.serve`. By
        default refunds where the engine can pause, and caps where it cannot.
    template : str
        The engine's prompt, with ``{question}`` where the question goes, and ``{budget}`` where the tokens first granted
        go. ``tale-ep`` puts an instruction with these after the question if the template has no place for them. The
        forecaster sees the question alone.
    cap : int, optional
        Most tokens of one completion; by default what the engine's context leaves beside the longest prompt.
    model : str, optional
        Name of the engine's model, to be compared with the model that taught a saved forecaster. By default as the
        engine has it.
    **settings
        Of the policy, such as ``epsilon=64``.

    Raises
    ------
    ValueError
        For an unknown policy or setting, a policy that cannot work here, refunds with an engine that cannot pause, a
        template without ``{question}``, a cap below 1, or a folder that holds no forecaster.

    Warns
    -----
    OtherModelWarning
        If the forecaster was saved with the name of another model than the engine's.
    """

    def __init__(
        self,
        engine: Engine,
        forecaster: Any,
        policy: str | None = None,
        *,
        accounting: str | None = None,
        template: str = "{question}",
        cap: int | None = None,
        model: str | None = None,
        **settings: Any,
    ):
        if policy is None and forecaster is None:
            policy = "uniform"
        if not isinstance(template, str) or "{question}" not in template:
            raise ValueError(f"the template must contain {{question}}, got {template!r:.80}")
        if policy is not None:
            usable(policy).checked(settings)
            if forecaster is None and set(POLICIES[policy].needs) - {"estimate"}:
                raise ValueError(
                    f"policy {policy!r} needs a forecaster: anything with predict(texts), or the folder of one"
                )
        if isinstance(forecaster, (str, Path)):
            forecaster = load(forecaster)
            warn_of_other_model(forecaster.trained_on, [model or name_of(engine.model)])
        if forecaster is not None and not callable(getattr(forecaster, "predict", None)):
            raise ValueError(f"a forecaster has predict(texts), or is the folder of one; got {forecaster!r:.80}")
        self.engine, self.forecaster, self.policy, self.settings = engine, forecaster, policy, settings
        pauses, sequential = getattr(engine, "pauses", True), policy and POLICIES[policy].kind == "sequential"
        self.accounting = accounting or ("refunds" if pauses or sequential else "caps")
        if self.accounting == "refunds" and not pauses:
            raise ValueError(
                "refunds pause a query and let it go on, and this engine cannot: a server can if it returns token ids, "
                "as vLLM's does without chat. Take accounting='caps' and a policy that has caps"
            )
        self.template = template
        self.cap = None if cap is None else number("cap", cap, low=1, whole=True)
        self.model = model or name_of(engine.model)

    def run(
        self,
        questions: Sequence[str],
        budget: int,
        *,
        estimates: ArrayLike | None = None,
        progress: str | None = None,
        out: str | Path | None = None,
        resume: bool = False,
        fields: Sequence[Mapping[str, Any]] | None = None,
        stop: threading.Event | None = None,
    ) -> Answers:
        """Answer a batch.

        A request that the server refuses, or that fails, ends with its reason; the others go on.

        Parameters
        ----------
        questions : sequence of str, length n
            With the default template, prompts.
        budget : int
            Completion tokens for the whole batch.
        estimates : array of shape (n,), optional
            Of a teacher, tokens; ``tale-ep`` needs them.
        progress : str, optional
            Label of a progress bar, which counts the budget's tokens.
        out : path, optional
            JSON lines (:meth:`Answers.to_jsonl`). While the batch runs, every answer is appended to ``<out>.part`` as
            it comes, so that nothing is lost if the run breaks off; the file itself appears at the end.
        resume : bool
            Go on with the part file of a run that broke off, within the same budget.
        fields : sequence of mapping, length n, optional
            More fields of each line of ``out``.
        stop : threading.Event, optional
            Once it is set, by another thread, the next answer to come is the last one kept.

        Returns
        -------
        Answers
            An empty batch answers empty.

        Raises
        ------
        ValueError
            As :func:`clear_lib.serving.serve`, before anything is decoded; questions that are no texts; a prompt that
            leaves nothing of the context; forecasts that lack what the policy needs; a part file of another run, or
            one that is there without ``resume``.
        ModelError
            The engine cannot go on. What it had answered is in the part file.
        """
        questions = _texts(questions)
        if out is None and resume:
            raise ValueError("resume=True goes on with a part file: give out=, the file that was being written")
        if fields is not None and len(fields) != len(questions):
            raise ValueError(f"{len(fields)} fields for {len(questions)} questions; there must be as many")
        if not questions:
            budget = number("budget", budget, whole=True)
            answers = Answers((), self.policy or "uniform", self.accounting, budget, None, 0, self.model)
            if out is not None:
                answers.to_jsonl(out)
            return answers
        blind = self.forecaster is None
        forecasts = Forecasts(np.zeros(len(questions))) if blind else self.forecaster.predict(questions)
        if estimates is not None:
            forecasts = replace(forecasts, estimate=estimates)
        policy, settings = self._decided(forecasts)
        prompts = [partial(self._prompt, policy, question) for question in questions]
        cap = _room(self.engine, [prompt(budget) for prompt in prompts]) if self.cap is None else self.cap
        problem = Problem(forecasts, budget, cap)
        if out is None:
            opened = nullcontext(SimpleNamespace(recorded={}, forecasts=forecasts, append=lambda piece: None))
        else:
            opened = Journal(out, self._described(questions, problem, policy, settings), forecasts, resume)
        with opened as journal, _bar(progress, problem.budget, journal.recorded) as bar:
            problem = replace(problem, forecasts=journal.forecasts)
            stepper = EngineStepper(self.engine, prompts, journal.recorded, _listener(journal, bar, stop))
            outcome = serve(problem, stepper, policy, accounting=self.accounting, **settings)
            answers = self._answers(questions, stepper, outcome)
            if out is not None:
                answers.to_jsonl(out, fields)
        return answers

    def _answers(self, questions: list[str], stepper: EngineStepper, outcome: Outcome) -> Answers:
        kinds = np.where(outcome.finished, "stop", np.where(outcome.granted > 0, "length", "abandoned")).tolist()
        kinds = ["failed" if error else kind for error, kind in zip(stepper.errors, kinds, strict=True)]
        why = [error or reason for error, reason in zip(stepper.errors, outcome.reasons(), strict=True)]
        tokens = outcome.granted.tolist(), outcome.used.tolist()
        columns = questions, stepper.texts, kinds, *tokens, why, stepper.thoughts
        rows = tuple(map(Answer._make, zip(*columns, strict=True)))
        return Answers(rows, outcome.policy, self.accounting, outcome.budget, outcome.price, outcome.rounds, self.model)

    async def arun(self, questions: Sequence[str], budget: int, **given: Any) -> Answers:
        """As :meth:`run`, in a thread of its own. If it is cancelled, the next answer to come is the last one kept."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self.run, questions, budget, stop=stop, **given)
        finally:
            stop.set()

    def _decided(self, forecasts: Forecasts) -> tuple[str, dict[str, Any]]:
        """Name and settings of the policy; ``ValueError`` if the forecasts lack what it needs."""
        advised = getattr(self.forecaster, "advice", None) or {}
        entry, settings = decide(self.policy, self.settings, forecasts, advised.get(self.accounting))
        for need in entry.needs:
            if need in ("spread", "solvable") and getattr(forecasts, need) is None:
                raise ValueError(
                    f"policy {entry.name!r} needs the {need} of the forecasts, and this forecaster gives none; "
                    f"one that `python -m clear_lib fit` makes does"
                )
        if "estimate" in entry.needs and forecasts.estimate is None:
            raise ValueError(f"policy {entry.name!r} needs estimates=, the tokens that a teacher expects (`estimate`)")
        return entry.name, settings

    def _prompt(self, policy: str, question: str, budget: int) -> str:
        """The prompt of a question, with TALE-EP's instruction where that needs it; the question stays as it is."""
        template = self.template
        if policy == "tale-ep" and "{budget}" not in template:
            template = template.replace("{question}", "{question}" + INSTRUCTION)
        return template.replace("{budget}", str(budget)).replace("{question}", question)

    def _described(self, questions: list[str], problem: Problem, policy: str, settings: Any) -> dict[str, Any]:
        """What a part file says that its run is of."""
        own = {name: getattr(self, name) for name in ("accounting", "model", "template")}
        asked = hashlib.sha256(json.dumps(questions).encode()).hexdigest()
        run = {"questions": asked, "policy": policy, "settings": settings, "budget": problem.budget, "cap": problem.cap}
        return own | run


def decide(
    policy: str | None, settings: Mapping[str, Any], forecasts: Forecasts, advice: Mapping[str, Any] | None = None
) -> tuple[Policy, dict[str, Any]]:
    """The entry and the settings of a policy, or of the best one if None is asked for.

    That is the one of ``advice`` (what ``fit`` found best, for one accounting); without it ``clear-lognormal`` where
    spread and chance are known, else ``clear``. Constants that were not given are those of the advice.
    """
    if policy is None:
        known = forecasts.spread is not None and forecasts.solvable is not None
        policy = advice["policy"] if advice else "clear-lognormal" if known else "clear"
    tuned = advice["settings"].get(policy, {}) if advice else {}
    return usable(policy), usable(policy).checked({**tuned, **settings})


def usable(policy: str) -> Policy:
    """The entry of a policy that works without hindsight; ``ValueError`` names those that do."""
    able = [name for name, entry in POLICIES.items() if not set(entry.needs) & set(HINDSIGHT)]
    if policy not in able:
        why = "unknown policy"
        if policy in POLICIES:
            needs = " and ".join(need for need in POLICIES[policy].needs if need in HINDSIGHT)
            why = f"nobody knows the {needs} of queries that have not run, so this policy cannot be used:"
        raise ValueError(f"{why} {policy!r}; these work: {', '.join(able)}")
    return POLICIES[policy]


def _texts(given: Sequence[str]) -> list[str]:
    """The questions as a list; ``ValueError`` if they are no texts."""
    questions = list(given) if isinstance(given, Iterable) and not isinstance(given, (str, Mapping)) else [None]
    if not all(isinstance(question, str) for question in questions):
        raise ValueError(f"questions must be a list of texts, got {given!r:.80}")
    for position, question in enumerate(questions):
        check_whole(question, f"question {position}")
    return questions


def _bar(progress: str | None, budget: int, recorded: Mapping[Any, Piece]) -> Any:
    """A progress bar over the budget; none without a label, or where nobody looks."""
    from tqdm import tqdm

    had = sum(piece.completion.length for piece in recorded.values())
    hidden = True if progress is None else None  # None: unless it is a terminal
    return tqdm(total=budget, initial=had, desc=progress, unit=" tokens", disable=hidden, mininterval=1.0)


def _listener(journal: Any, bar: Any, stop: threading.Event | None) -> Callable[[Piece], None]:
    """What is done with each answer as it comes: keep it, count it, and stop if that was asked for."""

    def heard(piece: Piece) -> None:
        journal.append(piece)
        bar.update(piece.completion.length)
        if piece.completion.error:
            log.warning("question %d failed: %s", piece.query, piece.completion.error)
        if stop and stop.is_set():
            raise KeyboardInterrupt

    return heard


def _room(engine: Engine, prompts: list[str]) -> int:
    """Tokens that the engine's context leaves to the completion of the longest prompt."""
    if not hasattr(engine, "tokenizer"):
        raise ValueError(
            f"the engine {engine.name!r} cannot count the tokens of a prompt: give cap=, the most tokens of "
            f"one completion"
        )
    lengths = [len(engine.tokenizer(prompt).input_ids) for prompt in prompts]
    longest = int(np.argmax(lengths))
    if lengths[longest] >= engine.context:
        raise ValueError(
            f"prompt {longest} has {lengths[longest]} tokens and leaves nothing of the context of {engine.context}"
        )
    return engine.context - lengths[longest]
