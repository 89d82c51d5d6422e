"""Keeps an API key, whole or in part, and escape sequences out of what is shown of a server."""

from __future__ import annotations

import base64
from urllib.parse import quote

#: A key is recognised by so many of its characters in a row; a shorter one is no secret.
PIECE = 8

#: Characters of a server's text that are shown.
MOST = 500


def shown(text: str, key: str) -> str:
    """A server's text for a message: on one line, printable, without the key in any usual spelling, truncated."""
    text = "".join(char if char.isprintable() else " " for char in text[: 4 * MOST])
    # As it is, backwards, and as URLs, hexadecimal digits and base64 (at any offset) spell it.
    spellings = [key, key[::-1], quote(key, safe=""), key.encode().hex()]
    spellings += [base64.b64encode(b"\0" * before + key.encode()).decode()[4:-4] for before in range(3)]
    long = spellings if len(key) >= PIECE else ()
    pieces = {each[start : start + PIECE] for each in long for start in range(len(each) - PIECE + 1)}
    hidden, parts = 0, []
    for position, char in enumerate(text):
        if text[position : position + PIECE] in pieces:
            parts += ["[key]"] if position >= hidden else []
            hidden = position + PIECE
        elif position >= hidden:
            parts.append(char)
    return "".join(parts)[:MOST]


def without(text: str, key: str) -> str:
    """A completion without the key; otherwise as it is."""
    return text.replace(key, "[key]") if len(key) >= PIECE else text
