"""OpenAI's batch format, which hosted services and ``vllm run-batch`` read: one request a line."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clear_lib.allocation.policies import Allocation
from clear_lib.cli.files import FORECASTS, Line

#: Endpoints, and the fields of a body that limit the completion there; the first is the one that is set.
LIMITS = {"/v1/chat/completions": ("max_completion_tokens", "max_tokens"), "/v1/completions": ("max_tokens",)}


def requests_of(lines: Sequence[Line]) -> list[Line]:
    """Lines of the same requests, with their ``question``; ``ValueError`` names a line that is no request."""
    seen: set[str] = set()
    return [(number, line | {"question": _question(number, line, seen)}) for number, line in lines]


def _question(number: int, line: dict[str, Any], seen: set[str]) -> str:
    """The text of a request: its prompt, or what its messages say, system messages aside."""
    name, url, body = line.get("custom_id"), line.get("url"), line.get("body")
    if not isinstance(name, str) or not name or name in seen:
        raise ValueError(f"line {number}: 'custom_id' must be a text that no other line has, and is {_shown(name)}")
    seen.add(name)
    if line.get("method") != "POST" or url not in LIMITS or not isinstance(body, dict):
        given = _shown([line.get("method"), url])
        raise ValueError(f"line {number}: must be a POST to {' or '.join(LIMITS)} with a body, and is {given}")
    for field in ("n", "best_of"):
        if (value := body.get(field)) not in (None, 1):
            raise ValueError(f"line {number}: body.{field} is {_shown(value)}, and a cap counts for one completion")
    for field in LIMITS[url]:
        limit = body.get(field)
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"line {number}: body.{field} must be a whole number above 0, and is {_shown(limit)}")
    text = body.get("prompt") if url == "/v1/completions" else _said(body.get("messages"))
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"line {number}: the body has no text to answer")
    return text


def _said(messages: Any) -> str:
    """The text of a chat's messages, those of the system aside."""
    texts = []
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") not in ("system", "developer"):
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            texts += [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts)


def capped(
    lines: Sequence[Line], allocation: Allocation
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], NDArray[np.int64]]:
    """Requests with their caps, without our fields; those that are abandoned, with the reason; and the caps.

    A cap is what is granted, or lower where a line has a limit of its own.
    """
    ours = {*FORECASTS, "question", "prompt_tokens"}  # services refuse fields that they do not know
    kept, left, caps = [], [], allocation.tokens.copy()
    for position, ((_, line), reason) in enumerate(zip(lines, allocation.reasons(), strict=True)):
        request = {name: value for name, value in line.items() if name not in ours}
        first, *others = fields = LIMITS[line["url"]]
        limits = [line["body"][field] for field in fields if line["body"].get(field) is not None]
        caps[position] = cap = min([*limits, int(caps[position])])
        if cap == 0:
            left.append(request | {"reason": reason})
        else:
            body = {name: value for name, value in line["body"].items() if name not in others}
            kept.append(request | {"body": body | {first: cap}})
    return kept, left, caps


def _shown(value: Any) -> str:
    return f"{json.dumps(value):.80}"
