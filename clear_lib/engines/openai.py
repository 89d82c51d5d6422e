"""Any server that speaks OpenAI's protocol: vLLM's, llama.cpp's, a hosted one."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

from clear_lib.engines import Completion, Engine, Request
from clear_lib.engines.redaction import shown, without
from clear_lib.engines.thinking import Thinking, extra
from clear_lib.hub import ModelError, needs

with needs("openai"):
    import httpx2
    import tenacity

#: Statuses after which the same request may succeed: timeouts, conflicts, rate limits; and all from 500 on.
RETRY_STATUSES = {408, 409, 425, 429}

#: Seconds between attempts: doubling from 1 to 60, and up to one more so that clients do not come back in step.
BACK_OFF = tenacity.wait_exponential_jitter(initial=1, max=60)

#: Most seconds that are waited because a server asks for it (``Retry-After``), and after which nothing is repeated.
LONGEST_WAIT, LONGEST_RETRYING = 600.0, 1800.0

#: Statuses that hold for every request: no money, no valid key, no such model or address.
HOPELESS = {401, 402, 403, 404, 405}

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
    is not asked for again. A completion counts once, with the tokens of the answer that arrived; tokens that the server
    spent on lost answers are not counted. A request that fails for good while the server works ends alone; if the
    server is gone, those under way are waited for, and then the stream ends.

    vLLM's server returns token ids. For any other, a completion has its text and the server's count of tokens
    (``usage.completion_tokens``), and cannot be continued; nor can a chat. ``ModelError`` if the server cannot be
    reached, refuses the key, or does not have the model.

    Parameters
    ----------
    model : str
        Its name on the server.
    base_url : str
        Such as ``http://127.0.0.1:8000/v1``.
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
        More fields of every request, such as ``{"reasoning_effort": "low"}``; None takes one away that a server refuses,
        such as ``{"temperature": None, "top_p": None}``.
    thinking, reserve : str and int, optional
        The server that is to limit thinking, and the tokens of each cap that it keeps for the answer, see
        :mod:`clear_lib.engines.thinking`.
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
        self.extra, self.thinking = extra(extra_body or {}), Thinking(thinking, reserve)
        for option, value, kind in (("chat", chat, bool), ("api_key_env", api_key_env, str), ("model", model, str)):
            if not isinstance(value, kind):
                raise ModelError(f"{option} must be {'true or false' if kind is bool else 'a text'}, got {value!r:.60}")
        numbers = ("concurrency", concurrency, 1), ("retries", retries, 0), ("timeout", timeout, 1e-3)
        for option, value, least in numbers:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e9:
                raise ModelError(f"{option} must be a number of at least {least:g}, got {value!r:.60}")
        self.model, self.chat, self.concurrency, self.retries = model, chat, int(concurrency), retries
        self.api_key_env, self.timeout, self.answered = api_key_env, timeout, False
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
            names = ", ".join(sorted(map(str, cards))[:20])
        except (KeyError, TypeError):
            raise ModelError(f"{url} has no list of models: {self._shown(json.dumps(answer))}") from None
        if self.model not in cards:
            raise ModelError(f"{url} does not serve the model {self.model!r}; it has: {self._shown(names)}")
        self.returns_tokens = cards[self.model].get("owned_by") == "vllm"
        vllm = self._ask("GET", url.join("/version")) if self.returns_tokens else {}
        version = vllm.get("version") if isinstance(vllm, dict) else None
        self.version = f"vllm {self._shown(str(version))[:40]}" if self.returns_tokens else "unknown"
        self.context = context or cards[self.model].get("max_model_len")
        if isinstance(self.context, bool) or not isinstance(self.context, int):
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
            ask = lambda prompt: self._ask("POST", url, {"model": self.model, "prompt": prompt})["tokens"]
            with ThreadPool(min(self.concurrency, len(new))) as pool:
                self.encoded |= zip(new, pool.map(lambda prompt: self._retrying(lambda: ask(prompt)), new), strict=True)
        return [[*self.encoded[prompt], *tokens] for prompt, tokens in zip(prompts, begun, strict=True)]

    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        cancelled, fatal = threading.Event(), None
        pool = ThreadPool(min(self.concurrency, len(requests)))  # daemons: whoever interrupts the program does not wait
        try:
            work = partial(self._outcome, temperature=temperature, cancelled=cancelled)
            for position, outcome in pool.imap_unordered(work, requests):
                if isinstance(outcome, Completion):
                    yield position, outcome
                else:  # the others under way are paid for as well, so they are waited for
                    fatal = fatal or outcome
        finally:  # if the stream is closed early, no request is sent any more
            cancelled.set()
            pool.close()
        if fatal:
            raise fatal

    def _outcome(
        self, request: Request, temperature: float, cancelled: threading.Event
    ) -> tuple[int, Completion | Exception | None]:
        """Position and completion of a request, or why nothing more is sent; None once nothing is."""
        outcome = None
        if not cancelled.is_set():
            try:
                outcome = self._retrying(partial(self._attempt, request, temperature), cancelled)
            except RequestError as error:
                counted = request.cap if error.counted is None else error.counted
                outcome = Completion(error.text, None, "failed", counted, f"prompt {request.position}: {error}")
            except Exception as error:  # of the server, not of one request
                outcome = error
                cancelled.set()
        return request.position, outcome

    def _retrying(self, attempt: Callable[[], Any], cancelled: threading.Event | None = None) -> Any:
        """The result of an attempt, repeated with back-off after a :class:`TransientError`."""
        faults: list[TransientError] = []

        def repeats(state: tenacity.RetryCallState) -> bool:
            last = faults[-SAME:]
            return len(last) == SAME and all(each.answered for each in last) and len(set(map(str, last))) == 1

        cancelled = cancelled or threading.Event()
        limits = tenacity.stop_after_attempt(self.retries + 1), tenacity.stop_when_event_set(cancelled)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            after=lambda state: faults.append(state.outcome.exception()),
            reraise=True,
            sleep=tenacity.sleep_using_event(cancelled),
            stop=tenacity.stop_any(*limits, tenacity.stop_before_delay(LONGEST_RETRYING), repeats),
            wait=lambda state: max(BACK_OFF(state), state.outcome.exception().wait),
        )
        try:
            return attempts(attempt)
        except TransientError:
            pass
        last = faults[-1]
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
            raise RequestError(
                f"{length} tokens ({counted} by the server's count) under a cap of {request.cap}; this server does not "
                "keep caps",
                max(length, counted, 0),
                text,
            )
        self.answered = True
        if reason not in ("stop", "length"):
            raise RequestError(f"ended by the server, with finish_reason {self._shown(repr(reason))}", counted, text)
        details = answer["usage"].get("completion_tokens_details") or {}
        self.thinking.check(request.cap, details.get("reasoning_tokens"), bool(text.strip()), reason == "stop")
        return Completion(text, tokens, reason, None if self.returns_tokens else counted, thoughts=thoughts)
