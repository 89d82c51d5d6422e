"""Thinking and answer apart: how each server is told how many tokens a model may think, within its cap.

================  ===============================================  =====================================================
server            field of the request                             what the server needs for it
================  ===============================================  =====================================================
``vllm``          ``thinking_token_budget``                        ``--reasoning-parser`` or ``--reasoning-config``
``sglang``        ``custom_params.thinking_budget``                ``--enable-strict-thinking`` and a reasoning parser
``nim``           ``nvext.max_thinking_tokens``                    ``NIM_ENABLE_BUDGET_CONTROL=1``; may run 10% over
``llama.cpp``     ``thinking_budget_tokens``, of late              a template that opens the thoughts
                  ``reasoning_budget_tokens``
================  ===============================================  =====================================================

Sources: vLLM 0.32, ``entrypoints/openai/chat_completion/protocol.py`` and ``v1/engine/input_processor.py``; SGLang,
https://docs.sglang.io/docs/advanced_features/thinking_budget; NIM,
https://docs.nvidia.com/nim/large-language-models/latest/thinking-budget-control.html; llama.cpp, pull requests 20297
and 23673 of https://github.com/ggml-org/llama.cpp. Servers that have no number take ``reasoning_effort``, a word, in
``extra_body``: it limits nothing, so only the cap counts there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

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

#: Fields that a wrapper with a budget decides itself.
OURS = ("model", "prompt", "messages", "max_tokens", "max_completion_tokens", "n", "best_of", "stream", "seed")


class Thinking:
    """Keeps ``reserve`` tokens of each cap for the answer, on a server of :data:`FIELDS` (None: no limit on thinking).

    ``ModelError`` for an unknown server, or a reserve without a server or below 1.
    """

    def __init__(self, server: str | None, reserve: int | None):
        if server is not None and server not in list(FIELDS):
            raise ModelError(f"thinking={server!r:.60}: known are {', '.join(FIELDS)}")
        if (server is None) != (reserve is None):
            raise ModelError(
                "thinking=SERVER and reserve=TOKENS go together: the tokens kept for the answer of each cap"
            )
        if reserve is not None and (isinstance(reserve, bool) or not isinstance(reserve, int) or reserve < 1):
            raise ModelError(f"reserve must be a whole number of at least 1, got {reserve!r:.60}")
        self.server, self.reserve, self.warned = server, reserve, False

    def allowed(self, cap: int) -> int | None:
        """Tokens of thinking under a cap: what is left beside the reserve, and none under a cap below it."""
        return None if self.server is None else max(cap - self.reserve, 0)

    def fields(self, cap: int) -> dict[str, Any]:
        """What a request says."""
        return {} if self.server is None else FIELDS[self.server](self.allowed(cap))

    def check(self, cap: int, thought: int | None, answered: bool, ended: bool) -> None:
        """Warn, once, of a server that ignores the limit: it thought longer, or up to its cap without an answer."""
        allowed = self.allowed(cap)
        if self.server is None or self.warned:
            return
        longer = thought is not None and thought > allowed + max(GRACE * allowed, 2)
        if longer or not (answered or ended):
            self.warned = True
            spent = f"thought for {thought:,} tokens" if longer else f"spent a cap of {cap:,} tokens without an answer"
            log.warning(
                "the server ignores the limit of thinking that it is sent as %s: a model that may think for %s tokens %s. "
                "Is it %s, and started with what the table of clear_lib.engines.thinking says?",
                " and ".join(FIELDS[self.server](allowed)), f"{allowed:,}", spent, self.server,
            )  # fmt: skip


def extra(body: Any) -> dict[str, Any]:
    """Checked fields for every request; None takes one of ours away. ``ModelError`` names one that is not theirs."""
    if not isinstance(body, Mapping):
        raise ModelError(f"extra_body must be an object of fields, got {body!r:.60}")
    if taken := [name for name in OURS if name in body]:
        raise ModelError(f"extra_body may not set {', '.join(taken)}: the budget depends on it")
    return dict(body)
