"""Engines: what turns prompts and caps into completions. One protocol, one module per engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from clear_lib.profiles import Profile


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt.

    Attributes
    ----------
    text : str
        The completion without special tokens.
    tokens : tuple of int
        Its token ids, the end token included.
    finish_reason : str
        ``"stop"`` if the model ended by itself, ``"length"`` if its cap stopped it.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: Literal["stop", "length"]

    @property
    def length(self) -> int:
        """Tokens generated, the end token included."""
        return len(self.tokens)


class Engine(Protocol):
    """Anything that completes prompts under one cap each.

    Attributes
    ----------
    name, version : str
        Written beside every rollout.
    context : int
        Tokens that a prompt and its completion may have together.
    """

    name: str
    version: str
    context: int

    def stream(self, prompts: Sequence[str], max_tokens: Sequence[int], temperature: float = 0.0,
               seeds: Sequence[int] | None = None, progress: str | None = None,
               begun: Sequence[Sequence[int]] | None = None) -> Iterator[tuple[int, Completion]]:
        """Yield ``(position of the prompt, completion)`` in the order in which completions end.

        Parameters
        ----------
        prompts : sequence of str, length n
        max_tokens : sequence of int, length n
            Cap of each completion in tokens, the end token included. A cap of 0 gives an empty completion.
        temperature : float
            0 decodes greedily; above 0 samples from the distribution at this temperature.
        seeds : sequence of int, length n, optional
            Needed for sampling: a sample depends on its prompt and its seed, not on its batch.
        progress : str, optional
            Label of a progress line with tokens/s and what is left; none without it.
        begun : sequence of sequences of int, length n, optional
            Tokens that earlier completions of the prompts stopped after. They are continued, greedily, and what
            is yielded, and counts for the caps, are the tokens after those.

        Raises
        ------
        ValueError
            Unequal lengths, a negative cap, a prompt and cap beyond the context, sampling without seeds, continuing
            a sample or what has ended.
        """
        ...

    def generate(self, prompts: Sequence[str], max_tokens: Sequence[int], temperature: float = 0.0,
                 seeds: Sequence[int] | None = None, progress: str | None = None,
                 begun: Sequence[Sequence[int]] | None = None) -> list[Completion]:
        """Completions in the order of the prompts; see :meth:`stream`."""
        completions: dict[int, Completion] = dict(
            self.stream(prompts, max_tokens, temperature, seeds, progress, begun))
        return [completions[position] for position in range(len(prompts))]


def start(profile: Profile) -> Engine:
    """The engine of a profile with the profile's model loaded.

    Raises
    ------
    ValueError
        If the profile names an engine that does not exist.
    """
    if profile.engine != "transformers":
        raise ValueError(f"unknown engine {profile.engine!r} in profile {profile.name!r}; known: 'transformers'")
    from clear_lib.engines.transformers import TransformersEngine
    from clear_lib.reasoner import CHECKPOINT

    embedded = profile.model == "embedded"
    return TransformersEngine(str(CHECKPOINT) if embedded else profile.model,
                              revision=None if embedded else profile.revision,
                              dtype=profile.dtype, batch_size=profile.batch_size)
