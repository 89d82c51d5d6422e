"""Thinking and answer apart: how each server is told how many tokens a model may think, within its cap.

What each needs for it stands in the book, *Answer a batch within a budget*. Sources: vLLM 0.32,
``entrypoints/openai/chat_completion/protocol.py``; llama.cpp, pull requests 20297 and 23673 of
https://github.com/ggml-org/llama.cpp; the others are linked there. Servers that have no number take
``reasoning_effort``, a word, in ``extra_body``: it limits nothing, so only the cap counts there.
"""

import logging
from collections.abc import Callable
from typing import Any

from clear_lib.allocation.problem import number
from clear_lib.hub import ModelError

log = logging.getLogger(__name__)

#: What a request says to limit thinking, by server.
FIELDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "vllm": lambda tokens: {"thinking_token_budget": tokens},
    "sglang": lambda tokens: {"custom_params": {"thinking_budget": tokens}},
    "nim": lambda tokens: {"nvext": {"max_thinking_tokens": tokens}},
    "llama.cpp": lambda tokens: {"thinking_budget_tokens": tokens, "reasoning_budget_tokens": tokens},
}

#: By how much a server may think longer than it was told, as a share: one ends at a sentence.
GRACE = 0.1


class Thinking:
    """Keeps ``reserve`` tokens of each cap for the answer, on a server of :data:`FIELDS` (None: no limit on thinking).

    ``ModelError`` for an unknown server, or a reserve without a server; ``ValueError`` for one below 1.
    """

    def __init__(self, server: str | None, reserve: int | None):
        if server is not None and server not in list(FIELDS):
            raise ModelError(f"thinking={server!r:.60}: known are {', '.join(FIELDS)}")
        if (server is None) != (reserve is None):
            raise ModelError("thinking=SERVER and reserve=TOKENS go together: tokens kept for the answer of each cap")
        self.server, self.warned = server, server is None
        self.reserve = None if reserve is None else number("reserve", reserve, low=1, whole=True)

    def fields(self, cap: int) -> dict[str, Any]:
        """What a request says: the thoughts get what is left beside the reserve, none under a cap below it."""
        return {} if self.server is None else FIELDS[self.server](max(cap - self.reserve, 0))

    def check(self, cap: int, thought: int | None, answered: bool, ended: bool) -> None:
        """Warn, once, of a server that ignores the limit: it thought longer, or up to its cap without an answer."""
        if self.warned:
            return
        allowed = max(cap - self.reserve, 0)
        longer = thought is not None and thought > allowed + max(GRACE * allowed, 2)
        if longer or not (answered or ended):
            self.warned = True
            spent = f"thought for {thought:,} tokens" if longer else f"spent a cap of {cap:,} tokens without an answer"
            log.warning(
                "the server ignores the limit of thinking that it is sent as %s: a model that may think for %s tokens %s. "
                "Is it %s, and started with what *Answer a batch within a budget* says, in the book?",
                " and ".join(self.fields(cap)), f"{allowed:,}", spent, self.server,
            )  # fmt: skip
