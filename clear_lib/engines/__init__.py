"""Engines: what turns prompts and caps into completions. One protocol, one module per engine.

A profile names its engine in ``engine``, and in ``engine_options`` what else that engine is told:

================  =============================================  ==================================================
``engine``        what decodes                                   ``engine_options``
================  =============================================  ==================================================
``transformers``  the transformers library, batched by us        ``device``
``vllm``          vLLM, in this process                          arguments of ``vllm.LLM``: ``tensor_parallel_size``,
                                                                 ``max_model_len``, ``block_size`` …
``openai``        a server that speaks OpenAI's protocol         ``base_url``, ``chat``, ``concurrency``, ``timeout``,
                                                                 ``retries``, ``context``, ``api_key_env``
``ray``           one of the first two, on a Ray cluster         ``engine``, ``workers``, ``gpus``, ``address``, and
                                                                 those of that engine
================  =============================================  ==================================================

All but ``transformers`` need an extra of the same name: ``pip install 'clear-lib[vllm]'``.
"""

from __future__ import annotations

import importlib
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from clear_lib.engines.errors import EngineError, plainly

if TYPE_CHECKING:
    from clear_lib.study.setup.profiles import Profile

# Threads that wait for each other sleep instead of spinning: on a busy machine a model decodes five times faster.
# Torch reads it when it is loaded, so it must come first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["ENGINES", "Completion", "Engine", "EngineError", "ModelEngine", "Request", "start"]

#: Engines that a profile can name, and their classes, each in the module of that name.
ENGINES = {"transformers": "TransformersEngine", "vllm": "VLLMEngine", "openai": "OpenAIEngine", "ray": "RayEngine"}


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt.

    Attributes
    ----------
    text : str
        The completion without special tokens.
    tokens : tuple of int or None
        Its token ids, the end token included; None from a server that does not tell them.
    finish_reason : str
        ``"stop"`` if the model ended by itself, ``"length"`` if its cap stopped it.
    counted : int, optional
        How many tokens there are by the count of a server that does not tell which.
    """

    text: str
    tokens: tuple[int, ...] | None
    finish_reason: Literal["stop", "length"]
    counted: int | None = None

    @property
    def length(self) -> int:
        """Tokens generated, the end token included."""
        return self.counted if self.tokens is None else len(self.tokens)


class Request(NamedTuple):
    """One prompt to complete, checked.

    ``prompt`` are token ids, what was begun included, or the text for a server that has the tokenizer; ``cap`` is at
    least 1; ``position`` is that of the prompt among those given.
    """

    position: int
    prompt: list[int] | str
    cap: int
    seed: int | None


class Engine(ABC):
    """Anything that completes prompts under one cap each.

    Attributes
    ----------
    name, version : str
        Written beside every rollout.
    context : int
        Tokens that a prompt and its completion may have together.
    ends : frozenset of int
        Tokens that end a completion, if they are known.
    """

    name: str
    version: str
    context: int
    model: str
    ends: frozenset[int] = frozenset()

    @abstractmethod
    def _read(self, prompts: Sequence[str], begun: Sequence[Sequence[int]] | None) -> list[list[int] | str]:
        """Token ids of prompts and what was begun after them, or texts, see :class:`Request`."""

    @abstractmethod
    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        """``(position, completion)`` of every request as it ends; requests come with the largest caps first."""

    def stream(
        self,
        prompts: Sequence[str],
        max_tokens: Sequence[int],
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        progress: str | None = None,
        begun: Sequence[Sequence[int]] | None = None,
    ) -> Iterator[tuple[int, Completion]]:
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
        EngineError
            A ``ValueError`` too: the engine cannot go on, for want of memory or because its server is gone.
        """
        requests, empty = self._requests(prompts, max_tokens, temperature, seeds, begun)
        for position in empty:
            yield position, Completion("", (), "length")
        waiting = {request.position for request in requests}
        bar = tqdm(total=len(requests), desc=progress, unit=" completions", disable=progress is None, mininterval=2.0)
        tokens = 0
        with bar, plainly(self.model):
            for position, completion in self._complete(requests, temperature) if requests else ():
                waiting.remove(position)  # KeyError if an engine yields one twice
                tokens += completion.length
                bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):,.0f} tokens/s", refresh=False)
                bar.update()
                yield position, completion
        if waiting:
            raise EngineError(f"the engine {self.name!r} lost {len(waiting)} of {len(requests)} completions")

    def generate(
        self,
        prompts: Sequence[str],
        max_tokens: Sequence[int],
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        progress: str | None = None,
        begun: Sequence[Sequence[int]] | None = None,
    ) -> list[Completion]:
        """Completions in the order of the prompts; see :meth:`stream`."""
        completions: dict[int, Completion] = dict(self.stream(prompts, max_tokens, temperature, seeds, progress, begun))
        return [completions[position] for position in range(len(prompts))]

    def _requests(
        self,
        prompts: Sequence[str],
        max_tokens: Sequence[int],
        temperature: float,
        seeds: Sequence[int] | None,
        begun: Sequence[Sequence[int]] | None,
    ) -> tuple[list[Request], list[int]]:
        """Requests, those with the largest caps first, in their order otherwise, and the positions of caps of 0."""
        caps = np.asarray(max_tokens)
        if caps.size and not np.issubdtype(caps.dtype, np.integer):
            raise ValueError(f"caps must be whole numbers of tokens, not {caps.dtype}")
        caps = caps.astype(np.int64)
        if caps.shape != (len(prompts),) or (seeds is not None and len(seeds) != len(prompts)):
            raise ValueError(
                f"{len(prompts)} prompts need as many caps and seeds, not {caps.shape} caps and "
                f"{'no' if seeds is None else len(seeds)} seeds"
            )
        if temperature < 0 or (temperature > 0 and seeds is None):
            raise ValueError(f"temperature {temperature}: must be 0, or positive with one seed per prompt")
        if begun is not None and (temperature != 0 or len(begun) != len(prompts)):
            raise ValueError(
                f"{len(begun)} beginnings for {len(prompts)} prompts at temperature {temperature}: must be "
                f"as many, and greedy"
            )
        for position, tokens in enumerate(begun or ()):
            if not self.ends.isdisjoint(tokens):
                raise ValueError(f"prompt {position}: its completion has ended and cannot be continued")
        read = self._read(prompts, begun)
        lengths = np.array([bool(row) if isinstance(row, str) else len(row) for row in read], dtype=np.int64)
        for position in np.flatnonzero((caps < 0) | (lengths + caps > self.context) | (lengths == 0)):
            raise ValueError(
                f"prompt {position}: {lengths[position]} tokens and a cap of {caps[position]}; the prompt "
                f"must not be empty, the cap not negative, and both fit the context of {self.context}"
            )
        order = np.argsort(-caps, kind="stable")
        requests = [
            Request(position, read[position], int(caps[position]), None if seeds is None else int(seeds[position]))
            for position in order[caps[order] > 0].tolist()
        ]
        return requests, np.flatnonzero(caps == 0).tolist()


class ModelEngine(Engine):
    """An engine that has the model's files: it knows the tokens.

    Parameters
    ----------
    model : str
        Folder of a checkpoint, or its name on the hub. Code that comes with a model is never run.
    revision : str, optional
        Revision on the hub.

    Raises
    ------
    EngineError
        If the model is unknown, gated, cannot be reached or is too large for the memory.
    """

    def __init__(self, model: str, revision: str | None = None):
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        self.model = model
        with plainly(model, revision):
            config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
            self.tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
            try:
                generation = GenerationConfig.from_pretrained(model, revision=revision)
            except OSError:  # a model need not have one
                generation = GenerationConfig.from_model_config(config)
        self.context = config.get_text_config().max_position_embeddings
        ends = generation.eos_token_id
        self.ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    def _read(self, prompts: Sequence[str], begun: Sequence[Sequence[int]] | None) -> list[list[int]]:
        ids = [self.tokenizer(prompt).input_ids for prompt in prompts]
        return ids if begun is None else [[*row, *tokens] for row, tokens in zip(ids, begun, strict=True)]

    def _completion(self, tokens: Sequence[int], ended: bool) -> Completion:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Completion(text, tuple(tokens), "stop" if ended else "length")


def start(profile: Profile, weights: str | Path | None = None) -> Engine:
    """The engine of a profile with the profile's model loaded.

    ``weights`` is the file of a profile that names one, or its folder; without it the hub is asked.

    Raises
    ------
    ValueError
        If the profile names an engine that does not exist, or options that the engine does not take, or no file of
        weights although one is given.
    EngineError
        If the engine is not installed, or cannot start; says what to do.
    """
    if profile.engine not in ENGINES:
        raise ValueError(f"unknown engine {profile.engine!r} in profile {profile.name!r}; known: {', '.join(ENGINES)}")
    from clear_lib import hub
    from clear_lib.reasoner import CHECKPOINT

    engine = getattr(importlib.import_module(f"clear_lib.engines.{profile.engine}"), ENGINES[profile.engine])
    model, revision = profile.model, profile.revision
    if model == "embedded":
        model, revision = str(CHECKPOINT), None
    elif profile.weights:
        with plainly(model, revision):
            model, revision = str(hub.local(hub.Weights(model, revision, **profile.weights), weights)), None
    elif weights is not None:
        raise ValueError(f"profile {profile.name!r} names no file of weights, so {str(weights)!r} has no use")
    given = {"model": model}
    if profile.engine != "openai":  # a server has chosen its weights and its precision
        given |= {"revision": revision, "dtype": profile.dtype, "batch_size": profile.batch_size}
    try:
        inspect.signature(engine).bind(**given, **profile.engine_options)
    except TypeError as error:
        raise ValueError(
            f"profile {profile.name!r}: the engine {profile.engine!r} does not take these engine_options: {error}"
        ) from None
    return engine(**given, **profile.engine_options)
