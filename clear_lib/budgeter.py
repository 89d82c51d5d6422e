"""CLEAR as a wrapper: an engine, a forecaster and a policy in one object that answers a batch under a budget.

>>> from clear_lib import Budgeter
>>> answers = Budgeter(engine, forecaster, policy="clear").run(prompts, budget=128_000)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.policies import POLICIES, Policy
from clear_lib.allocation.problem import Problem
from clear_lib.engines import Engine
from clear_lib.predictor import load, warn_of_other_model
from clear_lib.reasoner import name_of
from clear_lib.serving import EngineStepper, serve
from clear_lib.serving.reasons import reasons

if TYPE_CHECKING:
    import pandas as pd

#: What no wrapper knows before a query has run.
HINDSIGHT = ("lengths", "correct")


class Forecaster(Protocol):
    """Forecasts what a question will cost from its text: see :mod:`clear_lib.predictor`."""

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """Forecasts of questions, in their order."""
        ...


class Answer(NamedTuple):
    """What became of one query.

    Attributes
    ----------
    question, text : str
        ``text`` is the completion: data, as the model wrote it. Empty if the query was abandoned.
    finish_reason : str
        ``"stop"``: ended by itself; ``"length"``: stopped by its cap or the budget; ``"abandoned"``: never begun.
    granted, used : int
        Tokens of the completion, the end token included.
    reason : str or None
        Why it was abandoned or stopped.
    """

    question: str
    text: str
    finish_reason: str
    granted: int
    used: int
    reason: str | None


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
    """

    answers: tuple[Answer, ...]
    policy: str
    accounting: str
    budget: int
    price: float | None
    rounds: int

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

    def __repr__(self) -> str:
        kinds = [answer.finish_reason for answer in self.answers]
        used, rounds = f"{self.used.sum():,} used", "" if self.rounds == 1 else f", in {self.rounds} rounds"
        if self.accounting == "caps":
            used = f"{self.granted.sum():,} granted, {used}"
        lines = [
            f"{POLICIES[self.policy].label}, {self.accounting}: {len(self):,} queries, a budget of {self.budget:,} "
            f"completion tokens",
            f"  {kinds.count('stop'):,} finished, {kinds.count('length'):,} stopped, "
            f"{kinds.count('abandoned'):,} abandoned",
            f"  tokens: {used}{rounds}",
        ]
        if self.price is not None:
            lines.append(f"  price {self.price:.3g} per token")
        left_out = [answer for answer in self.answers if answer.finish_reason == "abandoned"]
        lines += [f"  abandoned: {_short(answer.question)}: {answer.reason}" for answer in left_out[:3]]
        return "\n".join(lines + ([f"  … and {len(left_out) - 3:,} more"] if len(left_out) > 3 else []))


def _short(text: str, most: int = 40) -> str:
    """The beginning of a text, on one line, in characters that are safe to print."""
    return repr(text if len(text) <= most else text[:most] + "…")


class Budgeter:
    """Answers batches of questions, each batch within a budget of completion tokens.

    Only *completion* tokens count, the end token included. Prompts are not charged, nor reading them again after a
    pause, nor the forecaster.

    Parameters
    ----------
    engine : Engine
        Writes the completions, greedily (:mod:`clear_lib.engines`).
    forecaster : Forecaster or path or None
        Anything with ``predict(texts) -> Forecasts``, or a folder in which one was saved. None if the policy needs no
        forecast (``uniform``).
    policy : str
        A name in :data:`clear_lib.allocation.policies.POLICIES`, sequential ones included. The oracles know what a wrapper
        cannot know, and are refused.
    accounting : {"caps", "refunds"}, optional
        Whether the tokens *granted* or those *used* are within the budget, see :func:`clear_lib.serving.serve`. By
        default caps, as in the paper, and refunds for a sequential policy, which knows nothing else.
    template : str
        The engine's prompt, with ``{question}`` where the question goes. The forecaster sees the question alone.
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
        For an unknown policy or setting, a policy that cannot work here, a template without ``{question}``, or a
        folder that holds no forecaster.

    Warns
    -----
    OtherModelWarning
        If the forecaster was saved with the name of another model than the engine's.
    """

    def __init__(
        self,
        engine: Engine,
        forecaster: Forecaster | str | Path | None,
        policy: str = "clear",
        *,
        accounting: str | None = None,
        template: str = "{question}",
        cap: int | None = None,
        model: str | None = None,
        **settings: Any,
    ):
        entry = usable(policy)
        if "{question}" not in template:
            raise ValueError(f"the template must contain {{question}}, got {template!r:.80}")
        if forecaster is None and set(entry.needs) - {"estimate"}:
            raise ValueError(
                f"policy {policy!r} needs a forecaster: anything with predict(texts), or the folder of one"
            )
        if isinstance(forecaster, (str, Path)):
            forecaster = load(forecaster)
            warn_of_other_model(forecaster.trained_on, [model or name_of(engine.model)])
        self.engine, self.forecaster, self.policy = engine, forecaster, policy
        self.accounting = accounting or ("refunds" if entry.kind == "sequential" else "caps")
        self.template, self.cap, self.settings = template, cap, entry.checked(settings)

    def run(
        self, questions: Sequence[str], budget: int, *, estimates: ArrayLike | None = None, progress: str | None = None
    ) -> Answers:
        """Answer a batch.

        Parameters
        ----------
        questions : sequence of str, length n
            With the default template, prompts.
        budget : int
            Completion tokens for the whole batch.
        estimates : array of shape (n,), optional
            Of a teacher, tokens; ``tale-ep`` needs them.
        progress : str, optional
            Label of a progress line.

        Returns
        -------
        Answers

        Raises
        ------
        ValueError
            As :func:`clear_lib.serving.serve`, before anything is decoded; questions that are no texts; a prompt that
            leaves nothing of the context; forecasts that lack what the policy needs.
        """
        given, questions = questions, list(questions)
        if isinstance(given, str) or not all(isinstance(question, str) for question in questions):
            raise ValueError(f"questions must be a list of texts, got {given!r:.80}")
        if not questions:
            raise ValueError("questions is empty: give at least one")
        forecasts = self._forecasts(questions, estimates)
        prompts = [self.template.replace("{question}", question) for question in questions]
        cap = _room(self.engine, prompts) if self.cap is None else self.cap
        stepper = EngineStepper(self.engine, prompts, progress)
        problem = Problem(forecasts, budget, cap)
        outcome = serve(problem, stepper, self.policy, accounting=self.accounting, **self.settings)
        kinds = np.where(outcome.finished, "stop", np.where(outcome.granted > 0, "length", "abandoned"))
        rows = zip(
            questions,
            stepper.texts,
            kinds.tolist(),
            outcome.granted.tolist(),
            outcome.used.tolist(),
            reasons(outcome),
            strict=True,
        )
        return Answers(
            tuple(map(Answer._make, rows)), self.policy, self.accounting, outcome.budget, outcome.price, outcome.rounds
        )

    def _forecasts(self, questions: list[str], estimates: ArrayLike | None) -> Forecasts:
        """What the forecaster says of the questions, with the teacher's estimates."""
        if self.forecaster is None:
            forecasts = Forecasts(np.zeros(len(questions)))
        else:
            forecasts = self.forecaster.predict(questions)
        for need in POLICIES[self.policy].needs:
            if need in ("spread", "solvable") and getattr(forecasts, need) is None:
                raise ValueError(
                    f"policy {self.policy!r} needs the {need} of the forecasts, and this forecaster gives none; "
                    f"one that `python -m clear_lib fit` makes does"
                )
        return forecasts if estimates is None else replace(forecasts, estimate=estimates)


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
