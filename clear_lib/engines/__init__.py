"""Engines: what turns prompts and caps into completions. One protocol, one module per engine.

>>> engine = engines.start("transformers", "Qwen/Qwen2.5-0.5B-Instruct")
>>> engine.generate(["1 + 1 ="], [5])

================  ==========================================  =========================================================
engine            what decodes                                options of its own
================  ==========================================  =========================================================
``transformers``  the transformers library, batched by us     ``device``
``vllm``          vLLM, in this process                       those of ``vllm.LLM``, such as ``max_model_len``
``openai``        a server that speaks OpenAI's protocol      ``base_url``, ``chat``, … see its class
``ray``           one of the first two, on a Ray cluster      ``engine``, ``workers``, ``gpus``, ``address``, and theirs
================  ==========================================  =========================================================

``transformers`` needs the extra ``engines`` (``pip install 'clear-lib[engines]'``), the others that of their name.
"""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from clear_lib import reasoner
from clear_lib.allocation.problem import number
from clear_lib.hub import ModelError, explained

__all__ = ["ENGINES", "Completion", "Engine", "ModelEngine", "ModelError", "Request", "start"]

#: Engines by name, and their classes, each in the module of that name.
ENGINES = {"transformers": "TransformersEngine", "vllm": "VLLMEngine", "openai": "OpenAIEngine", "ray": "RayEngine"}


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt."""

    text: str  #: without special tokens
    tokens: tuple[int, ...] | None  #: token ids, the end token included; None from a server that does not return them
    finish_reason: Literal["stop", "length", "failed"]  #: ended by itself, stopped by its cap, or see ``error``
    counted: int | None = None  #: number of tokens by the count of a server that does not return them
    error: str | None = None  #: why the request failed; its tokens are those that the server may charge
    thoughts: str = ""  #: what a server keeps apart from the text as reasoning

    @property
    def length(self) -> int:
        """Tokens generated, the end token included."""
        return self.counted if self.tokens is None else len(self.tokens)


class Request(NamedTuple):
    """One prompt to complete: its position among those given, its token ids (or text, for a server), cap and seed."""

    position: int
    prompt: list[int] | str
    cap: int
    seed: int | None


class Engine(ABC):
    """Anything that completes prompts under one cap each."""

    name: str
    version: str
    model: str  #: name or folder
    context: int  #: maximum number of tokens of a prompt and its completion together
    ends: frozenset[int] = frozenset()  #: token ids that end a completion, if they are known
    pauses: bool = True  #: whether it can continue what it has begun (``begun``)

    @abstractmethod
    def _encode(self, prompts: Sequence[str], begun: Sequence[Sequence[int]] | None) -> list[list[int] | str]:
        """Token ids of each prompt followed by those in ``begun``, or texts; see :class:`Request`."""

    @abstractmethod
    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        """``(position, completion)`` of every request as it ends; requests come in order of decreasing cap."""

    def stream(
        self,
        prompts: Sequence[str],
        max_tokens: Sequence[int],
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        progress: str | None = None,
        begun: Sequence[Sequence[int]] | None = None,
        keep_going: bool = False,
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
            Required for sampling: a sample depends on its prompt and its seed, not on its batch.
        progress : str, optional
            Label of a progress bar with tokens/s; no bar without it.
        begun : sequence of sequences of int, length n, optional
            Token ids already generated after each prompt. Greedy decoding continues after them; only the new tokens
            are yielded and count towards the cap.
        keep_going : bool
            Yield a request that failed, with its ``error``, instead of raising.

        Raises
        ------
        ValueError
            Unequal lengths, a negative cap, a prompt and cap beyond the context, sampling without seeds, continuing
            a sample or a completion that has ended.
        ModelError
            A ``ValueError`` too: the engine cannot go on, for lack of memory or because its server is gone; or one
            request failed, without ``keep_going``.
        """
        from tqdm import tqdm

        requests = self._requests(prompts, max_tokens, temperature, seeds, begun)
        yield from ((request.position, Completion("", (), "length")) for request in requests if request.cap == 0)
        requests = [request for request in requests if request.cap]
        waiting, tokens = {request.position for request in requests}, 0
        bar = tqdm(total=len(requests), desc=progress, unit=" completions", disable=progress is None, mininterval=2.0)
        with bar, explained(self.model):
            for position, completion in self._complete(requests, temperature) if requests else ():
                waiting.remove(position)  # KeyError if an engine yields one twice
                if completion.error and not keep_going:
                    raise ModelError(completion.error)
                tokens += completion.length
                bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):,.0f} tokens/s", refresh=False)
                bar.update()
                yield position, completion
        if waiting:
            raise ModelError(f"the engine {self.name!r} lost {len(waiting)} of {len(requests)} completions")

    def generate(self, prompts: Sequence[str], *arguments: Any, **settings: Any) -> list[Completion]:
        """Completions in the order of the prompts; takes the arguments of :meth:`stream`."""
        completions = dict(self.stream(prompts, *arguments, **settings))
        return [completions[position] for position in range(len(prompts))]

    def _requests(
        self,
        prompts: Sequence[str],
        max_tokens: Sequence[int],
        temperature: float,
        seeds: Sequence[int] | None,
        begun: Sequence[Sequence[int]] | None,
    ) -> list[Request]:
        """The checked requests in order of decreasing cap, equal caps in the order of the prompts."""
        caps, n = np.asarray(max_tokens), len(prompts)
        if caps.size and caps.dtype.kind not in "iu":
            raise ValueError(f"caps must be whole numbers of tokens, not {caps.dtype}")
        if caps.shape != (n,) or (seeds is not None and len(seeds) != n):
            given = f"{caps.shape} caps and {'no' if seeds is None else len(seeds)} seeds"
            raise ValueError(f"{n} prompts need as many caps and seeds, not {given}")
        if temperature < 0 or (temperature > 0 and seeds is None):
            raise ValueError(f"temperature {temperature}: must be 0, or positive with one seed per prompt")
        if begun is not None and (temperature != 0 or len(begun) != n):
            given = f"{len(begun)} beginnings for {n} prompts at temperature {temperature}"
            raise ValueError(f"{given}: must be as many, and greedy")
        for position, tokens in enumerate(begun or ()):
            if not self.ends.isdisjoint(tokens):
                raise ValueError(f"prompt {position}: its completion has ended and cannot be continued")
        drawn = [None] * n if seeds is None else map(int, seeds)
        rows = zip(range(n), self._encode(prompts, begun), caps.tolist(), drawn, strict=True)
        requests = list(map(Request._make, rows))
        for position, prompt, cap, _ in requests:
            length = bool(prompt) if isinstance(prompt, str) else len(prompt)  # only the server can count a text
            if cap < 0 or length == 0 or length + cap > self.context:
                raise ValueError(
                    f"prompt {position}: {length:d} tokens and a cap of {cap}; the prompt must not be empty, the cap "
                    f"not negative, and both fit the context of {self.context}"
                )
        return sorted(requests, key=lambda request: -request.cap)


class ModelEngine(Engine):
    """An engine that has the files of a model, a folder or a name on the hub. Code that comes with it is never run.

    ``ModelError`` if the model is unknown, gated, cannot be reached or is too large for the memory.
    """

    def __init__(self, model: str, revision: str | None = None, batch_size: int = 256):
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        self.model, self.batch_size = model, number("batch_size", batch_size, low=1, whole=True)
        with explained(model, revision):
            config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
            self.tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
            try:
                generation = GenerationConfig.from_pretrained(model, revision=revision)
            except OSError:  # a model need not have one
                generation = GenerationConfig.from_model_config(config)
        self.context = config.get_text_config().max_position_embeddings
        ends = generation.eos_token_id
        self.ends = frozenset(ends if isinstance(ends, list) else {ends} - {None})

    def _encode(self, prompts: Sequence[str], begun: Sequence[Sequence[int]] | None) -> list[list[int]]:
        ids = [self.tokenizer(prompt).input_ids for prompt in prompts]
        return ids if begun is None else [[*row, *tokens] for row, tokens in zip(ids, begun, strict=True)]

    def _completion(self, tokens: Sequence[int], ended: bool) -> Completion:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Completion(text, tuple(tokens), "stop" if ended else "length")


def start(
    engine: str,
    model: str,
    /,
    *,
    revision: str | None = None,
    file: str | None = None,
    sha256: str | None = None,
    path: str | Path | None = None,
    **options: Any,
) -> Engine:
    """Load a model on an engine, one of :data:`ENGINES`.

    Parameters
    ----------
    model : str
        Its name on the hub, the folder of a checkpoint, ``"embedded"``, or its name on the server of ``"openai"``.
    revision : str, optional
        Commit of the hub.
    file, sha256 : str, optional
        The one GGUF file of the repository that holds the weights, and its hash.
    path : path, optional
        That file on this machine, or its folder; without it the hub is asked.
    **options
        Arguments of the engine: ``dtype``, ``batch_size``, and those of the table above.

    Raises
    ------
    ValueError
        If there is no such engine, or it does not take one of the options.
    ModelError
        If the engine is not installed, or the model cannot be loaded; says what to do.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    if (file is None) != (sha256 is None) or (path is not None and file is None):
        raise ValueError("a GGUF file needs its name and its sha256, and a path is that of a GGUF file")
    kind = getattr(importlib.import_module(f"clear_lib.engines.{engine}"), ENGINES[engine])
    if model == reasoner.NAME:
        revision = None
    if revision is not None and file is None:
        options["revision"] = revision
    try:
        inspect.signature(kind).bind(model, **options)
    except TypeError as error:
        raise ValueError(f"the engine {engine!r} does not take these options: {error}") from None
    if file is not None:
        from clear_lib.engines import gguf

        model = str(gguf.local(gguf.Weights(model, revision, file, sha256), path))
    return kind(reasoner.location(model), **options)
