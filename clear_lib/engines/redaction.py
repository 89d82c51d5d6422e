"""Keeps an API key, whole or in part, and escape sequences out of what is shown of a server."""

import base64
import re
from urllib.parse import quote

#: A key is recognised by so many of its characters in a row; a shorter one is no secret.
PIECE = 8

#: Characters of a server's text that are shown.
MOST = 500


def shown(text: str, key: str) -> str:
    """A server's text for a message: on one line, printable, without the key in any usual spelling, truncated."""
    text = "".join(char if char.isprintable() else " " for char in text[: 4 * MOST])
    if len(key) >= PIECE:
        # As it is, backwards, and as URLs, hexadecimal digits and base64 (at any offset) spell it.
        spellings = [key, key[::-1], quote(key, safe=""), key.encode().hex()]
        spellings += [base64.b64encode(b"\0" * before + key.encode()).decode()[4:-4] for before in range(3)]
        pieces = {each[start : start + PIECE] for each in spellings for start in range(len(each) - PIECE + 1)}
        begins = "|".join(map(re.escape, pieces))  # at every character that begins a piece, and to the end of the last
        text = re.sub(f"(?:(?={begins}).)+.{{{PIECE - 1}}}", "[key]", text)
    return text[:MOST]


def without(text: str, key: str) -> str:
    """A completion without the key; otherwise as it is."""
    return text.replace(key, "[key]") if len(key) >= PIECE else text
