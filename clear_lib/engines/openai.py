"""Any server that speaks OpenAI's protocol: vLLM's, llama.cpp's, a hosted one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from clear_lib.engines import Completion, Engine, Request
from clear_lib.hub import ModelError, needs

with needs("openai"):
    import httpx2
    import tenacity

#: Statuses after which the same request may succeed: timeouts, conflicts, rate limits; and all from 500 on.
RETRY_STATUSES = {408, 409, 425, 429}

#: Seconds between attempts: doubling from 1 to 60, and up to one more so that clients do not come back in step.
BACK_OFF = tenacity.wait_exponential_jitter(initial=1, max=60)

#: Most seconds that are waited because a server asks for it (``Retry-After``).
LONGEST_WAIT = 600.0


class TransientError(Exception):
    """A failed attempt that is worth repeating, after ``wait`` seconds if the server said so."""

    wait = 0.0


class OpenAIEngine(Engine):
    """Ask a server for completions, many at a time.

    A failed attempt is repeated with exponential back-off. A completion counts once, with the tokens of the answer
    that arrived; tokens that the server spent on lost answers are not counted. Completions are yielded as they arrive,
    so those recorded remain if the server does not come back.

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
        Seconds to wait for an answer.
    retries : int
        Attempts after the first; twelve take about seven minutes of a dead server.
    context : int, optional
        Maximum tokens of a prompt and its completion, for a server that does not say.
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
        api_key_env: str = "OPENAI_API_KEY",
    ):
        self.model, self.chat, self.concurrency, self.retries = model, chat, concurrency, retries
        self.api_key_env = api_key_env
        url, key = httpx2.URL(base_url.rstrip("/") + "/"), self._key()
        if url.userinfo:
            raise ModelError("base_url must not hold a user or a password; a key comes from the environment")
        if not (key.isascii() and key.isprintable()):
            raise ModelError(f"the environment variable {api_key_env} holds no valid key: it has invalid characters")
        self.client = httpx2.Client(
            base_url=url,
            timeout=httpx2.Timeout(timeout, connect=10.0, pool=None),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        try:
            cards = {card["id"]: card for card in self._ask("GET", "models")["data"]}
            if model not in cards:
                raise ModelError(f"{url} does not serve the model {model!r}; it has: {', '.join(sorted(cards)[:20])}")
            self.returns_tokens = cards[model].get("owned_by") == "vllm"
            vllm = self.returns_tokens and self._ask("GET", url.join("/version"))
        except TransientError as error:
            raise ModelError(f"{url}: {error}") from None
        self.version = f"vllm {vllm['version']}" if vllm else "unknown"
        self.context = context or cards[model].get("max_model_len")
        if self.context is None:
            raise ModelError(f"{url} does not say the context of {model!r}; give the engine option context=…")
        self.encoded: dict[str, list[int]] = {}

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
        with ThreadPoolExecutor(self.concurrency) as pool:
            ask = lambda prompt: self._ask("POST", url, {"model": self.model, "prompt": prompt})["tokens"]
            self.encoded |= zip(new, pool.map(lambda prompt: self._retrying(lambda: ask(prompt)), new), strict=True)
        return [[*self.encoded[prompt], *tokens] for prompt, tokens in zip(prompts, begun, strict=True)]

    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        cancelled = threading.Event()
        pool = ThreadPoolExecutor(self.concurrency)
        ask = lambda request: self._retrying(lambda: self._attempt(request, temperature), cancelled)
        try:
            futures = {pool.submit(ask, request): request.position for request in requests}
            for done in as_completed(futures):
                yield futures[done], done.result()
        finally:  # if the stream is closed early: requests under way end, and none is sent any more
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _retrying(self, attempt: Callable[[], Any], cancelled: threading.Event | None = None) -> Any:
        """The result of an attempt, repeated with back-off after a :class:`TransientError`."""
        cancelled = cancelled or threading.Event()
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            reraise=True,
            sleep=tenacity.sleep_using_event(cancelled),
            stop=tenacity.stop_after_attempt(self.retries + 1) | tenacity.stop_when_event_set(cancelled),
            wait=lambda state: max(BACK_OFF(state), state.outcome.exception().wait),
        )
        try:
            return attempts(attempt)
        except TransientError as error:
            last = str(error)
        raise ModelError(f"{self.client.base_url}: no answer in {self.retries + 1} attempts, the last: {last}")

    def _ask(self, method: str, url: str | httpx2.URL, body: dict[str, Any] | None = None) -> Any:
        """The server's answer to one attempt, as parsed JSON."""
        try:
            response = self.client.request(method, url, json=body)
            answer = response.json() if response.status_code == 200 else response.text
        except (httpx2.HTTPError, ValueError) as error:  # no connection, a timeout, a truncated answer, no JSON
            failed = TransientError(f"{type(error).__name__}: {self._redacted(str(error))}")
        else:
            status, wait = response.status_code, response.headers.get("Retry-After", "")
            if status == 200:
                return answer
            what = f"status {status}: {self._redacted(answer)}"
            if status not in RETRY_STATUSES and status < 500:
                what += f" (the key is read from {self.api_key_env})" if status in (401, 403) else ""
                raise ModelError(f"{self.client.base_url} refused: {what}")
            failed = TransientError(what)
            failed.wait = min(float(wait), LONGEST_WAIT) if wait.isdecimal() else 0.0
        raise failed  # outside of the handler: the exception of the client would show the key

    def _redacted(self, text: str) -> str:
        """A message of the server or a library, truncated, without the API key."""
        key = self._key()
        return (text.replace(key, "[key]") if key else text)[:500]

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
        answer = self._ask("POST", "chat/completions" if self.chat else "completions", body)
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] or "" if self.chat else choice["text"]
            reason, counted = choice["finish_reason"], answer["usage"]["completion_tokens"]
            tokens = tuple(choice["token_ids"]) if self.returns_tokens else None
        except (KeyError, IndexError, TypeError) as error:
            what = f"an answer without text, tokens or their count: {error!r} in {self._redacted(str(answer))}"
            raise TransientError(what) from None
        if reason in (None, "abort", "error"):  # of a server that is being stopped
            raise TransientError(f"the server gave up, with finish_reason {reason!r}")
        if reason not in ("stop", "length"):
            raise ModelError(f"prompt {request.position}: ended by the server, with finish_reason {reason!r}")
        completion = Completion(text, tokens, reason, None if self.returns_tokens else counted)
        if not 0 <= completion.length <= request.cap or counted != completion.length:
            raise ModelError(
                f"prompt {request.position}: {completion.length} tokens ({counted} by the server's count) under a cap "
                f"of {request.cap}; this server does not keep caps"
            )
        return completion
