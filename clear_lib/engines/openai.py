"""Any server that speaks OpenAI's protocol: vLLM's, llama.cpp's, a hosted one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from clear_lib.engines import Completion, Engine, EngineError, Request
from clear_lib.engines.errors import needs

with needs("httpx2", "openai"):
    import httpx2
with needs("tenacity", "openai"):
    import tenacity

#: Statuses after which the same request may succeed: timeouts, conflicts, rate limits; and all from 500 on.
AGAIN = {408, 409, 425, 429}

#: Seconds between attempts: doubling from 1 to 60, and up to one more so that clients do not come back in step.
BACK_OFF = tenacity.wait_exponential_jitter(initial=1, max=60)

#: Seconds that a server can ask to be left alone for.
LONGEST_WAIT = 600.0


class Failed(Exception):
    """An attempt that came to nothing; the next may fare better, after ``wait`` seconds if the server said so."""

    def __init__(self, what: str, wait: float = 0.0):
        super().__init__(what)
        self.wait = wait


class OpenAIEngine(Engine):
    """Ask a server for completions, many at a time.

    An attempt that fails is repeated with back-off and brings nothing: a completion counts once, when its answer has
    arrived, with the tokens that this answer has. What a server computed for an answer that was lost on the way is in
    nobody's count but its own. Completions are yielded as they arrive, so what is recorded stays recorded if the server
    does not come back.

    vLLM's server tells the tokens. Of any other, a completion has its text and the server's count of tokens
    (``usage.completion_tokens``), and cannot be continued; nor can a chat.

    Parameters
    ----------
    model : str
        Its name on the server.
    base_url : str
        Such as ``http://127.0.0.1:8000/v1``.
    chat : bool
        Send each prompt as a user's message to ``/chat/completions``, where the server applies its chat template,
        instead of as it is to ``/completions``.
    concurrency : int
        Most requests at the same time.
    timeout : float
        Seconds to wait for an answer.
    retries : int
        Attempts after the first; twelve take about seven minutes of a dead server.
    context : int, optional
        Tokens of a prompt and its completion, for a server that does not say.
    api_key_env : str
        Environment variable that holds the key, if the server wants one. The key is written nowhere.

    Raises
    ------
    EngineError
        If the server cannot be reached, refuses the key, or does not have the model.
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
        url = httpx2.URL(base_url.rstrip("/") + "/")
        if url.userinfo:
            raise EngineError("base_url must not hold a user or a password; a key comes from the environment")
        key = self._key()
        if not (key.isascii() and key.isprintable()):
            raise EngineError(
                f"the environment variable {api_key_env} holds no valid key: it has characters that none has"
            )
        self.client = httpx2.Client(
            base_url=url,
            timeout=httpx2.Timeout(timeout, connect=10.0, pool=None),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        try:
            cards = {card["id"]: card for card in self._ask("GET", "models")["data"]}
            if model not in cards:
                raise EngineError(f"{url} does not serve the model {model!r}; it has: {', '.join(sorted(cards)[:20])}")
            self.tells = cards[model].get("owned_by") == "vllm"  # whether it tells tokens
            self.version = f"vllm {self._ask('GET', url.join('/version'))['version']}" if self.tells else "unknown"
        except Failed as failed:
            raise EngineError(f"{url}: {failed}") from None
        self.context = context or cards[model].get("max_model_len")
        if self.context is None:
            raise EngineError(f"{url} does not say the context of {model!r}; give the engine option context=…")
        self.tokens: dict[str, list[int]] = {}

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip()

    def _read(self, prompts: Sequence[str], begun: Sequence[Sequence[int]] | None) -> list[list[int] | str]:
        if begun is None:
            return list(prompts)
        if self.chat or not self.tells:
            raise EngineError(
                "only a completions server that tells its tokens (vLLM's, without chat) can continue what "
                "it has begun; serve with caps, or use another engine"
            )
        new = sorted(set(prompts) - set(self.tokens))
        url = self.client.base_url.join("/tokenize")
        with ThreadPoolExecutor(self.concurrency) as pool:
            found = pool.map(lambda prompt: self._patiently("POST", url, {"model": self.model, "prompt": prompt}), new)
            self.tokens |= {prompt: answer["tokens"] for prompt, answer in zip(new, found, strict=True)}
        return [[*self.tokens[prompt], *tokens] for prompt, tokens in zip(prompts, begun, strict=True)]

    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        left = threading.Event()
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            for done in as_completed([pool.submit(self._answer, request, temperature, left) for request in requests]):
                yield done.result()
        finally:  # of a stream that was left, what the server is at comes to an end, and nothing new is asked for
            left.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, request: Request, temperature: float, left: threading.Event) -> tuple[int, Completion]:
        body: dict[str, Any] = {"model": self.model, "temperature": temperature, "top_p": 1.0}
        if request.seed is not None:
            body["seed"] = request.seed
        if self.chat:
            body |= {"messages": [{"role": "user", "content": request.prompt}], "max_completion_tokens": request.cap}
        else:
            body |= {"prompt": request.prompt, "max_tokens": request.cap}
        if self.tells:  # it would otherwise take some of these from the model's generation_config.json
            body |= {"return_token_ids": True, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        where = "chat/completions" if self.chat else "completions"
        return request.position, self._patiently("POST", where, body, left, request)

    def _patiently(
        self,
        method: str,
        url: str | httpx2.URL,
        body: dict[str, Any],
        left: threading.Event | None = None,
        request: Request | None = None,
    ) -> Any:
        """The answer, or the completion in it, after as many attempts as it takes."""
        left = left or threading.Event()
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Failed),
            reraise=True,
            sleep=tenacity.sleep_using_event(left),
            stop=tenacity.stop_after_attempt(self.retries + 1) | tenacity.stop_when_event_set(left),
            wait=lambda state: max(BACK_OFF(state), state.outcome.exception().wait),
        )

        def attempt() -> Any:
            answer = self._ask(method, url, body)
            return answer if request is None else self._completion(answer, request)

        try:
            return attempts(attempt)
        except Failed as failed:
            said = str(failed)
        raise EngineError(f"{self.client.base_url}: no answer in {self.retries + 1} attempts, the last: {said}")

    def _ask(self, method: str, url: str | httpx2.URL, body: dict[str, Any] | None = None) -> Any:
        """One attempt: what the server answered, as data."""
        try:
            response = self.client.request(method, url, json=body)
            answer = response.json() if response.status_code == 200 else response.text
        except (
            httpx2.HTTPError,
            ValueError,
        ) as error:  # no connection, no answer in time, an answer cut short, no JSON
            failed = Failed(f"{type(error).__name__}: {self._said(str(error))}")
        else:
            status, wait = response.status_code, response.headers.get("Retry-After", "")
            if status == 200:
                return answer
            what = f"status {status}: {self._said(answer)}"
            if status not in AGAIN and status < 500:
                what += f" (the key is read from {self.api_key_env})" if status in (401, 403) else ""
                raise EngineError(f"{self.client.base_url} refused: {what}")
            failed = Failed(what, min(float(wait), LONGEST_WAIT) if wait.isdecimal() else 0.0)
        raise failed

    def _said(self, text: str) -> str:
        """Words of the server or of a library, short, and without the key, whoever repeats it."""
        key = self._key()
        return (text.replace(key, "[key]") if key else text)[:500]

    def _completion(self, answer: Any, request: Request) -> Completion:
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] or "" if self.chat else choice["text"]
            reason, counted = choice["finish_reason"], answer["usage"]["completion_tokens"]
            tokens = tuple(choice["token_ids"]) if self.tells else None
        except (KeyError, IndexError, TypeError) as error:
            raise Failed(
                f"an answer without text, tokens or their count: {error!r} in {self._said(str(answer))}"
            ) from None
        if reason in (None, "abort", "error"):  # of a server that is being stopped
            raise Failed(f"the server gave up, with finish_reason {reason!r}")
        if reason not in ("stop", "length"):
            raise EngineError(f"prompt {request.position}: ended by the server, with finish_reason {reason!r}")
        completion = Completion(text, tokens, reason, None if self.tells else counted)
        if not 0 <= completion.length <= request.cap or counted != completion.length:
            raise EngineError(
                f"prompt {request.position}: {completion.length} tokens ({counted} by the server's count) "
                f"under a cap of {request.cap}; this server does not keep caps"
            )
        return completion
