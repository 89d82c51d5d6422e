"""Any server that speaks OpenAI's protocol: vLLM's, llama.cpp's, a hosted one."""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

from clear_lib.allocation.problem import number
from clear_lib.engines import Completion, Engine, Request
from clear_lib.engines.redaction import shown, without
from clear_lib.engines.thinking import Thinking
from clear_lib.hub import ModelError, needs

with needs("openai"):
    import httpx2

#: Statuses after which the same request may succeed: timeouts, conflicts, rate limits; and all from 500 on.
RETRY_STATUSES = {408, 409, 425, 429}

#: Seconds between attempts double from the first to the last, and up to a first one is added by chance, so that
#: clients do not come back in step.
FIRST_WAIT, LAST_WAIT = 1.0, 60.0

#: Most seconds that are waited because a server asks for it (``Retry-After``), and after which nothing is repeated.
LONGEST_WAIT, LONGEST_RETRYING = 600.0, 1800.0

#: Statuses that hold for every request: no money, no valid key, no such model or address.
HOPELESS = {401, 402, 403, 404, 405}

#: Fields of a request that ``extra_body`` may not set.
OURS = {"model", "prompt", "messages", "max_tokens", "max_completion_tokens", "n", "best_of", "stream", "seed"}

#: Most bytes of an answer.
BODY_LIMIT = 16 * 2**20

#: How often the same unusable answer is paid for.
SAME = 3


class TransientError(Exception):
    """A failed attempt that is worth repeating.

    ``wait`` seconds later, if the server said so. ``answered``: the server did its work, so tokens may be charged.
    """

    def __init__(self, what: str, wait: float = 0.0, answered: bool = False):
        super().__init__(what)
        self.wait, self.answered = wait, answered


class RequestError(ModelError):
    """A request that failed for good, while others may succeed; ``counted`` tokens of ``text`` may be charged.

    None stands for all that it was granted.
    """

    def __init__(self, what: str, counted: int | None = 0, text: str = ""):
        super().__init__(what)
        self.counted, self.text = counted, text


class OpenAIEngine(Engine):
    """Ask a server for completions, many at a time.

    A failed attempt is repeated with exponential back-off, but an answer that is unusable in the same way three times
    is not asked for again. Tokens that the server spent on lost answers are not counted. A request that fails for good
    while the server works ends alone; if the server is gone, those under way are waited for, and the stream ends.

    vLLM's server returns token ids. For any other, a completion has its text and the server's count of tokens
    (``usage.completion_tokens``), and cannot be continued; nor can a chat. ``ModelError`` if the server cannot be
    reached, refuses the key, or does not have the model.

    Parameters
    ----------
    model, base_url : str
        The model's name on the server, and the server's address, such as ``http://127.0.0.1:8000/v1``.
    chat : bool
        Send each prompt as a user's message to ``/chat/completions``, where the server applies its chat template,
        instead of unchanged to ``/completions``.
    concurrency : int
        Most requests at the same time.
    timeout : float
        Seconds for an attempt: of silence, and until the answer is whole.
    retries : int
        Attempts after the first; twelve take about seven minutes of a dead server. A wait that a server asks for
        (``Retry-After``) is kept up to ten minutes, and no request is asked again later than half an hour after it began.
    context : int, optional
        Maximum tokens of a prompt and its completion, for a server that does not say.
    extra_body : mapping, optional
        More fields of every request, such as ``{"reasoning_effort": "low"}``; None takes away one that a server refuses.
    thinking, reserve : str and int, optional
        The server that is to limit thinking (``vllm``, ``sglang``, ``nim`` or ``llama.cpp``), and the tokens of each
        cap that it keeps for the answer.
    api_key_env : str
        Environment variable that holds the key, if the server wants one. The key is written nowhere.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        base_url: str,
        chat: bool = False,
        concurrency: int = 64,
        timeout: float = 600.0,
        retries: int = 12,
        context: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        thinking: str | None = None,
        reserve: int | None = None,
        api_key_env: str = "OPENAI_API_KEY",
    ):
        self.extra, self.thinking = extra_body or {}, Thinking(thinking, reserve)
        if not isinstance(self.extra, Mapping):
            raise ModelError(f"extra_body must be an object of fields, got {extra_body!r:.60}")
        if taken := sorted(OURS & self.extra.keys()):
            raise ModelError(f"extra_body may not set {', '.join(taken)}: the budget depends on it")
        if not isinstance(chat, bool):
            raise ModelError(f"chat must be true or false, got {chat!r:.60}")
        if not isinstance(api_key_env, str):
            raise ModelError(f"api_key_env must be a text, got {api_key_env!r:.60}")
        self.model, self.chat, self.api_key_env, self.answered = model, chat, api_key_env, False
        self.concurrency = int(number("concurrency", concurrency, low=1))
        self.retries, self.timeout = number("retries", retries), number("timeout", timeout, low=1e-3)
        try:
            url, key = httpx2.URL(str(base_url).rstrip("/") + "/"), self._key()
        except (httpx2.InvalidURL, ValueError) as error:
            raise ModelError(f"base_url is no address: {error}") from None
        if url.userinfo:
            raise ModelError("base_url must not hold a user or a password; a key comes from the environment")
        if not (key.isascii() and key.isprintable()):
            raise ModelError(f"the environment variable {api_key_env} holds no valid key: it has invalid characters")
        self.client = httpx2.Client(
            base_url=url,
            timeout=httpx2.Timeout(timeout, connect=10.0, pool=None),
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            limits=httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
        )
        try:
            self._introduce(context)
        except TransientError as error:
            raise ModelError(f"{url}: {error}") from None
        self.pauses = self.returns_tokens and not chat
        self.encoded: dict[str, list[int]] = {}

    def _introduce(self, context: int | None) -> None:
        """Ask the server what it is and whether it has the model."""
        url, answer = self.client.base_url, self._ask("GET", "models")
        try:
            cards = {card["id"]: card for card in answer["data"]}
        except (KeyError, TypeError):
            raise ModelError(f"{url} has no list of models: {self._shown(json.dumps(answer))}") from None
        if self.model not in cards:
            known = self._shown(", ".join(map(str, cards)))
            raise ModelError(f"{url} does not serve the model {self.model!r}; it has: {known}")
        self.returns_tokens = cards[self.model].get("owned_by") == "vllm"
        vllm = self._ask("GET", url.join("/version")) if self.returns_tokens else {}
        version = vllm.get("version") if isinstance(vllm, dict) else None
        self.version = f"vllm {self._shown(str(version))[:40]}" if self.returns_tokens else "unknown"
        self.context = context or cards[self.model].get("max_model_len")
        if type(self.context) is not int:
            raise ModelError(f"{url} does not say the context of {self.model!r}; give the engine option context=…")

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip()

    def _encode(self, prompts: Sequence[str], begun: Sequence[Sequence[int]] | None) -> list[list[int] | str]:
        if begun is None:
            return list(prompts)
        if self.chat or not self.returns_tokens:
            raise ModelError(
                "only a completions server that returns token ids (vLLM's, without chat) can continue what it has "
                "begun; serve with caps, or use another engine"
            )
        new, url = sorted(set(prompts) - set(self.encoded)), self.client.base_url.join("/tokenize")
        if new:
            asked = [partial(self._ask, "POST", url, {"model": self.model, "prompt": prompt}) for prompt in new]
            with ThreadPool(min(self.concurrency, len(new))) as pool:
                answers = pool.map(lambda ask: self._retrying(ask, threading.Event()), asked)
            self.encoded |= {prompt: answer["tokens"] for prompt, answer in zip(new, answers, strict=True)}
        return [[*self.encoded[prompt], *tokens] for prompt, tokens in zip(prompts, begun, strict=True)]

    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        cancelled, fatal = threading.Event(), None

        def outcome(request: Request) -> tuple[int, Completion | Exception | None]:
            """The completion of a request, or why nothing more is sent; None once nothing is."""
            if cancelled.is_set():
                return request.position, None
            try:
                return request.position, self._retrying(partial(self._attempt, request, temperature), cancelled)
            except RequestError as error:
                counted = request.cap if error.counted is None else error.counted
                what = f"prompt {request.position}: {error}"
                return request.position, Completion(error.text, None, "failed", counted, what)
            except Exception as error:  # of the server, not of one request
                cancelled.set()
                return request.position, error

        pool = ThreadPool(min(self.concurrency, len(requests)))  # daemons: whoever interrupts the program does not wait
        try:
            for position, made in pool.imap_unordered(outcome, requests):
                if isinstance(made, Completion):
                    yield position, made
                else:  # the others under way are paid for as well, so they are waited for
                    fatal = fatal or made
        finally:  # if the stream is closed early, no request is sent any more
            cancelled.set()
            pool.close()
        if fatal:
            raise fatal

    def _retrying(self, attempt: Callable[[], Any], cancelled: threading.Event) -> Any:
        """The result of an attempt, repeated with back-off after a :class:`TransientError`."""
        faults: list[TransientError] = []
        latest, pause = time.monotonic() + LONGEST_RETRYING, FIRST_WAIT
        while True:
            try:
                return attempt()
            except TransientError as error:
                faults.append(error)
            last, wait = faults[-1], max(faults[-1].wait, pause + FIRST_WAIT * random.random())
            pause = min(2 * pause, LAST_WAIT)
            again = [str(fault) for fault in faults[-SAME:] if fault.answered] == [str(last)] * SAME
            if again or len(faults) > self.retries or time.monotonic() + wait > latest or cancelled.wait(wait):
                break
        what = f"{self.client.base_url}: no answer in {len(faults)} attempts, the last: {last}"
        # A request is at fault only if the server works: it has answered one, or at least says what it is.
        if not cancelled.is_set() and (self.answered if last.answered else self._alive()):
            raise RequestError(what, None if last.answered else 0)
        raise ModelError(what)

    def _alive(self) -> bool:
        try:
            return bool(self._ask("GET", "models"))
        except (TransientError, ModelError):
            return False

    def _ask(self, method: str, url: str | httpx2.URL, body: dict[str, Any] | None = None) -> Any:
        """The server's answer to one attempt, as parsed JSON."""
        status = None
        try:
            status, wait, data = self._received(method, url, body)
            if status == 200:
                return json.loads(data)
        except ModelError:
            raise
        except httpx2.TimeoutException as error:
            late = isinstance(error, httpx2.ReadTimeout)
            failed = TransientError(f"{type(error).__name__}: no answer in {self.timeout:g} s", answered=late)
        except (httpx2.HTTPError, ValueError, RecursionError) as error:  # no connection, a truncated answer, no JSON
            what = f"{type(error).__name__}: {self._shown(str(error))}"
            failed = TransientError(what, answered=status == 200)
        else:
            what = f"status {status}: {self._shown(data.decode(errors='replace'))}"
            if status in HOPELESS:
                what += f" (the key is read from {self.api_key_env})" if status in (401, 403) else ""
                raise ModelError(f"{self.client.base_url} refused: {what}")
            if status not in RETRY_STATUSES and status < 500:
                raise RequestError(f"{self.client.base_url} refused: {what}")
            failed = TransientError(what, min(float(wait), LONGEST_WAIT) if wait.isdecimal() else 0.0)
        raise failed  # outside of the handler: the exception of the client would show the key

    def _received(self, method: str, url: str | httpx2.URL, body: dict[str, Any] | None) -> tuple[int, str, bytes]:
        """Status, ``Retry-After`` and bytes of an answer, within the deadline and the limit of its size."""
        data, deadline = bytearray(), time.monotonic() + self.timeout
        with self.client.stream(method, url, json=body) as response:
            for part in response.iter_bytes():
                data += part
                if len(data) > BODY_LIMIT:
                    raise RequestError(f"{self.client.base_url}: an answer of more than {BODY_LIMIT:,} bytes", None)
                if time.monotonic() > deadline:
                    raise TransientError(f"the answer was not whole after {self.timeout:g} s", answered=True)
            return response.status_code, response.headers.get("Retry-After", ""), bytes(data)

    def _shown(self, text: str) -> str:
        """A message of the server or a library, safe to show; see :func:`~clear_lib.engines.redaction.shown`."""
        return shown(text, self._key())

    def _attempt(self, request: Request, temperature: float) -> Completion:
        """One attempt at a completion."""
        body: dict[str, Any] = {"model": self.model, "temperature": temperature, "top_p": 1.0}
        if request.seed is not None:
            body["seed"] = request.seed
        if self.chat:
            body |= {"messages": [{"role": "user", "content": request.prompt}], "max_completion_tokens": request.cap}
        else:
            body |= {"prompt": request.prompt, "max_tokens": request.cap}
        if self.returns_tokens:  # vLLM would otherwise take some of these from the model's generation_config.json
            body |= {"return_token_ids": True, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        body |= self.thinking.fields(request.cap) | self.extra
        body = {name: value for name, value in body.items() if value is not None}
        return self._completion(request, self._ask("POST", "chat/completions" if self.chat else "completions", body))

    def _completion(self, request: Request, answer: Any) -> Completion:
        """The completion in an answer; an error if it has none, or more than its cap."""
        try:
            choice = answer["choices"][0]
            said = choice["message"] if self.chat else choice
            thoughts = str(said.get("reasoning_content") or said.get("reasoning") or "")
            text = (said.get("content") if thoughts else said["content"]) or "" if self.chat else said["text"]
            reason, counted = choice["finish_reason"], answer["usage"]["completion_tokens"]
            tokens = tuple(choice["token_ids"]) if self.returns_tokens else None
            if not isinstance(text, str) or any(type(token) is not int for token in (counted, *(tokens or ()))):
                raise TypeError("of another type")
        except (KeyError, IndexError, TypeError) as error:
            what = f"an answer without text, tokens or their count: {error!r} in {self._shown(str(answer))}"
            raise TransientError(what, answered=True) from None
        if reason in (None, "abort", "error"):  # of a server that is being stopped
            raise TransientError(f"the server gave up, with finish_reason {reason!r}")
        length = counted if tokens is None else len(tokens)
        text, thoughts = (without(part, self._key()) for part in (text, thoughts))
        if not 0 <= length <= request.cap or counted != length:
            what = f"{length} tokens ({counted} by the server's count) under a cap of {request.cap}"
            raise RequestError(f"{what}; this server does not keep caps", max(length, counted, 0), text)
        self.answered = True
        if reason not in ("stop", "length"):
            raise RequestError(f"ended by the server, with finish_reason {self._shown(repr(reason))}", counted, text)
        details = answer["usage"].get("completion_tokens_details") or {}
        self.thinking.check(request.cap, details.get("reasoning_tokens"), bool(text.strip()), reason == "stop")
        return Completion(text, tokens, reason, None if self.returns_tokens else counted, thoughts=thoughts)
